"""What the scripts have in common that import exported networks and compare their features with the framework's."""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime


def imported(likeness, path, name, folder):
    """Imports an ONNX file into a data folder below `folder`; returns what `model show` says of the network, or None
    and the reason of the refusal."""
    data = {"XDG_DATA_HOME": str(folder / "data"), "LIKENESS_OFFLINE": "1", "HOME": str(folder)}
    run = lambda *args: subprocess.run([likeness, "model", *args], env=data, text=True, capture_output=True)
    done = run("import", path, "--name", name)
    if done.returncode != 0:
        return None, done.stderr.strip()
    return json.loads(run("show", name, "--json").stdout)["network"], None


def compared(facts, pictures, wanted, framework):
    """Runs an imported network; returns removed operators, width and how far off the features are, or None and why
    they cannot be compared."""
    session = onnxruntime.InferenceSession(facts["path"], providers=["CPUExecutionProvider"])
    found, = session.run([facts["output"]], {facts["input"]: pictures})
    if found.shape != wanted.shape:
        return None, f"features {found.shape}, {framework} has {wanted.shape}"
    return (facts["removed"], found.shape[1], np.abs(found - wanted).max() / np.abs(wanted).max()), None


def report(variant, cases):
    """Prints a row for each case: a name, its variant, and what compares it, given a folder of its own. Exits with 1
    when one is refused or further off than 1e-4 of the largest feature."""
    fine = True
    print(f"| network | {variant} | width | taken off | relative error |\n| --- | --- | ---: | --- | ---: |")
    for name, kind, compare in cases:
        with tempfile.TemporaryDirectory() as folder:
            facts, reason = compare(pathlib.Path(folder))
        if facts is None:
            fine = False
            print(f"| {name} | {kind} | refused | {reason} | |", flush=True)
            continue
        removed, width, error = facts
        fine &= bool(error <= 1e-4)
        print(f"| {name} | {kind} | {width} | {' '.join(removed)} | {error:.1e} |", flush=True)
    sys.exit(0 if fine else 1)
