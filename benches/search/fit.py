#!/usr/bin/env python3
"""Fits the made vectors of src/index/synthetic.rs to real features.

    target/peers-search/bin/python benches/search/fit.py FILE.npy

FILE.npy and FILE.npy.ids.jsonl come from `likeness export`; the folder of a photo is its cluster. Needs
numpy alone. Prints what the numbers of synthetic.rs were taken from, and the figures that were compared:

    z = level_j + W (between * g_cluster + spread_cluster * within * g) + noise * g_j,   v = max(0, e^z - cut)

W is a fixed random matrix over LATENT directions, whose variances fall off as l^-decay, each with its own decay
for between and within clusters. Eight numbers are moved at random, and kept where the figures come nearer.
"""
import argparse
import json
import pathlib

import numpy as np

LATENT = 256
SEED = 20_261_126
# Names, where to begin, all positive.
START = dict(level=0.73, between=0.65, within=0.52, noise=0.2, decay_between=1.0, decay_within=0.75, uneven=0.2, cut=0.4)
TRIES = 300


def made(p, clusters, each, width, random):
    """Unit vectors of `clusters` clusters of `each`, in the order of the clusters."""
    def deviations(total, decay):
        variance = np.arange(1, LATENT + 1) ** -decay
        return total * np.sqrt(variance / variance.sum())
    count = clusters * each
    weights = random.standard_normal((LATENT, width))
    spread = np.exp(p["uneven"] * random.standard_normal(clusters) - p["uneven"] ** 2)
    place = np.repeat(random.standard_normal((clusters, LATENT)) * deviations(p["between"], p["decay_between"]), each, 0)
    place += random.standard_normal((count, LATENT)) * deviations(p["within"], p["decay_within"]) \
        * np.repeat(spread, each)[:, None]
    z = p["level"] * random.standard_normal(width) + place @ weights + p["noise"] * random.standard_normal((count, width))
    # A little of everything, so that no vector is zero.
    v = np.maximum(np.exp(z) - p["cut"], 0) + 1e-6
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def figures(u, clusters):
    """What is compared: name -> (value, weight)."""
    count = len(u)
    same = clusters[:, None] == clusters[None, :]
    alone = np.eye(count, dtype=bool)
    cosines = u @ u.T
    others = np.where(alone, -1, cosines)
    near = -np.sort(-others, axis=1)[:, :50]
    within, across = cosines[same & ~alone], cosines[~same]
    found = {
        "cosine within a cluster": (within.mean(), 4), "its deviation": (within.std(), 4),
        "cosine across clusters": (across.mean(), 4), "its deviation ": (across.std(), 8),
    }
    for rank in (1, 3, 10, 30):
        for share in (0.05, 0.5, 0.95):
            found[f"cosine of neighbour {rank} at {share}"] = (np.quantile(near[:, rank - 1], share), 4)
    centred = u - u.mean(0)
    spectrum = np.linalg.eigvalsh(centred @ centred.T)[::-1].clip(0)
    kept = np.cumsum(spectrum) / spectrum.sum()
    for width in (1, 4, 16, 64, 128, 256, 512):
        found[f"variance kept by {width}"] = (kept[width - 1], 3)
    # What photos that were not learned from have in common with those that were: noise has nothing.
    learned, unseen = u[::2] - u[::2].mean(0), u[1::2] - u[::2].mean(0)
    values, vectors = np.linalg.eigh(learned @ learned.T)
    components = (vectors[:, ::-1][:, :256].T @ learned)
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    kept = np.cumsum(((unseen @ components.T) ** 2).sum(0)) / (unseen ** 2).sum()
    for width in (16, 64, 128, 256):
        found[f"of others kept by {width}"] = (kept[width - 1], 4)
    found["zeros"] = ((u < 2e-5).mean(), 1)
    for share in (0.5, 0.75, 0.9, 0.99, 0.999):
        found[f"log of component at {share}"] = (np.log(np.quantile(u, share)), 0.2)
    away = np.sqrt(2 - 2 * near.clip(-1, 1)).clip(1e-6)
    for k in (10, 30):
        ratios = np.log(away[:, [k - 1]] / away[:, :k - 1]).mean(1)
        found[f"log of dimension by {k} neighbours"] = (-np.log(np.median(ratios)), 1)
    hits = np.bincount(np.argsort(-others, axis=1)[:, :10].ravel(), minlength=count)
    found["skew of being a neighbour"] = (((hits - hits.mean()) ** 3).mean() / hits.std() ** 3, 0.1)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("npy", help="features of photos in folders of equal size")
    parser.add_argument("--tries", type=int, default=TRIES)
    options = parser.parse_args()
    real = np.load(options.npy).astype(np.float64)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    rows = [json.loads(line) for line in open(options.npy + ".ids.jsonl")]
    folders = {}
    clusters = np.array([folders.setdefault(str(pathlib.Path(row["path"]).parent), len(folders)) for row in rows])
    count, each = len(folders), len(rows) // len(folders)
    wanted = figures(real, clusters)

    def of(p):
        random = np.random.default_rng(SEED)
        return figures(made(p, count, each, real.shape[1], random), np.repeat(np.arange(count), each))

    def away(found):
        return sum((weight * (found[name][0] - value)) ** 2 for name, (value, weight) in wanted.items())

    random = np.random.default_rng(SEED)
    best, found = START, of(START)
    least, step = away(found), 0.3
    for _ in range(options.tries):
        moved = {name: value * np.exp(step * random.standard_normal() * (random.random() < 0.5))
                 for name, value in best.items()}
        tried = of(moved)
        if away(tried) < least:
            best, found, least, step = moved, tried, away(tried), min(step * 1.5, 0.5)
        else:
            step = max(step * 0.96, 0.01)
    print(json.dumps({name: round(float(value), 4) for name, value in best.items()}), f"off by {least:.4f}")
    for name, (value, _) in wanted.items():
        print(f"{name:<36} real {value:>8.4f}  made {found[name][0]:>8.4f}")


if __name__ == "__main__":
    main()
