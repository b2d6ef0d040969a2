//! What codes chose → hits, in the order of the vectors.

use super::Unusable;
use super::codes::Near;
use super::manifest::{FINE, ROUGH};
use super::open::Index;
use super::planes::{Query, Rough};
use super::share::share;
use crate::embedding::Embedding;
use crate::record::Hit;

/// How many rows ahead vectors are asked for.
const AHEAD: usize = 4;

/// Vectors that are worth a task, and of how many on others are asked to help: of fewer they would come too late.
const TASK: usize = 16;
const SHARED_FROM: usize = 64;

/// Vectors that are looked at before it is asked whether more may matter, at least; fewer before it is asked again.
const FIRST: usize = 32;

/// How many standard deviations less than usual the components that codes leave out may add to a distance.
const DEVIATIONS: f64 = 3.0;

/// What codes chose, and what the rough bits of its vector say.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    near: Near,
    rough: Rough,
}

impl Candidate {
    /// The cosine that it has at least.
    fn least(&self) -> f64 {
        self.rough.cosine - self.rough.margin
    }

    /// The cosine that it has at most.
    fn most(&self) -> f64 {
        self.rough.cosine + self.rough.margin
    }
}

impl Index {
    /// The `k` best of some points by their vectors.
    pub(super) fn order(
        &self,
        query: &Embedding,
        points: &[u32],
        k: usize,
    ) -> Result<Vec<Hit>, Unusable> {
        let query = Query::new(query);
        let points: Vec<Near> = points.iter().map(|point| Near::new(0, *point)).collect();
        self.best(&query, self.candidates(&query, &points)?, k)
    }

    /// The `k` best by their vectors of those that the codes chose, `near`, nearest by their codes first; without a look
    /// at those that lie too far by their codes to be among them.
    pub(super) fn order_near(
        &self,
        query: &Embedding,
        near: &[Near],
        k: usize,
    ) -> Result<Vec<Hit>, Unusable> {
        let query = Query::new(query);
        self.best(&query, self.candidates_near(&query, near, k)?, k)
    }

    /// Those of `near` that may be among the `k` best. A vector is farther than its code by what the code leaves out,
    /// which is much the same for all: so once there are `k`, it is clear how near a code must be.
    fn candidates_near(
        &self,
        query: &Query<'_>,
        near: &[Near],
        k: usize,
    ) -> Result<Vec<Candidate>, Unusable> {
        let step = f64::from(self.coder.step()).powi(2);
        let by_code = |near: &Near| f64::from(near.distance()) * step;
        let by_vector = |candidate: &Candidate| 2.0 - 2.0 * candidate.rough.cosine;
        let (mut seen, mut rest) = (Vec::with_capacity(near.len()), near);
        let mut at_once = FIRST.max(k.saturating_mul(2));
        while !rest.is_empty() {
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            seen.extend(self.candidates(query, now)?);
            rest = later;
            at_once = FIRST.max(k) / 2;
            let Some(next) = rest.first().filter(|_| (1..=seen.len()).contains(&k)) else {
                continue;
            };
            let (mut sum, mut squares) = (0.0, 0.0);
            for candidate in &seen {
                let left_out = by_vector(candidate) - by_code(&candidate.near);
                sum += left_out;
                squares += left_out * left_out;
            }
            let mean = sum / seen.len() as f64;
            let deviation = (squares / seen.len() as f64 - mean * mean).max(0.0).sqrt();
            let least = (mean - DEVIATIONS * deviation).max(0.0);
            let (_, last, _) =
                seen.select_nth_unstable_by(k - 1, |a, b| b.least().total_cmp(&a.least()));
            if by_code(next) + least > 2.0 - 2.0 * last.least() {
                break;
            }
        }
        Ok(seen)
    }

    /// The `k` best, best first: of those that may be, by all bits of their vectors.
    fn best(
        &self,
        query: &Query<'_>,
        mut candidates: Vec<Candidate>,
        k: usize,
    ) -> Result<Vec<Hit>, Unusable> {
        if (1..candidates.len()).contains(&k) {
            let (_, last, _) =
                candidates.select_nth_unstable_by(k - 1, |a, b| b.least().total_cmp(&a.least()));
            let least = last.least();
            candidates.retain(|candidate| candidate.most() >= least);
        }
        let vectors = self.vectors();
        let hit = |candidate: &Candidate| {
            let point = candidate.near.point();
            vectors.cosine(query, point).map(|score| Hit { id: self.id(point), score })
        };
        let hits = read_ahead(&candidates, |next| vectors.prefetch_fine(next.near.point()), hit);
        let mut hits = hits.ok_or_else(|| self.damaged(FINE, "holds a vector that is none"))?;
        hits.sort_unstable_by(Hit::best_first);
        hits.truncate(k);
        Ok(hits)
    }

    /// Some of what the codes chose, with their cosines by the rough bits, in the same order.
    fn candidates(&self, query: &Query<'_>, near: &[Near]) -> Result<Vec<Candidate>, Unusable> {
        let vectors = self.vectors();
        let candidate = |near: &Near| {
            vectors.rough(query, near.point()).map(|rough| Candidate { near: *near, rough })
        };
        let candidates = read_ahead(near, |next| vectors.prefetch_rough(next.point()), candidate);
        candidates.ok_or_else(|| self.damaged(ROUGH, "holds a vector that is none"))
    }
}

