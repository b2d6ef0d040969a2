//! Rankings other than by plain cosine.

use super::{Match, Search, Wanted};
use crate::embedding::Embedding;
use crate::error::Result;
use crate::library::Library;
use crate::record::Hit;

/// How hits are ordered and scored. `benches/RESULTS.md` says what each gains and loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ranking {
    /// By the cosine of the two vectors.
    #[default]
    Cosine,
    /// By the cosine after whitening: what most photos of the library share counts less. Scores are lower
    /// than plain cosines. Looks at all vectors.
    Whitened,
    /// By the cosine with the query and its nearest images together (α-weighted query expansion;
    /// Radenović, Tolias, Chum, *Fine-tuning CNN image retrieval with no human annotation*, 2019): more of
    /// the same are found, and what is nearest at first drags the rest along.
    Expanded,
}

/// How many of the nearest images are added to a query.
pub(crate) const NEIGHBOURS: usize = 3;

/// What their cosine is raised to, to weigh them.
const POWER: i32 = 3;

/// From here on it is the query itself, or a copy of it, which adds nothing.
const SAME: f32 = 0.9999;

/// A query and its nearest images together, best first: those that are not the query itself, up to
/// [`NEIGHBOURS`] of them, each weighted by its cosine to the third.
pub(crate) fn expand<'a>(
    query: &Embedding,
    nearest: impl IntoIterator<Item = (f32, &'a Embedding)>,
) -> Embedding {
    let others = nearest.into_iter().filter(|(score, _)| (0.0..SAME).contains(score));
    let weighted = others.take(NEIGHBOURS).map(|(score, other)| (score.powi(POWER), other.clone()));
    let parts: Vec<(f32, Embedding)> = [(1.0, query.clone())].into_iter().chain(weighted).collect();
    Embedding::weighted_sum(&parts).expect("no part has a negative cosine to the query")
}

impl Library {
    /// By the cosine with the expanded query.
    pub(super) fn by_expanded(
        &self,
        search: &Search,
        query: &Embedding,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Match>> {
        // The query and some copies of it may stand before its neighbours.
        let first = Wanted { k: 3 * NEIGHBOURS, min_score: 0.0, ..*wanted };
        let near = self.by_cosine(search, query, &first)?;
        let embedding = |near: &Match| self.embedding_of(&search.model, near.hit.id);
        let embeddings = near.iter().map(embedding).collect::<Result<Vec<_>>>()?;
        let scores = near.iter().map(|near| near.hit.score);
        self.by_cosine(search, &expand(query, scores.zip(&embeddings)), wanted)
    }

    /// By the cosine in the whitened space; by plain cosine where the library is too small for one.
    pub(super) fn by_whitened(
        &self,
        search: &Search,
        query: &Embedding,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Match>> {
        let (Some(indexed), Some(whitening)) = (&search.indexed, &search.whitening) else {
            return self.by_cosine(search, query, wanted);
        };
        let Some(query) = whitening.apply(query) else { return Ok(Vec::new()) };
        let damaged = |source| self.index_unreadable(&search.model, source);
        let mut hits = indexed.index.whitened(whitening, &query).map_err(damaged)?;
        let tail = self.newer(search, indexed, |embedding| {
            whitening.apply(embedding).map_or(0.0, |embedding| query.cosine(&embedding))
        })?;
        hits.retain(|hit| search.passes(hit.id) && !indexed.newer.contains(&hit.id));
        hits.extend(tail);
        hits.sort_by(Hit::best_first);
        self.matches(hits, search, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(values: &[f32]) -> Embedding {
        Embedding::normalised(values).unwrap()
    }

    #[test]
    fn a_query_is_expanded_by_its_nearest_and_not_by_itself() {
        let query = unit(&[1.0, 0.0, 0.0]);
        let near = [unit(&[1.0, 0.0, 0.0]), unit(&[0.8, 0.6, 0.0]), unit(&[-1.0, 0.0, 0.0])];
        let scored = || near.iter().map(|other| (query.cosine(other), other));
        let expanded = expand(&query, scored());
        let weight = 0.8f32.powi(3);
        let expected = unit(&[1.0 + weight * 0.8, weight * 0.6, 0.0]);
        assert!(expanded.cosine(&expected) > 0.999_999);
        assert_eq!(expand(&query, []), query);
    }
}
