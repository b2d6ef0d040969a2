//! Questions to a collection. No library is needed: it says of itself what its vectors are.

use super::{Label, record};
use crate::catalog::ImageRecord;
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::progress::Watch;
use crate::query::Match;
use crate::record::{ContentHash, ImageId, ModelFingerprint};
use crate::remote::{self, Address, ClientOptions, Collection, MAX_HITS, Search};

/// A collection that is ready to be asked.
pub struct Served {
    client: Box<dyn Collection>,
    label: Label,
}

/// How to search.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedOptions {
    /// How many hits at most.
    pub k: usize,
    /// The lowest score that counts as a hit, in [-1, 1].
    pub min_score: f32,
    /// Images to leave out: the query itself.
    pub exclude: Vec<ImageId>,
    /// Only images that pass it. Of an image in several places the first is looked at.
    pub filter: Option<Filter>,
}

impl Served {
    /// Connects to the server and reads what the collection says of itself.
    ///
    /// # Errors
    /// Those of [`Collection`]; [`Error::RemoteMissing`], [`Error::RemoteForeign`].
    pub fn open(address: &Address, options: &ClientOptions, watch: &Watch<'_>) -> Result<Self> {
        let client = remote::connect(address, options, watch)?;
        let missing = || Error::RemoteMissing { place: address.place() };
        let said = client.describe(watch)?.ok_or_else(missing)?;
        let label = Label::read(address, &said)?;
        // A server that was started anew may not have loaded it yet.
        client.load(watch)?;
        Ok(Self { client, label })
    }

    /// The name of the model that gave the vectors.
    pub fn model(&self) -> &str {
        &self.label.model
    }

    /// What decides whether a vector may be asked with.
    pub fn fingerprint(&self) -> ModelFingerprint {
        self.label.fingerprint
    }

    /// The vector of an image.
    ///
    /// # Errors
    /// [`Error::RemoteNoImage`] when there is none; those of [`Collection`].
    pub fn embedding_of(&self, id: ImageId, watch: &Watch<'_>) -> Result<Embedding> {
        self.client.embedding(id, watch)?.ok_or_else(|| self.no_image(id))
    }

    /// The image with this content, and its vector, if it is there: then nothing need be decoded or embedded.
    ///
    /// # Errors
    /// Those of [`Collection`].
    pub fn find_same(
        &self,
        hash: &ContentHash,
        watch: &Watch<'_>,
    ) -> Result<Option<(ImageId, Embedding)>> {
        self.client.by_content(hash, watch)
    }

    /// Where an image lay when it was pushed.
    ///
    /// # Errors
    /// [`Error::RemoteNoImage`] when there is none; those of [`Collection`].
    pub fn image(&self, id: ImageId, watch: &Watch<'_>) -> Result<ImageRecord> {
        let found = self.client.record(id, watch)?;
        found.and_then(|text| record::image(id, &text)).ok_or_else(|| self.no_image(id))
    }

    fn no_image(&self, id: ImageId) -> Error {
        Error::RemoteNoImage { place: self.client.address().place(), id }
    }

    /// The images most similar to `query`, best first, equal ones by id; the scores are cosines, in
    /// Milvus the server's.
    ///
    /// # Errors
    /// [`Error::RemoteFilter`] for a filter that the server has no words for; [`Error::RemoteHolds`] for a query of
    /// another width; [`Error::RemoteHits`] for more hits than a server gives; those of [`Collection`].
    pub fn find(
        &self,
        query: &Embedding,
        options: &ServedOptions,
        watch: &Watch<'_>,
    ) -> Result<Vec<Match>> {
        if query.width() != self.label.width {
            return Err(Error::RemoteHolds {
                place: self.client.address().place(),
                held: format!("vectors of {} features", self.label.width),
                wanted: format!("such of {}", query.width()),
            });
        }
        let asked = options.k + options.exclude.len();
        if asked > MAX_HITS {
            return Err(Error::RemoteHits { wanted: asked, most: MAX_HITS });
        }
        let search = Search { query, k: asked, filter: options.filter.as_ref() };
        let found = self.client.search(search, watch)?;
        let image = |row: &remote::FoundRow| record::image(row.hit.id, &row.record);
        found
            .into_iter()
            .take_while(|row| row.hit.score >= options.min_score)
            .filter(|row| !options.exclude.contains(&row.hit.id))
            .take(options.k)
            .map(|row| {
                let image = image(&row).ok_or_else(|| self.no_image(row.hit.id))?;
                Ok(Match { hit: row.hit, image })
            })
            .collect()
    }
}