/// What `read` makes of each item, in their order, with `ask` called for the items some rows ahead; of many, on several
/// threads. `None` when it makes none.
fn read_ahead<I: Sync, T: Send>(
    items: &[I],
    ask: impl Fn(&I) + Sync,
    read: impl Fn(&I) -> Option<T> + Sync,
) -> Option<Vec<T>> {
    let here = |items: &[I]| -> Option<Vec<T>> {
        items.iter().take(AHEAD).for_each(&ask);
        let later = items.iter().map(Some).skip(AHEAD).chain(std::iter::repeat(None));
        let both = items.iter().zip(later);
        both.map(|(item, later)| {
            later.into_iter().for_each(&ask);
            read(item)
        })
        .collect()
    };
    if items.len() < SHARED_FROM {
        return here(items);
    }
    let tasks: Vec<&[I]> = items.chunks(TASK).collect();
    let parts = share(tasks.len(), |numbers| {
        numbers.map(|number| Some((number, here(tasks[number])?))).collect::<Option<Vec<_>>>()
    });
    let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
    let mut parts: Vec<(usize, Vec<T>)> = parts.into_iter().flatten().collect();
    parts.sort_unstable_by_key(|(number, _)| *number);
    Some(parts.into_iter().flat_map(|(_, read)| read).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::index::synthetic;
    use crate::index::{Contents, Params, Search, build};
    use crate::progress::Watch;
    use crate::record::{ImageId, ModelFingerprint};

    /// An index with codes of 64 components, and ids from 0.
    fn index(folder: &Path, all: &[Embedding]) -> Index {
        let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> crate::error::Result<()>| {
            let mut numbered = (0..).zip(all);
            numbered.try_for_each(|(id, embedding)| take(id, ImageId(id), embedding.clone()))
        };
        let fingerprint = ModelFingerprint::from_bytes([3; 32]);
        let contents = Contents { fingerprint, width: all[0].width(), embeddings: &each };
        let params = Params { code_width: Some(64), ..Params::default() };
        build(folder, &contents, params, &Watch::none()).unwrap()
    }

    /// Photos and, of some, bursts of copies that hardly differ: what two of them differ by is less than rough bits tell.
    #[test]
    fn the_order_is_that_of_the_vectors() {
        const WIDTH: usize = 512;
        let mut random = synthetic::Random(5);
        let mut vectors: Vec<Vec<f32>> = synthetic::vectors(1_500, WIDTH, 5).collect();
        for shot in 0..600 {
            let noise = |v: &f32| v * (1.0 + 1e-3 * (random.next() % 1_000) as f32 / 1_000.0);
            vectors.push(vectors[shot / 20].iter().map(noise).collect());
        }
        let all: Vec<Embedding> =
            vectors.iter().map(|values| Embedding::normalised(values).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path(), &all);
        let points: Vec<u32> = (0..all.len() as u32).collect();
        for query in all.iter().step_by(50).chain(&all[1_500..1_520]) {
            let mut expected: Vec<f32> = all.iter().map(|other| query.cosine(other)).collect();
            expected.sort_unstable_by(|a, b| b.total_cmp(a));
            for k in [1, 10, 25, 300] {
                let found = index.order(query, &points, k).unwrap();
                assert_eq!(found.len(), k);
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found.score - expected).abs() <= Embedding::ROUNDING, "{k}");
                    let itself = query.cosine(&all[found.id.0 as usize]);
                    assert!((found.score - itself).abs() <= Embedding::ROUNDING, "{k}");
                }
            }
        }
    }

    #[test]
    fn what_is_passed_over_would_not_have_been_among_the_best() {
        const WIDTH: usize = 256;
        const QUERIES: usize = 200;
        let vectors = synthetic::vectors(4_000 + QUERIES, WIDTH, 11);
        let all: Vec<Embedding> =
            vectors.map(|values| Embedding::normalised(&values).unwrap()).collect();
        let (queries, all) = all.split_at(QUERIES);
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path(), all);
        let (mut looked_at, mut missed) = (0, 0);
        for query in queries {
            let depth = index.depth(10, Search::Exact);
            let near = index.near(&index.coder.encode(query.as_slice()), depth, None);
            assert_eq!(near.len(), 100);
            looked_at += index.candidates_near(&Query::new(query), &near, 10).unwrap().len();
            let points: Vec<u32> = near.iter().map(|near| near.point()).collect();
            let best = index.order(query, &points, 10).unwrap();
            let found = index.order_near(query, &near, 10).unwrap();
            missed += best.iter().filter(|hit| !found.contains(hit)).count();
        }
        assert!(missed <= 2, "{missed} of {} hits", 10 * QUERIES);
        let everything = index.search(&queries[0], usize::MAX, Search::Exact).unwrap();
        assert_eq!(everything.len(), all.len(), "as many as there are");
        assert!(looked_at < 75 * QUERIES, "{looked_at} of {}", 100 * QUERIES);
    }
}
