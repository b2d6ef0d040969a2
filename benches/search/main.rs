//! Ways to answer a query, side by side: the graph at several depths, a scan of all codes on one thread
//! and on all, and exact search over the vectors.
//!
//! ```text
//! cargo bench --bench search [-- COUNT]            made vectors, 2,048 components
//! cargo bench --bench search -- --npy FILE.npy     vectors of a library: `likeness export FILE.npy`
//! cargo bench --bench search -- --one-shot COUNT   `likeness find id:N`, the whole process
//! cargo bench --bench search -- --million COUNT    made on the way to the disk: 8 KB each, in target/
//! python3 benches/peers/search.py [COUNT]          the same beside hnswlib, usearch and faiss
//! ```
//!
//! `--code-width N` says how wide codes are, `--m N` how many neighbours points have; both stand before
//! `--million`. Contenders take turns, so that a busy machine slows all of them alike; the median round counts. With `--serve FOLDER` it writes vectors, queries and true neighbours there,
//! and answers the lines on stdin (`graph EF RERANK`, `scan RERANK`) with the seconds that all queries took
//! and their recall: that is how the script lets it take turns with the peers.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod filtered;
mod million;
mod one_shot;
#[path = "../../src/index/synthetic.rs"]
mod synthetic;

use std::fs;
use std::io::BufRead;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use likeness::embedding::Embedding;
use likeness::error::Result;
use likeness::index::{self, Beam, Calibration, Contents, Depth, Index, Params, Search};
use likeness::progress::Watch;
use likeness::record::{Hit, ImageId, ModelFingerprint};
use rayon::prelude::*;

const SEED: u64 = 20_261_124;
const COUNT: usize = 20_000;
const WIDTH: usize = 2_048;
const QUERIES: usize = 1_000;
const ROUNDS: usize = 7;
const K: usize = 10;

/// How much farther than the nearest a graph search goes, and how many it orders by their vectors.
const DEPTHS: [(f64, usize); 7] =
    [(1.0, 16), (1.04, 20), (1.08, 24), (1.12, 32), (1.16, 40), (1.2, 64), (1.3, 96)];

/// The same, by the number of candidates in view alone.
const WIDTHS: [(usize, usize); 4] = [(24, 20), (64, 40), (96, 64), (192, 96)];

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut count, mut npy, mut serve, mut params) = (COUNT, None, None, Params::default());
    while let Some(arg) = args.next() {
        match &*arg {
            "--npy" => npy = args.next().map(PathBuf::from),
            "--one-shot" => return one_shot::run(args.next().and_then(|n| n.parse().ok())),
            "--million" => {
                let count = args.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
                return million::run(count, params);
            }
            "--first" => return million::first(args),
            "--m" => params.m = args.next().and_then(|n| n.parse().ok()).or(params.m),
            "--code-width" => params.code_width = args.next().and_then(|n| n.parse().ok()),
            "--serve" => serve = args.next().map(PathBuf::from),
            number => count = number.parse().unwrap_or(count),
        }
    }
    let subject = Subject::new(count, npy.as_deref());
    let folder = tempfile::tempdir_in("target").expect("a temporary folder");
    let start = Instant::now();
    let index = subject.build(folder.path(), params);
    let build_seconds = start.elapsed().as_secs_f64();
    // Searches run on one thread unless they say otherwise.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    match serve {
        Some(folder) => subject.serve(&index, build_seconds, &folder, &pool),
        None => subject.compare(&index, build_seconds, &pool),
    }
}

/// What is searched, what is asked, and what is right.
struct Subject {
    all: Vec<Embedding>,
    queries: Vec<Embedding>,
    truth: Vec<Vec<u32>>,
}

impl Subject {
    fn new(count: usize, npy: Option<&Path>) -> Self {
        let mut all: Vec<Embedding> = match npy {
            Some(path) => read_npy(path),
            None => made(count + QUERIES, 0..count + QUERIES),
        };
        // Of a library, some photos ask for the others: at equal distances, as bursts lie together.
        let queries = match npy {
            None => all.split_off(count),
            Some(_) => {
                let step = (all.len() / (all.len() / 5).clamp(1, QUERIES)).max(1);
                let mut queries = Vec::new();
                let mut number = 0;
                all.retain(|embedding| {
                    number += 1;
                    let asks = number % step == 0;
                    queries.extend(asks.then(|| embedding.clone()));
                    !asks
                });
                queries
            }
        };
        let truth = queries.par_iter().map(|query| best(query, &all)).collect();
        Self { all, queries, truth }
    }

