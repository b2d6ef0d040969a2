//! Codes → a graph. The only file that knows of hnsw_rs, which drafts and nothing more.
//!
//! hnsw_rs's searches while inserting take most of a build, and are slower than ours. So it drafts with few
//! candidates in view, and every point then looks for its neighbours once more by searching the frozen
//! draft; among many, once more in what came of that, and further.

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;
use rayon::prelude::*;

use super::codes::Codes;
use super::graph::{Graph, Lists};
use super::kernel::{Kernel, Rows};
use super::refine;
use super::search::{Beam, Scratch, Space};
use crate::error::Result;
use crate::progress::{Event, Watch};

/// Points between two looks at whether to stop.
const CHUNK: usize = 2_048;

/// Layers above which nothing is put; hnsw_rs allows 16.
const MAX_LAYERS: usize = 16;

/// Candidates in view while hnsw_rs inserts.
const DRAFT_EF: usize = 40;

/// Links a point of the base layer is left short of its 2 M, for what is cut off to be tied in.
const RESERVE: usize = refine::SPARE + 1;

/// Candidates in view when every point looks for itself; searches have no fewer.
const SELF_EF: usize = 16;

/// Times that points which do not find themselves are given a link.
const ROUNDS: usize = 4;

/// What hnsw_rs drafts with: the squared L2 distance of two codes, never NaN, 0 for equal ones. Its own
/// `DistDot` panics on its rounding, and its `DistCosine` takes a zero vector for anything.
#[derive(Debug, Clone, Copy)]
struct CodeDistance(Kernel);

impl Distance<u8> for CodeDistance {
    fn eval(&self, a: &[u8], b: &[u8]) -> f32 {
        let mut out = [0];
        self.0.distances(a, Rows { bytes: b, stride: b.len() }, &[0], &mut out);
        out[0] as f32
    }
}

/// How many neighbours points get, and out of how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    pub(super) m: usize,
    pub(super) ef_construction: usize,
    /// Times that all look for their neighbours once more, the second time among twice as many candidates.
    pub(super) passes: usize,
}

/// Links the points of `codes`, one or more, into a graph that every point can be found in.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn link(codes: Codes<'_>, links: Links, watch: &Watch<'_>) -> Result<Lists> {
    let count = codes.len();
    // Drafting takes about as long as a pass.
    let total = ((1 + links.passes) * count) as u64;
    let mut lists = draft(codes, links, |done| {
        watch.check()?;
        watch.tell(Event::Building { done, total });
        Ok(())
    })?;
    let between = |a, b| codes.between(a, b);
    let degree = (2 * links.m).saturating_sub(RESERVE).max(1);

    let everyone: Vec<u32> = (0..count as u32).collect();
    for pass in 1..=links.passes {
        let frozen = Frozen::new(&lists, codes);
        let mut better: Vec<Vec<u32>> = Vec::with_capacity(count);
        for start in (0..count).step_by(CHUNK) {
            watch.check()?;
            watch.tell(Event::Building { done: (pass * count + start) as u64, total });
            let points = (start..(start + CHUNK).min(count)).into_par_iter();
            better.par_extend(points.map(|point| {
                let point = point as u32;
                let mut near = frozen.near(point, pass * links.ef_construction);
                near.extend(&lists.base[point as usize]);
                refine::prepare(point, &mut near);
                refine::select(point, &near, degree, between)
            }));
        }
        lists.base = better;
        refine::reselect(&everyone, &mut lists.base, degree, between);
    }
    for layer in &mut lists.above {
        let (points, mut rows): (Vec<u32>, Vec<_>) = std::mem::take(layer).into_iter().unzip();
        refine::reselect(&points, &mut rows, links.m, between);
        layer.extend(points.into_iter().zip(rows));
    }
    watch.check()?;
    let frozen = Frozen::new(&lists, codes);
    let entry = lists.entry;
    let near = |point| frozen.near(point, links.ef_construction);
    refine::connect(&mut lists.base, entry, degree, near);
    find_themselves(&mut lists, codes, 2 * links.m);
    watch.tell(Event::Building { done: total, total });
    Ok(lists)
}

/// A graph by hnsw_rs; `tell` hears how many points are in and says whether to go on.
fn draft(codes: Codes<'_>, links: Links, tell: impl Fn(u64) -> Result<()>) -> Result<Lists> {
    let count = codes.len();
    let ef = DRAFT_EF.min(links.ef_construction);
    let hnsw = Hnsw::new(links.m, count, MAX_LAYERS, ef, CodeDistance(Kernel::best()));
    let points: Vec<u32> = (0..count as u32).collect();
    for (chunk, start) in points.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        tell(start)?;
        let rows: Vec<(&[u8], usize)> =
            chunk.iter().map(|point| (codes.row(*point), *point as usize)).collect();
        // The first point alone, so that no two threads take themselves for the first.
        let first = usize::from(start == 0);
        rows[..first].iter().for_each(|row| hnsw.insert_slice(*row));
        hnsw.parallel_insert_slice(&rows[first..].to_vec());
    }
    Ok(read_out(&hnsw, count))
}

