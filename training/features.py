"""Features of many photos, a batch at a time."""

import numpy as np
import torch

import augment


def features(network, squares, batch=64):
    """Of uint8 squares [n, 3, s, s], float32 [n, width]."""
    out = []
    with torch.inference_mode():
        for i in range(0, len(squares), batch):
            out.append(network(torch.from_numpy(np.ascontiguousarray(squares[i : i + batch])).float()))
    return torch.cat(out).numpy()


def view_features(network, canvases, sizes, side, seed, batch=64):
    """Of one random view of each photo."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    with torch.inference_mode():
        for i in range(0, len(canvases), batch):
            photos = torch.from_numpy(np.ascontiguousarray(canvases[i : i + batch]))
            x = augment.view(photos, torch.from_numpy(sizes[i : i + batch]), side, generator)
            out.append(network(x))
    return torch.cat(out).numpy()
