//! Comparing the query with every code: exact among the codes, on all threads.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::codes::{Codes, Near, best_first};
use super::share::share;

/// Rows compared between two looks at what is nearest: their distances stay in the nearest cache.
const STRIDE: usize = 256;

/// Rows asked for at once when they lie apart.
const SOME: usize = 64;

/// Rows that are worth a task.
const TASK: usize = 2_048;

/// The `k` nearest of all points, best first, ties by the lower point.
pub(super) fn scan(codes: Codes<'_>, query: &[u8], k: usize) -> Vec<Near> {
    in_tasks(codes.len(), k, |range, nearest| {
        let mut points = Vec::with_capacity(STRIDE);
        for start in range.clone().step_by(STRIDE) {
            points.clear();
            points.extend(start as u32..(start + STRIDE).min(range.end) as u32);
            nearest.compare(codes, query, &points);
        }
    })
}

/// The `k` nearest of some points, best first, ties by the lower point.
pub(super) fn scan_some(codes: Codes<'_>, query: &[u8], points: &[u32], k: usize) -> Vec<Near> {
    in_tasks(points.len(), k, |range, nearest| {
        for points in points[range].chunks(SOME) {
            // They lie apart, so the processor does not see which comes next.
            points.iter().for_each(|point| codes.prefetch(*point));
            nearest.compare(codes, query, points);
        }
    })
}

/// The `k` nearest of `0..count`, put together from what each thread finds in its parts.
fn in_tasks(
    count: usize,
    k: usize,
    part: impl Fn(Range<usize>, &mut Nearest<'_>) + Sync,
) -> Vec<Near> {
    if k == 0 {
        return Vec::new();
    }
    let bound = Bound::default();
    let found = share(count.div_ceil(TASK), |tasks| {
        let mut nearest = Nearest::new(k.min(count), &bound);
        tasks.for_each(|task| {
            part(task * TASK..((task + 1) * TASK).min(count), &mut nearest);
        });
        nearest.found.into_vec()
    });
    best_first(found.concat(), k)
}

/// The greatest distance that may still matter: some thread has found as many points as near, or nearer, as are asked
/// for. Spares the others most of what they would take in and give up again.
struct Bound(AtomicU32);

impl Default for Bound {
    fn default() -> Self {
        Self(AtomicU32::new(u32::MAX))
    }
}

/// The nearest so far, farthest first.
struct Nearest<'a> {
    most: usize,
    found: BinaryHeap<Near>,
    bound: &'a Bound,
    distances: Vec<u32>,
}

impl<'a> Nearest<'a> {
    /// Of at most `k` points.
    fn new(k: usize, bound: &'a Bound) -> Self {
        Self { most: k, found: BinaryHeap::with_capacity(k), bound, distances: Vec::new() }
    }

    fn compare(&mut self, codes: Codes<'_>, query: &[u8], points: &[u32]) {
        codes.distances(query, points, &mut self.distances);
        let bound = self.bound.0.load(Ordering::Relaxed);
        for (point, distance) in points.iter().zip(&self.distances) {
            let near = Near::new(*distance, *point);
            if *distance > bound {
                continue;
            }
            if self.found.len() < self.most {
                self.found.push(near);
            } else if let Some(mut farthest) = self.found.peek_mut()
                && near < *farthest
            {
                *farthest = near;
            }
        }
        if let Some(farthest) = self.found.peek().filter(|_| self.found.len() == self.most) {
            self.bound.0.fetch_min(farthest.distance(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::synthetic::Random;

    #[test]
    fn the_nearest_are_those_of_a_full_sort() {
        let mut random = Random(4);
        let rows: Vec<u8> = (0..20_000 * 64).map(|_| (random.next() % 3) as u8).collect();
        let codes = Codes::new(&rows, 64);
        let query = codes.row(17);
        let mut all: Vec<Near> =
            (0..20_000).map(|point| Near::new(codes.between(17, point), point)).collect();
        all.sort_unstable();
        for k in [0, 1, 10, 1_000, 30_000] {
            assert_eq!(scan(codes, query, k), all[..k.min(20_000)], "{k}");
            let some: Vec<u32> = (0..20_000).filter(|point| point % 3 == 1).collect();
            let mut among = all.clone();
            among.retain(|near| near.point() % 3 == 1);
            among.truncate(k);
            assert_eq!(scan_some(codes, query, &some, k), among, "{k}");
        }
    }
}
