"""Retrieval by cosine, the query itself left out."""

import numpy as np


def normalise(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def retrieval(features, labels):
    """Returns (recall@1, mAP): a hit is a photo of the same label; photos without any other are no queries."""
    x = normalise(features.astype(np.float32))
    similarity = x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    first, precision = [], []
    for i, row in enumerate(similarity):
        order = np.argsort(-row, kind="stable")[:-1]
        hits = labels[order] == labels[i]
        if hits.any():
            first.append(hits[0])
            ranks = np.flatnonzero(hits) + 1
            precision.append((np.arange(1, len(ranks) + 1) / ranks).mean())
    return float(np.mean(first)), float(np.mean(precision))


def near_copies(features, originals, copies):
    """Returns the share of copies whose first hit is the original: row originals[i] of `features` is the
    original of row i of `copies`."""
    x, q = normalise(features.astype(np.float32)), normalise(copies.astype(np.float32))
    return float(((q @ x.T).argmax(axis=1) == originals).mean())
