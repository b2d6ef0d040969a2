//! The search index: a disposable cache made from the catalog. The only room that uses `hnsw_rs`.
//!
//! ```text
//! embeddings ─▶ vectors ─▶ coder.bin (principal components) ─▶ codes.bin (7 bits a component)
//!        │                                hnsw_rs drafts, we refine ─▶ graph.bin (frozen)
//!        └───▶ rough.bin, fine.bin (the vectors, 24 bits a component)
//! ```
//!
//! Codes choose candidates, by the graph or by a scan of all; the vectors order them. All files are
//! memory-mapped and bounds-checked: there is nothing to load, and no foreign loader ever touches a
//! file. An index that is missing, damaged, or of another model or version is told as [`Unusable`]; the
//! caller then builds anew.

mod among;
mod build;
mod calibrate;
mod coder;
mod codes;
mod generation;
mod graph;
mod kernel;
mod link;
mod manifest;
mod open;
mod order;
mod pca;
mod planes;
mod refine;
mod scan;
mod search;
mod share;
#[cfg(test)]
mod synthetic;
mod vectors;
mod whiten;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use among::Among;
pub use build::{Contents, EachEmbedding, build};
pub use calibrate::Calibration;
pub use manifest::{Coding, last_sequence, params};
pub use open::{Depth, Index, Search, open};
pub use search::Beam;
pub use whiten::Whitening;

/// How an index is built.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Links a point has in the upper layers, half of those in the base layer. `None` for
    /// [`Params::m_among`].
    pub m: Option<usize>,
    /// Candidates looked at when a point's neighbours are chosen.
    pub ef_construction: usize,
    /// Components of a code, from 1; the vectors' width where that is less, or where there are fewer
    /// than 8 vectors a component. `None` for as many as keep [`Params::KEPT`].
    pub code_width: Option<usize>,
    /// The share of the true nearest ten that a graph search shall find, in (0, 1]: searches look as
    /// deep as that took when the index was built.
    pub recall: f64,
}

impl Params {
    /// The share of the variance that codes keep, where nobody said how wide they shall be: by the
    /// smallest multiple of 64 components, from 64 to 384. Of a thousand real photos such codes keep 99.9 % of
    /// the true nearest ten within the nearest 30 (`benches/RESULTS.md`).
    pub const KEPT: f32 = 0.8;

    /// See [`Params::recall`].
    pub const RECALL: f64 = 0.99;

    /// Links for so many images: 16, and 32 from [`Params::MANY`] on, where a graph with 16 takes twice as long for the
    /// same recall, and among a million misses too much however deep it looks (`benches/RESULTS.md`).
    pub fn m_among(count: usize) -> usize {
        if count < Self::MANY { 16 } else { 32 }
    }

    /// See [`Params::m_among`].
    pub const MANY: usize = 150_000;

    /// From so many images on, points look for their neighbours twice, the second time among twice as many.
    const VERY_MANY: usize = 500_000;
}

impl Default for Params {
    /// As many links as the count asks for, ef_construction 100, as wide codes as the spectrum asks for,
    /// [`Params::RECALL`].
    fn default() -> Self {
        Self { m: None, ef_construction: 100, code_width: None, recall: Self::RECALL }
    }
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
