#!/usr/bin/env python3
"""likeness's search beside hnswlib, usearch and faiss: queries a second at the same recall, one thread.

    python3 benches/peers/search.py [COUNT] [--npy FILE.npy]

Needs Linux on x86-64, Python 3.11, a Rust toolchain and a C++ compiler (hnswlib is source only). The
peers are installed once into target/peers-search, pinned and hash-checked.

`cargo bench --bench search` makes the vectors, or reads those of a library (`likeness export FILE.npy`),
and serves. All contenders answer the same queries from the same vectors, taking turns: A B C, A B C, …
Recall is the share of the true ten nearest by full f32 cosine. Each contender is run at several depths,
and counts with the fastest that reaches a recall. All get their queries in
one batch. Graphs are built on all threads, with M 16 and ef_construction 200 where there is such a choice.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
K = 10
LEVELS = [0.95, 0.99, 0.995, 0.999]
EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384]
LIKENESS = ([f"graph {slack} {rerank}" for slack, rerank in
             [(1, 10), (1, 12), (1, 16), (1, 20), (1.02, 16), (1.02, 20), (1.04, 16), (1.04, 20), (1.04, 24), (1.06, 20),
              (1.06, 24), (1.06, 32), (1.08, 24), (1.08, 32), (1.1, 32), (1.1, 40), (1.12, 32), (1.12, 48), (1.15, 40),
              (1.15, 64), (1.18, 48), (1.18, 64), (1.22, 64), (1.22, 96), (1.3, 96), (1.4, 128)]])


def install():
    """Re-runs this script in an environment that holds exactly search-requirements.txt."""
    venv = ROOT / "target/peers-search"
    python, installed = venv / "bin/python", venv / "requirements.txt"
    wanted = (HERE / "search-requirements.txt").read_text()
    if not (installed.exists() and installed.read_text() == wanted):
        print(f"installing the peers into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--require-hashes",
                        "-r", HERE / "search-requirements.txt"], check=True)
        installed.write_text(wanted)
    if pathlib.Path(sys.prefix) != venv:
        # One thread for BLAS, too; builds set their own number.
        os.execve(python, [str(python), __file__, *sys.argv[1:]], os.environ | {"OPENBLAS_NUM_THREADS": "1"})


class Likeness:
    """The bench, serving on its stdin and stdout."""

    def __init__(self, folder, options):
        command = ["cargo", "bench", "--quiet", "--bench", "search", "--", str(options.count), "--serve", folder]
        if options.npy:
            command += ["--npy", options.npy]
        self.child = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.said = json.loads(self.child.stdout.readline())
        self.build_seconds = self.said["build_seconds"]
        self.bytes = self.said["bytes_per_vector"]

    def run(self, depth):
        """Returns the seconds that all queries took, and recall@10."""
        self.child.stdin.write(depth + "\n")
        self.child.stdin.flush()
        seconds, recall = self.child.stdout.readline().split()
        return float(seconds), float(recall)

    def stop(self):
        self.child.stdin.write("stop\n")
        self.child.stdin.close()
        self.child.wait()


class Peer:
    """A search structure in this process. `ask(depth)` gives the ids for all queries."""

    def __init__(self, data, build):
        started = time.perf_counter()
        self.ask, size = build(data)
        self.build_seconds = time.perf_counter() - started
        self.bytes = size() / len(data.vectors)
        self.truth = data.truth

    def run(self, depth):
        started = time.perf_counter()
        answers = self.ask(depth)
        seconds = time.perf_counter() - started
        found = sum(len(set(a[:K]) & set(t)) for a, t in zip(answers.tolist(), self.truth.tolist()))
        return seconds, found / self.truth.size


class Data:
    def __init__(self, folder, said):
        import numpy
        read = lambda name, kind: numpy.fromfile(pathlib.Path(folder) / name, dtype=kind)
        self.vectors = read("vectors.f32", "<f4").reshape(-1, said["width"])
        self.queries = read("queries.f32", "<f4").reshape(-1, said["width"])
        self.truth = read("truth.u32", "<u4").reshape(-1, K)
        self.width = said["width"]


def hnswlib_f32(data):
    import hnswlib
    index = hnswlib.Index(space="ip", dim=data.width)
    index.init_index(max_elements=len(data.vectors), ef_construction=200, M=16)
    index.add_items(data.vectors, num_threads=-1)

    def ask(ef):
        index.set_ef(ef)
        return index.knn_query(data.queries, k=K, num_threads=1)[0]

    def size():
        with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
            path = pathlib.Path(folder) / "index"
            index.save_index(str(path))
            return path.stat().st_size
    return ask, size


def rerank(data, candidates):
    """The ten best of each query's candidates by their f32 vectors."""
    import numpy
    ordered = numpy.empty((len(candidates), K), dtype=numpy.int64)
    for i, ids in enumerate(candidates):
        scores = data.vectors[ids] @ data.queries[i]
        ordered[i] = ids[numpy.argsort(-scores)[:K]]
    return ordered


