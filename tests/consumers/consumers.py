"""Loads exports with the programs they are for, and compares every bit, id and path with the catalog.

    python3 consumers.py CATALOG FOLDER README

FOLDER holds the exports that tests/cli/consumers.rs makes. The catalog is read by SQLite itself, so nothing of
likeness stands between what is compared. Ends with 1 when a program read something else, or could not.
"""
import io
import json
import os
import pathlib
import re
import sqlite3
import sys
import traceback

import numpy

CATALOG, FOLDER, README = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
os.environ["HF_HOME"] = str(FOLDER / "hf")
os.environ["HF_HUB_OFFLINE"] = "1"
os.chdir(FOLDER)

rows = sqlite3.connect(f"file:{CATALOG}?mode=ro", uri=True).execute(
    """SELECT i.id, e.features, lower(hex(i.content_hash)), i.width, r.path, f.path
       FROM embeddings e JOIN images i ON i.id = e.image_id
       JOIN files f ON f.id = (SELECT min(id) FROM files WHERE image_id = i.id) JOIN roots r ON r.id = f.root_id
       ORDER BY i.id""").fetchall()
IDS = [row[0] for row in rows]
BYTES = [os.path.join(row[4], row[5]) for row in rows]
PATHS = [path.decode("utf-8", "replace") for path in BYTES]
HASHES = [row[2] for row in rows]
WIDTHS = [row[3] for row in rows]
TRUTH = numpy.stack([numpy.frombuffer(row[1], "<f4") for row in rows])
HALVES = TRUTH.astype("<f2")
assert len(set(IDS)) == len(IDS) >= 8 and any(b"\xff" in path for path in BYTES)


def same(vectors, ids=IDS, paths=PATHS, truth=TRUTH):
    vectors = numpy.ascontiguousarray(vectors)
    assert vectors.dtype == truth.dtype, vectors.dtype
    assert vectors.shape == truth.shape, vectors.shape
    assert vectors.tobytes() == truth.tobytes(), "other vectors"
    assert [int(i) for i in ids] == IDS, ids
    assert [str(path) for path in paths] == PATHS, paths


def beside(name):
    lines = [json.loads(line) for line in open(f"{name}.ids.jsonl", encoding="utf-8")]
    for line, path in zip(lines, BYTES, strict=True):
        assert bytes.fromhex(line["path_bytes"]) == path if "path_bytes" in line else line["path"].encode() == path
    assert [line["content_hash"] for line in lines] == HASHES
    return [line["id"] for line in lines], [line["path"] for line in lines]


