//! Embeddings for other systems: one file a format, and a manifest beside it.
//!
//! Everything is written under temporary names, made durable, hashed by reading it back, and only then
//! renamed, the manifest last: an export is there whole or not at all, and one that fails leaves the
//! previous one untouched. Rows are streamed: memory does not grow with their number.

mod csv;
mod jsonl;
mod manifest;
mod npy;
mod sink;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use manifest::{About, FileRecord};

use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::record::ExportRow;
use sink::Sink;

/// How embeddings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// NumPy's array file: `<f4`, C order, rows × width; ids and paths in `OUT.ids.jsonl`.
    Npy,
    /// Comma-separated: id, path, content_hash, width, height, e0, e1, …
    Csv,
    /// One JSON object a line, the vector as the array `embedding`.
    Jsonl,
}

impl Format {
    /// The format that a file name asks for by its extension.
    ///
    /// # Errors
    /// [`Error::ExportFormat`] when it asks for none that is known.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("npy") => Ok(Format::Npy),
            Some("csv") => Ok(Format::Csv),
            Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
            _ => Err(Error::ExportFormat { path: path.to_path_buf() }),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Rows.
    pub count: u64,
    /// The files, the manifest last.
    pub files: Vec<PathBuf>,
}

/// One way of writing rows.
trait Writer {
    /// Writes a row; `vector` is what the reader asked for, raw or of length 1.
    fn write(&mut self, row: &ExportRow, vector: &[f32]) -> Result<()>;

    /// Completes the files and gives them up to be published, in this order.
    fn finish(self: Box<Self>, count: u64) -> Result<Vec<Sink>>;
}

/// Writes rows to `out` and what belongs to it, and describes them in `OUT.manifest.json`.
///
/// # Errors
/// [`Error::ExportTarget`] when `out` names a folder; [`Error::Io`] when a file cannot be written;
/// [`Error::Cancelled`]; whatever `rows` gives. In every case nothing is published.
pub fn export(
    out: &Path,
    format: Format,
    rows: &mut dyn Iterator<Item = Result<ExportRow>>,
    about: &About,
    watch: &Watch<'_>,
) -> Result<Summary> {
    if out.is_dir() || out.file_name().is_none() {
        return Err(Error::ExportTarget { path: out.to_path_buf() });
    }
    let mut writer: Box<dyn Writer> = match format {
        Format::Npy => Box::new(npy::Npy::create(out, about.width)?),
        Format::Csv => Box::new(csv::Csv::create(out, about.width)?),
        Format::Jsonl => Box::new(jsonl::Jsonl::create(out)?),
    };
    let mut count = 0;
    for row in rows {
        watch.check()?;
        let row = row?;
        if about.normalized {
            writer.write(&row, row.features.embedding().as_slice())?;
        } else {
            writer.write(&row, row.features.as_slice())?;
        }
        count += 1;
    }
    let mut written = Vec::new();
    let mut records = Vec::new();
    for sink in writer.finish(count)? {
        let durable = sink.complete()?;
        records.push(durable.record()?);
        written.push(durable);
    }
    let mut manifest = Sink::create(&beside(out, "manifest.json"))?;
    manifest::write(&mut manifest, about, format, count, records)?;
    written.push(manifest.complete()?);
    let mut files = Vec::new();
    for file in written {
        files.push(file.publish()?);
    }
    Ok(Summary { count, files })
}

/// `out.npy` → `out.npy.ids.jsonl`.
fn beside(out: &Path, extension: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
