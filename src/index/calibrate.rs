//! How deep searches must look: measured on the library itself when its index is built.
//!
//! A sample of the points is searched for as if each were not there, which is what a photo that is new
//! to the library meets, and compared with exact search by the vectors.

use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::coder::spread;
use super::search::{Scratch, Space};
use super::vectors::Vectors;

/// Points that are searched for.
const SAMPLE: usize = 400;

/// Neighbours that shall be found.
const K: usize = 10;

/// Rows compared with the whole sample at once.
const BLOCK: usize = 1_024;

/// The candidates in view that are tried; with the first, every point finds itself (`link.rs`).
const EFS: [usize; 19] =
    [16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768];

/// How deep graph searches for the ten nearest look, and what they found when that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Candidates in view.
    pub ef_search: usize,
    /// How many of them are ordered by their vectors.
    pub rerank: usize,
    /// The share of the true nearest ten that was found, the mean over the sample.
    pub recall: f64,
    /// How many searches that was measured by; 0 where the images are too few to measure.
    pub sample: usize,
}

impl Calibration {
    /// For libraries that are scanned anyway.
    pub(super) const UNMEASURED: Self = Self { ef_search: 96, rerank: 64, recall: 1.0, sample: 0 };
}

impl Calibration {
    /// Whether the graph found as much as was wanted, by what was measured.
    pub(super) fn reaches(&self, wanted: f64) -> bool {
        self.sample == 0 || self.recall >= wanted
    }
}

/// Finds the cheapest search that reaches `wanted`, in (0, 1], by one standard error; the deepest that
/// is tried where none does. What a candidate in view costs is about what ordering one costs.
pub(super) fn calibrate(
    space: &Space<'_>,
    scratch: &Scratch,
    vectors: Vectors<'_>,
    wanted: f64,
) -> Calibration {
    if vectors.len() < 20 * K {
        return Calibration::UNMEASURED;
    }
    let sample = spread(vectors.len(), SAMPLE);
    let truth = exact(vectors, &sample);
    let mut best: Option<(bool, Calibration)> = None;
    for ef_search in EFS {
        if best.as_ref().is_some_and(|(enough, best)| *enough && ef_search + K >= cost(best)) {
            break;
        }
        // For each query, where among the candidates its true neighbours are.
        let places: Vec<Vec<usize>> = sample
            .par_iter()
            .zip(&truth)
            .map(|(point, truth)| {
                let code = space.codes.row(*point);
                let found = scratch.search_without(Some(*point), space, code, ef_search);
                let place = |true_one: &u32| found.iter().position(|n| n.point() == *true_one);
                truth.iter().filter_map(place).collect()
            })
            .collect();
        let enough = |rerank: &usize| {
            let (recall, error) = recall(&places, *rerank);
            // Nothing found wanting leaves no error to allow for.
            recall - error >= wanted || recall == 1.0
        };
        let rerank = (K..=ef_search).find(enough);
        let reached = rerank.is_some();
        let rerank = rerank.unwrap_or(ef_search);
        let (recall, _) = recall(&places, rerank);
        let found = Calibration { ef_search, rerank, recall, sample: sample.len() };
        let better = best.as_ref().is_none_or(|(enough, best)| match (*enough, reached) {
            (true, true) => cost(&found) < cost(best),
            (true, false) => false,
            (false, true) => true,
            (false, false) => recall > best.recall,
        });
        if better {
            best = Some((reached, found));
        }
    }
    best.map_or(Calibration::UNMEASURED, |(_, found)| found)
}

fn cost(calibration: &Calibration) -> usize {
    calibration.ef_search + calibration.rerank
}

/// The mean share of true neighbours among the first `rerank` candidates, and its standard error.
fn recall(places: &[Vec<usize>], rerank: usize) -> (f64, f64) {
    let share = |places: &Vec<usize>| {
        places.iter().filter(|place| **place < rerank).count() as f64 / K as f64
    };
    let count = places.len() as f64;
    let mean = places.iter().map(share).sum::<f64>() / count;
    let variance = places.iter().map(|p| (share(p) - mean).powi(2)).sum::<f64>() / count;
    (mean, (variance / count).sqrt())
}

/// The ten nearest others of each point in `sample`, by their vectors.
fn exact(vectors: Vectors<'_>, sample: &[u32]) -> Vec<Vec<u32>> {
    let width = vectors.width();
    let queries: Vec<f32> = sample.iter().flat_map(|point| vectors.row(*point)).copied().collect();
    let matrix = |rows, floats| ArrayView2::from_shape((rows, width), floats).expect("whole rows");
    let queries = matrix(sample.len(), &queries[..]);
    let blocks: Vec<usize> = (0..vectors.len()).step_by(BLOCK).collect();
    let nearest: Vec<Vec<Vec<(f32, u32)>>> = blocks
        .par_iter()
        .map(|start| {
            let end = (start + BLOCK).min(vectors.len());
            let scores = queries.dot(&matrix(end - start, vectors.rows(*start..end)).t());
            let of = |(query, point): (usize, &u32)| {
                let column = |row: usize| (scores[(query, row)], (start + row) as u32);
                let others = (0..end - start).map(column).filter(|(_, other)| other != point);
                best(others.collect())
            };
            let nearest = sample.iter().enumerate().map(of).collect();
            vectors.release(*start..end);
            nearest
        })
        .collect();
    (0..sample.len())
        .map(|query| {
            let all = nearest.iter().flat_map(|block| &block[query]).copied().collect();
            best(all).into_iter().map(|(_, point)| point).collect()
        })
        .collect()
}

/// The ten of highest score, best first, ties by the lower point.
fn best(mut scored: Vec<(f32, u32)>) -> Vec<(f32, u32)> {
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if scored.len() > K {
        scored.select_nth_unstable_by(K - 1, order);
        scored.truncate(K);
    }
    scored.sort_unstable_by(order);
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_that_finds_too_little_is_told() {
        let found = |recall| Calibration { recall, sample: 400, ..Calibration::UNMEASURED };
        assert!(found(0.99).reaches(0.99) && !found(0.9657).reaches(0.99));
        assert!(Calibration::UNMEASURED.reaches(1.0));
    }

    #[test]
    fn recall_counts_what_is_found_early_enough() {
        let places = vec![(0..10).collect(), (5..10).chain(20..25).collect()];
        assert_eq!(recall(&places, 10).0, 0.75);
        assert_eq!(recall(&places, 25), (1.0, 0.0));
        assert_eq!(recall(&places, 5).0, 0.25);
    }
}
