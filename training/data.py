"""Photos as arrays: folders of classes, likeness's preprocessing, and the five edits of a near copy."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

SUFFIXES = {".jpg", ".jpeg", ".png"}


def list_photos(root):
    """Returns (paths, labels, names): `root/NAME/*.jpg`, sorted, labels numbered in the order of the names."""
    paths, labels, names = [], [], []
    for folder in sorted(p for p in Path(root).iterdir() if p.is_dir()):
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if files:
            paths += files
            labels += [len(names)] * len(files)
            names.append(folder.name)
    return paths, np.array(labels), names


def square(image, resize, crop):
    """Shorter side to `resize` (antialiased bilinear), central `crop` square. Returns uint8 [3, crop, crop]."""
    image = image.convert("RGB")
    width, height = image.size
    if width <= height:
        size = (resize, max(resize, int(resize * height / width)))
    else:
        size = (max(resize, int(resize * width / height)), resize)
    image = image.resize(size, Image.BILINEAR)
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def load_squares(paths, resize, crop):
    """Returns uint8 [len(paths), 3, crop, crop]."""
    out = np.empty((len(paths), 3, crop, crop), dtype=np.uint8)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            out[i] = square(image, resize, crop)
    return out


def load_canvases(paths, side, longest):
    """Photos with the shorter side at `side`, as wide a centre as fits in `longest`, each in the middle of
    a square canvas. Returns uint8 [n, 3, longest, longest] and the sizes, int [n, 2] (width, height)."""
    out = np.zeros((len(paths), 3, longest, longest), dtype=np.uint8)
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            image = image.convert("RGB")
            scale = side / min(image.size)
            width, height = (max(side, round(n * scale)) for n in image.size)
            pixels = np.asarray(image.resize((width, height), Image.BILINEAR)).transpose(2, 0, 1)
        left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
        pixels = pixels[:, top : top + longest, left : left + longest]
        height, width = pixels.shape[1:]
        x, y = (longest - width) // 2, (longest - height) // 2
        out[i, :, y : y + height, x : x + width] = pixels
        sizes[i] = width, height
    return out, sizes


def _jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def _crop70(image):
    width, height = image.size
    w, h = round(width * 0.7), round(height * 0.7)
    left, top = (width - w) // 2, (height - h) // 2
    return image.crop((left, top, left + w, top + h))


# What is done to a photo to make a near copy of it, on its full size, before the preprocessing.
EDITS = {
    "quarter": lambda im: im.resize((max(1, im.width // 4), max(1, im.height // 4)), Image.BILINEAR),
    "jpeg30": _jpeg,
    "crop70": _crop70,
    "darker": lambda im: ImageEnhance.Brightness(im).enhance(0.7),
    "brighter": lambda im: ImageEnhance.Brightness(im).enhance(1.3),
    "grey": lambda im: im.convert("L").convert("RGB"),
}


def load_edited(paths, edit, resize, crop):
    """As load_squares, of near copies."""
    out = np.empty((len(paths), 3, crop, crop), dtype=np.uint8)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            out[i] = square(EDITS[edit](image.convert("RGB")), resize, crop)
    return out


def sample(n, k, seed):
    """Returns k of range(n), sorted, the same for the same seed."""
    return np.array(sorted(random.Random(seed).sample(range(n), k)))
