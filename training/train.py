"""Trains the starter network on Caltech-101 and writes it as one ONNX file.

    python train.py CALTECH101 starter.onnx --work WORK
"""

import argparse
import os
import random
import time
from pathlib import Path

# Threads that wait for each other in a loop take the processor from those they wait for: on a busy machine
# of 2 cores training was 5 times slower so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

import data
import export
import metrics
import network
import patches
import projection
import train_branch
from features import features, view_features

SIDE = export.SIZE
SPLIT_SEED = 7  # draws the tenth of the classes that is held out
PATCH_WIDTH, BRANCH_WIDTH = 512, 256
PER_CLASS = 40


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="Caltech-101: a folder of 101 folders")
    parser.add_argument("out", help="the ONNX file to write")
    parser.add_argument("--work", default="work", help="checkpoints; a run that was cut off goes on from them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steady", type=int, default=18, help="epochs before the learning rate falls")
    parser.add_argument("--decay", type=int, default=12, help="epochs while it falls; 0 and 0: patches alone")
    return parser.parse_args()


def kept(path, make):
    """What `make` returns, from `path` when it was made before."""
    if not path.exists():
        made = make()
        torch.save(made, f"{path}.part")
        Path(f"{path}.part").replace(path)
    return torch.load(path, weights_only=False)


class Split:
    """The photos: those of the training classes, a sample of these, and those held out."""

    def __init__(self, folder):
        paths, labels, names = data.list_photos(folder)
        self.held_names = sorted(random.Random(SPLIT_SEED).sample(names, round(len(names) / 10)))
        held = np.isin(labels, [names.index(name) for name in self.held_names])
        self.paths = [p for p, h in zip(paths, held) if not h]
        self.labels = np.unique(labels[~held], return_inverse=True)[1]
        self.squares = data.load_squares(self.paths, SIDE, SIDE)
        draw = np.random.default_rng(SPLIT_SEED)
        by_class = lambda values, c: np.sort(draw.permutation(np.flatnonzero(values == c))[:PER_CLASS])
        self.sample = np.concatenate([by_class(self.labels, c) for c in np.unique(self.labels)])
        held_places = np.concatenate([by_class(np.where(held, labels, -1), c) for c in np.unique(labels[held])])
        self.held_paths = [paths[i] for i in held_places]
        self.held_labels = labels[held_places]
        self.held = data.load_squares(self.held_paths, SIDE, SIDE)
        chosen = data.sample(len(self.held_paths), 150, SPLIT_SEED)
        self.copied = chosen
        self.copies = {e: data.load_edited([self.held_paths[i] for i in chosen], e, SIDE, SIDE) for e in data.EDITS}


def everything(net, split, seed):
    """The features that projections are fitted and judged with."""
    canvases, sizes = data.load_canvases([split.paths[i] for i in split.sample], train_branch.SIDE, train_branch.LONGEST)
    return {
        "photos": features(net, split.squares[split.sample]),
        "views": view_features(net, canvases, sizes, SIDE, seed),
        "held": features(net, split.held),
        "copies": {edit: features(net, squares) for edit, squares in split.copies.items()},
    }


class Part:
    """One branch's features, projected and of length 1."""

    def __init__(self, found, split, width, damping):
        self.mean, self.matrix = projection.fit(
            found["photos"], found["views"], split.labels[split.sample], width, damping
        )
        self.photos, self.held = self.project(found["photos"]), self.project(found["held"])
        self.copies = {edit: self.project(x) for edit, x in found["copies"].items()}

    def project(self, x):
        return metrics.normalise((x - self.mean) @ self.matrix)


def judge(parts, shares, split):
    """(recall@1, mAP) among the held-out classes and the share of near copies of their photos found among
    them and the training classes' sample, for parts weighted by `shares`."""
    join = lambda pick: np.concatenate([pick(part) * share for part, share in zip(parts, shares)], 1)
    held = join(lambda p: p.held)
    gallery = np.concatenate([held, join(lambda p: p.photos)])
    copies = [metrics.near_copies(gallery, split.copied, join(lambda p, e=e: p.copies[e])) for e in split.copies]
    return *metrics.retrieval(held, split.held_labels), float(np.mean(copies)), copies


def describe(judged):
    first, precision, mean, copies = judged
    each = " ".join(f"{edit} {share:.3f}" for edit, share in zip(data.EDITS, copies))
    return f"recall@1 {first:.3f} mAP {precision:.3f} near copies {mean:.3f} ({each})"


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    start = time.time()
    log = lambda text: print(f"[{time.time() - start:6.0f} s] {text}", flush=True)

    split = Split(options.photos)
    log(f"{len(split.paths)} photos of {split.labels.max() + 1} classes; held out: {', '.join(split.held_names)}")

    patch = kept(work / "patches.pt", lambda: patches.learn_branch(split.squares, options.seed))
    log(f"patch branch learned, {patch.width} values")
    found = kept(work / "patch-features.pt", lambda: everything(patch, split, options.seed))
    log("patch features taken")
    branch = None
    if options.steady + options.decay:
        branch = train_branch.train(
            split.paths, split.labels, split.held, split.held_labels, work / "branch.pt",
            options.steady, options.decay, options.seed, log=log,
        )

    parts, branches, shares = [Part(found, split, PATCH_WIDTH, 0.5)], [patch], [1.0]
    log(f"held out, patches: {describe(judge(parts, shares, split))}")
    if branch:
        parts.append(Part(everything(branch, split, options.seed), split, BRANCH_WIDTH, 0.1))
        branches.append(branch)
        log(f"held out, convolutions: {describe(judge(parts[1:], [1.0], split))}")
        best = None
        for percent in range(10, 100, 10):
            tried = [(1 - percent / 100) ** 0.5, (percent / 100) ** 0.5]
            judged = judge(parts, tried, split)
            log(f"held out, convolutions' share {percent} %: {describe(judged)}")
            if best is None or judged[0] + judged[1] > best:
                best, shares = judged[0] + judged[1], tried
    width = export.write(
        options.out, [(b, p.mean, p.matrix, s) for b, p, s in zip(branches, parts, shares)]
    )
    log(f"{options.out}: {Path(options.out).stat().st_size} bytes, width {width}")


if __name__ == "__main__":
    main()
