#!/usr/bin/env python3
"""Make the pictures of golden/ and the squares that the reference makes of them.

Usage: golden.py   (needs: pip install -r requirements.txt, and pillow-heif and pillow-jxl-plugin)

The pictures are drawn here, from a fixed seed: gradients, waves, discs and a little noise. NAME is the
picture, NAME.png its square at resize 64 and size 56. Run it again only to add a kind: encoders change.
"""
import io
import pathlib

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401, it registers itself
from PIL import Image, ImageCms

from reference import square

pillow_heif.register_heif_opener()
HERE = pathlib.Path(__file__).parent / "golden"


def drawing(width, height, channels=3):
    random = np.random.default_rng(20_261_124)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    planes = []
    for channel in range(channels):
        plane = 90 + 80 * x + 60 * y * (channel - 1)
        for _ in range(4):
            fx, fy, phase = random.uniform(2, 25, 3)
            plane = plane + 18 * np.sin(fx * x + fy * y * (channel + 1) + phase)
        for _ in range(6):
            cx, cy, radius, light = *random.uniform(0, 1, 2), random.uniform(0.03, 0.2), random.uniform(-120, 120)
            plane = plane + light * ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)
        planes.append(plane + random.normal(0, 2, plane.shape))
    array = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return Image.fromarray(array if channels > 1 else array[..., 0])


# The white of the connection space.
D50 = (0.9642, 1, 0.8249)


def fixed(*values):
    """Numbers as ICC profiles have them."""
    return b"".join(int(round(value * 65536)).to_bytes(4, "big", signed=True) for value in values)


def xyz(*values):
    return b"XYZ \0\0\0\0" + fixed(*values)


def described(text):
    return b"desc\0\0\0\0" + len(text).to_bytes(4, "big") + text + bytes(78)


def wide_gamut_profile():
    """Display P3, written out by hand from ICC.1:2001: lcms in Pillow makes sRGB only."""
    # para, function 3: the curve of sRGB.
    curve = b"para\0\0\0\0\0\x03\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = {
        b"desc": described(b"Wide gamut, for tests\0"),
        b"wtpt": xyz(*D50),
        b"rXYZ": xyz(0.51512, 0.2412, -0.00105),
        b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.1571, 0.06657, 0.78407),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
        b"cprt": b"text\0\0\0\0none\0",
    }
    return profile(b"mntrRGB XYZ ", tags)


