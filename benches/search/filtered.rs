//! Searches among the vectors that pass a filter, by how many pass and where they lie.

use std::time::Instant;

use likeness::embedding::Embedding;
use likeness::index::{Among, Depth, Index, Search};
use likeness::record::ImageId;
use rayon::prelude::*;

use super::{K, ROUNDS, Subject, best_of, synthetic};

/// Queries of each filter.
const ASKED: usize = 200;

const SHARES: [f64; 7] = [0.5, 0.2, 0.1, 0.05, 0.01, 0.001, 0.0001];

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
        println!(
            "\n{:<22} {:>7}  {:<14} {:>9} {:>10} {:>12} {:>12} {:>12}",
            "filter",
            "pass",
            "searched by",
            "recall@10",
            "queries/s",
            "scan q/s",
            "graph q/s",
            "vectors q/s"
        );
        let cases =
            SHARES.iter().flat_map(|share| [self.spread(index, *share), self.far(index, *share)]);
        for case in cases {
            let depth = index.depth_among(K, Search::Hnsw, &case.among);
            let scan = Depth { ef: None, rerank: index.depth(K, Search::Exact).rerank };
            let graph = index.depth(K, Search::Hnsw);
            let vectors = Depth { ef: None, rerank: case.among.len() };
            let way = match depth.ef {
                Some(ef) => format!("graph, ef {ef}"),
                None if depth.rerank == case.among.len() => "vectors".to_owned(),
                None => "scan".to_owned(),
            };
            let [(chosen, recall), scanned, by_graph, direct] =
                [depth, scan, graph, vectors].map(|depth| {
                    // All vectors of a large part are slow and always the same.
                    let rounds =
                        if depth == vectors && case.among.len() > 5_000 { 1 } else { ROUNDS };
                    let mut runs: Vec<(f64, f64)> =
                        (0..rounds).map(|_| pool.install(|| case.ask(index, depth))).collect();
                    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
                    runs[runs.len() / 2]
                });
            println!(
                "{:<22} {:>7}  {way:<14} {recall:>9.4} {chosen:>10.0} {:>12.0} {:>12.0} {:>12.0}",
                case.name,
                case.among.len(),
                scanned.0,
                by_graph.0,
                direct.0,
            );
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
        self.case(format!("{} %, the farthest", share * 100.0), index, &passes, queries)
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
