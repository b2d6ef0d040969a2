#!/usr/bin/env python3
"""Make single giant pictures of a photo, to see what memory it takes to index each.

Usage: giant.py PHOTO OUT        (needs: pip install -r requirements.txt, and pillow-heif and OpenEXR, and 6 GB of memory)

Writes 400 megapixels as ordinary and progressive JPEG, PNG (interlaced and not), TIFF of one strip and of planes, BMP, PPM,
PSD, QOI, TGA (in packets), GIF (interlaced, as Pillow writes it, and not) and HEIC in tiles, as phones write it, 210 as
WebP with loss, near the most that libwebp writes, and 144 without; TIFF of 480 in one bit and of 144 in inks, PPM of 484
in 16 bits (black), OpenEXR and Radiance HDR of 134. Index each alone:
/usr/bin/time -v likeness index --library NEW FOLDER-WITH-ONE
"""
import pathlib
import struct
import sys
import zlib

import numpy
import OpenEXR
import pillow_heif
from PIL import Image

# Adam7: first column and row, and how far it is to the next.
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def psd(image, path):
    """Version 1, RGB of 8 bits, not compressed, without layers."""
    with open(path, "wb") as file:
        file.write(b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, image.height, image.width, 8, 3) + bytes(14))
        for plane in image.split():
            file.write(plane.tobytes())


def tiff_of_planes(image, path):
    """A strip each, not compressed; all numbers of a directory in LONG."""
    size, pixels = image.size, image.width * image.height
    tags = {256: [size[0]], 257: [size[1]], 258: [8] * 3, 259: [1], 262: [2], 277: [3], 278: [size[1]], 284: [2]}
    tags[279] = [pixels] * 3
    extra = 8 + 2 + 12 * (len(tags) + 1) + 4
    tags[273] = [extra + 36 + plane * pixels for plane in range(3)]
    directory, longs = struct.pack("<H", len(tags)), b""
    for tag, values in sorted(tags.items()):
        value = values[0] if len(values) == 1 else extra + len(longs)
        directory += struct.pack("<HHII", tag, 4, len(values), value)
        longs += struct.pack(f"<{len(values)}I", *values) if len(values) > 1 else b""
    with open(path, "wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + longs)
        for plane in image.split():
            file.write(plane.tobytes())


def interlaced_png(image, path):
    """Pillow writes none."""
    pixels = numpy.asarray(image)
    compress = zlib.compressobj(1)
    data = []
    for left, top, across, down in PASSES:
        rows = pixels[top::down, left::across]
        filtered = numpy.zeros((rows.shape[0], 1 + rows.shape[1] * 3), numpy.uint8)
        filtered[:, 1:] = rows.reshape(rows.shape[0], -1)
        data.append(compress.compress(filtered.tobytes()))
    data.append(compress.flush())
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in (b"IHDR", header), (b"IDAT", b"".join(data)), (b"IEND", b""):
            file.write(struct.pack(">I", len(content)) + name + content)
            file.write(struct.pack(">I", zlib.crc32(name + content)))


def exr_and_hdr(image, out):
    """Half floats in ZIP blocks, and pixels that are not packed; each pixel of `image` eight by eight times."""
    light = (numpy.asarray(image).astype(numpy.float32) / 255) ** 2.2 * 3
    large = light.astype(numpy.float16).repeat(8, 0).repeat(8, 1)
    kind = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(kind, {"RGB": large}).write(str(out / "big.exr"))
    brightest = numpy.maximum(light.max(2), 1e-32)
    exponent = numpy.ceil(numpy.log2(brightest))
    rgbe = numpy.zeros((*light.shape[:2], 4), numpy.uint8)
    rgbe[..., :3] = numpy.clip(light * (256 / numpy.exp2(exponent))[..., None], 0, 255)
    rgbe[..., 3] = numpy.clip(exponent + 128, 0, 255)
    with open(out / "big.hdr", "wb") as file:
        file.write(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % large.shape[:2])
        for row in rgbe:
            file.write(row.repeat(8, 0).tobytes() * 8)


def main(photo, out):
    Image.MAX_IMAGE_PIXELS = None
    pillow_heif.register_heif_opener()
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    image = Image.open(photo).convert("RGB")
    giant = image.resize((20_000, 20_000), Image.Resampling.BILINEAR)
    giant.save(out / "base.jpg", quality=85)
    giant.save(out / "prog.jpg", quality=85, progressive=True)
    giant.save(out / "big.png", compress_level=1)
    giant.save(out / "big.tif")
    tiff_of_planes(giant, out / "planes.tif")
    giant.save(out / "big.bmp")
    giant.save(out / "big.qoi")
    giant.save(out / "big.tga", compression="tga_rle")
    giant.save(out / "big.ppm")
    psd(giant, out / "big.psd")
    interlaced_png(giant, out / "passes.png")
    giant.save(out / "tiles.heic", quality=50, tile_size=1024)
    few = giant.quantize(64)
    few.save(out / "big.gif")
    few.save(out / "rows.gif", interlace=0)
    image.convert("L").resize((24_000, 20_000)).convert("1").save(out / "fax.tif", compression="group4")
    image.convert("CMYK").resize((12_000, 12_000)).save(out / "inks.tif")
    with open(out / "deep.ppm", "wb") as file:
        file.write(b"P6 22000 22000 65535\n")
        file.truncate(file.tell() + 22_000 * 22_000 * 6)
    exr_and_hdr(image.resize((2_048, 1_024), Image.Resampling.BILINEAR), out)
    image.resize((14_500, 14_500)).save(out / "big.webp", quality=60)
    image.resize((12_000, 12_000)).save(out / "lossless.webp", lossless=True, method=0, quality=0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
