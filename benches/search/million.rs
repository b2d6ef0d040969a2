//! So many vectors that they are made on the way to the disk and never held: what the index takes then.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use likeness::embedding::Embedding;
use likeness::index::{self, Contents, Index, Params, Search};
use likeness::progress::Watch;
use likeness::record::{Hit, ImageId, ModelFingerprint};
use rayon::prelude::*;

use super::{K, SEED, WIDTH, by_slack, synthetic};

const QUERIES: usize = 200;
const RUNS: usize = 21;

/// Vectors made at once.
const BLOCK: usize = 2_048;

/// Points of the index that look for themselves, at least; all of so many.
const THEMSELVES: usize = 200_000;

const FINGERPRINT: ModelFingerprint = ModelFingerprint::from_bytes([1; 32]);

pub(super) fn run(count: usize, params: Params) {
    let folder = tempfile::tempdir_in("target").expect("a temporary folder");
    let maker = synthetic::Maker::new(count + QUERIES, WIDTH, SEED);
    let vector = |number| Embedding::normalised(&maker.vector(number)).expect("not zero");
    let queries: Vec<Embedding> = (count..count + QUERIES).map(vector).collect();
    let nearest: Vec<Mutex<Vec<Hit>>> = queries.iter().map(|_| Mutex::default()).collect();
    let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> likeness::error::Result<()>| {
        for start in (0..count).step_by(BLOCK) {
            let numbers = start..(start + BLOCK).min(count);
            let block: Vec<Embedding> = numbers.into_par_iter().map(vector).collect();
            queries.par_iter().zip(&nearest).for_each(|(query, nearest)| {
                let mut nearest = nearest.lock().expect("no panic");
                let id = |at: usize| ImageId((start + at) as i64);
                let hit = |(at, other)| Hit { id: id(at), score: query.cosine(other) };
                nearest.extend(block.iter().enumerate().map(hit));
                nearest.sort_by(Hit::best_first);
                nearest.truncate(K);
            });
            for (at, embedding) in block.into_iter().enumerate() {
                take((start + at) as i64, ImageId((start + at) as i64), embedding)?;
            }
        }
        Ok(())
    };
    let start = Instant::now();
    let contents = Contents { fingerprint: FINGERPRINT, width: WIDTH, embeddings: &each };
    let index = index::build(folder.path(), &contents, params, &Watch::none()).expect("an index");
    println!(
        "{count} vectors, made, compared with {QUERIES} queries and built into an index in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    println!("{:?}\n{:?}", index.coding(), index.calibration());
    println!("peak of the build: {} MB", status("VmHWM:") / 1_000);
    println!("searched: {:.1} MB", index.searched_bytes() as f64 / 1e6);
    drop(index);
    // As a process that did not build it.
    let index = index::open(folder.path(), FINGERPRINT, WIDTH).expect("an index");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let asked: Vec<&Embedding> = queries.iter().collect();
    let calibrated = index.depth(K, Search::Hnsw);
    let depths =
        [(1.0, 24), (1.04, 40), (1.08, 64), (1.1, 80), (1.11, 80), (1.12, 80), (1.16, 100)]
            .map(|(slack, rerank)| by_slack(&index, slack, rerank));
    let scan = index.depth(K, Search::Exact);
    for depth in depths.into_iter().chain([calibrated, scan]) {
        let search = || {
            let start = Instant::now();
            let answers: Vec<Vec<Hit>> = asked
                .iter()
                .map(|query| index.search_to(query, K, depth).expect("a sound index"))
                .collect();
            (start.elapsed().as_secs_f64() * 1e3 / QUERIES as f64, answers)
        };
        let one = || if depth.beam.is_some() { pool.install(search) } else { search() };
        let mut runs: Vec<_> = (0..3).map(|_| one()).collect();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (millis, answers) = &runs[1];
        let mut found = 0;
        for (answer, nearest) in answers.iter().zip(&nearest) {
            // Scores of an index are rounded otherwise than those that were computed beside it.
            let is_found = |hit: &&Hit| answer.iter().any(|found| found.id == hit.id);
            found += nearest.lock().expect("no panic").iter().filter(is_found).count();
        }
        let which = if depth == calibrated { "calibrated" } else { "" };
        let recall = found as f64 / (QUERIES * K) as f64;
        println!(
            "{depth:?} {which}: recall@10 {recall:.4}, {millis:.3} ms a query, one after the other"
        );
    }
    for (what, megabytes) in resident() {
        println!("resident: {what} {megabytes:.1} MB");
    }
    let step = (count / THEMSELVES).max(1);
    let points: Vec<usize> = (0..count).step_by(step).collect();
    let lost = points.par_iter().filter(|point| {
        let hits = index.search_to(&vector(**point), 1, calibrated).expect("a sound index");
        hits.first().is_none_or(|hit| hit.score < 1.0)
    });
    println!("of {} points, do not find themselves: {}", points.len(), lost.count());
    first_answer(folder.path(), &queries);
}

/// The whole process that opens the index and answers one query.
fn first_answer(folder: &Path, queries: &[Embedding]) {
    let mut millis: Vec<f64> = (0..RUNS)
        .map(|run| {
            let path = folder.join("query.f32");
            let bytes = queries[run].as_slice().iter().flat_map(|v| v.to_le_bytes());
            std::fs::write(&path, bytes.collect::<Vec<u8>>()).expect("room on the disk");
            let start = Instant::now();
            let bench = std::env::current_exe().expect("a name");
            let status = Command::new(bench)
                .args([Path::new("--first"), folder, &path])
                .stdout(Stdio::null())
                .status();
            assert!(status.expect("it runs").success());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    println!(
        "first answer of a fresh process, from its start to its end: {:.1} ms median, {:.1} at most",
        millis[RUNS / 2],
        millis[RUNS - 1]
    );
}

/// What such a process does.
pub(super) fn first(mut args: impl Iterator<Item = String>) {
    let mut next = || PathBuf::from(args.next().expect("a path"));
    let (folder, query) = (next(), next());
    let bytes = std::fs::read(query).expect("a query");
    let values: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
    let query = Embedding::normalised(&values).expect("not zero");
    let index = index::open(&folder, FINGERPRINT, values.len()).expect("an index");
    println!("{:?}", Index::search(&index, &query, K, Search::Auto).expect("a sound index"));
}

/// A line of this process's status, in kB; 0 where there is none.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What of the index's files is in memory, and what else, in MB.
fn resident() -> Vec<(String, f64)> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (mut sums, mut what) = (std::collections::BTreeMap::<String, f64>::new(), String::new());
    for line in maps.lines() {
        if let Some(kilobytes) = line.strip_prefix("Rss:") {
            let kilobytes: f64 = kilobytes.trim().trim_end_matches(" kB").parse().unwrap_or(0.0);
            *sums.entry(what.clone()).or_default() += kilobytes * 1.024e-3;
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            let name = line.rsplit('/').next().unwrap_or_default();
            let known = line.contains('/') && name.ends_with(".bin");
            what = if known { name.to_owned() } else { "the rest".to_owned() };
        }
    }
    sums.into_iter().collect()
}
