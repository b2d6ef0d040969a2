"""Writes the arrays of a likeness export with NumPy, pyarrow and safetensors, for `cargo bench --bench exports`.

    python3 exports.py FEATURES.npy

Reads lines `FORMAT<tab>OUT` and answers each with the seconds it took, fsync included, or `none`. Installs what
tests/consumers/requirements.txt pins into target/peers-exports first.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENV = ROOT / "target/peers-exports"
REQUIREMENTS = ROOT / "tests/consumers/requirements.txt"


def install():
    """Goes on in an environment that holds exactly the pinned packages."""
    python, installed = VENV / "bin/python", VENV / "requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if not (installed.exists() and installed.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True, stdout=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:",
                        "-r", REQUIREMENTS], check=True, stdout=sys.stderr)
        installed.write_text(wanted)
    os.execv(python, [python, __file__, *sys.argv[1:]])


if pathlib.Path(sys.prefix).resolve() != VENV.resolve():
    install()

import numpy
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import safetensors.numpy

vectors = numpy.load(sys.argv[1])
lines = [json.loads(line) for line in open(f"{sys.argv[1]}.ids.jsonl", encoding="utf-8")]
ids = numpy.array([line["id"] for line in lines])
paths = [line["path"] for line in lines]
hashes = [line["content_hash"] for line in lines]
size = vectors.shape[1]
flat = pyarrow.array(vectors.reshape(-1))
offsets = pyarrow.array(numpy.arange(len(ids) + 1) * size, pyarrow.int32()) if vectors.size < 2**31 else None


def known(path="path"):
    names = ["id", "content_hash", "width", "height", "format", "taken_at", "camera"]
    columns = {name: [line.get(name) for line in lines] for name in names}
    return pyarrow.table({"id": columns.pop("id"), path: paths, **columns})


def lists():
    return pyarrow.ListArray.from_arrays(offsets, flat)


KNOWN = known()
IMAGE_PATH = known("image_path")
# Made ahead: converting Python's objects is not what is measured.
EVERYTHING = KNOWN.append_column("embedding", lists()) if offsets is not None else None
FIXED = KNOWN.append_column("embedding", pyarrow.FixedSizeListArray.from_arrays(flat, size))
MILVUS = EVERYTHING.select(["id", "path", "embedding"]) if offsets is not None else None


def parquet(table, out):
    pyarrow.parquet.write_table(table, out, compression="none", use_dictionary=["format", "camera"],
                                write_statistics=False, row_group_size=4096)


def npy(out):
    numpy.save(open(out, "wb"), vectors)
    with open(f"{out}.ids.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def npz(out):
    numpy.savez(open(out, "wb"), embeddings=vectors, ids=ids, paths=numpy.array(paths), hashes=numpy.array(hashes, "S"))


def arrow(out):
    with pyarrow.OSFile(str(out), "wb") as sink, pyarrow.ipc.new_file(sink, FIXED.schema) as writer:
        writer.write_table(FIXED, max_chunksize=1024)


def fvecs(out):
    width = numpy.full((len(ids), 1), size, "<i4").view("<f4")
    numpy.hstack([width, vectors]).tofile(out)


def clip_retrieval(out):
    out.mkdir()
    numpy.save(out / "img_emb_0.npy", vectors)
    parquet(IMAGE_PATH, out / "metadata_0.parquet")


def jsonl(out):
    with open(out, "w", encoding="utf-8") as file:
        for line, vector in zip(lines, vectors):
            file.write(json.dumps({**line, "embedding": vector.tolist()}) + "\n")


WRITERS = {
    "npy": npy,
    "npz": npz,
    "parquet": (lambda out: parquet(EVERYTHING, out)) if EVERYTHING is not None else None,
    "milvus-parquet": (lambda out: parquet(MILVUS, out)) if MILVUS is not None else None,
    "arrow": arrow,
    "safetensors": lambda out: safetensors.numpy.save_file({"embeddings": vectors, "ids": ids}, out),
    "fvecs": fvecs,
    "clip-retrieval": clip_retrieval,
    "jsonl": jsonl,
}

print("ready", flush=True)
for request in sys.stdin:
    name, target = request.rstrip("\n").split("\t")
    writer, target = WRITERS.get(name), pathlib.Path(target)
    if writer is None:
        print("none", flush=True)
        continue
    started = time.perf_counter()
    writer(target)
    written = target.rglob("*") if target.is_dir() else target.parent.glob(f"{target.name}*")
    for path in written:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    print(time.perf_counter() - started, flush=True)
