//! Whether the index finds what comparing everything finds.

use rayon::prelude::*;

use super::{FindOptions, Search};
use crate::catalog::{ModelRecord, Sequence};
use crate::embedding::Embedding;
use crate::error::Result;
use crate::filter::Filter;
use crate::index::Unusable;
use crate::library::Library;
use crate::progress::Watch;
use crate::random::split_mix;
use crate::record::{Hit, ImageId};

/// Vectors read before they are compared with all queries at once.
const BLOCK: usize = 256;

/// How well the index answers a sample of the library's own images.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct SearchCheck {
    /// Images that asked.
    pub queries: usize,
    /// How many hits each asked for.
    pub k: usize,
    /// The share of the exact search's hits that the index found, in [0, 1]; hits that are as near as the
    /// last of them count. 1 for an empty library.
    pub recall: f64,
    /// The recall that the index was made for.
    pub wanted: f64,
    /// Images that did not find themselves.
    pub lost: usize,
}

impl Library {
    /// Reads the whole index and holds it against its checksums; then lets `sample` images ask for their
    /// 10 nearest, by the index and by comparing with everything, and compares the answers. The sample is
    /// the same for the same `seed` and library. Takes one pass over all vectors; changes nothing.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`], [`crate::error::Error::StoredFeatures`],
    /// [`crate::error::Error::Cancelled`]; an index that cannot be used is the inner error.
    pub fn check_search(
        &self,
        model: &ModelRecord,
        sample: usize,
        seed: u64,
        watch: &Watch<'_>,
    ) -> Result<Result<SearchCheck, Unusable>> {
        let options = FindOptions::default();
        let k = options.k;
        let index = match self.try_index(model) {
            Ok(index) => index,
            Err(unusable) => return Ok(Err(unusable)),
        };
        if let Err(damaged) = index.verify() {
            return Ok(Err(damaged));
        }
        let wanted = index.params().recall;
        let indexed = Some(self.indexed(model, index, None)?);
        let (model, (passing, whitening)) = (model.clone(), (None, None));
        let search = Search { model, indexed, passing, whitening, options };
        let mut queries = Vec::new();
        for id in self.sample(&search.model, sample, seed)? {
            queries.push(Query {
                embedding: self.embedding_of(&search.model, id)?,
                nearest: Vec::new(),
            });
        }
        let mut block = Vec::with_capacity(BLOCK);
        self.each_newer(&search.model, Sequence(0), |id, embedding| {
            block.push((id, embedding));
            if block.len() == BLOCK {
                watch.check()?;
                queries.par_iter_mut().for_each(|query| query.compare(&block, k));
                block.clear();
            }
            Ok(())
        })?;
        queries.par_iter_mut().for_each(|query| query.compare(&block, k));
        let (mut found, mut expected, mut lost) = (0, 0, 0);
        for query in &queries {
            let hits = self.answer(&search, &query.embedding, &[])?;
            let last = query.nearest.last().map_or(f32::MAX, |hit| hit.score);
            found += hits.iter().filter(|found| found.hit.score >= last).count();
            expected += query.nearest.len();
            // A copy may stand before it, but is as near.
            lost += usize::from(hits.first().is_none_or(|found| found.hit.score < 1.0));
        }
        let recall = if expected == 0 { 1.0 } else { found as f64 / expected as f64 };
        Ok(Ok(SearchCheck { queries: queries.len(), k, recall, wanted, lost }))
    }

    /// Some of the images that a file holds, drawn by `seed`.
    fn sample(&self, model: &ModelRecord, sample: usize, seed: u64) -> Result<Vec<ImageId>> {
        let all = self.catalog().passing(model.id, &Filter::All(Vec::new()))?;
        let mut ids: Vec<ImageId> = all.into_keys().collect();
        let mut state = seed;
        let count = sample.min(ids.len());
        for at in 0..count {
            let other = at + (split_mix(&mut state) % (ids.len() - at) as u64) as usize;
            ids.swap(at, other);
        }
        ids.truncate(count);
        Ok(ids)
    }
}

struct Query {
    embedding: Embedding,
    /// The best so far.
    nearest: Vec<Hit>,
}

impl Query {
    fn compare(&mut self, block: &[(ImageId, Embedding)], k: usize) {
        for (id, embedding) in block {
            let score = self.embedding.cosine(embedding);
            let hit = Hit { id: *id, score };
            if self.nearest.len() < k
                || self.nearest.last().is_some_and(|last| hit.score > last.score)
            {
                let at = self.nearest.partition_point(|near| Hit::best_first(near, &hit).is_lt());
                self.nearest.insert(at, hit);
                self.nearest.truncate(k);
            }
        }
    }
}
