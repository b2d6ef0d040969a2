//! Searching the frozen graph (Malkov and Yashunin, *Efficient and robust approximate nearest neighbor
//! search using Hierarchical Navigable Small World graphs*, algorithms 2 and 5).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::among::Among;
use super::codes::{Codes, Near};
use super::graph::Graph;

/// What a search looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space<'a> {
    pub(super) graph: &'a Graph,
    pub(super) graph_bytes: &'a [u8],
    pub(super) codes: Codes<'a>,
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
    open: BinaryHeap<Reverse<Near>>,
    found: BinaryHeap<Near>,
    fresh: Vec<u32>,
    distances: Vec<u32>,
}

impl Scratch {
    /// The up to `ef` nearest points that a search with `ef` candidates in view comes upon, best first.
    pub(super) fn search(&self, space: &Space<'_>, query: &[u8], ef: usize) -> Vec<Near> {
        self.search_without(None, space, query, ef)
    }

    /// As [`Scratch::search`], as if one point were not there.
    pub(super) fn search_without(
        &self,
        hidden: Option<u32>,
        space: &Space<'_>,
        query: &[u8],
        ef: usize,
    ) -> Vec<Near> {
        let nearest = self
            .with_room(space, |room| room.search(hidden, space, query, ef, usize::MAX, |_| true));
        nearest.expect("no end was set")
    }

    /// The up to `ef` nearest of some points that a search with so many of them in view comes upon, best
    /// first. The others are passed through. `None` when it has measured more than `budget` distances.
    pub(super) fn search_among(
        &self,
        among: &Among,
        space: &Space<'_>,
        query: &[u8],
        ef: usize,
        budget: usize,
    ) -> Option<Vec<Near>> {
        self.with_room(space, |room| {
            room.search(None, space, query, ef, budget, |point| among.holds(point))
        })
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
        self.found.clear();
    }

    /// The way leads over all points but the hidden one; what does not pass is no result, and so makes
    /// the search go on until enough of what does is nearer than all that is left.
    fn search(
        &mut self,
        hidden: Option<u32>,
        space: &Space<'_>,
        query: &[u8],
        ef: usize,
        budget: usize,
        passes: impl Fn(u32) -> bool,
    ) -> Option<Vec<Near>> {
        if space.codes.len() == 0 || ef == 0 {
            return Some(Vec::new());
        }
        let best = self.descend(hidden, space, query);
        let Room { seen, search, open, found, fresh, distances } = self;
        seen[best.point() as usize] = *search;
        if let Some(hidden) = hidden {
            seen[hidden as usize] = *search;
        }
        // What may lead further, nearest first; and the ef nearest so far, farthest first.
        open.push(Reverse(best));
        if passes(best.point()) {
            found.push(best);
        }
        let mut measured = 0;
        while let Some(Reverse(next)) = open.pop() {
            if found.len() >= ef && found.peek().is_some_and(|farthest| next > *farthest) {
                break;
            }
            fresh.clear();
            for point in space.graph.base(space.graph_bytes, next.point()) {
                let seen = &mut seen[point as usize];
                if std::mem::replace(seen, *search) != *search {
                    space.codes.prefetch(point);
                    fresh.push(point);
                }
            }
            measured += fresh.len();
            if measured > budget {
                return None;
            }
            space.codes.distances(query, fresh, distances);
            for (point, distance) in fresh.iter().zip(&*distances) {
                let near = Near::new(*distance, *point);
                if found.len() < ef {
                    if passes(*point) {
                        found.push(near);
                    }
                } else {
                    let mut farthest = found.peek_mut().expect("ef is not 0");
                    if near >= *farthest {
                        continue;
                    }
                    if passes(*point) {
                        *farthest = near;
                    }
                }
                open.push(Reverse(near));
            }
            if let Some(Reverse(next)) = open.peek() {
                space.graph.prefetch(space.graph_bytes, next.point());
            }
        }
        let mut nearest: Vec<Near> = found.drain().collect();
        nearest.sort_unstable();
        Some(nearest)
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
