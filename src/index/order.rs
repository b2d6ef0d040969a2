//! What codes chose → hits, in the order of the vectors.

use super::Unusable;
use super::codes::Near;
use super::manifest::VECTORS;
use super::open::Index;
use super::share::share;
use crate::embedding::Embedding;
use crate::record::Hit;

/// How many rows ahead vectors are asked for.
const AHEAD: usize = 2;

/// Vectors that are worth a task, and of how many on others are asked to help: of fewer they would come too late.
const TASK: usize = 16;
const SHARED_FROM: usize = 64;

/// Vectors that are looked at before it is asked whether more may matter, at least; fewer before it is asked again.
const FIRST: usize = 32;

/// How many standard deviations less than usual the components that codes leave out may add to a distance.
const DEVIATIONS: f64 = 3.0;

impl Index {
    /// The `k` best of some points by their vectors.
    pub(super) fn order(
        &self,
        query: &Embedding,
        points: &[u32],
        k: usize,
    ) -> Result<Vec<Hit>, Unusable> {
        let points: Vec<Near> = points.iter().map(|point| Near::new(0, *point)).collect();
        self.best(self.scored(query, &points, points.len() >= SHARED_FROM), k)
    }

    /// The `k` best by their vectors of those that the codes chose, `near`, nearest by their codes first; without a look
    /// at those that lie too far by their codes to be among them.
    pub(super) fn order_near(
        &self,
        query: &Embedding,
        near: &[Near],
        k: usize,
    ) -> Result<Vec<Hit>, Unusable> {
        self.best(self.scored_near(query, near, k), k)
    }

    /// Those of `near` that may be among the `k` best, with their cosines. A vector is farther than its code by what the
    /// code leaves out, which is much the same for all: so once there are `k`, it is clear how near a code must be.
    fn scored_near(&self, query: &Embedding, near: &[Near], k: usize) -> Option<Vec<(Hit, Near)>> {
        let shared = near.len() >= SHARED_FROM;
        let step = f64::from(self.coder.step()).powi(2);
        let by_code = |near: &Near| f64::from(near.distance()) * step;
        let by_vector = |hit: &Hit| 2.0 - 2.0 * f64::from(hit.score);
        let (mut scored, mut rest) = (Vec::with_capacity(near.len()), near);
        let mut at_once = FIRST.max(k.saturating_mul(2));
        while !rest.is_empty() {
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            scored.extend(self.scored(query, now, shared)?);
            rest = later;
            at_once = FIRST.max(k) / 2;
            let Some(next) = rest.first().filter(|_| (1..=scored.len()).contains(&k)) else {
                continue;
            };
            let (mut sum, mut squares) = (0.0, 0.0);
            for (hit, near) in &scored {
                let left_out = by_vector(hit) - by_code(near);
                sum += left_out;
                squares += left_out * left_out;
            }
            let mean = sum / scored.len() as f64;
            let deviation = (squares / scored.len() as f64 - mean * mean).max(0.0).sqrt();
            let least = (mean - DEVIATIONS * deviation).max(0.0);
            let (_, (last, _), _) =
                scored.select_nth_unstable_by(k - 1, |(a, _), (b, _)| Hit::best_first(a, b));
            if by_code(next) + least > by_vector(last) {
                break;
            }
        }
        Some(scored)
    }

    /// The `k` best, best first.
    fn best(&self, scored: Option<Vec<(Hit, Near)>>, k: usize) -> Result<Vec<Hit>, Unusable> {
        let damaged = || self.damaged(VECTORS, "holds a vector that is none");
        let mut hits = scored.ok_or_else(damaged)?;
        hits.sort_unstable_by(|(a, _), (b, _)| Hit::best_first(a, b));
        hits.truncate(k);
        let vectors = self.vectors();
        if !hits.iter().all(|(_, near)| vectors.is_sound(near.point())) {
            return Err(damaged());
        }
        Ok(hits.into_iter().map(|(hit, _)| hit).collect())
    }

    /// Some points with their cosines, in no order; `None` when one has none.
    fn scored(&self, query: &Embedding, near: &[Near], shared: bool) -> Option<Vec<(Hit, Near)>> {
        if !shared {
            return self.scored_here(query, near);
        }
        let parts: Vec<&[Near]> = near.chunks(TASK).collect();
        let scored = share(parts.len(), |tasks| {
            tasks.map(|task| self.scored_here(query, parts[task])).collect::<Option<Vec<_>>>()
        });
        let scored = scored.into_iter().collect::<Option<Vec<_>>>()?;
        Some(scored.into_iter().flatten().flatten().collect())
    }

    /// As [`Index::scored`], in their order, by this thread alone.
    fn scored_here(&self, query: &Embedding, near: &[Near]) -> Option<Vec<(Hit, Near)>> {
        let vectors = self.vectors();
        near.iter().take(AHEAD).for_each(|near| vectors.prefetch(near.point()));
        let scored = near.iter().enumerate().map(|(i, this)| {
            if let Some(later) = near.get(i + AHEAD) {
                vectors.prefetch(later.point());
            }
            let score = vectors.cosine(query, this.point())?;
            Some((Hit { id: self.id(this.point()), score }, *this))
        });
        scored.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::synthetic;
    use crate::index::{Contents, Params, Search, build};
    use crate::progress::Watch;
    use crate::record::{ImageId, ModelFingerprint};

    #[test]
    fn what_is_passed_over_would_not_have_been_among_the_best() {
        const WIDTH: usize = 256;
        const QUERIES: usize = 200;
        let vectors = synthetic::vectors(4_000 + QUERIES, WIDTH, 11);
        let all: Vec<Embedding> =
            vectors.map(|values| Embedding::normalised(&values).unwrap()).collect();
        let (queries, all) = all.split_at(QUERIES);
        let folder = tempfile::tempdir().unwrap();
        let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> crate::error::Result<()>| {
            let mut numbered = (0..).zip(all);
            numbered.try_for_each(|(id, embedding)| take(id, ImageId(id), embedding.clone()))
        };
        let fingerprint = ModelFingerprint::from_bytes([3; 32]);
        let contents = Contents { fingerprint, width: WIDTH, embeddings: &each };
        let params = Params { code_width: Some(64), ..Params::default() };
        let index = build(folder.path(), &contents, params, &Watch::none()).unwrap();
        let (mut looked_at, mut missed) = (0, 0);
        for query in queries {
            let depth = index.depth(10, Search::Exact);
            let near = index.near(&index.coder.encode(query.as_slice()), depth, None);
            assert_eq!(near.len(), 100);
            looked_at += index.scored_near(query, &near, 10).unwrap().len();
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
