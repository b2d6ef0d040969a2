"""A picture's square as Pillow, ImageCms (lcms2) and torchvision's Resize and CenterCrop give it.

The independent pipeline that likeness is held against: `square` is used by golden.py and embeddings.py.
"""
import io

import numpy as np
from PIL import Image, ImageCms, ImageOps

SRGB = ImageCms.createProfile("sRGB")


def to_srgb(image):
    """Colours as the embedded profile means them, with lcms's default intent."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGBA":
            colours = ImageCms.profileToProfile(image.convert("RGB"), source, SRGB)
            return Image.merge("RGBA", (*colours.split(), image.getchannel("A")))
        return ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        # A profile that is damaged or does not fit is passed over, as every viewer does.
        return image


def over_white(image):
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits to the lowest 8.
        image = Image.fromarray(np.round(np.asarray(image, np.float64) / 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def square(path, resize=256, size=224):
    """uint8 [size, size, 3]: upright, shorter side to `resize`, central crop."""
    image = over_white(to_srgb(ImageOps.exif_transpose(Image.open(path))))
    width, height = image.size
    shorter = min(width, height)
    image = image.resize(
        (resize * width // shorter, resize * height // shorter), Image.Resampling.BILINEAR
    )
    # Python's round() ties to even, as torchvision's CenterCrop relies on.
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))
