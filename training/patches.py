"""The patch branch: whitened patches, k-means centroids and a triangle activation, at several scales.

After Coates and Ng, "Learning Feature Representations with K-means" (2012). Nothing here knows labels."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

PATCH = 6
# What is added to a patch's variance, in squared levels, before it is divided by its deviation.
FLOOR = 10.0
# What is added to the eigenvalues of the normalised patches' covariance.
DAMPING = 0.1
# Activations below this many times a place's mean absolute response are zero.
THRESHOLD = 1.5
GREY = (0.299, 0.587, 0.114)

# (name, reduction, channels, centroids, stride)
SCALES = [
    ("colour8", 8, 3, 256, 1),
    ("colour4", 4, 3, 256, 1),
    ("colour2", 2, 3, 128, 2),
    ("grey5", 5, 1, 128, 1),
    ("grey4", 4, 1, 128, 1),
]


def reduce(x, factor, channels):
    """Smaller by averaging; grey where `channels` is 1."""
    if channels == 1:
        x = (x * x.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return F.avg_pool2d(x, factor)


def learn(squares, factor, channels, centroids, seed, patches=150_000, photos=3000, rounds=12):
    """Whitening and spherical k-means of patches at random places. Returns the filters, which hold the
    whitening and are to be applied to contrast-normalised patches, and what to subtract after."""
    generator = torch.Generator().manual_seed(seed)
    chosen = np.random.default_rng(seed).permutation(len(squares))[:photos]
    found = []
    for batch in np.array_split(chosen, max(1, len(chosen) // 100)):
        x = reduce(torch.from_numpy(squares[np.sort(batch)]).float(), factor, channels)
        n = len(batch) * patches // len(chosen)
        places = x.shape[-1] - PATCH + 1
        i, y, z = (torch.randint(m, (n,), generator=generator) for m in (len(batch), places, places))
        found.append(x.unfold(2, PATCH, 1).unfold(3, PATCH, 1)[i, :, y, z].reshape(n, -1))
    x = torch.cat(found)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + FLOOR).sqrt()
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    whitening = vectors @ torch.diag((values.clamp(min=0) + DAMPING).rsqrt()) @ vectors.T
    x = F.normalize((x - mean) @ whitening)
    centre = F.normalize(torch.randn(centroids, x.shape[1], generator=generator))
    for _ in range(rounds):
        # Of either sign: a centroid stands for its negative too.
        response = x @ centre.T
        nearest = response.abs().argmax(1)
        along = response.gather(1, nearest[:, None])
        moved = torch.zeros_like(centre).index_add_(0, nearest, x * along)
        rare = torch.bincount(nearest, minlength=centroids) < 5
        moved[rare] = x[torch.randint(len(x), (int(rare.sum()),), generator=generator)]
        centre = F.normalize(moved)
    filters = centre @ whitening
    offset = filters @ mean
    # A patch's own mean is subtracted by the filter itself.
    filters = filters - filters.mean(1, keepdim=True)
    return filters.view(centroids, channels, PATCH, PATCH), offset


def places(scale, side):
    """How many patches lie in a row of a photo of `side` pixels."""
    return (side // scale.factor - PATCH) // scale.stride + 1


class Scale(nn.Module):
    """One scale: [n, 3, s, s] in [0, 255] to the root of the pooled activations, over the whole and over
    the central half: [n, 4 * centroids]."""

    def __init__(self, filters, offset, factor, stride):
        super().__init__()
        channels = filters.shape[1]
        self.factor, self.stride, self.channels = factor, stride, channels
        self.register_buffer("filters", filters)
        self.register_buffer("offset", offset.view(1, -1, 1, 1))
        self.register_buffer("box", torch.full((1, channels, PATCH, PATCH), 1 / (channels * PATCH * PATCH)))

    def forward(self, x):
        x = reduce(x, self.factor, self.channels) / 64.0
        mean = F.conv2d(x, self.box, stride=self.stride)
        square = F.conv2d(x * x, self.box, stride=self.stride)
        variance = torch.relu(square - mean * mean) + FLOOR / 64.0**2
        y = F.conv2d(x, self.filters, stride=self.stride) / variance.sqrt() - self.offset
        least = THRESHOLD * y.abs().mean(1, keepdim=True)
        pooled = []
        edge = y.shape[-1] // 4
        for part in (F.relu(y - least), F.relu(-y - least)):
            pooled += [part.mean((2, 3)), part[:, :, edge:-edge, edge:-edge].mean((2, 3))]
        return (torch.cat(pooled, 1) + 1e-8).sqrt()


class PatchBranch(nn.Module):
    """All scales: [n, 3, s, s] in [0, 255] to [n, width]."""

    def __init__(self, scales):
        super().__init__()
        self.scales = nn.ModuleList(scales)
        self.width = sum(4 * len(s.filters) for s in scales)

    def forward(self, x):
        return torch.cat([scale(x) for scale in self.scales], 1)


def learn_branch(squares, seed, scales=SCALES):
    """Learns every scale from uint8 squares."""
    out = []
    for i, (_, factor, channels, centroids, stride) in enumerate(scales):
        filters, offset = learn(squares, factor, channels, centroids, seed + i)
        out.append(Scale(filters, offset, factor, stride))
    return PatchBranch(out).eval()
