//! The search index: a disposable cache made from the catalog. The only room that uses `hnsw_rs`.
//!
//! ```text
//! embeddings ─▶ codes.bin (8 bits a component) ─▶ hnsw_rs builds ─▶ graph.bin (frozen, memory-mapped)
//! ```
//!
//! Codes choose candidates, the caller orders them by their exact vectors. hnsw_rs only builds: its
//! neighbour lists are read out into our own flat file, so there is nothing to load, and no foreign
//! loader ever touches a file. A file that is missing, damaged, or of another model or version is told
//! as [`Unusable`]; the caller then builds anew.

mod build;
mod codes;
mod generation;
mod graph;
mod kernel;
mod link;
mod refine;
mod search;
#[cfg(test)]
mod synthetic;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use build::{Contents, EachEmbedding, build};
pub use generation::{Index, last_sequence, open};

use crate::record::ImageId;

/// How a graph is built and searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Links a point has in the upper layers, half of those in the base layer.
    pub m: usize,
    /// Candidates looked at when a point is inserted.
    pub ef_construction: usize,
    /// Candidates looked at, at least, when searching.
    pub ef_search: usize,
}

impl Default for Params {
    /// M 16, ef_construction 200 (DESIGN: recall@10 0.995 and more after re-ranking), ef_search 96.
    fn default() -> Self {
        Self { m: 16, ef_construction: 200, ef_search: 96 }
    }
}

/// A point that may be near the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The image.
    pub id: ImageId,
    /// The cosine of query and image as their codes tell it, in [-1, 1]: good enough to choose, not to
    /// order.
    pub cosine: f32,
}

/// Why an index cannot be used. Nothing is lost: it is made again from the catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// There is none.
    #[error("there is no search index yet")]
    Missing,
    /// It is not what was written.
    #[error("the search index is damaged: {} {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It belongs to another model.
    #[error("the search index belongs to another model")]
    OtherModel,
    /// Another version of likeness wrote it.
    #[error("the search index has format {found}, this likeness reads {known}")]
    OtherFormat {
        /// Its format.
        found: u32,
        /// The format known here.
        known: u32,
    },
}
