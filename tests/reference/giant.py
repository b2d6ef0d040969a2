#!/usr/bin/env python3
"""Make single giant pictures of a photo, to see what memory it takes to index each.

Usage: giant.py PHOTO OUT        (needs: pip install -r requirements.txt, and 4 GB of memory)

Writes 400 megapixels as ordinary and progressive JPEG, PNG, and TIFF of one strip, and 144 megapixels as WebP
and GIF. Index each alone: /usr/bin/time -v likeness index --library NEW FOLDER-WITH-ONE
"""
import pathlib
import sys

from PIL import Image


def main(photo, out):
    Image.MAX_IMAGE_PIXELS = None
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    image = Image.open(photo).convert("RGB")
    giant = image.resize((20_000, 20_000), Image.Resampling.BILINEAR)
    giant.save(out / "base.jpg", quality=85)
    giant.save(out / "prog.jpg", quality=85, progressive=True)
    giant.save(out / "big.png", compress_level=1)
    giant.save(out / "big.tif")
    large = image.resize((12_000, 12_000))
    large.save(out / "big.webp", quality=60, method=0)
    large.quantize(64).save(out / "big.gif")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
