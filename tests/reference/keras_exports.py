#!/usr/bin/env python3
"""Networks as tf2onnx converts them from Keras, imported by likeness, beside what Keras says their features are.

Usage: keras_exports.py LIKENESS [NAME …]   (needs: pip install -r keras-exports-requirements.txt; 2 GB)

Each network has seeded random weights: nothing is downloaded. It is converted whole, classifier included, with its
pictures as TensorFlow has them (batch, row, column, channel) and as ONNX Runtime likes them (`nchw`); `likeness
model import` takes the classifier off; what remains is run by ONNX Runtime and compared with the input of the last
Dense layer in Keras. Prints a row for each, and exits with 1 when one is refused or further off than 1e-4 of the
largest feature.
"""
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf

from imports import compared, imported, report

NETWORKS = ["ResNet50", "ResNet50V2", "MobileNetV2", "EfficientNetB0", "DenseNet121"]


def convert(network, path, layout):
    """`network`, with 224 x 224 pictures, as an ONNX file, by way of a SavedModel."""
    saved = path.with_suffix("")
    signature = [tf.TensorSpec([None, 224, 224, 3], tf.float32, name="input")]
    network.export(saved, input_signature=signature, verbose=False)
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", saved, "--output", path, "--opset", "13"]
    command += ["--inputs-as-nchw", "input"] if layout == "nchw" else []
    converted = subprocess.run(command, text=True, capture_output=True)
    if converted.returncode != 0:
        sys.exit(converted.stderr)


def compare(likeness, name, layout, folder):
    """Imports a conversion; returns removed operators, width and how far off the features are."""
    keras.utils.set_random_seed(1)
    network = getattr(keras.applications, name)(weights=None)
    path = folder / f"{name}.onnx"
    convert(network, path, layout)
    facts, reason = imported(likeness, path, name, folder)
    if facts is None:
        return None, reason
    headless = keras.Model(network.input, network.layers[-1].input)
    pictures = np.random.default_rng(2).standard_normal((3, 224, 224, 3), dtype=np.float32)
    wanted = headless(pictures, training=False).numpy()
    given = pictures.transpose(0, 3, 1, 2) if layout == "nchw" else pictures
    return compared(facts, np.ascontiguousarray(given), wanted, "Keras")


def main(likeness, only):
    likeness = str(pathlib.Path(likeness).resolve())
    report("layout", (
        (f"Keras {name}", layout, lambda folder: compare(likeness, name, layout, folder))
        for name in only or NETWORKS
        for layout in ("nhwc", "nchw")
    ))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
