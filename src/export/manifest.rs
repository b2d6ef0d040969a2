//! `OUT.manifest.json`: what a reader must know to use the vectors, and to know that they are whole.

use serde::{Deserialize, Serialize};

use super::sink::Sink;
use super::{Dtype, Format};
use crate::error::Result;
use crate::network::Preprocessing;
use crate::record::ModelFingerprint;

/// What all rows of an export share.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// The model's name.
    pub model: String,
    /// What decides whether vectors may be compared.
    pub fingerprint: ModelFingerprint,
    /// What happened to pixels first.
    pub preprocessing: Preprocessing,
    /// Components a vector.
    pub width: usize,
    /// Whether vectors have length 1, or are the raw pooled features.
    pub normalized: bool,
    /// The library's own number.
    pub library: String,
}

impl About {
    /// For a format's own metadata, so that a file can be told what it is without its manifest.
    pub(super) fn pairs(&self) -> [(String, String); 5] {
        [
            ("likeness.model", self.model.clone()),
            ("likeness.fingerprint", self.fingerprint.to_string()),
            ("likeness.width", self.width.to_string()),
            ("likeness.normalized", self.normalized.to_string()),
            ("likeness.library", self.library.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    }
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name, in the manifest's folder; folders in it end in `/`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of all its bytes, hexadecimal.
    pub blake3: String,
    /// How many vectors it holds; `None` of a file that stands beside one that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// All that `OUT.manifest.json` says. Its files are in the order of the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of likeness that wrote it.
    pub likeness: String,
    /// The number of the library that it came from.
    pub library: String,
    /// How embeddings are written.
    pub format: Format,
    /// The model's name.
    pub model: String,
    /// What decides whether vectors may be compared.
    pub fingerprint: ModelFingerprint,
    /// What happened to pixels first.
    pub preprocessing: Preprocessing,
    /// Components a vector.
    pub width: usize,
    /// Vectors in all files together.
    pub count: u64,
    /// What a component is.
    pub dtype: Dtype,
    /// Whether vectors have length 1, or are the raw pooled features.
    pub normalized: bool,
    /// The files but for this one.
    pub files: Vec<FileRecord>,
}

impl Manifest {
    pub(super) fn write(&self, sink: &mut Sink) -> Result<()> {
        serde_json::to_writer_pretty(&mut *sink, self).map_err(|error| sink.failed(error.into()))
    }
}