def ink_profile():
    """Inks of a press, made up and written out by hand from ICC.1:2001: its black is a dark grey."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 4, indexing="ij"), -1).reshape(-1, 4)
    c, m, y, k = grid.T
    paper = (1 - 0.9 * k) * (1 - 0.55 * c) * (1 - 0.6 * m) * (1 - 0.12 * y)
    lightness = 12 + 84 * paper
    a = (1 - k) * (-35 * c + 70 * m - 5 * y) * (1 - 0.5 * c * m)
    b = (1 - k) * (-48 * c - 5 * m + 90 * y) * (1 - 0.5 * c * y)
    table = np.stack([lightness * 2.55, a + 128, b + 128], -1).round().clip(0, 255).astype(np.uint8)
    curve = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 9, 0]) + fixed(*np.eye(3).ravel()) + curve * 4 + table.tobytes() + curve * 3
    tags = {
        b"desc": described(b"Inks, for tests\0"),
        b"wtpt": xyz(*D50),
        b"A2B0": lut,
        b"cprt": b"text\0\0\0\0none\0",
    }
    return profile(b"prtrCMYKLab ", tags, b"\x02\x40\0\0")


def profile(kind, tags, version=b"\x04\0\0\0"):
    table, data = len(tags).to_bytes(4, "big"), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        offset = 128 + 4 + 12 * len(tags) + len(data)
        table += name + offset.to_bytes(4, "big") + len(content).to_bytes(4, "big")
        data += content
    header = bytearray(128)
    header[0:4] = (128 + len(table) + len(data)).to_bytes(4, "big")
    header[8:12] = version
    header[12:24] = kind
    header[36:40] = b"acsp"
    header[68:80] = fixed(*D50)
    written = bytes(header) + table + data
    ImageCms.ImageCmsProfile(io.BytesIO(written))
    return written


def make():
    HERE.mkdir(exist_ok=True)
    colour, large = drawing(301, 200), drawing(1200, 900)
    grey = drawing(200, 301, 1)
    alpha = drawing(200, 200, 4)
    exif, mirrored = Image.Exif(), Image.Exif()
    exif[0x0112], mirrored[0x0112] = 6, 5
    cmyk = Image.fromarray(np.asarray(drawing(200, 150, 4)), "CMYK")
    wide = {"icc_profile": wide_gamut_profile()}
    # How libraries make half the chroma whole again is a matter of taste.
    full = {"subsampling": "4:4:4"}
    sixteen = Image.fromarray((np.asarray(grey, np.uint16) * 257 + 100).clip(0, 65535).astype(np.uint16))
    pictures = {
        "420.jpg": (colour, {"quality": 85}),
        "422.jpg": (colour, {"quality": 85, "subsampling": "4:2:2"}),
        "444.jpg": (colour, {"quality": 85, "subsampling": "4:4:4"}),
        "progressive.jpg": (colour, {"quality": 85, "progressive": True}),
        "restarts.jpg": (colour, {"quality": 85, "progressive": True, "restart_marker_blocks": 5, **full}),
        "restarts-422.jpg": (colour, {"quality": 85, "subsampling": "4:2:2", "restart_marker_blocks": 3}),
        "large.jpg": (large, {"quality": 60}),
        "large-progressive.jpg": (large, {"quality": 60, "progressive": True}),
        "large-turned.jpg": (large, {"quality": 60, "exif": exif}),
        "half.jpg": (drawing(403, 300), {"quality": 75}),
        "grey.jpg": (grey, {"quality": 85}),
        "turned.jpg": (colour, {"quality": 85, "exif": exif}),
        "cmyk.jpg": (cmyk, {"quality": 85}),
        "inks.jpg": (cmyk, {"quality": 95, "icc_profile": ink_profile()}),
        "wide.jpg": (colour, {"quality": 85, **wide}),
        "wide.png": (colour.resize((150, 100)), wide),
        "turned.png": (colour.resize((150, 100)), {"exif": exif}),
        "turned.webp": (colour, {"quality": 80, "exif": exif}),
        "alpha.png": (alpha, {}),
        "alpha.webp": (alpha, {"quality": 80, "exact": True}),
        "wide-alpha.png": (alpha.resize((90, 80)), wide),
        "palette.png": (colour.quantize(64), {}),
        "sixteen.png": (sixteen.resize((80, 120)), {}),
        "lossless.webp": (colour.resize((150, 100)), {"lossless": True}),
        "colour.gif": (colour.quantize(128), {}),
        "colour.bmp": (colour.resize((90, 70)), {}),
        "lzw.tif": (colour.resize((150, 100)), {"compression": "tiff_lzw"}),
        "turned.tif": (colour.resize((150, 100)), {"compression": "tiff_deflate", "tiffinfo": {0x0112: 6}}),
        "grey.tif": (grey.resize((80, 120)), {"compression": "tiff_lzw"}),
        "colour.jxl": (colour, {"quality": 85}),
        "grey.jxl": (grey, {"quality": 85}),
        "alpha.jxl": (alpha.resize((90, 80)), {"lossless": True}),
        "wide.jxl": (colour.resize((150, 100)), {"lossless": True, **wide}),
        "colour.jp2": (colour, {"quality_mode": "rates", "quality_layers": [8], "irreversible": True}),
        "alpha.jp2": (alpha.resize((90, 80)), {}),
        "sixteen.jp2": (sixteen.resize((80, 120)), {}),
        "tiles.j2k": (colour.resize((150, 100)), {"tile_size": (64, 64)}),
        "colour.heic": (colour, {"quality": 50}),
        "tiles.heic": (colour.resize((250, 170)), {"quality": 50, "tile_size": 64, "exif": mirrored.tobytes()}),
        "wide.heic": (colour.resize((90, 70)), {"quality": -1, "chroma": "444", "matrix_coefficients": 0, **wide}),
        "colour.avif": (colour, {"quality": 85, **full}),
        "alpha.avif": (alpha, {"quality": 85, **full}),
        "turned.avif": (colour, {"quality": 85, **full, "exif": exif}),
        "colour.qoi": (colour.resize((90, 70)), {}),
        "colour.ppm": (colour.resize((90, 70)), {}),
        "rle.tga": (colour.resize((90, 70)).quantize(16).convert("RGB"), {"rle": True}),
        "alpha.ico": (alpha.resize((64, 64)), {"sizes": [(16, 16), (64, 64)]}),
    }
    for name, (image, options) in pictures.items():
        image.save(HERE / name, **options)
        Image.fromarray(square(HERE / name, 64, 56)).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    make()
