#!/usr/bin/env python3
"""Write one photo in every way that other programs have to write it, to see what likeness makes of them.

Usage: survey.py PHOTO FOLDER
Needs: apt install imagemagick libvips-tools libjpeg-turbo-progs libjxl-tools webp libavif-bin libheif-examples ffmpeg

Then, as with other awkward pictures (odd.py compares with Pillow, and names every file on which they disagree):
  likeness index --library survey FOLDER
  likeness export --library survey survey.npy
  likeness status --library survey --skipped --json > skipped.json
  odd.py MODEL.onnx survey.npy skipped.json

What a program cannot write is left out.
"""
import itertools
import pathlib
import re
import subprocess
import sys


def magick(*options, to="{out}"):
    return ["convert", "{photo}", *options, to]


HALF_CLEAR = ["-channel", "A", "-evaluate", "multiply", "0.7", "+channel"]
KINDS = [
    ["-type", "TrueColor"], ["-type", "Grayscale"], ["-type", "Palette"], ["-type", "Bilevel"],
    ["-type", "TrueColorMatte", *HALF_CLEAR], ["-colorspace", "CMYK"], ["-colorspace", "Lab"], ["-colorspace", "YCbCr"],
]
DEPTHS = [
    ["-depth", depth, "-type", kind, *more]
    for depth, more in [("2", []), ("4", []), ("10", []), ("12", []), ("16", []), ("32", []),
                        ("16", ["-define", "quantum:format=floating-point"]),
                        ("32", ["-define", "quantum:format=floating-point"]),
                        ("64", ["-define", "quantum:format=floating-point"])]
    for kind in ("Grayscale", "TrueColor")
]
LAYOUTS = [
    ["-interlace", "Plane"], ["-define", "tiff:tile-geometry=64x64"], ["-define", "tiff:rows-per-strip=7"],
    ["-endian", "MSB", "-depth", "16"], ["-define", "quantum:polarity=min-is-white", "-type", "Grayscale"],
]


def jpeg():
    for quality, sampling in itertools.product(("10", "90", "100"), ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "2x4")):
        yield "jpg", magick("-quality", quality, "-sampling-factor", sampling)
    for options in (["-interlace", "JPEG"], ["-colorspace", "Gray"], ["-colorspace", "CMYK"],
                    ["-define", "jpeg:arithmetic-coding=true"], ["-define", "jpeg:colorspace=rgb"]):
        yield "jpg", magick(*options)
    for options in ("-restart 1B", "-restart 3B", "-progressive -sample 1x1,2x2,1x1", "-sample 3x1", "-sample 3x2,1x2,1x1",
                    "-sample 1x1,2x1,1x2", "-rgb", "-arithmetic -progressive"):
        yield "jpg", ["sh", "-c", f"convert '{{photo}}' ppm:- | cjpeg {options} > '{{out}}'"]


def png():
    for kind, interlace in itertools.product(("PNG8", "PNG24", "PNG32", "PNG48", "PNG64"), ("none", "PNG")):
        yield "png", magick("-interlace", interlace, to=kind + ":{out}")
    for bits in ("1", "2", "4", "8", "16"):
        grey = ["-colorspace", "Gray", "-depth", bits, "-define", f"png:bit-depth={bits}", "-define", "png:color-type=0"]
        yield "png", magick(*grey, to="PNG:{out}")


def tiff():
    ways = ("None", "LZW", "Zip", "JPEG", "RLE", "LZMA", "ZSTD", "WebP", "Fax", "Group4")
    for way, options in itertools.product(ways, KINDS + DEPTHS + LAYOUTS):
        yield "tif", magick("-compress", way, *options, to="TIFF:{out}")
    ways = ("none", "jpeg", "deflate", "packbits", "lzw", "webp", "zstd")
    layouts = (["--tile", "--pyramid"], ["--bigtiff"], ["--predictor=horizontal"], ["--miniswhite"],
               ["--subifd", "--pyramid", "--tile"], ["--bitdepth", "4"], ["--premultiply"])
    for way, layout in itertools.product(ways, layouts):
        yield "tif", ["vips", "tiffsave", "{photo}", "{out}", "--compression", way, *layout]


