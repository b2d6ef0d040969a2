//! Searching the frozen graph (Malkov and Yashunin, *Efficient and robust approximate nearest neighbor
//! search using Hierarchical Navigable Small World graphs*, algorithms 2 and 5), until what is left lies too far
//! away, by how far the nearest are (Al-Jazzazi, Diwan, Gou, Musco, Musco and Suel, *Distance Adaptive Beam Search
//! for Provably Accurate Graph-Based Nearest Neighbor Search*, 2025).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::among::Among;
use super::codes::{Codes, Near, best_first};
use super::graph::Graph;

/// What a search looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space<'a> {
    pub(super) graph: &'a Graph,
    pub(super) graph_bytes: &'a [u8],
    pub(super) codes: Codes<'a>,
}

/// How far a search of the graph goes: it follows the nearest candidate that it has not followed yet, as long as
/// that is no farther than the `nearest`-th of those found, its squared distance times `slack`. So a
/// query whose neighbours stand out costs few distances, and one in a crowd as many as that takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beam {
    /// Candidates in view at most (`ef`): whatever the slack, the search ends where so many are nearer
    /// than all that is left.
    pub width: usize,
    /// See above; up to `width`.
    pub nearest: usize,
    /// From 1.
    pub slack: f64,
    /// How many times the distance by their first 128 components that of near codes is, at least: what is out of reach by
    /// that is not compared further. `None` compares codes whole.
    pub growth: Option<f64>,
}

impl Beam {
    /// That ends by the number of candidates in view alone.
    pub fn of_width(width: usize) -> Self {
        Self { width, nearest: width, slack: 1.0, growth: None }
    }
}

/// Room for searches, kept between them: one for each that runs at once.
#[derive(Debug, Default)]
pub(super) struct Scratch(Mutex<Vec<Room>>);

/// What one search needs beside its result.
#[derive(Debug, Default)]
struct Room {
    /// For each point the number of the search that saw it last, so that nothing need be cleared
    /// between two searches.
    seen: Vec<u16>,
    search: u16,
    /// What may lead further, nearest first.
    open: BinaryHeap<Reverse<Near>>,
    found: Found,
    fresh: Vec<u32>,
    distances: Vec<u32>,
}

/// The nearest of what a search came upon, farthest first: as many as are in view, and those that slack counts from.
#[derive(Debug, Default)]
struct Found {
    in_view: BinaryHeap<Near>,
    /// Left empty where all in view count.
    nearest: BinaryHeap<Near>,
}

impl Found {
    /// Takes one in. Returns what is the farthest, from now on, that may still matter.
    #[inline(always)]
    fn take(&mut self, near: Near, beam: Beam) -> Near {
        let out_of_view = keep(&mut self.in_view, near, beam.width).unwrap_or(Near::FARTHEST);
        if beam.nearest >= beam.width {
            return out_of_view;
        }
        match keep(&mut self.nearest, near, beam.nearest) {
            None => out_of_view,
            Some(last) => {
                let farthest = (f64::from(last.distance()) * beam.slack) as u32;
                out_of_view.min(Near::new(farthest, u32::MAX))
            }
        }
    }
}

/// Puts one among the `most` nearest. Returns the farthest of them once there are so many.
#[inline(always)]
fn keep(nearest: &mut BinaryHeap<Near>, near: Near, most: usize) -> Option<Near> {
    if nearest.len() < most {
        nearest.push(near);
    } else if let Some(mut farthest) = nearest.peek_mut()
        && near < *farthest
    {
        *farthest = near;
    }
    nearest.peek().filter(|_| nearest.len() == most).copied()
}

impl Scratch {
    /// The nearest points that a search comes upon, best first, at most `most` and as many as are in view.
    pub(super) fn search(
        &self,
        space: &Space<'_>,
        query: &[u8],
        beam: Beam,
        most: usize,
    ) -> Vec<Near> {
        let found = self
            .with_room(space, |room| room.search(None, space, query, beam, usize::MAX, |_| true));
        best_first(found.expect("no end was set").0, most)
    }

