//! What a server does for likeness.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Address, Row, milvus, postgres};
use crate::embedding::Embedding;
use crate::error::Result;
use crate::filter::Filter;
use crate::progress::Watch;
use crate::record::{ContentHash, Hit, ImageId};

/// The most rows of one call.
pub const MAX_ROWS: usize = 500;

/// The most rows that one search gives: Milvus's own limit, and of PostgreSQL's answers what easily fits into memory.
pub const MAX_HITS: usize = 16_384;

/// How a server is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// For Milvus: `USER:PASSWORD` or an API key; `None` where none is wanted.
    pub token: Option<String>,
    /// For PostgreSQL, where the address holds none.
    pub password: Option<String>,
    /// How long one call may take.
    pub timeout: Duration,
}

impl Default for ClientOptions {
    /// Neither token nor password, 60 seconds.
    fn default() -> Self {
        Self { token: None, password: None, timeout: Duration::from_secs(60) }
    }
}

impl fmt::Debug for ClientOptions {
    /// What lets somebody in is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// How a collection finds what is similar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// By comparing with everything.
    Flat,
    /// By a graph.
    Hnsw {
        /// Neighbours of each point.
        m: u32,
        /// Candidates in view when a point is put in.
        ef_construction: u32,
    },
    /// By the nearest of many lists.
    IvfFlat {
        /// How many lists.
        nlist: u32,
    },
    /// The same, with a byte a component.
    IvfSq8 {
        /// How many lists.
        nlist: u32,
    },
    /// By a graph on disk.
    DiskAnn,
}

impl IndexKind {
    /// As Milvus names it.
    pub fn name(self) -> &'static str {
        match self {
            IndexKind::Flat => "FLAT",
            IndexKind::Hnsw { .. } => "HNSW",
            IndexKind::IvfFlat { .. } => "IVF_FLAT",
            IndexKind::IvfSq8 { .. } => "IVF_SQ8",
            IndexKind::DiskAnn => "DISKANN",
        }
    }
}

/// What a server says of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What was said of it when it was made.
    pub properties: BTreeMap<String, String>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The vector.
    pub query: &'a Embedding,
    /// How many rows at most, up to [`MAX_HITS`].
    pub k: usize,
    /// Only rows that pass it; of an image in several places the first is looked at.
    pub filter: Option<&'a Filter>,
}

/// A row that a search found, with its record.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundRow {
    /// The image and its score.
    pub hit: Hit,
    /// What was written down of it.
    pub record: String,
}

/// A connection to the server of a collection, which may be there or not.
///
/// # Errors
/// All methods give [`RemoteUnreachable`], [`RemoteDenied`] and [`RemoteRefused`] where the server does not do what is
/// asked, and [`Cancelled`].
///
/// [`RemoteUnreachable`]: crate::error::Error::RemoteUnreachable
/// [`RemoteDenied`]: crate::error::Error::RemoteDenied
/// [`RemoteRefused`]: crate::error::Error::RemoteRefused
/// [`Cancelled`]: crate::error::Error::Cancelled
pub trait Collection {
    /// Where it is.
    fn address(&self) -> Address;

    /// What the server says that it is.
    fn version(&self) -> &str;

    /// What is known of the collection; `None` where there is none. One that somebody else made has no properties.
    fn describe(&self, watch: &Watch<'_>) -> Result<Option<Description>>;

    /// Whether the server can have such an index over vectors of `width`, as far as that is known before.
    ///
    /// # Errors
    /// [`crate::error::Error::RemoteIndex`].
    fn check(&self, width: usize, index: IndexKind) -> Result<()>;

    /// Makes the collection, empty, with vectors of `width`, an index for them, and what is said of it.
    fn create(
        &self,
        width: usize,
        properties: &[(&'static str, String)],
        index: IndexKind,
        watch: &Watch<'_>,
    ) -> Result<()>;

    /// Deletes the collection.
    fn drop_collection(&self, watch: &Watch<'_>) -> Result<()>;

    /// The kind of index that the vectors have or will have, by [`IndexKind::name`]; where none was chosen it is
    /// `wanted` from now on. A push may have ended between collection and index.
    fn index(&self, wanted: IndexKind, watch: &Watch<'_>) -> Result<String>;

    /// Makes the collection ready to be asked, and waits until it is.
    fn load(&self, watch: &Watch<'_>) -> Result<()>;

    /// Puts rows in, or in the place of those with the same numbers, in calls as large as the server takes;
    /// after each that it acknowledged, `acknowledged` learns which rows that were.
    ///
    /// # Errors
    /// Further [`crate::error::Error::StoredFeatures`] for a vector of another width than the collection's.
    fn upsert(
        &self,
        rows: &[Row],
        width: usize,
        watch: &Watch<'_>,
        acknowledged: &mut dyn FnMut(&[Row]) -> Result<()>,
    ) -> Result<()>;

    /// Deletes rows by their numbers, at most [`MAX_ROWS`]; those that are not there are no failure.
    fn delete(&self, ids: &[ImageId], watch: &Watch<'_>) -> Result<()>;

    /// Ends a push: what was sent is durable then, if `changed`, and can be asked with its index.
    fn finish(&self, changed: bool, watch: &Watch<'_>) -> Result<()>;

    /// How many rows there are.
    fn count(&self, watch: &Watch<'_>) -> Result<u64>;

    /// The vector of an image; `None` where there is no such row.
    fn embedding(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<Embedding>>;

    /// The image with this content, and its vector.
    fn by_content(
        &self,
        hash: &ContentHash,
        watch: &Watch<'_>,
    ) -> Result<Option<(ImageId, Embedding)>>;

    /// The record of an image; `None` where there is no such row.
    fn record(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<String>>;

    /// The rows most similar to a vector of the collection's width, best first, equal ones by id.
    ///
    /// # Errors
    /// Further [`crate::error::Error::RemoteFilter`] for a filter that the server has no words for.
    fn search(&self, search: Search<'_>, watch: &Watch<'_>) -> Result<Vec<FoundRow>>;
}

/// Connects. Where nothing answers, that is said at once; only a server that says that it is not ready is asked again.
///
/// # Errors
/// Those of all methods of [`Collection`].
pub fn connect(
    address: &Address,
    options: &ClientOptions,
    watch: &Watch<'_>,
) -> Result<Box<dyn Collection>> {
    Ok(match address {
        Address::Milvus(address) => Box::new(milvus::Client::connect(address, options, watch)?),
        Address::Postgres(address) => Box::new(postgres::Client::connect(address, options, watch)?),
    })
}
