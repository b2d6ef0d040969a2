//! How deep searches must look: measured on the library itself when its index is built.
//!
//! A sample of the points is searched for as if each were not there, which is what a photo that is new
//! to the library meets, and compared with exact search by the vectors.

use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::coder::spread;
use super::codes::Near;
use super::planes::rough_row_bytes;
use super::search::{Beam, Scratch, Space};
use super::vectors::Vectors;

/// Points that are searched for.
const SAMPLE: usize = 400;

/// Neighbours that shall be found.
const K: usize = 10;

/// What a search for them never goes without, and so nobody need tune: it follows the twenty nearest to their ends, so
/// that every point finds itself (`link.rs`) and ten near copies of the query do not end it, and what lies
/// among nothing but crowds is given up with so many in view.
const NEAREST: usize = 20;
const WIDTH: usize = 768;

/// Points near each of the sample by which it is learned how much of a distance the first components tell, and the
/// share of them that may be passed over by that.
const NEAR: usize = 100;
const ASTRAY: f64 = 5e-4;

/// Candidates that are ordered by their vectors, at most.
const RERANK: usize = 768;

/// Rows compared with the whole sample at once.
const BLOCK: usize = 1_024;

/// How much farther than the nearest candidates may lie: what is tried, from 1 on, and where it ends.
const STEP: f64 = 0.01;
const MOST: f64 = 2.0;

/// How far graph searches for the ten nearest go, and what they found when that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// See [`Beam::slack`].
    pub slack: f64,
    /// See [`Beam::growth`].
    pub growth: Option<f64>,
    /// Distances that a search measured, the mean over the sample.
    pub distances: usize,
    /// How many candidates are ordered by their vectors.
    pub rerank: usize,
    /// The share of the true nearest ten that was found, the mean over the sample.
    pub recall: f64,
    /// How many searches that was measured by; 0 where the images are too few to measure.
    pub sample: usize,
}

impl Calibration {
    /// For libraries that are scanned anyway.
    pub(super) const UNMEASURED: Self =
        Self { slack: 1.2, growth: None, distances: 20 * K, rerank: 64, recall: 1.0, sample: 0 };

    /// Whether the graph found as much as was wanted, by what was measured.
    pub(super) fn reaches(&self, wanted: f64) -> bool {
        self.sample == 0 || self.recall >= wanted
    }

    /// How far a search for the `k` nearest goes: as was measured for ten, in proportion for more.
    pub fn beam(&self, k: usize) -> Beam {
        let [width, nearest] = [WIDTH, NEAREST].map(|ten| scaled(ten, k));
        Beam { width, nearest, slack: self.slack, growth: self.growth }
    }
}

/// What ten take, for `k`: as much, or in proportion.
pub(super) fn scaled(ten: usize, k: usize) -> usize {
    ten.max(ten.saturating_mul(k).div_ceil(K)).max(k)
}

/// Finds the cheapest search that reaches `wanted`, in (0, 1], by one standard error; the one that finds most
/// where none does.
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
    // What both cost is what they read; what the ten best take besides is the same for all.
    let (code_bytes, vector_bytes) = (space.codes.row_bytes(), rough_row_bytes(vectors.width()));
    let cost = |found: &Calibration| found.distances * code_bytes + found.rerank * vector_bytes;
    let growth = growth(space, scratch, &sample);
    let mut best: Option<(bool, Calibration)> = None;
    for step in 0.. {
        let slack = 1.0 + f64::from(step) * STEP;
        let beam = Calibration { slack, growth, ..Calibration::UNMEASURED }.beam(K);
        // For each query, where among the candidates its true neighbours are.
        let searched: Vec<(Vec<usize>, usize)> = sample
            .par_iter()
            .zip(&truth)
            .map(|(point, truth)| {
                let code = space.codes.row(*point);
                let (found, distances) = scratch.search_without(Some(*point), space, code, beam);
                let place = |true_one: &u32| found.iter().position(|n| n.point() == *true_one);
                (truth.iter().filter_map(place).collect(), distances)
            })
            .collect();
        let (places, distances): (Vec<Vec<usize>>, Vec<usize>) = searched.into_iter().unzip();
        let distances = distances.iter().sum::<usize>().div_ceil(sample.len());
        let enough = |rerank: &usize| {
            let (recall, error) = recall(&places, *rerank);
            // Nothing found wanting leaves no error to allow for.
            recall - error >= wanted || recall == 1.0
        };
        let rerank = (K..=RERANK).find(enough);
        let reached = rerank.is_some();
        let rerank = rerank.unwrap_or(RERANK);
        let (recall, _) = recall(&places, rerank);
        let sample = sample.len();
        let found = Calibration { slack, growth, distances, rerank, recall, sample };
        let better = best.as_ref().is_none_or(|(enough, best)| match (*enough, reached) {
            (true, true) => cost(&found) < cost(best),
            (true, false) => false,
            (false, true) => true,
            (false, false) => recall > best.recall,
        });
        if better {
            best = Some((reached, found));
        }
        // More slack costs more distances, and spares some vectors at most.
        let dearer = |best: &Calibration| distances * code_bytes + K * vector_bytes >= cost(best);
        if slack >= MOST || best.as_ref().is_some_and(|(enough, best)| *enough && dearer(best)) {
            break;
        }
    }
    best.map_or(Calibration::UNMEASURED, |(_, found)| found)
}

/// What all but [`ASTRAY`] of those that a search may follow exceed, see [`Beam::growth`]; by points near each of the
/// sample.
fn growth(space: &Space<'_>, scratch: &Scratch, sample: &[u32]) -> Option<f64> {
    if !space.codes.have_heads() {
        return None;
    }
    let of = |point: &u32| {
        let code = space.codes.row(*point);
        let (near, _) = scratch.search_without(Some(*point), space, code, Beam::of_width(NEAR));
        let points: Vec<u32> = near.iter().map(|near| near.point()).collect();
        let mut heads = Vec::new();
        space.codes.head_distances(code, &points, &mut heads);
        let ratio = |(near, head): (Near, u32)| {
            (head > 0).then(|| f64::from(near.distance()) / f64::from(head))
        };
        near.into_iter().zip(heads).filter_map(ratio).collect::<Vec<f64>>()
    };
    let mut ratios: Vec<f64> = sample.par_iter().flat_map_iter(of).collect();
    let astray = (ratios.len() as f64 * ASTRAY) as usize;
    // Of fewer nothing is known about the last of them.
    (astray > 0).then(|| *ratios.select_nth_unstable_by(astray, f64::total_cmp).1)
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
