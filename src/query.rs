//! Questions to a library: what is similar to this?

mod check;
pub(crate) mod rank;

use std::collections::HashSet;

use crate::catalog::{ImageRecord, ModelRecord, Passing, Sequence};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::index::{self, Among, Index, Unusable, Whitening};
use crate::library::Library;
use crate::photo::PhotoBytes;
use crate::progress::Watch;
use crate::record::{Hit, ImageId};

pub use check::SearchCheck;
pub use rank::Ranking;

/// As many images that pass a filter are compared one by one where there is no index that could be asked:
/// for so few none is made. They are read from the catalog, 8 kB each at 2048 features.
const FEW: usize = 2_000;

/// As many images that are newer than the index are held between the answers of one search, 8 kB each at
/// 2048 features. More are read for each answer.
const TAIL_HELD: usize = 4_096;

/// How to search.
#[derive(Debug, Clone, PartialEq)]
pub struct FindOptions {
    /// How many hits at most.
    pub k: usize,
    /// How hits are ordered and scored.
    pub rank: Ranking,
    /// The lowest score that counts as a hit, in [-1, 1].
    pub min_score: f32,
    /// Compare with every stored vector instead of asking the index.
    pub exact: bool,
    /// How the index finds candidates.
    pub search: index::Search,
    /// Images to leave out: the query itself.
    pub exclude: Vec<ImageId>,
    /// Only images that pass it; never fewer than `k` when so many pass.
    pub filter: Option<Filter>,
}

impl Default for FindOptions {
    fn default() -> Self {
        Self {
            k: 10,
            rank: Ranking::default(),
            min_score: -1.0,
            exact: false,
            search: index::Search::Auto,
            exclude: Vec::new(),
            filter: None,
        }
    }
}

/// A search made ready by [`Library::prepare_search`].
#[derive(Debug)]
pub struct Search {
    model: ModelRecord,
    /// `None` when images are compared one by one.
    indexed: Option<Indexed>,
    /// `None` when all are meant.
    passing: Option<Passing>,
    /// For [`Ranking::Whitened`], in a library that is large enough.
    whitening: Option<Whitening>,
    options: FindOptions,
}

/// An index, what came after it, and what of it is meant.
#[derive(Debug)]
struct Indexed {
    index: Index,
    /// The images that came after the index and pass. What came back after it was gone is also in it.
    newer: HashSet<ImageId>,
    /// Their embeddings, up to [`TAIL_HELD`] of them.
    held: Option<Vec<(ImageId, Embedding)>>,
    /// `None` when all are meant.
    among: Option<Among>,
}

/// What one answer is to hold.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    k: usize,
    min_score: f32,
    /// Left out, beside [`FindOptions::exclude`].
    exclude: &'a [ImageId],
}

impl Search {
    /// The model whose vectors are compared.
    pub fn model(&self) -> &ModelRecord {
        &self.model
    }

    fn passes(&self, id: ImageId) -> bool {
        self.passing.as_ref().is_none_or(|passing| passing.contains_key(&id))
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
    /// With a filter, never fewer than `k` come back when so many pass: the index searches among those.
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
        let search = self.prepare_search(model, options, watch)?;
        match self.answer(&search, query, &[]) {
            // Damage that shows only where a search comes by.
            Err(Error::IndexUnreadable { source, .. }) => {
                self.answer(&self.mend_search(&search, &source, watch)?, query, &[])
            }
            answer => answer,
        }
    }

    /// Makes the index of a search again from the catalog, for the `reason` that [`Error::IndexUnreadable`] has, and
    /// gives the same search of it.
    ///
    /// # Errors
    /// As [`Library::find`].
    pub fn mend_search(
        &self,
        search: &Search,
        reason: &impl std::fmt::Display,
        watch: &Watch<'_>,
    ) -> Result<Search> {
        watch.note(mending(reason));
        // It looks sound from outside, so that it is made again whoever made it.
        self.rebuild_index(&search.model, watch)?;
        self.prepare_search(&search.model, &search.options, watch)
    }

