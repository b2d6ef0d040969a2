//! The folder that clip-retrieval, autofaiss and embedding-reader read: `img_emb/img_emb_0.npy`, and row by row
//! beside it `metadata/metadata_0.parquet` with `image_path`.

use std::path::Path;

use super::Writer;
use super::manifest::About;
use super::npy::Npy;
use super::parquet::{Columns, Parquet};
use super::sink::Sink;
use super::vectors::{Shape, Vector};
use crate::error::Result;
use crate::record::ExportRow;

/// The folders in the folder.
pub(super) const INSIDE: [&str; 2] = ["img_emb", "metadata"];

/// Rows of a part where nobody said how many: what clip-retrieval itself writes.
pub(super) const PART_ROWS: u64 = 1_000_000;

pub(super) struct ClipRetrieval {
    vectors: Npy,
    metadata: Parquet,
}

impl ClipRetrieval {
    /// `number` as it stands in names: of one length in all parts, as they are read in the order of their names.
    pub(super) fn create(
        folder: &Path,
        number: &str,
        shape: &Shape,
        about: &About,
    ) -> Result<Self> {
        let vectors = folder.join(format!("img_emb/img_emb_{number}.npy"));
        let metadata = folder.join(format!("metadata/metadata_{number}.parquet"));
        Ok(Self {
            vectors: Npy::alone(&vectors, shape)?,
            metadata: Parquet::create(&metadata, Columns::ClipRetrieval, shape, about)?,
        })
    }
}

impl Writer for ClipRetrieval {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        self.vectors.write(row, vector)?;
        self.metadata.push(row, vector)
    }

    fn finish(self: Box<Self>) -> Result<Vec<Sink>> {
        let mut files = Box::new(self.vectors).finish()?;
        files.push(self.metadata.complete()?);
        Ok(files)
    }
}
