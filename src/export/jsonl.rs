//! One JSON object a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Writer;
use super::sink::Sink;
use super::vectors::{Digest, Vector, invalid};
use crate::error::Result;
use crate::record::{self, ContentHash, ExportRow, ImageId, PathBytes, PhotoDetails};

/// What a row is, without its vector.
#[derive(Serialize)]
pub(super) struct Identity<'a> {
    id: ImageId,
    path: String,
    /// The path's own bytes, hexadecimal, when it is not UTF-8 and `path` had to replace some.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    content_hash: &'a ContentHash,
    width: u32,
    height: u32,
    format: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    camera: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lens: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<i8>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    keywords: &'a [String],
}

impl<'a> From<&'a ExportRow> for Identity<'a> {
    fn from(row: &'a ExportRow) -> Self {
        let PhotoDetails { taken_at, camera, lens, latitude, longitude, rating, keywords } =
            &row.details;
        Self {
            id: row.id,
            path: row.path.to_string_lossy().into_owned(),
            path_bytes: record::path_bytes(&row.path),
            content_hash: &row.content_hash,
            width: row.width,
            height: row.height,
            format: &row.format,
            taken_at: taken_at.as_deref(),
            camera: camera.as_deref(),
            lens: lens.as_deref(),
            latitude: *latitude,
            longitude: *longitude,
            rating: *rating,
            keywords,
        }
    }
}

/// A path's own bytes, when they are not UTF-8.
pub(super) fn path_bytes(path: &Path) -> Option<Vec<u8>> {
    path.to_str().is_none().then(|| PathBytes::from_path(path).as_bytes().to_vec())
}

#[derive(Serialize)]
struct Full<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    embedding: &'a [f32],
}

pub(super) struct Jsonl(Sink);

impl Jsonl {
    pub(super) fn create(out: &Path) -> Result<Self> {
        Ok(Self(Sink::create(out)?))
    }
}

impl Writer for Jsonl {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        line(&mut self.0, &Full { identity: Identity::from(row), embedding: vector.values })
    }

    fn finish(self: Box<Self>) -> Result<Vec<Sink>> {
        Ok(vec![self.0])
    }
}

/// Writes a value and a newline.
pub(super) fn line(sink: &mut Sink, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *sink, value).map_err(|error| sink.failed(error.into()))?;
    sink.write_all(b"\n").map_err(|source| sink.failed(source))
}

/// The identities beside vectors, one of them, a row, without a vector.
pub(super) struct Ids(Sink);

impl Ids {
    pub(super) fn create(out: &Path) -> Result<Self> {
        Ok(Self(Sink::create(out)?))
    }

    pub(super) fn write(&mut self, row: &ExportRow) -> Result<()> {
        line(&mut self.0, &Identity::from(row))
    }

    pub(super) fn finish(self) -> Sink {
        self.0
    }
}

/// Gives each line as a value.
pub(super) fn each_line<T: for<'a> Deserialize<'a>>(
    path: &Path,
    mut each: impl FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        each(serde_json::from_slice(&line)?)?;
        line.clear();
    }
    Ok(())
}

pub(super) fn read_ids(path: &Path, digest: &mut Digest) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Line {
        id: i64,
    }
    each_line(path, |line: Line| {
        digest.id(line.id);
        Ok(())
    })
}

pub(super) fn read_back(path: &Path, width: usize, digest: &mut Digest) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Line {
        id: i64,
        embedding: Vec<f32>,
    }
    let mut scratch = Vec::new();
    each_line(path, |line: Line| {
        if line.embedding.len() != width {
            return Err(invalid(format!("a vector of {} components", line.embedding.len())));
        }
        digest.id(line.id);
        digest.values(&line.embedding, &mut scratch);
        Ok(())
    })
}

/// The file beside another that holds its identities.
pub(super) fn ids_beside(out: &Path) -> PathBuf {
    super::beside(out, "ids.jsonl")
}