    fn width(&self) -> usize {
        self.all[0].width()
    }

    fn build(&self, folder: &Path, params: Params) -> Index {
        let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> Result<()>| {
            let numbered = self.all.iter().zip(0..);
            numbered
                .into_iter()
                .try_for_each(|(e, number)| take(number, ImageId(number), e.clone()))
        };
        let fingerprint = ModelFingerprint::from_bytes([1; 32]);
        let contents = Contents { fingerprint, width: self.width(), embeddings: &each };
        index::build(folder, &contents, params, &Watch::none()).expect("an index")
    }

    /// Asks everything once. Returns the seconds that took and recall@10.
    fn ask(&self, answer: impl Fn(&Embedding) -> Vec<u32>) -> (f64, f64) {
        let start = Instant::now();
        let answers: Vec<Vec<u32>> = self.queries.iter().map(answer).collect();
        (start.elapsed().as_secs_f64(), self.recall(&answers))
    }

    fn recall(&self, answers: &[Vec<u32>]) -> f64 {
        let hits = |(answer, truth): (&Vec<u32>, &Vec<u32>)| {
            truth.iter().filter(|id| answer.contains(id)).count()
        };
        let found: usize = answers.iter().zip(&self.truth).map(hits).sum();
        found as f64 / (self.queries.len() * K) as f64
    }

    fn search(&self, index: &Index, depth: Depth) -> (f64, f64) {
        let queries: Vec<&Embedding> = self.queries.iter().collect();
        let start = Instant::now();
        let answers = index.search_all(&queries, K, depth, None).expect("a sound index");
        let seconds = start.elapsed().as_secs_f64();
        let ids = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.id.0 as u32).collect();
        let answers: Vec<Vec<u32>> = answers.into_iter().map(ids).collect();
        (seconds, self.recall(&answers))
    }

    fn compare(&self, index: &Index, build_seconds: f64, pool: &rayon::ThreadPool) {
        println!("{}", self.describe(index, build_seconds));
        let slack = |(slack, rerank)| (format!("slack {slack}"), by_slack(index, slack, rerank));
        let width = |(width, rerank)| {
            (format!("ef {width}"), Depth { beam: Some(Beam::of_width(width)), rerank })
        };
        let calibrated = index.depth(K, Search::Hnsw);
        let scan = index.depth(K, Search::Exact);
        type Way<'a> = (String, Box<dyn Fn() -> (f64, f64) + Sync + 'a>);
        let mut ways: Vec<Way<'_>> = Vec::new();
        let depths = DEPTHS.map(slack).into_iter().chain(WIDTHS.map(width));
        for (name, depth) in depths.chain([("calibrated".to_owned(), calibrated)]) {
            let name = format!("graph, {name}, {} exact", depth.rerank);
            ways.push((name, Box::new(move || pool.install(|| self.search(index, depth)))));
        }
        let one = move || pool.install(|| self.search(index, scan));
        ways.push(("scan, one thread".into(), Box::new(one)));
        let few = Depth { rerank: 30, ..scan };
        ways.push((
            "scan, 30 exact, one thread".into(),
            Box::new(move || pool.install(|| self.search(index, few))),
        ));
        ways.push(("scan, all threads".into(), Box::new(move || self.search(index, scan))));
        ways.push(("vectors".into(), Box::new(|| self.ask(|query| best(query, &self.all)))));
        let mut results = vec![Vec::new(); ways.len()];
        for round in 0..ROUNDS {
            for ((name, way), results) in ways.iter().zip(&mut results) {
                // Exact search over the vectors is slow and always the same.
                if name != "vectors" || round == 0 {
                    results.push(way());
                }
            }
        }
        println!("{:<28} {:>9} {:>11}", "", "recall@10", "queries/s");
        for ((name, _), results) in ways.iter().zip(&mut results) {
            results.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (seconds, recall) = results[results.len() / 2];
            println!("{name:<28} {recall:>9.4} {:>11.0}", self.queries.len() as f64 / seconds);
        }
        println!("points that do not find themselves: {}", self.lost(index, calibrated));
        self.compare_filtered(index, pool);
    }

    /// How many points are not the nearest to themselves. Copies of a point are as near.
    fn lost(&self, index: &Index, depth: Depth) -> usize {
        let all: Vec<&Embedding> = self.all.iter().collect();
        let lost = all.par_chunks(1_000).map(|chunk| {
            let answers = index.search_all(chunk, 1, depth, None).expect("a sound index");
            answers.iter().filter(|hits| hits.first().is_none_or(|hit| hit.score < 1.0)).count()
        });
        lost.sum()
    }

    fn describe(&self, index: &Index, build_seconds: f64) -> serde_json::Value {
        serde_json::json!({
            "vectors": self.all.len(),
            "width": self.width(),
            "queries": self.queries.len(),
            "build_seconds": build_seconds,
            "bytes_per_vector": index.searched_bytes() as f64 / self.all.len() as f64,
            "coding": index.coding(),
            "calibration": index.calibration(),
        })
    }

    fn serve(&self, index: &Index, seconds: f64, folder: &Path, pool: &rayon::ThreadPool) {
        fs::create_dir_all(folder).expect("a folder");
        let write = |name: &str, rows: &[Embedding]| {
            let bytes = rows.iter().flat_map(|row| row.as_slice()).flat_map(|v| v.to_le_bytes());
            fs::write(folder.join(name), bytes.collect::<Vec<u8>>()).expect("room on the disk");
        };
        write("vectors.f32", &self.all);
        write("queries.f32", &self.queries);
        let truth = self.truth.iter().flatten().flat_map(|id| id.to_le_bytes());
        fs::write(folder.join("truth.u32"), truth.collect::<Vec<u8>>()).expect("room on the disk");
        println!("{}", self.describe(index, seconds));
        for line in std::io::stdin().lock().lines() {
            let line = line.expect("a line");
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words[i].parse().expect("a number");
            let depth = match words[0] {
                "graph" => by_slack(index, words[1].parse().expect("a number"), number(2)),
                "scan" => Depth { beam: None, rerank: number(1) },
                "stop" => return,
                other => panic!("what is {other}?"),
            };
            let (seconds, recall) = pool.install(|| self.search(index, depth));
            println!("{seconds} {recall}");
        }
    }
}

