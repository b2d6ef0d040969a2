#!/usr/bin/env python3
"""Compare likeness's embeddings with an independent pipeline: Pillow + ONNX Runtime in Python.

Usage: embeddings.py MODEL.onnx EXPORT.npy [LOWEST]      (needs: pip install -r requirements.txt)

MODEL.onnx is a network whose (first) output is the pooled features; EXPORT.npy and EXPORT.npy.ids.jsonl
are what `likeness export EXPORT.npy` wrote. Every photo of the export is decoded by Pillow, turned by
its EXIF orientation, resized and cropped as torchvision's Resize(256) and CenterCrop(224) do, and run
through the same network. Prints a summary, and exits 1 when a cosine is below LOWEST (0.9995 when it is
not given) or their mean below 0.9998.
"""
import json
import sys

import numpy as np
import onnxruntime

from reference import square

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
MEAN_AT_LEAST = 0.9998


def tensor(path):
    return ((square(path).astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)[None]


def main(model, export, lowest=0.9995):
    ours = np.load(export)
    rows = [json.loads(line) for line in open(export + ".ids.jsonl", encoding="utf-8")]
    assert len(rows) == len(ours), "ids and vectors are of different length"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    cosines = []
    for row, vector in zip(rows, ours):
        features = session.run(None, {name: tensor(row["path"])})[0].reshape(-1).astype(np.float64)
        vector = vector.astype(np.float64)
        cosines.append(features @ vector / np.linalg.norm(features) / np.linalg.norm(vector))
    cosines = np.array(cosines)
    print(f"photos       {len(cosines)}")
    print(f"cosine min   {cosines.min():.6f}")
    print(f"cosine mean  {cosines.mean():.6f}")
    print(f"below 0.9995 {int((cosines < 0.9995).sum())}")
    print("lowest:")
    for i in np.argsort(cosines)[:5]:
        print(f"  {cosines[i]:.6f}  {'/'.join(rows[i]['path'].split('/')[-2:])}")
    return int(cosines.min() < float(lowest) or cosines.mean() < MEAN_AT_LEAST)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