def others():
    formats = ("BMP", "BMP2", "BMP3", "GIF", "TGA", "ICO", "PSD", "PSB", "PPM", "PGM", "PBM", "PAM", "HDR", "EXR", "WEBP", "AVIF",
               "HEIC", "JP2", "J2K", "ICB", "VDA", "VST")
    for name, options in itertools.product(formats, [*KINDS[:6], ["-depth", "16"], ["-compress", "RLE"], ["-resize", "200x200!"]]):
        yield name.lower().rstrip("23") if name != "JP2" else "jp2", magick(*options, to=name + ":{out}")
    for options in (["-lossless"], ["-q", "30"], ["-near_lossless", "40"], ["-sharp_yuv"]):
        yield "webp", ["cwebp", "-quiet", *options, "{photo}", "-o", "{out}"]
    for options in (["-d", "0"], ["-d", "1"], ["-d", "3", "-p"], ["-m", "1"], ["--container=1"], ["-d", "0", "-e", "9"],
                    ["-d", "1", "--photon_noise_iso=3200"], ["-d", "1", "--resampling=2"], ["-d", "0", "-R", "1"]):
        yield "jxl", ["cjxl", "{photo}", "{out}", *options]
    for chroma, depth, more in itertools.product(("444", "422", "420", "400"), ("8", "10", "12"), ([], ["--range", "limited"])):
        yield "avif", ["avifenc", "-s", "8", "-y", chroma, "-d", depth, *more, "{photo}", "{out}"]
    for more in ("--irot 1", "--irot 2", "--irot 3", "--imir 0", "--imir 1", "--grid 2x2", "--cicp 1/13/0"):
        yield "avif", ["avifenc", "-s", "8", *more.split(), "{photo}", "{out}"]
    for options in (["-q", "50"], ["-L"], ["-q", "60", "-b", "10"], ["-q", "60", "-b", "12"], ["-p", "chroma=422"]):
        yield "heic", ["heif-enc", *options, "{photo}", "-o", "{out}"]
    for ending, pixels in (("bmp", "rgb565"), ("bmp", "rgb555"), ("bmp", "rgb444"), ("bmp", "pal8"), ("tiff", "yuv420p"),
                           ("tiff", "rgb48le"), ("jpg", "yuvj440p"), ("webp", "yuva420p"), ("png", "ya8"), ("png", "monob"),
                           ("pgm", "gray16be"), ("qoi", "rgb24"), ("exr", "gbrpf32le"), ("jp2", "rgb24"), ("tga", "rgb24")):
        yield ending, ["ffmpeg", "-loglevel", "error", "-y", "-i", "{photo}", "-pix_fmt", pixels, "-frames:v", "1", "{out}"]


def main(photo, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder.parent / f"{folder.name}.png"
    subprocess.run(["convert", photo, "-resize", "420x", "-strip", f"PNG24:{plain}"], check=True)
    made, missing = 0, 0
    for ending, command in itertools.chain(jpeg(), png(), tiff(), others()):
        said = " ".join(word for word in command if "{" not in word) or command[-1]
        name = re.sub(r"[^A-Za-z0-9.]+", "_", f"{command[-1].split(':')[0] if ':{' in command[-1] else ''}_{said}").strip("_")
        out = folder / f"{name[-150:]}.{ending}"
        words = [word.format(photo=plain, out=out) if "{" in word else word for word in command]
        # Many end with 1 for no more than a warning.
        subprocess.run(words, capture_output=True, check=False)
        if out.exists() and out.stat().st_size > 0:
            made += 1
        else:
            out.unlink(missing_ok=True)
            missing += 1
    print(f"{made} files, {missing} that could not be written")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