/// A search of the graph that goes so much farther than the nearest.
fn by_slack(index: &Index, slack: f64, rerank: usize) -> Depth {
    Depth { beam: Some(Calibration { slack, ..index.calibration() }.beam(K)), rerank }
}

/// Some of the made vectors of a library of `count`.
fn made(count: usize, numbers: Range<usize>) -> Vec<Embedding> {
    let maker = synthetic::Maker::new(count, WIDTH, SEED);
    let vector = |number| Embedding::normalised(&maker.vector(number)).expect("not zero");
    numbers.into_par_iter().map(vector).collect()
}

/// The ten nearest by the vectors, best first.
fn best(query: &Embedding, all: &[Embedding]) -> Vec<u32> {
    best_of(all.iter().map(|other| query.cosine(other)).zip(0..).collect())
}

/// Those with the ten highest cosines, best first.
fn best_of(mut scored: Vec<(f32, u32)>) -> Vec<u32> {
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if scored.len() > K {
        scored.select_nth_unstable_by(K, order);
        scored.truncate(K);
    }
    scored.sort_unstable_by(order);
    scored.into_iter().map(|(_, id)| id).collect()
}

/// The rows of a little-endian f32 matrix as NumPy and `likeness export` write it.
fn read_npy(path: &Path) -> Vec<Embedding> {
    let bytes = fs::read(path).expect("an .npy file");
    let header_ends = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[..header_ends]);
    let shape = header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next());
    let width = shape.and_then(|shape| shape.split(',').nth(1)).map(|width| width.trim().parse());
    let width: usize = width.expect("two dimensions").expect("a width");
    let floats = bytes[header_ends..].as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v));
    let floats: Vec<f32> = floats.collect();
    let rows = floats.chunks_exact(width);
    rows.map(|row| Embedding::normalised(row).expect("a direction")).collect()
}