    /// Makes a search ready, so that many questions open the index and apply the filter once. It is of
    /// the library as it stands now, and may be shared by threads that each opened the library.
    ///
    /// # Errors
    /// As [`Library::find`].
    pub fn prepare_search(
        &self,
        model: &ModelRecord,
        options: &FindOptions,
        watch: &Watch<'_>,
    ) -> Result<Search> {
        let passing = |filter| self.catalog().passing(model.id, filter);
        let passing = options.filter.as_ref().map(passing).transpose()?;
        let few = passing.as_ref().is_some_and(|passing| passing.len() <= FEW);
        let whitened = options.rank == Ranking::Whitened;
        let index = match (whitened, options.exact, few) {
            (false, true, _) => None,
            (false, false, true) => self.try_index(model).ok(),
            (true, ..) => Some(self.open_index(model, watch)?),
            (false, false, false) => match self.open_index(model, watch) {
                // On a disk that is full or read-only: the catalog has all that an answer needs.
                Err(error @ Error::Io { .. }) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let cause = cause.unwrap_or_default();
                    watch.note(format!("{error}: {cause}; compared with every image instead"));
                    None
                }
                opened => Some(opened?),
            },
        };
        let whitening = index.as_ref().filter(|_| whitened).and_then(Index::whitening);
        if whitened && whitening.is_none() {
            watch.note("too few photos to whiten their features: ranked by plain cosine");
        }
        let indexed =
            index.map(|index| self.indexed(model, index, passing.as_ref())).transpose()?;
        Ok(Search { model: model.clone(), indexed, passing, whitening, options: options.clone() })
    }

    /// Makes an index ready for searches among all images or those that pass.
    fn indexed(
        &self,
        model: &ModelRecord,
        index: Index,
        passing: Option<&Passing>,
    ) -> Result<Indexed> {
        let passes = |id| passing.is_none_or(|passing| passing.contains_key(&id));
        let (mut newer, mut held) = (HashSet::new(), Some(Vec::new()));
        self.each_newer(model, Sequence(index.last_sequence()), |id, embedding| {
            if passes(id) {
                newer.insert(id);
                held = held.take().filter(|held| held.len() < TAIL_HELD);
                held.iter_mut().for_each(|held| held.push((id, embedding.clone())));
            }
            Ok(())
        })?;
        let among = passing.map(|_| index.among(|id| passes(id) && !newer.contains(&id)));
        Ok(Indexed { index, newer, held, among })
    }

    /// The images most similar to `query`, without those of `exclude` and of
    /// [`FindOptions::exclude`]; otherwise as [`Library::find`].
    ///
    /// # Errors
    /// [`Error::Catalog`], [`Error::StoredFeatures`]; [`Error::IndexUnreadable`] when the index turns out to
    /// be damaged: then [`Library::mend_search`] makes another.
    pub fn answer(
        &self,
        search: &Search,
        query: &Embedding,
        exclude: &[ImageId],
    ) -> Result<Vec<Match>> {
        let FindOptions { k, min_score, rank, .. } = search.options;
        let wanted = Wanted { k, min_score, exclude };
        match rank {
            Ranking::Cosine => self.by_cosine(search, query, &wanted),
            Ranking::Expanded => self.by_expanded(search, query, &wanted),
            Ranking::Whitened => self.by_whitened(search, query, &wanted),
        }
    }

    fn by_cosine(
        &self,
        search: &Search,
        query: &Embedding,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Match>> {
        let Some(indexed) = &search.indexed else {
            return self.compare_all(search, query, wanted);
        };
        let Indexed { index, newer, among, .. } = indexed;
        let tail = self.newer(search, indexed, |embedding| query.cosine(embedding))?;
        let options = &search.options;
        let mut asked = wanted.k.saturating_add(options.exclude.len() + wanted.exclude.len());
        loop {
            let found = match among {
                None => index.search(query, asked, options.search),
                Some(among) => index.search_among(query, asked, options.search, among),
            };
            let found = found.map_err(|source| self.index_unreadable(&search.model, source))?;
            let exhausted = found.len() < asked
                || found.last().is_none_or(|last| last.score < wanted.min_score);
            let mut hits = tail.clone();
            for hit in found.into_iter().filter(|hit| !newer.contains(&hit.id)) {
                // The index rounds vectors; a score is the same number whether an image is in it or not.
                if let Some(features) = self.catalog().features(search.model.id, hit.id)? {
                    hits.push(Hit { score: query.cosine(&features.embedding()), ..hit });
                }
            }
            hits.sort_by(Hit::best_first);
            let matches = self.matches(hits, search, wanted)?;
            // Images that are gone may have taken up the places of some that are not.
            if exhausted || matches.len() == wanted.k {
                return Ok(matches);
            }
            asked = asked.saturating_mul(4);
        }
    }

    /// The images that came after the index and pass, with their scores, in no order.
    fn newer(
        &self,
        search: &Search,
        indexed: &Indexed,
        score: impl Fn(&Embedding) -> f32,
    ) -> Result<Vec<Hit>> {
        if let Some(held) = &indexed.held {
            let hit = |(id, embedding): &(_, _)| Hit { id: *id, score: score(embedding) };
            return Ok(held.iter().map(hit).collect());
        }
        let mut hits = Vec::with_capacity(indexed.newer.len());
        let after = Sequence(indexed.index.last_sequence());
        self.each_newer(&search.model, after, |id, embedding| {
            if indexed.newer.contains(&id) {
                hits.push(Hit { id, score: score(&embedding) });
            }
            Ok(())
        })?;
        Ok(hits)
    }

    fn index_unreadable(&self, model: &ModelRecord, source: Unusable) -> Error {
        Error::IndexUnreadable { folder: self.index_folder(model), source: Box::new(source) }
    }

    fn open_index(&self, model: &ModelRecord, watch: &Watch<'_>) -> Result<Index> {
        match self.try_index(model) {
            Ok(index) => Ok(index),
            Err(Unusable::Missing) => {
                watch.note("making the search index from the catalog");
                self.make_index(model, watch)
            }
            Err(reason) => {
                watch.note(mending(&reason));
                self.make_index(model, watch)
            }
        }
    }

    /// Compares the query with every image that is meant.
    fn compare_all(
        &self,
        search: &Search,
        query: &Embedding,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Match>> {
        let model = &search.model;
        let mut hits = Vec::new();
        match &search.passing {
            Some(passing) if passing.len() <= FEW => {
                for &id in passing.keys() {
                    let score = query.cosine(&self.embedding_of(model, id)?);
                    hits.push(Hit { id, score });
                }
            }
            _ => self.each_newer(model, Sequence(0), |id, embedding| {
                if search.passes(id) {
                    hits.push(Hit { id, score: query.cosine(&embedding) });
                }
                Ok(())
            })?,
        }
        hits.sort_by(Hit::best_first);
        self.matches(hits, search, wanted)
    }

    /// The first `k` hits that are wanted and that a file still holds.
    fn matches(&self, hits: Vec<Hit>, search: &Search, wanted: &Wanted<'_>) -> Result<Vec<Match>> {
        let exclude = [&search.options.exclude, wanted.exclude];
        let shown = |id| search.passing.as_ref().and_then(|passing| passing.get(&id).copied());
        hits.into_iter()
            .take_while(|hit| hit.score >= wanted.min_score)
            .filter(|hit| !exclude.iter().any(|ids| ids.contains(&hit.id)))
            .filter_map(|hit| match self.catalog().image_of(hit.id, shown(hit.id)) {
                Ok(image) => image.map(|image| Ok(Match { hit, image })),
                Err(error) => Some(Err(error)),
            })
            .take(wanted.k)
            .collect()
    }
}

fn mending(reason: &dyn std::fmt::Display) -> String {
    format!("making the search index again from the catalog: {reason}")
}

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod tests;
