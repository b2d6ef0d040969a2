//! The formats, and what each can hold.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Dtype;
use crate::error::{Error, Result};

/// How embeddings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// NumPy's array file: C order, rows × width; ids, paths and the rest in `OUT.ids.jsonl`.
    Npy,
    /// NumPy's archive: the arrays `embeddings`, `ids`, `paths`, `hashes`.
    Npz,
    /// Comma-separated: id, path, content_hash, width, height, e0, e1, …, path_bytes.
    Csv,
    /// One JSON object a line, the vector as the array `embedding`.
    Jsonl,
    /// Apache Parquet: every column, the vector as the list `embedding`.
    Parquet,
    /// Apache Parquet as Milvus's bulk import takes it: `id`, `path`, `embedding`, all nullable.
    MilvusParquet,
    /// Apache Arrow's file: every column, the vector as the fixed-size list `embedding`.
    Arrow,
    /// Hugging Face's safetensors: `embeddings`, `ids`; the rest in `OUT.ids.jsonl`.
    Safetensors,
    /// The vectors of FAISS's and the SIFT sets' tools; ids, paths and the rest in `OUT.ids.jsonl`.
    Fvecs,
    /// A folder for TensorBoard's Embedding Projector: `vectors.tsv`, `metadata.tsv`, `sprite.png`.
    Projector,
    /// A folder as clip-retrieval and autofaiss read it: `img_emb/*.npy`, `metadata/*.parquet`.
    ClipRetrieval,
}

impl Format {
    /// The format that a file name asks for by its extension; folders are never meant by one.
    ///
    /// # Errors
    /// [`Error::ExportFormat`] when it asks for none that is known.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("npy") => Ok(Format::Npy),
            Some("npz") => Ok(Format::Npz),
            Some("csv") => Ok(Format::Csv),
            Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
            Some("parquet") => Ok(Format::Parquet),
            Some("arrow" | "feather") => Ok(Format::Arrow),
            Some("safetensors") => Ok(Format::Safetensors),
            Some("fvecs") => Ok(Format::Fvecs),
            _ => Err(Error::ExportFormat { path: path.to_path_buf() }),
        }
    }

    /// Whether it is a folder of files.
    pub fn is_folder(self) -> bool {
        matches!(self, Format::Projector | Format::ClipRetrieval)
    }

    /// Whether ids, paths and the rest stand in a file of their own, `OUT.ids.jsonl`.
    pub(super) fn has_ids_beside(self) -> bool {
        matches!(self, Format::Npy | Format::Safetensors | Format::Fvecs)
    }

    /// Whether [`Dtype::F16`] can be written so.
    pub fn holds(self, dtype: Dtype) -> bool {
        let halves = [
            Format::Npy,
            Format::Npz,
            Format::Parquet,
            Format::Arrow,
            Format::Safetensors,
            Format::ClipRetrieval,
        ];
        dtype == Dtype::F32 || halves.contains(&self)
    }

    /// Its name, as manifests have it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Npy => "npy",
            Format::Npz => "npz",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
            Format::MilvusParquet => "milvus-parquet",
            Format::Arrow => "arrow",
            Format::Safetensors => "safetensors",
            Format::Fvecs => "fvecs",
            Format::Projector => "projector",
            Format::ClipRetrieval => "clip-retrieval",
        }
    }
}
