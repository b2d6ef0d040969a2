//! Searching the frozen graph (Malkov and Yashunin, *Efficient and robust approximate nearest neighbor
//! search using Hierarchical Navigable Small World graphs*, algorithms 2 and 5), and scanning all codes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::codes::{self, Codes};
use super::graph::Graph;

/// What a search looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space<'a> {
    pub(super) graph: &'a Graph,
    pub(super) graph_bytes: &'a [u8],
    pub(super) codes: Codes<'a>,
}

/// The `k` nearest of all points, best first, ties by number: exact among the codes.
pub(super) fn scan(codes: Codes<'_>, query: &[i8], k: usize) -> Vec<(u32, f32)> {
    let near = |(row, point)| Near { cosine: codes::cosine(query, row), point };
    let mut all: Vec<Near> = codes.rows().zip(0u32..).map(near).collect();
    if k < all.len() {
        all.select_nth_unstable_by(k, |a, b| b.cmp(a));
        all.truncate(k);
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.into_iter().map(|near| (near.point, near.cosine)).collect()
}

/// A point and its cosine; greater is nearer, ties by the lower number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Near {
    cosine: f32,
    point: u32,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.cosine.total_cmp(&other.cosine).then(other.point.cmp(&self.point))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Which points a search has seen: a mark a point, and the number of the search, so that nothing need
/// be cleared between two searches.
#[derive(Debug, Default)]
struct Visited {
    marks: Vec<u32>,
    epoch: u32,
}

impl Visited {
    fn begin(&mut self, count: usize) {
        if self.marks.len() != count || self.epoch == u32::MAX {
            self.marks = vec![0; count];
            self.epoch = 0;
        }
        self.epoch += 1;
    }

    /// Marks a point; whether it is the first time.
    fn insert(&mut self, point: u32) -> bool {
        let mark = &mut self.marks[point as usize];
        std::mem::replace(mark, self.epoch) != self.epoch
    }
}

/// Marks that were used before, one for each search that runs at once.
#[derive(Debug, Default)]
pub(super) struct Scratch(Mutex<Vec<Visited>>);

impl Scratch {
    /// The `k` nearest points that a search with `ef` candidates comes upon, best first.
    pub(super) fn search(
        &self,
        space: &Space<'_>,
        count: usize,
        query: &[i8],
        k: usize,
        ef: usize,
    ) -> Vec<(u32, f32)> {
        if count == 0 {
            return Vec::new();
        }
        let mut visited =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        visited.begin(count);
        let nearest = search(space, &mut visited, query, ef.max(k));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(visited);
        nearest.into_iter().take(k).map(|near| (near.point, near.cosine)).collect()
    }
}

fn search(space: &Space<'_>, visited: &mut Visited, query: &[i8], ef: usize) -> Vec<Near> {
    let near = |point: u32| Near { cosine: codes::cosine(query, space.codes.row(point)), point };
    let mut best = near(space.graph.entry());
    for layer in space.graph.layers_down() {
        loop {
            let neighbours = space.graph.above(space.graph_bytes, layer, best.point).map(near);
            match neighbours.max().filter(|nearest| *nearest > best) {
                Some(nearer) => best = nearer,
                None => break,
            }
        }
    }
    visited.insert(best.point);
    // What may lead further, nearest first; and the ef nearest so far, farthest first.
    let mut open = BinaryHeap::from([best]);
    let mut found = BinaryHeap::from([Reverse(best)]);
    while let Some(next) = open.pop() {
        let full = found.len() >= ef;
        if full && found.peek().is_some_and(|Reverse(farthest)| next < *farthest) {
            break;
        }
        for point in space.graph.base(space.graph_bytes, next.point) {
            if !visited.insert(point) {
                continue;
            }
            let candidate = near(point);
            let farthest = found.peek().map(|Reverse(farthest)| *farthest);
            if found.len() < ef || farthest.is_some_and(|farthest| candidate > farthest) {
                open.push(candidate);
                found.push(Reverse(candidate));
                if found.len() > ef {
                    found.pop();
                }
            }
        }
    }
    let mut found: Vec<Near> = found.into_iter().map(|Reverse(near)| near).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}
