//! Comparing the query with every code: exact among the codes, on all threads.

use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::codes::{Codes, Near};

/// Rows compared between two looks at what is nearest: their distances stay in the nearest cache.
const STRIDE: usize = 256;

/// Rows that are worth a task.
const TASK: usize = 4_096;

/// The `k` nearest of all points, best first, ties by the lower point.
pub(super) fn scan(codes: Codes<'_>, query: &[u8], k: usize) -> Vec<Near> {
    let count = codes.len();
    if k == 0 {
        return Vec::new();
    }
    let tasks = (count / TASK).clamp(1, 4 * rayon::current_num_threads());
    let mut nearest = if tasks == 1 {
        part(codes, query, k, 0, count)
    } else {
        let bounds = |task: usize| task * count / tasks;
        let parts = (0..tasks).into_par_iter();
        let parts = parts.map(|task| part(codes, query, k, bounds(task), bounds(task + 1)));
        parts.collect::<Vec<_>>().concat()
    };
    nearest.sort_unstable();
    nearest.truncate(k);
    nearest
}

/// The `k` nearest of the points `from..to`, in no order.
fn part(codes: Codes<'_>, query: &[u8], k: usize, from: usize, to: usize) -> Vec<Near> {
    let mut found: BinaryHeap<Near> = BinaryHeap::with_capacity(k.min(to - from));
    let (mut points, mut distances) = (Vec::with_capacity(STRIDE), Vec::new());
    for start in (from..to).step_by(STRIDE) {
        points.clear();
        points.extend(start as u32..(start + STRIDE).min(to) as u32);
        codes.distances(query, &points, &mut distances);
        for (point, distance) in points.iter().zip(&distances) {
            let near = Near::new(*distance, *point);
            if found.len() < k {
                found.push(near);
            } else if let Some(mut farthest) = found.peek_mut()
                && near < *farthest
            {
                *farthest = near;
            }
        }
    }
    found.into_vec()
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
        }
    }
}