def usearch(kind, candidates):
    def build(data):
        from usearch.index import Index
        index = Index(ndim=data.width, metric="cos", dtype=kind, connectivity=16, expansion_add=200)
        import numpy
        index.add(numpy.arange(len(data.vectors)), data.vectors, threads=os.cpu_count())

        def ask(ef):
            index.expansion_search = ef
            found = index.search(data.queries, candidates(ef), threads=1).keys
            return found if candidates(ef) == K else rerank(data, found.astype("int64"))
        return ask, lambda: index.serialized_length
    return build


def faiss_index(make, set_depth, train=False):
    def build(data):
        import faiss
        faiss.omp_set_num_threads(os.cpu_count())
        index = make(faiss, data.width)
        if train:
            index.train(data.vectors)
        index.add(data.vectors)
        faiss.omp_set_num_threads(1)

        def ask(depth):
            set_depth(index, depth)
            return index.search(data.queries, K)[1]
        return ask, lambda: len(faiss.serialize_index(index))
    return build


def hnsw_flat(faiss, width):
    index = faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    return index


def hnsw_sq8(faiss, width):
    index = faiss.IndexHNSWSQ(width, faiss.ScalarQuantizer.QT_8bit, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    return index


def ivf_pq(faiss, width):
    return faiss.index_factory(width, "IVF256,PQ64x8,RFlat", faiss.METRIC_INNER_PRODUCT)


def ef_search(index, ef):
    index.hnsw.efSearch = ef


def probes(index, depth):
    import faiss
    index.k_factor = max(depth, 1)
    faiss.downcast_index(index.base_index).nprobe = depth


PEERS = [
    ("hnswlib f32", hnswlib_f32, EFS),
    ("usearch f32", usearch("f32", lambda ef: K), EFS),
    ("usearch i8 + re-rank", usearch("i8", lambda ef: max(ef // 2, 2 * K)), EFS[1:]),
    ("faiss HNSWFlat", faiss_index(hnsw_flat, ef_search), EFS),
    ("faiss HNSW-SQ8", faiss_index(hnsw_sq8, ef_search, train=True), EFS),
    ("faiss IVF-PQ + refine", faiss_index(ivf_pq, probes, train=True), [4, 8, 16, 32, 64]),
    ("faiss FlatIP", faiss_index(lambda faiss, width: faiss.IndexFlatIP(width), lambda index, depth: None), [0]),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="?", default=50_000, type=int)
    parser.add_argument("--npy", help="vectors of a library in place of made ones")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--only", action="append", metavar="TEXT", help="only peers whose names have this in them")
    options = parser.parse_args()
    install()
    (ROOT / "target").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        likeness = Likeness(folder, options)
        data = Data(folder, likeness.said)
    print(json.dumps(likeness.said), file=sys.stderr)
    contenders = [("likeness graph", likeness, LIKENESS), ("likeness scan", likeness, ["scan 40", "scan 100"])]
    chosen = [peer for peer in PEERS if any(text in peer[0] for text in options.only or [""])]
    for name, build, depths in chosen:
        peer = Peer(data, build)
        print(f"{name}: built in {peer.build_seconds:.1f} s", file=sys.stderr)
        contenders.append((name, peer, depths))

    measured = {}
    for number in range(options.rounds + 1):
        for name, contender, depths in contenders:
            for depth in depths:
                seconds, recall = contender.run(depth)
                if number > 0:  # the first round warms up
                    measured.setdefault((name, depth), []).append((seconds, recall))
    likeness.stop()

    queries = len(data.queries)
    print(f"\n{len(data.vectors)} vectors of {data.width}, {queries} queries, one thread, "
          f"medians of {options.rounds} rounds: queries/s at recall@10 of at least\n")
    print("| | " + " | ".join(str(level) for level in LEVELS) + " | bytes a vector | build s |")
    print("| --- " + "| ---: " * (len(LEVELS) + 2) + "|")
    for name, contender, depths in contenders:
        cells = []
        for level in LEVELS:
            best = (0.0, None)
            for depth in depths:
                runs = measured[name, depth]
                if runs[0][1] >= level:
                    best = max(best, (queries / statistics.median(s for s, _ in runs), str(depth)))
            cells.append(f"{best[0]:.0f} ({best[1]})" if best[1] else "–")
        print(f"| {name} | " + " | ".join(cells) + f" | {contender.bytes:.0f} | {contender.build_seconds:.1f} |")


if __name__ == "__main__":
    main()
