//! Codes → a graph. The only file that knows of hnsw_rs, which builds and nothing more.

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;

use super::Params;
use super::codes::{Codes, cosine};
use super::graph::Lists;
use super::refine;
use crate::error::Result;
use crate::progress::{Event, Watch};

/// Points inserted between two looks at whether to stop.
const CHUNK: usize = 2_048;

/// Layers above which nothing is put; hnsw_rs allows 16.
const MAX_LAYERS: usize = 16;

/// What hnsw_rs builds with: 1 - cosine of two points' codes, never negative, never NaN, 0 for equal
/// codes. Its own `DistDot` panics on its rounding and its `DistCosine` takes a zero vector for
/// anything. Points are told by number: hnsw_rs copies what it is handed, and the codes are many.
#[derive(Debug, Clone, Copy)]
struct CodeDistance<'a>(Codes<'a>);

impl CodeDistance<'_> {
    fn between(&self, a: u32, b: u32) -> f32 {
        1.0 - cosine(self.0.row(a), self.0.row(b))
    }
}

impl Distance<u32> for CodeDistance<'_> {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        self.between(a[0], b[0])
    }
}

/// Links the points `0..count`, one or more, into a graph that every point can be found in.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn link(
    codes: Codes<'_>,
    count: usize,
    params: Params,
    watch: &Watch<'_>,
) -> Result<Lists> {
    let distance = CodeDistance(codes);
    let hnsw = Hnsw::new(params.m, count, MAX_LAYERS, params.ef_construction, distance);
    let points: Vec<[u32; 1]> = (0..count as u32).map(|point| [point]).collect();
    let total = count as u64;
    for (chunk, start) in points.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        watch.check()?;
        watch.tell(Event::Building { done: start as u64, total });
        let rows: Vec<(&[u32], usize)> = chunk.iter().map(|p| (&p[..], p[0] as usize)).collect();
        // The first point alone, so that no two threads take themselves for the first.
        let first = usize::from(start == 0);
        rows[..first].iter().for_each(|row| hnsw.insert_slice(*row));
        hnsw.parallel_insert_slice(&rows[first..].to_vec());
    }
    watch.check()?;
    let mut lists = read_out(&hnsw, count);
    let everyone: Vec<u32> = (0..count as u32).collect();
    let between = |a, b| distance.between(a, b);
    refine::reselect(&everyone, &mut lists.base, 2 * params.m, between);
    for layer in &mut lists.above {
        let (points, mut rows): (Vec<u32>, Vec<_>) = std::mem::take(layer).into_iter().unzip();
        refine::reselect(&points, &mut rows, params.m, between);
        layer.extend(points.into_iter().zip(rows));
    }
    refine::connect(&mut lists.base, lists.entry, 2 * params.m, |point| {
        let near = hnsw.search(&[point], 4 * params.m, params.ef_construction);
        near.into_iter().map(|n| n.d_id as u32).collect()
    });
    watch.tell(Event::Building { done: total, total });
    Ok(lists)
}

fn read_out(hnsw: &Hnsw<'_, u32, CodeDistance<'_>>, count: usize) -> Lists {
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
