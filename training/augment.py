"""Random views of photos, a batch at a time: what a near copy may have gone through."""

import math

import torch
import torch.nn.functional as F
from torchvision.io import decode_jpeg, encode_jpeg


def _uniform(n, low, high, generator):
    return torch.rand(n, generator=generator) * (high - low) + low


def _chance(n, p, generator):
    return torch.rand(n, generator=generator) < p


def crops(canvases, sizes, side, generator, area=(0.2, 1.0), turn=15.0):
    """Random crop (a share of the area, aspect 3:4 to 4:3), flip and small rotation. `canvases` is uint8
    [n, 3, s, s] with the photo of `sizes` (width, height) in the middle. Returns float [n, 3, side, side]
    in [0, 255]."""
    n, canvas = len(canvases), canvases.shape[-1]
    width, height = sizes[:, 0].float(), sizes[:, 1].float()
    share = _uniform(n, *area, generator)
    aspect = torch.exp(_uniform(n, -math.log(4 / 3), math.log(4 / 3), generator))
    w = torch.minimum((share * width * height * aspect).sqrt(), width)
    h = torch.minimum((share * width * height / aspect).sqrt(), height)
    x = (torch.rand(n, generator=generator) - 0.5) * (width - w)
    y = (torch.rand(n, generator=generator) - 0.5) * (height - h)
    angle = _uniform(n, -turn, turn, generator) * (math.pi / 180)
    angle = torch.where(_chance(n, 0.5, generator), angle, torch.zeros(n))
    flip = torch.where(_chance(n, 0.5, generator), -torch.ones(n), torch.ones(n))
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([cos * w * flip, -sin * h, 2 * x], 1),
            torch.stack([sin * w * flip, cos * h, 2 * y], 1),
        ],
        1,
    ) / canvas
    grid = F.affine_grid(theta, (n, 3, side, side), align_corners=False)
    return F.grid_sample(canvases.float(), grid, padding_mode="zeros", align_corners=False)


def edits(x, generator):
    """Colour, contrast, grey, lower resolution, recompression, a covered patch. Takes and returns float
    [n, 3, side, side] in [0, 255]."""
    n, side = len(x), x.shape[-1]
    # Brightness, a gain for each channel, contrast, saturation.
    gain = _uniform(n, 0.6, 1.4, generator).view(n, 1, 1, 1) * _uniform(3 * n, 0.88, 1.12, generator).view(n, 3, 1, 1)
    x = x * gain
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * _uniform(n, 0.6, 1.4, generator).view(n, 1, 1, 1)
    grey = (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    saturation = torch.where(_chance(n, 0.2, generator), torch.zeros(n), _uniform(n, 0.5, 1.5, generator))
    x = (grey + (x - grey) * saturation.view(n, 1, 1, 1)).clamp(0, 255)
    # A group of the batch at a lower resolution.
    order = torch.randperm(n, generator=generator)
    for group in order[: n // 3].chunk(3):
        small = int(torch.randint(side // 4, side * 3 // 4, (1,), generator=generator))
        low = F.interpolate(x[group], size=(small, small), mode="bilinear", antialias=True, align_corners=False)
        x[group] = F.interpolate(low, size=(side, side), mode="bilinear", align_corners=False)
    order = torch.randperm(n, generator=generator)
    group = order[: n // 8]
    quality = torch.randint(20, 70, (len(group),), generator=generator)
    pixels = x[group].to(torch.uint8)
    for i, q, p in zip(group.tolist(), quality.tolist(), pixels):
        x[i] = decode_jpeg(encode_jpeg(p.contiguous(), quality=q)).float()
    # A grey patch over a part.
    order = torch.randperm(n, generator=generator)
    for i in order[: n // 4].tolist():
        h, w = (int(v) for v in torch.randint(side // 6, side // 2, (2,), generator=generator))
        top = int(torch.randint(0, side - h, (1,), generator=generator))
        left = int(torch.randint(0, side - w, (1,), generator=generator))
        x[i, :, top : top + h, left : left + w] = 117.0
    return x


def view(canvases, sizes, side, generator):
    """One random view of each photo, float [n, 3, side, side] in [0, 255]."""
    return edits(crops(canvases, sizes, side, generator), generator)
