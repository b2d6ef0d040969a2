#!/usr/bin/env python3
"""Compare what likeness makes of awkward pictures with the reference, file by file.

Usage: odd.py MODEL.onnx EXPORT.npy SKIPPED.json      (needs: pip install -r requirements.txt)

EXPORT.npy is what `likeness export` wrote after `likeness index` of the folder, SKIPPED.json what
`likeness status --skipped --json` printed. Prints how many files both decode alike (cosine of the
embeddings at least 0.999), and names every file on which they disagree.
"""
import collections
import json
import os
import sys
import warnings

import numpy as np
import onnxruntime

from reference import square

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def reference(session, path):
    try:
        pixels = square(path)
    except Exception as error:  # noqa: BLE001  whatever Pillow says of a broken file
        return None, f"{type(error).__name__}: {error}".splitlines()[0][:90]
    tensor = ((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)[None]
    name = session.get_inputs()[0].name
    features = session.run(None, {name: tensor})[0].reshape(-1).astype(np.float64)
    return features / np.linalg.norm(features), None


def main(model, export, skipped):
    warnings.simplefilter("ignore")
    rows = [json.loads(line) for line in open(export + ".ids.jsonl", encoding="utf-8")]
    ours = np.load(export).astype(np.float64)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    skipped = json.load(open(skipped, encoding="utf-8"))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    root = os.path.commonpath([row["path"] for row in rows])
    counts, apart, alone = collections.Counter(), [], []
    for row, vector in zip(rows, ours):
        features, reason = reference(session, row["path"])
        name = os.path.relpath(row["path"], root)
        if features is None:
            counts["decoded by likeness only"] += 1
            alone.append((name, reason))
            continue
        cosine = float(features @ vector)
        counts["decoded alike" if cosine >= 0.999 else "decoded differently"] += 1
        if cosine < 0.999:
            apart.append((cosine, name))
    missed, reasons = [], collections.Counter()
    for file in skipped:
        features, _ = reference(session, file["path"])
        counts["refused by both" if features is None else "decoded by the reference only"] += 1
        reasons[file["reason"].split(":")[0]] += 1
        if features is not None:
            missed.append((os.path.relpath(file["path"], root), file["reason"]))
    for what, count in sorted(counts.items()):
        print(f"{count:5}  {what}")
    print("\nreasons of likeness:")
    for reason, count in reasons.most_common():
        print(f"{count:5}  {reason}")
    print("\ndecoded differently:")
    for cosine, name in sorted(apart):
        print(f"  {cosine:.4f}  {name}")
    print("\ndecoded by the reference only:")
    for name, reason in missed:
        print(f"  {name}: {reason}")
    print("\ndecoded by likeness only:")
    for name, reason in alone:
        print(f"  {name}: {reason}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
