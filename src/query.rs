//! Questions to a library: what is similar to this?

use crate::catalog::{ImageRecord, ModelRecord, Sequence};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::index::{self, Candidate, Index, Unusable};
use crate::library::Library;
use crate::photo::PhotoBytes;
use crate::progress::Watch;
use crate::record::{Hit, ImageId};

/// Codes choose, exact vectors order: this many times as many candidates as hits are asked for are
/// compared exactly, and [`RERANK_AT_LEAST`] in any case.
const RERANK_FACTOR: usize = 2;

/// See [`RERANK_FACTOR`].
const RERANK_AT_LEAST: usize = 64;

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FindOptions {
    /// How many hits at most.
    pub k: usize,
    /// The lowest cosine that counts as a hit, in [-1, 1].
    pub min_score: f32,
    /// Compare with every stored vector instead of asking the index.
    pub exact: bool,
    /// An image to leave out: the query itself.
    pub exclude: Option<ImageId>,
}

impl Default for FindOptions {
    fn default() -> Self {
        Self { k: 10, min_score: -1.0, exact: false, exclude: None }
    }
}

/// A hit and the image it stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The image and its score.
    pub hit: Hit,
    /// Where it lies.
    pub image: ImageRecord,
}

impl Library {
    /// The embedding that the library holds of an image.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] when there is none of this model.
    pub fn embedding_of(&self, model: &ModelRecord, id: ImageId) -> Result<Embedding> {
        let features = self.catalog().features(model.id, id)?;
        Ok(features.ok_or(Error::NoSuchImage { id })?.embedding())
    }

    /// The image with the same bytes as `photo`, and its embedding, if the library holds them: then
    /// nothing need be decoded or embedded.
    ///
    /// # Errors
    /// [`Error::Catalog`], [`Error::StoredFeatures`].
    pub fn find_same(
        &self,
        model: &ModelRecord,
        photo: &PhotoBytes,
    ) -> Result<Option<(ImageId, Embedding)>> {
        let Some(id) = self.catalog().image_with_content(&photo.hash())? else { return Ok(None) };
        let features = self.catalog().features(model.id, id)?;
        Ok(features.map(|features| (id, features.embedding())))
    }

    /// The images most similar to `query`, best first, equal ones by id. The score is the cosine of
    /// the query and the stored vector, computed exactly, whichever way the candidates were found.
    ///
    /// Photos newer than the index are compared one by one; an index that is missing or damaged is
    /// made again first, and said so.
    ///
    /// # Errors
    /// [`Error::Catalog`], [`Error::StoredFeatures`]; those of [`Library::rebuild_index`].
    pub fn find(
        &self,
        model: &ModelRecord,
        query: &Embedding,
        options: &FindOptions,
        watch: &Watch<'_>,
    ) -> Result<Vec<Match>> {
        if options.exact {
            return self.find_exact(model, query, options);
        }
        let index = self.open_index(model, watch)?;
        let mut tail = Vec::new();
        self.each_newer(model, Sequence(index.last_sequence()), |id, embedding| {
            tail.push(Hit { id, score: query.cosine(&embedding) });
            Ok(())
        })?;
        let mut wanted = (options.k * RERANK_FACTOR).max(RERANK_AT_LEAST);
        loop {
            let ef = index.params().ef_search.max(wanted);
            let candidates = index.search(query, wanted, ef);
            let exhausted = candidates.len() < wanted;
            let mut hits = tail.clone();
            for Candidate { id, .. } in candidates {
                // What came back after it was gone stands in the tail, too.
                if !tail.iter().any(|hit| hit.id == id) {
                    let score = query.cosine(&self.embedding_of(model, id)?);
                    hits.push(Hit { id, score });
                }
            }
            hits.sort_by(Hit::best_first);
            let matches = self.matches(hits, options)?;
            // Images that are gone may have taken up the places of some that are not.
            if matches.len() == options.k || exhausted || options.min_score > -1.0 {
                return Ok(matches);
            }
            wanted *= 4;
        }
    }

    fn open_index(&self, model: &ModelRecord, watch: &Watch<'_>) -> Result<Index> {
        match index::open(&self.index_folder(model), model.fingerprint, model.width) {
            Ok(index) => Ok(index),
            Err(Unusable::Missing) => {
                watch.note("making the search index from the catalog");
                self.rebuild_index(model, watch)
            }
            Err(reason) => {
                watch.note(format!("making the search index again from the catalog: {reason}"));
                self.rebuild_index(model, watch)
            }
        }
    }

    fn find_exact(
        &self,
        model: &ModelRecord,
        query: &Embedding,
        options: &FindOptions,
    ) -> Result<Vec<Match>> {
        let mut hits = Vec::new();
        self.each_newer(model, Sequence(0), |id, embedding| {
            hits.push(Hit { id, score: query.cosine(&embedding) });
            Ok(())
        })?;
        hits.sort_by(Hit::best_first);
        self.matches(hits, options)
    }

    /// The first `k` hits that are wanted and that a file still holds.
    fn matches(&self, hits: Vec<Hit>, options: &FindOptions) -> Result<Vec<Match>> {
        hits.into_iter()
            .take_while(|hit| hit.score >= options.min_score)
            .filter(|hit| Some(hit.id) != options.exclude)
            .filter_map(|hit| match self.catalog().image(hit.id) {
                Ok(image) => image.map(|image| Ok(Match { hit, image })),
                Err(error) => Some(Err(error)),
            })
            .take(options.k)
            .collect()
    }
}
