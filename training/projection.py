"""A linear projection in which photos of one thing, and edits of one photo, lie close together."""

import numpy as np
import scipy.linalg


def fit(features, views, labels, width, damping=0.5):
    """Whitens by the scatter within classes plus that between a photo and a random view of it, damped by a
    share of the mean variance, and keeps the `width` strongest directions. Returns (mean, matrix)."""
    mean = features.mean(0)
    x = features - mean
    inside = np.concatenate([x[labels == c] - x[labels == c].mean(0) for c in np.unique(labels)])
    moved = views - features
    total = x.T @ x / len(x)
    within = inside.T @ inside / len(inside) + moved.T @ moved / (2 * len(moved))
    within[np.diag_indices_from(within)] += damping * np.trace(total) / len(total)
    lower = np.linalg.cholesky(within)
    white = scipy.linalg.solve_triangular(lower, total, lower=True)
    white = scipy.linalg.solve_triangular(lower, white.T, lower=True)
    n = len(total)
    _, vectors = scipy.linalg.eigh(white, subset_by_index=[n - width, n - 1])
    matrix = scipy.linalg.solve_triangular(lower, vectors, lower=True, trans="T")
    return mean.astype(np.float32), matrix.astype(np.float32)
