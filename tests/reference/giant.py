#!/usr/bin/env python3
"""Make single giant pictures of a photo, to see what memory it takes to index each.

Usage: giant.py PHOTO OUT        (needs: pip install -r requirements.txt, and pillow-heif, and 6 GB of memory)

Writes 400 megapixels as ordinary and progressive JPEG, PNG, TIFF of one strip, GIF (interlaced, as Pillow
writes it, and not) and HEIC in tiles, as phones write it, 210 as WebP with loss, near the most that libwebp writes, and 144 without. Index each alone: /usr/bin/time -v likeness index --library NEW FOLDER-WITH-ONE
"""
import pathlib
import sys

import pillow_heif
from PIL import Image


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
    giant.save(out / "tiles.heic", quality=50, tile_size=1024)
    few = giant.quantize(64)
    few.save(out / "big.gif")
    few.save(out / "rows.gif", interlace=0)
    image.resize((14_500, 14_500)).save(out / "big.webp", quality=60)
    image.resize((12_000, 12_000)).save(out / "lossless.webp", lossless=True, method=0, quality=0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