fn read_out(hnsw: &Hnsw<'_, u8, CodeDistance>, count: usize) -> Lists {
    let mut lists = Lists { base: vec![Vec::new(); count], above: Vec::new(), entry: 0 };
    let mut highest = None;
    for point in hnsw.get_point_indexation() {
        let (number, level) = (point.get_origin_id() as u32, usize::from(point.get_point_id().0));
        if highest.is_none_or(|(top, _)| level > top) {
            highest = Some((level, number));
        }
        if lists.above.len() < level {
            lists.above.resize_with(level, Vec::new);
        }
        for (layer, neighbours) in
            point.get_neighborhood_id().into_iter().enumerate().take(level + 1)
        {
            let neighbours = neighbours.into_iter().map(|n| n.d_id as u32).collect();
            match layer.checked_sub(1) {
                None => lists.base[number as usize] = neighbours,
                Some(above) => lists.above[above].push((number, neighbours)),
            }
        }
    }
    for layer in &mut lists.above {
        layer.sort_unstable_by_key(|(point, _)| *point);
    }
    lists.entry = highest.map_or(0, |(_, point)| point);
    lists
}

/// A graph as a search will see it.
struct Frozen<'a> {
    bytes: Vec<u8>,
    graph: Graph,
    codes: Codes<'a>,
    scratch: Scratch,
}

impl<'a> Frozen<'a> {
    fn new(lists: &Lists, codes: Codes<'a>) -> Self {
        let bytes = lists.to_bytes();
        let graph = Graph::parse(&bytes, codes.len()).expect("it was written just now");
        Self { bytes, graph, codes, scratch: Scratch::default() }
    }

    /// What a search for a point finds, nearest first.
    fn near(&self, point: u32, ef: usize) -> Vec<u32> {
        let space = Space { graph: &self.graph, graph_bytes: &self.bytes, codes: self.codes };
        let found = self.scratch.search(&space, self.codes.row(point), Beam::of_width(ef), ef);
        found.into_iter().map(|near| near.point()).collect()
    }
}

/// Lets every point search for itself. Those that do not come upon themselves, nor upon equals only, get
/// a link from the nearest point found that has fewer than `degree`.
fn find_themselves(lists: &mut Lists, codes: Codes<'_>, degree: usize) {
    let mut astray: Vec<u32> = (0..codes.len() as u32).collect();
    for _ in 0..ROUNDS {
        let frozen = Frozen::new(lists, codes);
        let search = |point: u32| {
            let found = frozen.near(point, SELF_EF);
            let last = found.last().copied().unwrap_or(point);
            let there = found.contains(&point) || codes.between(point, last) == 0;
            (!there).then_some((point, found))
        };
        let lost: Vec<(u32, Vec<u32>)> =
            astray.par_iter().filter_map(|point| search(*point)).collect();
        for (point, found) in &lost {
            let host = found.iter().find(|host| lists.base[**host as usize].len() < degree);
            if let Some(host) = host {
                lists.base[*host as usize].push(*point);
            }
        }
        astray = lost.into_iter().map(|(point, _)| point).collect();
        if astray.is_empty() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::codes::row_bytes;
    use crate::random::split_mix;

    #[test]
    fn another_pass_finds_more_of_the_nearest() {
        const COUNT: usize = 4_000;
        let mut seed = 12;
        let row = row_bytes(32);
        let bytes: Vec<u8> = (0..COUNT * row)
            .map(|at| if at % row < 32 { (split_mix(&mut seed) >> 57) as u8 } else { 0 })
            .collect();
        let codes = Codes::new(&bytes, row);
        let found = |passes: usize| {
            let links = Links { m: 8, ef_construction: 12, passes };
            let lists = link(codes, links, &Watch::none()).unwrap();
            let frozen = Frozen::new(&lists, codes);
            let of = |point: u32| {
                let mut all: Vec<u32> = (0..COUNT as u32).collect();
                all.sort_by_key(|other| codes.between(point, *other));
                let near = frozen.near(point, 20);
                all[..10].iter().filter(|point| near.contains(point)).count()
            };
            (0..COUNT as u32).step_by(20).map(of).sum::<usize>()
        };
        // No two graphs are the same, as levels are drawn.
        let [once, twice] = [1, 2].map(|passes| (0..8).map(|_| found(passes)).sum::<usize>());
        // Random vectors have few neighbours that lead to others: the hardest there are.
        assert!(twice > once, "{twice} and {once} of 16000");
    }
}
