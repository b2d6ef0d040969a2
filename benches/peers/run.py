#!/usr/bin/env python3
"""likeness beside the tools one would take in its place: photos embedded in a second.

    python3 benches/peers/run.py --model OUT.onnx --photos FOLDER [--photos FOLDER …]

See README.md beside this file. All contenders take turns: A B C, A B C, … Exits 1 when one failed.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Name, script, options. likeness, the first, is the program itself.
PEERS = [
    ("likeness index", None, []),
    ("fastembed", "fastembed_images.py", []),
    ("fastembed, parallel=0", "fastembed_images.py", ["--parallel"]),
    ("torchvision + ONNX Runtime", "torchvision_loader.py", []),
    ("the same, draft mode", "torchvision_loader.py", ["--draft"]),
    ("torchvision + PyTorch", "torchvision_loader.py", ["--torch"]),
    ("imagededup CNN", "imagededup_cnn.py", []),
]


class Failed(Exception):
    """A contender did not do its job."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", action="append", required=True, type=pathlib.Path,
                        help="a folder of different JPEG photos; may be given again")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the feature network, an ONNX file")
    parser.add_argument("--likeness", default=ROOT / "target/release/likeness", type=pathlib.Path)
    parser.add_argument("--rounds", default=5, type=int, help="measured rounds after the first [default: 5]")
    parser.add_argument("--venv", default=ROOT / "target/peers", type=pathlib.Path,
                        help="where the peers are installed [default: target/peers]")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def install(venv):
    """Returns the Python of an environment that holds exactly requirements.txt."""
    python, installed = venv / "bin/python", venv / "requirements.txt"
    wanted = (HERE / "requirements.txt").read_text()
    if not (installed.exists() and installed.read_text() == wanted):
        print(f"installing the peers into {venv}: 3 GB to download, 6 GB on disk", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:",
                        "-r", HERE / "requirements.txt"], check=True)
        installed.write_text(wanted)
    return python


def environment(venv):
    """No network, no GPU, nothing of the user's own set-up, and likeness's caches in the environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LIKENESS_")}
    return kept | {
        "HF_HUB_OFFLINE": "1",
        "LIKENESS_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "XDG_DATA_HOME": str(venv / "data"),
        # The very library that the peers' Python package loads.
        "ORT_DYLIB_PATH": str(next(venv.glob("lib/python*/site-packages/onnxruntime/capi"))),
    }


def jpegs(folder):
    return sum(p.suffix.lower() in (".jpg", ".jpeg") for p in folder.rglob("*"))


def memory(session):
    """Bytes that all processes of a session hold now, pages they share counted once (PSS)."""
    total = 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == session:
                lines = (process / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        except OSError:
            pass  # it has just ended
    return total


def run(command, env, watch_memory):
    """Runs a contender. Returns its JSON, the seconds of the whole process, and its peak memory."""
    peak = 0
    started = time.perf_counter()
    child = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True)
    try:
        while True:
            try:
                out, err = child.communicate(timeout=0.1 if watch_memory else None)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, memory(child.pid))
        seconds = time.perf_counter() - started
    finally:
        if child.poll() is None:  # interrupted
            os.killpg(child.pid, signal.SIGKILL)
    if child.returncode != 0:
        raise Failed(f"exit code {child.returncode}\n{err[-2000:]}")
    try:
        return json.loads(out), seconds, peak
    except ValueError:
        raise Failed(f"did not print one JSON object\n{out[-2000:]}{err[-2000:]}") from None


def contend(peer, photos, options, python, env, watch_memory=False):
    """Returns seconds of the whole process, seconds without start-up, and peak memory in bytes."""
    _, script, flags = peer
    with tempfile.TemporaryDirectory(dir=options.venv) as library:
        if script is None:
            command = [options.likeness, "--library", library, "index", photos, "--model", options.model, "--json"]
        else:
            command = [python, HERE / script, photos, options.model, *flags]
        said, whole, peak = run(command, env, watch_memory)
    images = said["embedded"] if script is None else said["images"]
    if images != jpegs(photos):
        raise Failed(f"embedded {images} of {jpegs(photos)} photos; does the folder hold different JPEG photos only?")
    return whole, said["seconds"], peak


def measure(photos, options, python, env):
    """Prints the table of one folder. Returns whether every contender did its job."""
    count, likeness = jpegs(photos), PEERS[0][0]
    peaks, times, failures = {}, {}, {}
    for i in range(options.rounds + 1):
        for peer in PEERS:
            name = peer[0]
            if name in failures:
                continue
            try:
                # The first round fills the caches and weighs; watching costs time, so it is not timed.
                whole, inside, peak = contend(peer, photos, options, python, env, watch_memory=i == 0)
            except Failed as failure:
                failures[name] = failure
                print(f"{name}: {failure}", file=sys.stderr)
                continue
            if i == 0:
                peaks[name] = peak
            else:
                times.setdefault(name, []).append((whole, inside))
                print(f"{photos.name} round {i}: {name} {whole:.2f} s, {inside:.2f} s", file=sys.stderr)

    print(f"\n{photos.name}: {count} photos, medians of {options.rounds} rounds\n")
    print("| | images/s | images/s without start-up | likeness: times as fast | without start-up | peak MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, *_ in PEERS:
        if name in failures:
            print(f"| {name} | failed | | | | |")
            continue
        rates = [count / statistics.median(column) for column in zip(*times[name])]
        # Round by round, so that a slow minute of the machine weighs on both.
        pairs = list(zip(times[name], times.get(likeness, [])))
        ratios = [statistics.median(theirs[i] / ours[i] for theirs, ours in pairs) for i in (0, 1) if pairs]
        ratios = ["", ""] if name == likeness or not ratios else [f"{ratio:.2f}" for ratio in ratios]
        print(f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} | {' | '.join(ratios)} | {peaks[name] / 1e6:.0f} |")
    return not failures


def main():
    options = arguments()
    for path in (*options.photos, options.model, options.likeness):
        if not path.exists():
            sys.exit(f"{path} is not there")
    options.photos = [photos.resolve() for photos in options.photos]
    options.model, options.likeness = options.model.resolve(), options.likeness.resolve()
    options.venv = options.venv.absolute()
    python = install(options.venv)
    env = environment(options.venv)
    shutil.rmtree(options.venv / "data", ignore_errors=True)
    fine = [measure(photos, options, python, env) for photos in options.photos]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
