//! Ways to answer a query, side by side: the frozen graph, hnsw_rs searching its own graph over the
//! same codes, a scan of all codes, and exact search. All but the last re-rank by exact vectors.
//!
//! ```text
//! cargo bench --bench search [-- COUNT]
//! ```
//!
//! Contenders take turns, so that a busy machine slows all of them alike; the median round counts.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[allow(unused_imports, reason = "its tests are compiled here, too, but not run")]
#[path = "../src/index/kernel.rs"]
mod kernel;
#[path = "../src/index/synthetic.rs"]
mod synthetic;

use std::time::Instant;

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;
use likeness::embedding::Embedding;
use likeness::error::Result;
use likeness::index::{self, Contents, Index, Params};
use likeness::progress::Watch;
use likeness::record::{ImageId, ModelFingerprint};

const SEED: u64 = 20_261_124;
const COUNT: usize = 20_000;
const WIDTH: usize = 2_048;
const QUERIES: usize = 200;
const ROUNDS: usize = 7;
const K: usize = 10;

/// How many candidates a graph search keeps in view, all of which are re-ranked.
const EFS: [usize; 3] = [24, 48, 96];

type Answer<'a> = Box<dyn Fn(usize) -> Vec<u32> + 'a>;

fn main() {
    let count = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(COUNT);
    println!("{count} vectors of {WIDTH} components, {QUERIES} queries, seed {SEED}, one thread");
    let mut all: Vec<Embedding> = synthetic::vectors(count + QUERIES, WIDTH, SEED)
        .map(|values| Embedding::normalised(&values).expect("not zero"))
        .collect();
    let queries = all.split_off(count);
    let truth: Vec<_> = queries.iter().map(|query| best(query, &all, 0..count as u32)).collect();

    let folder = tempfile::tempdir().expect("a temporary folder");
    let frozen = timed("built and frozen", || build(folder.path(), &all));
    let codes: Vec<_> = all.iter().map(quantise).collect();
    let query_codes: Vec<_> = queries.iter().map(quantise).collect();
    let foreign = timed("built by hnsw_rs alone", || insert(&codes));

    let (all, queries, frozen, foreign) = (&all, &queries, &frozen, &foreign);
    let query_codes = &query_codes;
    let mut contenders: Vec<(String, Answer<'_>)> = Vec::new();
    for ef in EFS {
        let answer = move |q: usize| rerank(&queries[q], all, frozen, ef, ef);
        contenders.push((format!("frozen graph, ef {ef}"), Box::new(answer)));
        let answer = move |q: usize| {
            let near = foreign.search(&query_codes[q], ef, ef);
            best(&queries[q], all, near.iter().map(|n| n.d_id as u32))
        };
        contenders.push((format!("hnsw_rs, ef {ef}"), Box::new(answer)));
    }
    let scan = |q: usize| rerank(&queries[q], all, frozen, 40, count);
    contenders.push(("scan of all codes".into(), Box::new(scan)));
    let exact = |q: usize| best(&queries[q], all, 0..count as u32);
    contenders.push(("exact".into(), Box::new(exact)));

    let mut rates = vec![Vec::new(); contenders.len()];
    let mut found = vec![0; contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, (_, answer)) in contenders.iter().enumerate() {
            let start = Instant::now();
            let answers: Vec<_> = (0..QUERIES).map(answer).collect();
            rates[contender].push(QUERIES as f64 / start.elapsed().as_secs_f64());
            let hits = |(answer, truth): (&Vec<u32>, &Vec<u32>)| {
                truth.iter().filter(|id| answer.contains(id)).count()
            };
            found[contender] = answers.iter().zip(&truth).map(hits).sum();
        }
    }
    println!("\n{:<24} {:>10} {:>12}", "", "recall@10", "queries/s");
    for ((name, _), (rates, found)) in contenders.iter().zip(rates.iter_mut().zip(found)) {
        rates.sort_by(f64::total_cmp);
        let recall = found as f64 / (QUERIES * K) as f64;
        println!("{name:<24} {recall:>10.4} {:>12.0}", rates[ROUNDS / 2]);
    }
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let made = work();
    println!("{what} in {:.1} s", start.elapsed().as_secs_f64());
    made
}

fn build(folder: &std::path::Path, all: &[Embedding]) -> Index {
    let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> Result<()>| {
        all.iter().zip(0..).try_for_each(|(e, number)| take(number, ImageId(number), e.clone()))
    };
    let fingerprint = ModelFingerprint::from_bytes([1; 32]);
    let contents = Contents { fingerprint, width: WIDTH, embeddings: &each };
    index::build(folder, &contents, Params::default(), &Watch::none()).expect("an index")
}

fn rerank(
    query: &Embedding,
    all: &[Embedding],
    index: &Index,
    candidates: usize,
    ef: usize,
) -> Vec<u32> {
    let candidates = index.search(query, candidates, ef);
    best(query, all, candidates.into_iter().map(|c| c.id.0 as u32))
}

/// The ten of `ids` nearest to the query by exact vectors.
fn best(query: &Embedding, all: &[Embedding], ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut scored: Vec<_> = ids.map(|id| (cosine(query, &all[id as usize]), id)).collect();
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if scored.len() > K {
        scored.select_nth_unstable_by(K, order);
        scored.truncate(K);
    }
    scored.into_iter().map(|(_, id)| id).collect()
}

/// In lanes, as f32 sums are not reordered by the compiler: exact search must not lose by a slow loop.
fn cosine(a: &Embedding, b: &Embedding) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.as_slice().as_chunks::<16>().0.iter().zip(b.as_slice().as_chunks::<16>().0) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

/// The codes of the index, in a row that ends in the inverse of their norm.
fn quantise(embedding: &Embedding) -> Vec<i8> {
    let values = embedding.as_slice();
    let scale = 127.0 / values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let mut row: Vec<i8> = values.iter().map(|v| (v * scale).round() as i8).collect();
    let norm = f64::from(kernel::dot(&row, &row)).sqrt();
    row.extend(((1.0 / norm) as f32).to_le_bytes().map(u8::cast_signed));
    row
}

struct CodeDistance;

impl Distance<i8> for CodeDistance {
    fn eval(&self, a: &[i8], b: &[i8]) -> f32 {
        let norm = |row: &[i8]| {
            f32::from_le_bytes(std::array::from_fn(|i| row[WIDTH + i].cast_unsigned()))
        };
        let dot = kernel::dot(&a[..WIDTH], &b[..WIDTH]) as f32;
        (1.0 - dot * (norm(a) * norm(b))).max(0.0)
    }
}

fn insert(codes: &[Vec<i8>]) -> Hnsw<'static, i8, CodeDistance> {
    let Params { m, ef_construction, .. } = Params::default();
    let hnsw = Hnsw::new(m, codes.len(), 16, ef_construction, CodeDistance);
    let rows: Vec<_> = codes.iter().zip(0..).collect();
    hnsw.insert((&codes[0], 0));
    hnsw.parallel_insert(&rows[1..]);
    hnsw
}