def numpy_npy():
    same(numpy.load("features.npy"), *beside("features.npy"))
    same(numpy.load("features.npy", mmap_mode="r"), *beside("features.npy"))
    same(numpy.load("halves.npy"), *beside("halves.npy"), HALVES)
    parts = [numpy.load(f"parts-{part:05}.npy") for part in range((len(IDS) + 2) // 3)]
    assert all(len(part) == 3 for part in parts[:-1])
    same(numpy.concatenate(parts))
    unit = numpy.load("unit.npy").astype("f8")
    assert numpy.abs(unit - TRUTH / numpy.linalg.norm(TRUTH.astype("f8"), axis=1, keepdims=True)).max() < 1e-7


def numpy_npz():
    with numpy.load("features.npz") as npz:
        assert [os.fsencode(path) for path in npz["paths"]] == BYTES
        assert [hash.decode() for hash in npz["hashes"]] == HASHES
        same(npz["embeddings"], npz["ids"])
    with numpy.load("halves.npz") as npz:
        same(npz["embeddings"], npz["ids"], truth=HALVES)


def columns(ids, paths, path_bytes, hashes, widths, vectors, truth=TRUTH):
    same(vectors, ids, paths, truth)
    restored = [path.encode() if raw is None else bytes(raw) for path, raw in zip(paths, path_bytes, strict=True)]
    assert restored == BYTES, restored
    assert list(hashes) == HASHES and list(widths) == WIDTHS


def of_hex(cells):
    return [bytes.fromhex(cell) if cell else None for cell in cells]


NAMES = ["id", "path", "path_bytes", "content_hash", "width", "embedding"]


def of_arrow(table, truth=TRUTH):
    *known, vectors = (table.column(name).to_pylist() for name in NAMES)
    flat = numpy.concatenate([chunk.flatten().to_numpy(zero_copy_only=False)
                              for chunk in table.column("embedding").chunks])
    assert len(vectors) == len(truth)
    columns(*known, flat.reshape(truth.shape), truth)


def pyarrow_parquet():
    import pyarrow.ipc
    import pyarrow.parquet
    of_arrow(pyarrow.parquet.read_table("photos.parquet"))
    of_arrow(pyarrow.parquet.read_table("halves.parquet"), HALVES)
    with pyarrow.memory_map("photos.arrow") as file:
        types = {field.name: field.type for field in pyarrow.ipc.open_file(file).schema}
    known = {field.name: field.type for field in pyarrow.parquet.read_schema("photos.parquet")}
    del types["embedding"], known["embedding"]  # a list there, one of a fixed size here
    assert known.pop("keywords").value_type == types.pop("keywords").value_type
    assert known == types, (known, types)
    assert known["width"] == pyarrow.uint32() and known["rating"] == pyarrow.int8()
    metadata = pyarrow.parquet.read_metadata("photos.parquet").metadata
    assert metadata[b"likeness.normalized"] == b"false" and len(metadata[b"likeness.fingerprint"]) == 64


def pyarrow_milvus():
    """The schema that Milvus's bulk import takes: nothing but nullable id, path, and a plain list of floats."""
    import pyarrow
    import pyarrow.parquet
    table = pyarrow.parquet.read_table("milvus.parquet")
    assert table.schema.names == ["id", "path", "embedding"]
    assert [field.type for field in table.schema] == [pyarrow.int64(), pyarrow.string(), pyarrow.list_(
        pyarrow.field("element", pyarrow.float32()))], table.schema
    assert all(field.nullable for field in table.schema) and table.schema.field("embedding").type.value_field.nullable
    vectors = numpy.array(table.column("embedding").to_pylist(), "f4")
    same(vectors, table.column("id").to_pylist(), table.column("path").to_pylist())


def pyarrow_ipc():
    import pyarrow.feather
    import pyarrow.ipc
    with pyarrow.memory_map("photos.arrow") as file:
        of_arrow(pyarrow.ipc.open_file(file).read_all())
    of_arrow(pyarrow.feather.read_table("photos.arrow"))
    with pyarrow.memory_map("halves.arrow") as file:
        of_arrow(pyarrow.ipc.open_file(file).read_all(), HALVES)


def pandas_reads():
    import pandas
    for frame in (pandas.read_parquet("photos.parquet"), pandas.read_feather("photos.arrow")):
        raw = [None if path is None else path for path in frame["path_bytes"]]
        columns(frame["id"], frame["path"], raw, frame["content_hash"], frame["width"],
                numpy.stack(frame["embedding"].tolist()))
    frame = pandas.read_csv("features.csv", float_precision="round_trip", keep_default_na=False)
    columns(frame["id"], frame["path"], of_hex(frame["path_bytes"]), frame["content_hash"], frame["width"],
            frame.loc[:, "e0":"path_bytes"].iloc[:, :-1].to_numpy("f8").astype("f4"))
    lines = pandas.read_json("features.jsonl", lines=True, precise_float=True, convert_dates=False)
    same(numpy.array(lines["embedding"].tolist()).astype("f4"), lines["id"], lines["path"])


def polars_reads():
    import polars
    for frame in (polars.read_parquet("photos.parquet"), polars.read_ipc("photos.arrow"),
                  polars.scan_parquet("photos.parquet").collect()):
        vectors = numpy.array(frame["embedding"].to_list(), "f4")
        columns(*(frame[name].to_list() for name in NAMES[:-1]), vectors)
    frame = polars.read_csv("features.csv")
    assert frame["id"].to_list() == IDS and frame["path"].to_list() == PATHS
    raw = of_hex(frame["path_bytes"].to_list())
    assert [path.encode() if raw is None else raw for path, raw in zip(PATHS, raw, strict=True)] == BYTES


def duckdb_reads():
    import duckdb
    found = duckdb.sql(f"SELECT {', '.join(NAMES)} FROM 'photos.parquet' ORDER BY id").fetchall()
    *known, vectors = zip(*found, strict=True)
    columns(*known, numpy.array(vectors, "f4"))
    assert duckdb.sql("SELECT id, path FROM 'features.csv' ORDER BY id").fetchall() == list(zip(IDS, PATHS))
    nearest, = duckdb.sql("""SELECT b.id FROM 'photos.parquet' a, 'photos.parquet' b
        WHERE a.id = (SELECT min(id) FROM 'photos.parquet')
        ORDER BY list_cosine_similarity(a.embedding, b.embedding) DESC LIMIT 1""").fetchall()
    assert nearest == (IDS[0],)


def datasets_reads():
    import datasets
    for kind, name in (("parquet", "photos.parquet"), ("arrow", "photos.arrow")):
        found = datasets.load_dataset(kind, data_files=name, split="train")
        vectors = numpy.array(found.with_format("numpy")["embedding"][:], "f4")
        columns(*(list(found[column]) for column in NAMES[:-1]), vectors)


def safetensors_reads():
    import safetensors
    import safetensors.numpy
    tensors = safetensors.numpy.load_file("features.safetensors")
    assert sorted(tensors) == ["embeddings", "ids"]
    same(tensors["embeddings"], tensors["ids"], beside("features.safetensors")[1])
    with safetensors.safe_open("features.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert metadata["normalized"] == "false" and len(metadata["fingerprint"]) == 64, metadata
    same(safetensors.numpy.load_file("halves.safetensors")["embeddings"], truth=HALVES)


def loaders():
    """The lines of the README, as they stand there."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    for name in ("faiss", "hnswlib"):
        block, = (block for block in blocks if f"import {name}" in block)
        names = {}
        exec(block, names)  # pylint: disable=exec-used
        yield name, names["index"]


def faiss_and_hnswlib():
    """Both hold every vector under its id, and find what an exact search finds."""
    unit = numpy.load("unit.npy")
    exact = unit @ unit.T
    indexes = dict(loaders())
    faiss_index = indexes["faiss"]
    assert faiss_index.ntotal == len(IDS)
    assert faiss_index.reconstruct_n(0, len(IDS)).tobytes() == unit.tobytes()
    scores, found = faiss_index.search(unit, 3)
    for row, (score, at) in enumerate(zip(scores, found, strict=True)):
        assert at[0] == row and numpy.allclose(score, numpy.sort(exact[row])[::-1][:3], atol=1e-5)
    hnsw = indexes["hnswlib"]
    assert sorted(hnsw.get_ids_list()) == IDS
    # It divides by the length once more.
    assert numpy.abs(numpy.array(hnsw.get_items(IDS)) - unit).max() < 1e-6
    found, _ = hnsw.knn_query(unit, k=1)
    assert [row[0] for row in found] == IDS


def faiss_fvecs():
    flat = numpy.fromfile("features.fvecs", "<f4").reshape(len(IDS), -1)
    # As faiss.contrib's fvecs_read does: the first column is the width, as an integer.
    assert (flat.view("<i4")[:, 0] == TRUTH.shape[1]).all()
    same(flat[:, 1:], *beside("features.fvecs"))
    from faiss.contrib.vecs_io import fvecs_read
    same(fvecs_read("features.fvecs"))


def usearch_reads():
    from usearch.index import Index
    ids, _ = beside("unit.npy")
    unit = numpy.load("unit.npy")
    index = Index(ndim=unit.shape[1], metric="cos", dtype="f32")
    index.add(numpy.array(ids), unit)
    assert numpy.stack([index[i] for i in ids]).tobytes() == unit.tobytes()
    assert [matches.keys[0] for matches in index.search(unit, 1, exact=True)] == IDS


def embedding_reader_reads():
    """What autofaiss and clip-retrieval read folders through."""
    from embedding_reader import EmbeddingReader
    for folder in ("clip", "clip-parts"):
        reader = EmbeddingReader(embeddings_folder=f"{folder}/img_emb", metadata_folder=f"{folder}/metadata",
                                 meta_columns=["image_path", "id"], file_format="parquet_npy")
        assert (reader.count, reader.dimension) == TRUTH.shape
        vectors, ids, paths = [], [], []
        for batch, meta in reader(batch_size=4, show_progress=False):
            vectors.append(batch)
            ids += list(meta["id"])
            paths += list(meta["image_path"])
        same(numpy.concatenate(vectors), ids, paths)


def projector_plugin():
    """TensorBoard's own plugin, asked as the browser asks it."""
    from PIL import Image
    from tensorboard.backend.event_processing import data_provider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client
    from werkzeug.wrappers import Response

    context = base_plugin.TBContext(
        logdir=str(FOLDER / "projector"),
        data_provider=data_provider.MultiplexerDataProvider(EventMultiplexer(), str(FOLDER / "projector")))
    apps = ProjectorPlugin(context).get_plugin_apps()

    def ask(route, query):
        answer = Client(apps[route], Response).get(f"{route}?{query}")
        assert answer.status_code == 200, answer.get_data()
        return answer.get_data()

    run, = json.loads(ask("/runs", ""))
    embedding, = json.loads(ask("/info", f"run={run}"))["embeddings"]
    assert embedding["tensorShape"] == list(TRUTH.shape), embedding
    query = f"run={run}&name={embedding['tensorName']}"
    vectors = numpy.frombuffer(ask("/tensor", f"{query}&num_rows=100000"), "f4").reshape(TRUTH.shape)
    header, *lines = ask("/metadata", f"{query}&num_rows=100000").decode().rstrip("\n").split("\n")
    fields = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    shown = [re.sub(r"[\t\r\n]", " ", path) for path in PATHS]
    assert [field["path"] for field in fields] == shown
    same(vectors, [field["id"] for field in fields])
    sprite = Image.open(io.BytesIO(ask("/sprite_image", query))).convert("RGB")
    side, = set(embedding["sprite"]["singleImageDim"])
    along = sprite.size[0] // side
    assert sprite.size[0] == sprite.size[1] and along ** 2 >= len(IDS) > (along - 1) ** 2, sprite.size
    for at, path in enumerate(BYTES):
        corner = (at % along * side, at // along * side)
        tile = numpy.asarray(sprite.crop((*corner, corner[0] + side, corner[1] + side)), "f4")
        photo = Image.open(os.fsdecode(path)).convert("RGB")
        short = min(photo.size)
        left, top = (photo.size[0] - short) // 2, (photo.size[1] - short) // 2
        photo = photo.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BILINEAR)
        assert numpy.abs(tile - numpy.asarray(photo, "f4")).mean() < 12, f"the picture of {path}"


failed = 0
for consumer in (numpy_npy, numpy_npz, pyarrow_parquet, pyarrow_milvus, pyarrow_ipc, pandas_reads, polars_reads,
                 duckdb_reads, datasets_reads, safetensors_reads, faiss_and_hnswlib, faiss_fvecs, usearch_reads,
                 embedding_reader_reads, projector_plugin):
    try:
        consumer()
        print(f"{consumer.__name__}: the same")
    except Exception:  # pylint: disable=broad-except
        failed += 1
        print(f"{consumer.__name__}: FAILED")
        traceback.print_exc()
sys.exit(1 if failed else 0)
