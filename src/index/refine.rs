//! From the neighbour lists that hnsw_rs leaves to ones that a search can rely on.
//!
//! hnsw_rs keeps the nearest neighbours of a point when its list is full, whatever their direction. In
//! a burst of near copies all lists then point into the burst: searches do not find into it, or not out
//! of it. So neighbours are chosen once more, for their directions ([`reselect`]), and whatever is
//! still cut off is tied in ([`connect`]; hnsw_rs's issues 32 and 37).

use std::collections::VecDeque;

use rayon::prelude::*;

/// Links a point may have beyond its degree, to tie in points that were cut off.
pub(super) const SPARE: usize = 3;

/// Chooses the neighbours of every point of a layer from those it has and those that have it:
/// `points` are the layer's, ascending, `rows` their neighbours, `degree` how many they may be.
pub(super) fn reselect(
    points: &[u32],
    rows: &mut [Vec<u32>],
    degree: usize,
    distance: impl Fn(u32, u32) -> u32 + Sync,
) {
    let mut candidates = rows.to_vec();
    for (point, row) in points.iter().zip(rows.iter()) {
        for other in row {
            if let Ok(at) = points.binary_search(other) {
                candidates[at].push(*point);
            }
        }
    }
    let chosen = rows.par_iter_mut().zip(candidates).zip(points);
    chosen.for_each(|((row, mut candidates), point)| {
        candidates.retain(|other| points.binary_search(other).is_ok());
        prepare(*point, &mut candidates);
        *row = select(*point, &candidates, degree, &distance);
    });
}

/// Leaves each candidate once, and the point itself out.
pub(super) fn prepare(point: u32, candidates: &mut Vec<u32>) {
    candidates.retain(|other| *other != point);
    candidates.sort_unstable();
    candidates.dedup();
}

/// The neighbours that lie in different directions, nearest first, then as many of the others as there
/// is room for. One is passed over when it is nearer to a neighbour already chosen than to the point:
/// the way to it leads over that one (Malkov and Yashunin, algorithm 4).
pub(super) fn select(
    point: u32,
    candidates: &[u32],
    degree: usize,
    distance: impl Fn(u32, u32) -> u32,
) -> Vec<u32> {
    let mut near: Vec<(u32, u32)> =
        candidates.iter().map(|other| (distance(point, *other), *other)).collect();
    near.sort_unstable();
    let (mut chosen, mut passed_over) = (Vec::with_capacity(degree), Vec::new());
    for (away, other) in near {
        if chosen.len() == degree {
            break;
        }
        if chosen.iter().all(|chosen| distance(other, *chosen) > away) {
            chosen.push(other);
        } else {
            passed_over.push(other);
        }
    }
    let room = degree - chosen.len();
    chosen.extend(passed_over.into_iter().take(room));
    chosen
}

/// Makes every point of the base layer reachable from `entry`, and `entry` from every point: a search
/// begins wherever the layers above lead it, and must find out of there, too. `nearest` gives others
/// near a point, best first. Returns how many links that took.
pub(super) fn connect(
    rows: &mut [Vec<u32>],
    entry: u32,
    degree: usize,
    nearest: impl Fn(u32) -> Vec<u32>,
) -> usize {
    let mut links = 0;
    let mut reached = vec![false; rows.len()];
    reach(rows, entry, &mut reached);
    for point in 0..rows.len() as u32 {
        if reached[point as usize] {
            continue;
        }
        let serves =
            |other: &u32| reached[*other as usize] && rows[*other as usize].len() < degree + SPARE;
        let near = nearest(point).into_iter().find(serves);
        // Any one will do before none does, and one has room: each of those reached gained at least
        // its own places, and took one.
        let host = near.or_else(|| (0..rows.len() as u32).find(serves));
        rows[host.unwrap_or(entry) as usize].push(point);
        links += 1;
        reach(rows, point, &mut reached);
    }

    let mut back: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
    for (point, row) in (0..).zip(rows.iter()) {
        row.iter().for_each(|other| back[*other as usize].push(point));
    }
    let mut returns = vec![false; rows.len()];
    reach(&back, entry, &mut returns);
    for point in 0..rows.len() as u32 {
        if !returns[point as usize] {
            let way_out = nearest(point).into_iter().find(|other| returns[*other as usize]);
            rows[point as usize].push(way_out.unwrap_or(entry));
            links += 1;
            reach(&back, point, &mut returns);
        }
    }
    links
}

/// Marks what can be reached from a point that is not marked yet.
fn reach(rows: &[Vec<u32>], from: u32, reached: &mut [bool]) {
    let mut queue = VecDeque::from([from]);
    while let Some(point) = queue.pop_front() {
        if !std::mem::replace(&mut reached[point as usize], true) {
            queue.extend(&rows[point as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on_a_line(a: u32, b: u32) -> u32 {
        a.abs_diff(b)
    }

    #[test]
    fn a_direction_is_not_lost_to_a_crowd() {
        // Beside 100 stand twenty, far away stands 0; there is room for three.
        let crowd: Vec<u32> = std::iter::once(0).chain(101..=120).collect();
        assert_eq!(select(100, &crowd, 3, on_a_line), [101, 0, 102]);
    }

    #[test]
    fn links_go_both_ways_where_there_is_room() {
        let mut rows = vec![vec![1], vec![2], vec![]];
        reselect(&[10, 20, 30], &mut rows, 2, on_a_line);
        assert!(rows.iter().all(Vec::is_empty), "1 and 2 are not of this layer: {rows:?}");
        let mut rows = vec![vec![20], vec![30], vec![]];
        reselect(&[10, 20, 30], &mut rows, 2, on_a_line);
        assert_eq!(rows, [vec![20], vec![10, 30], vec![20]]);
    }

    #[test]
    fn islands_sinks_and_strays_are_tied_in() {
        // 3 and 4 name each other only, nothing names 5, and no way leads out of 6.
        let mut rows = vec![vec![1], vec![0, 2, 6], vec![1], vec![4], vec![3], vec![0], vec![]];
        let links = connect(&mut rows, 2, 2, |_| vec![5, 4, 1]);
        assert_eq!(links, 3, "3 and 5 got a way in, 6 a way out: {rows:?}");
    }

    proptest! {
        #[test]
        fn whatever_the_lists_every_point_reaches_every_other(
            mut rows in prop::collection::vec(prop::collection::vec(0u32..40, 0..3), 40),
            near in prop::collection::vec(0u32..40, 0..5),
            entry in 0u32..40,
        ) {
            connect(&mut rows, entry, 3, |_| near.clone());
            for point in 0..40 {
                let mut reached = [false; 40];
                reach(&rows, point, &mut reached);
                prop_assert_eq!(reached, [true; 40]);
            }
            prop_assert!(rows.iter().all(|row| row.len() <= 3 + SPARE + 1));
        }
    }
}
