#!/usr/bin/env python3
"""Make large photos of small ones, to see what decoding to a smaller size does to embeddings.

Usage: enlarge.py PHOTOS OUT COUNT        (needs: pip install -r requirements.txt)

COUNT of the JPEG photos below PHOTOS, evenly spread, are enlarged to a shorter side of 1,024 to 3,000
pixels, get the grain that enlarging takes from a photo, and are written as cameras write them.
The grain is added to white and black, too, where it is clipped.
"""
import pathlib
import sys

import numpy as np
from PIL import Image

GRAIN = 5


def enlarge(source, target, random):
    image = Image.open(source).convert("RGB")
    factor = random.integers(1024, 3000) / min(image.size)
    size = tuple(round(side * factor) for side in image.size)
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), np.float32)
    grain = random.normal(0, GRAIN, pixels.shape[:2])[..., None].astype(np.float32)
    image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    image.save(target, quality=88, progressive=bool(random.integers(4) == 0))


def main(photos, out, count):
    sources = sorted(pathlib.Path(photos).rglob("*.jpg"))
    sources = [sources[i * len(sources) // count] for i in range(count)]
    random = np.random.default_rng(20_261_124)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(sources):
        enlarge(source, pathlib.Path(out) / f"{number:04}.jpg", random)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
