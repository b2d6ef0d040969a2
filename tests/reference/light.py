#!/usr/bin/env python3
"""The networks that come with the `onnx` package, imported by likeness, beside what they hold themselves.

Usage: light.py LIKENESS FOLDER     (needs: pip install -r requirements.txt)

They are those of the ONNX Model Zoo, from Caffe2, with constant weights: opset 9, weights made in the graph,
batch 1 written into reshapes, heads of every kind. Each is imported into FOLDER, and what likeness made of it is
run by ONNX Runtime and compared with the tensor that the network itself has there. Exits with 1 when one is refused
or differs.
"""
import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime

# The tensor that feeds the last linear layer, and whether it is a map that is pooled by likeness.
FEATURES = {
    "bvlc_alexnet": ("r21", False),
    "densenet121": ("r908", False),
    "inception_v1": ("r139", False),
    "inception_v2": ("r505", False),
    "resnet50": ("r172", False),
    "shufflenet": ("r199", False),
    "squeezenet": ("r61", True),
    "vgg19": ("r43", False),
    "zfnet512": ("r19", False),
}


def main(likeness, folder):
    data = {"XDG_DATA_HOME": folder, "HOME": folder, "LIKENESS_OFFLINE": "1"}
    light = pathlib.Path(onnx.__file__).parent / "backend/test/data/light"
    fine = True
    for name, (tensor, is_map) in FEATURES.items():
        path = light / f"light_{name}.onnx"
        subprocess.run([likeness, "model", "import", path, "--name", name], env=data, check=True, stdout=subprocess.DEVNULL)
        shown = subprocess.run([likeness, "model", "show", name, "--json"], env=data, check=True, capture_output=True)
        facts = json.loads(shown.stdout)["network"]
        whole = onnx.load(path)
        whole.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
        sessions = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
                    for file in (whole.SerializeToString(), facts["path"])]
        picture = np.random.default_rng(1).normal(0, 50, (1, 3, 224, 224)).astype(np.float32)
        wanted, = sessions[0].run([tensor], {facts["input"]: picture})
        wanted = wanted.mean((2, 3)) if is_map else wanted.reshape(1, -1)
        found, = sessions[1].run([facts["output"]], {facts["input"]: picture})
        error = np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30)
        fine &= found.shape == wanted.shape and error <= 1e-4
        print(f"{name:14} {found.shape[1]:5} {error:.1e}  {' '.join(facts['removed'])}")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
