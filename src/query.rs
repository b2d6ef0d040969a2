//! Questions to a library: what is similar to this?

use std::collections::HashSet;

use crate::catalog::{ImageRecord, ModelRecord, Sequence};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::index::{self, Index, Search, Unusable};
use crate::library::Library;
use crate::photo::PhotoBytes;
use crate::progress::Watch;
use crate::record::{Hit, ImageId};

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FindOptions {
    /// How many hits at most.
    pub k: usize,
    /// The lowest cosine that counts as a hit, in [-1, 1].
    pub min_score: f32,
    /// Compare with every stored vector instead of asking the index.
    pub exact: bool,
    /// How the index finds candidates.
    pub search: Search,
    /// An image to leave out: the query itself.
    pub exclude: Option<ImageId>,
}

impl Default for FindOptions {
    fn default() -> Self {
        let (exact, search) = (false, Search::Auto);
        Self { k: 10, min_score: -1.0, exact, search, exclude: None }
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
        let mut index = self.open_index(model, watch)?;
        let mut mended = false;
        let mut wanted = options.k.saturating_add(usize::from(options.exclude.is_some()));
        loop {
            let candidates = match index.search(query, wanted, options.search) {
                Ok(candidates) => candidates,
                Err(reason) if !mended => {
                    mended = true;
                    index = self.mend_index(model, &reason, watch)?;
                    continue;
                }
                Err(source) => {
                    let folder = self.index_folder(model);
                    return Err(Error::IndexUnreadable { folder, source: Box::new(source) });
                }
            };
            let exhausted = candidates.len() < wanted
                || candidates.last().is_none_or(|last| last.score < options.min_score);
            let mut hits = self.tail(model, &index, query)?;
            let tail: HashSet<ImageId> = hits.iter().map(|hit| hit.id).collect();
            // What came back after it was gone stands in the tail, too.
            hits.extend(candidates.into_iter().filter(|hit| !tail.contains(&hit.id)));
            hits.sort_by(Hit::best_first);
            let matches = self.matches(hits, options)?;
            // Images that are gone may have taken up the places of some that are not.
            if matches.len() == options.k || exhausted {
                return Ok(matches);
            }
            wanted = wanted.saturating_mul(4);
        }
    }

    /// The images that are newer than the index, compared one by one.
    fn tail(&self, model: &ModelRecord, index: &Index, query: &Embedding) -> Result<Vec<Hit>> {
        let mut tail = Vec::new();
        self.each_newer(model, Sequence(index.last_sequence()), |id, embedding| {
            tail.push(Hit { id, score: query.cosine(&embedding) });
            Ok(())
        })?;
        Ok(tail)
    }

    fn open_index(&self, model: &ModelRecord, watch: &Watch<'_>) -> Result<Index> {
        match index::open(&self.index_folder(model), model.fingerprint, model.width) {
            Ok(index) => Ok(index),
            Err(Unusable::Missing) => {
                watch.note("making the search index from the catalog");
                self.rebuild_index(model, watch)
            }
            Err(reason) => self.mend_index(model, &reason, watch),
        }
    }

    fn mend_index(
        &self,
        model: &ModelRecord,
        reason: &Unusable,
        watch: &Watch<'_>,
    ) -> Result<Index> {
        watch.note(format!("making the search index again from the catalog: {reason}"));
        self.rebuild_index(model, watch)
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

#[cfg(test)]
mod tests;
