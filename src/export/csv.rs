//! Comma-separated values (RFC 4180), floats in their shortest form that reads back the same.

use std::io;
use std::path::Path;

use super::Writer;
use super::sink::Sink;
use super::vectors::{Digest, Vector, invalid};
use crate::error::{Error, Result};
use crate::record::{self, ExportRow};

pub(super) struct Csv {
    writer: csv::Writer<Sink>,
    out: std::path::PathBuf,
}

impl Csv {
    pub(super) fn create(out: &Path, width: usize) -> Result<Self> {
        let writer = csv::Writer::from_writer(Sink::create(out)?);
        let mut csv = Self { writer, out: out.to_path_buf() };
        let names = ["id", "path", "content_hash", "width", "height"].map(str::to_owned);
        let names = names.into_iter().chain((0..width).map(|i| format!("e{i}")));
        csv.record(names.chain(["path_bytes".to_owned()]))?;
        Ok(csv)
    }

    fn record(&mut self, fields: impl Iterator<Item = String>) -> Result<()> {
        self.writer
            .write_record(fields)
            .map_err(|error| Error::io("write", &self.out)(error.into()))
    }
}

impl Writer for Csv {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        let identity = [
            row.id.to_string(),
            // Readers refuse a file that is not UTF-8 as a whole, whatever the row.
            row.path.to_string_lossy().into_owned(),
            row.content_hash.to_string(),
            row.width.to_string(),
            row.height.to_string(),
        ];
        let values = vector.values.iter().map(f32::to_string);
        let path_bytes = record::path_bytes(&row.path).unwrap_or_default();
        self.record(identity.into_iter().chain(values).chain([path_bytes]))
    }

    fn finish(self: Box<Self>) -> Result<Vec<Sink>> {
        let out = self.out;
        let sink = self.writer.into_inner();
        Ok(vec![sink.map_err(|error| Error::io("write", &out)(error.into_error()))?])
    }
}

/// The columns before the vector; one is behind it.
const IDENTITY: usize = 5;

pub(super) fn read_back(path: &Path, width: usize, digest: &mut Digest) -> io::Result<()> {
    let mut reader = csv::Reader::from_path(path).map_err(io::Error::from)?;
    let (mut record, mut values, mut scratch) = (csv::StringRecord::new(), Vec::new(), Vec::new());
    while reader.read_record(&mut record).map_err(io::Error::from)? {
        if record.len() != IDENTITY + width + 1 {
            return Err(invalid(format!("a row of {} columns", record.len())));
        }
        digest.id(record[0].parse().map_err(invalid)?);
        values.clear();
        for field in record.iter().skip(IDENTITY).take(width) {
            values.push(field.parse().map_err(invalid)?);
        }
        digest.values(&values, &mut scratch);
    }
    Ok(())
}
