//! One JSON object a line.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::Writer;
use super::sink::Sink;
use crate::error::Result;
use crate::record::{ContentHash, ExportRow, ImageId};

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
}

impl<'a> From<&'a ExportRow> for Identity<'a> {
    fn from(row: &'a ExportRow) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let path_bytes = match row.path.to_str() {
            Some(_) => None,
            None => Some(hex(row.path.as_os_str().as_encoded_bytes())),
        };
        Self {
            id: row.id,
            path: row.path.to_string_lossy().into_owned(),
            path_bytes,
            content_hash: &row.content_hash,
            width: row.width,
            height: row.height,
        }
    }
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
    fn write(&mut self, row: &ExportRow, vector: &[f32]) -> Result<()> {
        line(&mut self.0, &Full { identity: Identity::from(row), embedding: vector })
    }

    fn finish(self: Box<Self>, _count: u64) -> Result<Vec<Sink>> {
        Ok(vec![self.0])
    }
}

/// Writes a value and a newline.
pub(super) fn line(sink: &mut Sink, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *sink, value).map_err(|error| sink.failed(error.into()))?;
    sink.write_all(b"\n").map_err(|source| sink.failed(source))
}
