//! Searches among the vectors that pass a filter, by how many pass and where they lie.

use std::time::Instant;

use likeness::embedding::Embedding;
use likeness::index::{Among, Calibration, Depth, Index, Search};
use likeness::record::ImageId;
use rayon::prelude::*;

use super::{K, ROUNDS, Subject, best_of, by_slack, synthetic};

/// Queries of each filter.
const ASKED: usize = 200;

const SHARES: [f64; 7] = [0.5, 0.2, 0.1, 0.05, 0.01, 0.001, 0.0001];

/// More vectors are not compared one by one.
const SLOW: usize = 1_000;

/// What passes.
struct Case<'a> {
    name: String,
    among: Among,
    queries: Vec<&'a Embedding>,
    truth: Vec<Vec<u32>>,
}

impl Subject {
    /// One line for each filter: how it is searched, and what scanning what passes and searching the graph
    /// would take.
    pub(super) fn compare_filtered(&self, index: &Index, pool: &rayon::ThreadPool) {
        println!("\nrecall@10 and queries/s among the vectors that pass a filter, one thread");
        let columns = ["as chosen", "scan", "graph", "twice the slack", "vectors"];
        let columns: String = columns.iter().map(|column| format!("{column:>17}")).collect();
        println!("{:<18} {:>6}  {:<13}{columns}", "", "pass", "chosen");
        let cases =
            SHARES.iter().flat_map(|share| [self.spread(index, *share), self.far(index, *share)]);
        for case in cases {
            let Calibration { slack, rerank, .. } = index.calibration();
            let graph = by_slack(index, slack, rerank);
            let twice = by_slack(index, 2.0 * slack - 1.0, 2 * rerank);
            let scan = index.depth(K, Search::Exact);
            let vectors = Depth { beam: None, rerank: case.among.len() };
            let chosen = index.depth_among(K, Search::Hnsw, &case.among);
            print!("{:<18} {:>6}  {:<13}", case.name, case.among.len(), way(chosen, &case.among));
            for depth in [chosen, scan, graph, twice, vectors] {
                if depth == vectors && case.among.len() > SLOW {
                    continue;
                }
                let mut runs: Vec<(f64, f64)> =
                    (0..ROUNDS).map(|_| pool.install(|| case.ask(index, depth))).collect();
                runs.sort_by(|a, b| a.0.total_cmp(&b.0));
                let (each_second, recall) = runs[ROUNDS / 2];
                print!("   {recall:.4}{each_second:>8.0}");
            }
            println!();
        }
    }

    /// A share of the vectors, drawn by chance.
    fn spread(&self, index: &Index, share: f64) -> Case<'_> {
        let mut random = synthetic::Random(7);
        let below = (share * u64::MAX as f64) as u64;
        let passes: Vec<bool> = self.all.iter().map(|_| random.next() < below).collect();
        let queries = self.queries.iter().take(ASKED).collect();
        self.case(format!("{} %", share * 100.0), index, &passes, queries)
    }

    /// The share that lies farthest from where the queries are.
    fn far(&self, index: &Index, share: f64) -> Case<'_> {
        let anchor = &self.queries[0];
        let mut queries: Vec<&Embedding> = self.queries.iter().collect();
        queries.sort_by(|a, b| anchor.cosine(b).total_cmp(&anchor.cosine(a)));
        queries.truncate(ASKED);
        let cosines: Vec<f32> = self.all.par_iter().map(|other| anchor.cosine(other)).collect();
        let mut sorted = cosines.clone();
        sorted.sort_by(f32::total_cmp);
        let last = sorted[((share * sorted.len() as f64) as usize).min(sorted.len() - 1)];
        let passes: Vec<bool> = cosines.iter().map(|cosine| *cosine < last).collect();
        self.case(format!("{} %, far", share * 100.0), index, &passes, queries)
    }

    fn case<'a>(
        &self,
        name: String,
        index: &Index,
        passes: &[bool],
        queries: Vec<&'a Embedding>,
    ) -> Case<'a> {
        let among = index.among(|ImageId(id)| passes[id as usize]);
        let nearest = |query: &&Embedding| {
            let passing = self.all.iter().zip(0..).filter(|(_, id)| passes[*id as usize]);
            best_of(passing.map(|(other, id)| (query.cosine(other), id)).collect())
        };
        let truth = queries.par_iter().map(nearest).collect();
        Case { name, among, queries, truth }
    }
}

fn way(depth: Depth, among: &Among) -> String {
    match depth.beam {
        Some(_) => "graph".to_owned(),
        None if depth.rerank == among.len() => "vectors".to_owned(),
        None => "scan".to_owned(),
    }
}

impl Case<'_> {
    /// Asks everything once. Returns queries a second and recall@10.
    fn ask(&self, index: &Index, depth: Depth) -> (f64, f64) {
        let start = Instant::now();
        let answers =
            index.search_all(&self.queries, K, depth, Some(&self.among)).expect("a sound index");
        let seconds = start.elapsed().as_secs_f64();
        let (mut found, mut wanted) = (0, 0);
        for (answer, truth) in answers.iter().zip(&self.truth) {
            wanted += truth.len();
            found +=
                truth.iter().filter(|id| answer.iter().any(|hit| hit.id.0 as u32 == **id)).count();
        }
        (self.queries.len() as f64 / seconds, found as f64 / wanted.max(1) as f64)
    }
}