    /// As [`Scratch::search`] for all in view, as if one point were not there; and how many distances that took.
    pub(super) fn search_without(
        &self,
        hidden: Option<u32>,
        space: &Space<'_>,
        query: &[u8],
        beam: Beam,
    ) -> (Vec<Near>, usize) {
        let found = self
            .with_room(space, |room| room.search(hidden, space, query, beam, usize::MAX, |_| true));
        let (found, measured) = found.expect("no end was set");
        (best_first(found, usize::MAX), measured)
    }

    /// As [`Scratch::search`], among some points. The others are passed through. `None` when it has measured more than
    /// `budget` distances.
    pub(super) fn search_among(
        &self,
        among: &Among,
        space: &Space<'_>,
        query: &[u8],
        beam: Beam,
        most: usize,
        budget: usize,
    ) -> Option<Vec<Near>> {
        let found = self.with_room(space, |room| {
            room.search(None, space, query, beam, budget, |point| among.holds(point))
        });
        found.map(|(found, _)| best_first(found, most))
    }

    fn with_room<T>(&self, space: &Space<'_>, search: impl FnOnce(&mut Room) -> T) -> T {
        let rooms = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = rooms().pop().unwrap_or_default();
        room.begin(space.codes.len());
        let found = search(&mut room);
        rooms().push(room);
        found
    }
}

impl Room {
    fn begin(&mut self, count: usize) {
        if self.seen.len() != count || self.search == u16::MAX {
            self.seen.clear();
            self.seen.resize(count, 0);
            self.search = 0;
        }
        self.search += 1;
        self.open.clear();
        self.found.in_view.clear();
        self.found.nearest.clear();
    }

    /// The way leads over all points but the hidden one; what does not pass is no result, and so makes
    /// the search go on until enough of what does is nearer than all that is left. Returns with what it found, in no
    /// order, how many distances it measured in the base layer.
    fn search(
        &mut self,
        hidden: Option<u32>,
        space: &Space<'_>,
        query: &[u8],
        beam: Beam,
        budget: usize,
        passes: impl Fn(u32) -> bool,
    ) -> Option<(Vec<Near>, usize)> {
        if space.codes.len() == 0 || beam.width == 0 {
            return Some((Vec::new(), 0));
        }
        let best = self.descend(hidden, space, query);
        let Room { seen, search, open, found, fresh, distances } = self;
        seen[best.point() as usize] = *search;
        if let Some(hidden) = hidden {
            seen[hidden as usize] = *search;
        }
        open.push(Reverse(best));
        let mut farthest = Near::FARTHEST;
        if passes(best.point()) {
            farthest = found.take(best, beam);
        }
        let growth = beam.growth.filter(|_| space.codes.have_heads());
        let mut measured = 0;
        let degree = space.graph.base_degree();
        while let Some(Reverse(next)) = open.pop() {
            if next > farthest {
                break;
            }
            // Mostly the one after: asked for here, its links are there when its turn comes.
            if let Some(Reverse(upcoming)) = open.peek() {
                space.graph.prefetch(space.graph_bytes, upcoming.point());
            }
            // Without a branch on what was seen, which would be guessed wrong every other time.
            fresh.resize(degree, 0);
            let mut count = 0;
            space.graph.base(space.graph_bytes, next.point()).for_each(|point| {
                let seen = &mut seen[point as usize];
                fresh[count] = point;
                count += usize::from(std::mem::replace(seen, *search) != *search);
            });
            fresh.truncate(count);
            match growth {
                None => fresh.iter().for_each(|point| space.codes.prefetch(*point)),
                Some(_) => fresh.iter().for_each(|point| space.codes.prefetch_head(*point)),
            }
            measured += fresh.len();
            if measured > budget {
                return None;
            }
            match growth {
                None => space.codes.distances(query, fresh, distances),
                Some(growth) => {
                    let farthest = (f64::from(farthest.distance()) / growth) as u32;
                    space.codes.distances_of_near(query, farthest, fresh, distances);
                }
            }
            for (point, distance) in fresh.iter().zip(&*distances) {
                let near = Near::new(*distance, *point);
                if near > farthest {
                    continue;
                }
                open.push(Reverse(near));
                if passes(*point) {
                    farthest = found.take(near, beam);
                }
            }
            if let Some(Reverse(next)) = open.peek() {
                space.graph.prefetch(space.graph_bytes, next.point());
            }
        }
        Some((found.in_view.drain().collect(), measured))
    }

