//! `OUT.manifest.json`: what a reader must know to use the vectors, and to know that they are whole.

use serde::{Deserialize, Serialize};

use super::Format;
use super::sink::Sink;
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

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name, in the manifest's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of all its bytes, hexadecimal.
    pub blake3: String,
}

#[derive(Serialize)]
struct Manifest<'a> {
    likeness: &'static str,
    library: &'a str,
    format: Format,
    model: &'a str,
    fingerprint: ModelFingerprint,
    preprocessing: &'a Preprocessing,
    width: usize,
    count: u64,
    dtype: &'static str,
    normalized: bool,
    files: Vec<FileRecord>,
}

pub(super) fn write(
    sink: &mut Sink,
    about: &About,
    format: Format,
    count: u64,
    files: Vec<FileRecord>,
) -> Result<()> {
    let manifest = Manifest {
        likeness: env!("CARGO_PKG_VERSION"),
        library: &about.library,
        format,
        model: &about.model,
        fingerprint: about.fingerprint,
        preprocessing: &about.preprocessing,
        width: about.width,
        count,
        dtype: "float32",
        normalized: about.normalized,
        files,
    };
    serde_json::to_writer_pretty(&mut *sink, &manifest).map_err(|error| sink.failed(error.into()))
}