    /// The point of the base layer where the layers above lead to.
    fn descend(&mut self, hidden: Option<u32>, space: &Space<'_>, query: &[u8]) -> Near {
        let Room { fresh, distances, .. } = self;
        let entry = space.graph.entry();
        space.codes.distances(query, &[entry], distances);
        let mut best = Near::new(distances[0], entry);
        for layer in space.graph.layers_down() {
            loop {
                fresh.clear();
                for point in space.graph.above(space.graph_bytes, layer, best.point()) {
                    space.codes.prefetch(point);
                    fresh.push(point);
                }
                space.codes.distances(query, fresh, distances);
                let near = fresh.iter().zip(&*distances).map(|(p, d)| Near::new(*d, *p));
                let near = near.filter(|near| Some(near.point()) != hidden).min();
                match near.filter(|near| *near < best) {
                    Some(nearer) => best = nearer,
                    None => break,
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::codes::row_bytes;
    use crate::index::link::{Links, link};
    use crate::index::vectors::Vectors;
    use crate::index::{coder, synthetic};
    use crate::progress::Watch;

    #[test]
    fn by_distance_as_much_is_found_for_less() {
        const SEED: u64 = 8;
        const WIDTH: usize = 256;
        let floats: Vec<f32> = synthetic::vectors(6_000, WIDTH, SEED).flatten().collect();
        let vectors = Vectors::of(&floats, WIDTH);
        let coder = coder::learn(vectors, Some(64)).coder;
        let all = 0..vectors.len() as u32;
        let bytes: Vec<u8> = all.flat_map(|point| coder.encode(vectors.row(point))).collect();
        let codes = Codes::new(&bytes, row_bytes(64));
        let links = Links { m: 12, ef_construction: 60, passes: 1 };
        let graph_bytes = link(codes, links, &Watch::none()).unwrap().to_bytes();
        let graph = Graph::parse(&graph_bytes, codes.len()).unwrap();
        let space = Space { graph: &graph, graph_bytes: &graph_bytes, codes };
        let scratch = Scratch::default();
        let queries: Vec<u32> = (0..6_000).step_by(15).collect();
        let truth: Vec<u32> = queries.iter().map(|query| tenth(codes, *query)).collect();
        // How many of the ten nearest are found, and what that takes.
        let ask = |beam: Beam| {
            let (mut found, mut measured) = (0, 0);
            for (query, tenth) in queries.iter().zip(&truth) {
                let hidden = Some(*query);
                let (near, distances) =
                    scratch.search_without(hidden, &space, codes.row(*query), beam);
                found += near.iter().take(10).filter(|near| near.distance() <= *tenth).count();
                measured += distances;
            }
            (found, measured)
        };
        let (by_width, dear) = ask(Beam::of_width(32));
        let beams = (0..50).map(|step| 1.0 + f64::from(step) * 0.02);
        let mut asked =
            beams.map(|slack| ask(Beam { width: 768, nearest: 20, slack, growth: None }));
        // But for a thousandth, as no two graphs are the same.
        let (_, cheap) = asked.find(|(found, _)| *found + 4 >= by_width).expect("as much is found");
        assert!(cheap < dear, "{cheap} and {dear} distances with seed {SEED}");
    }

    /// How far the tenth nearest other is.
    fn tenth(codes: Codes<'_>, point: u32) -> u32 {
        let others = (0..codes.len() as u32).filter(|other| *other != point);
        let mut all: Vec<u32> = others.map(|other| codes.between(point, other)).collect();
        *all.select_nth_unstable(9).1
    }
}
