//! Apache Arrow's file (IPC, once called Feather 2): the columns of [`super::parquet`], vectors as lists of a
//! fixed size. Readers map it and copy nothing.
//!
//! Written here: `arrow-ipc` with the arrays below it takes twice as long to build as the whole of Parquet, for one
//! schema that never changes.

mod flatbuffer;
mod ipc;

use std::io;
use std::path::{Path, PathBuf};

use super::Writer;
use super::jsonl::path_bytes;
use super::manifest::About;
use super::sink::Sink;
use super::vectors::{Digest, Shape, Vector, invalid};
use crate::error::{Error, Result};
use crate::record::{ExportRow, PhotoDetails};
use ipc::{Column, Kind};

/// Bytes of vectors in a record batch, about: it is held in memory until it is full.
const BATCH_BYTES: usize = 8 << 20;
/// Rows of a record batch at most.
const BATCH_ROWS: usize = 1 << 16;

pub(super) struct Arrow {
    writer: ipc::Writer<Sink>,
    batch_rows: usize,
    out: PathBuf,
}

fn columns(shape: &Shape) -> Vec<Column> {
    vec![
        Column::new("id", Kind::I64, false),
        Column::new("path", Kind::Text, false),
        Column::new("path_bytes", Kind::Bytes, true),
        Column::new("content_hash", Kind::Text, false),
        Column::new("width", Kind::U32, false),
        Column::new("height", Kind::U32, false),
        Column::new("format", Kind::Text, false),
        Column::new("taken_at", Kind::Text, true),
        Column::new("camera", Kind::Text, true),
        Column::new("lens", Kind::Text, true),
        Column::new("latitude", Kind::F64, true),
        Column::new("longitude", Kind::F64, true),
        Column::new("rating", Kind::I8, true),
        Column::new("keywords", Kind::Texts, true),
        Column::new("embedding", Kind::Vectors(shape.width, shape.dtype.size()), false),
    ]
}

impl Arrow {
    pub(super) fn create(out: &Path, shape: &Shape, about: &About) -> Result<Self> {
        let writer = ipc::Writer::new(Sink::create(out)?, columns(shape), about.pairs().into())
            .map_err(Error::io("write", out))?;
        let batch_rows = (BATCH_BYTES / shape.row_bytes().max(1)).clamp(1, BATCH_ROWS);
        Ok(Self { writer, batch_rows, out: out.to_path_buf() })
    }

    fn write_batch(&mut self) -> Result<()> {
        self.writer.write_batch().map_err(Error::io("write", &self.out))
    }
}

impl Writer for Arrow {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        let [
            id,
            path,
            raw_path,
            hash,
            width,
            height,
            format,
            taken,
            made_by,
            seen_by,
            north,
            east,
            stars,
            words,
            vectors,
        ] = self.writer.columns()
        else {
            unreachable!("the columns are those of `columns`");
        };
        let PhotoDetails { taken_at, camera, lens, latitude, longitude, rating, keywords } =
            &row.details;
        id.push(Some(&row.id.0.to_le_bytes()));
        path.push(Some(row.path.to_string_lossy().as_bytes()));
        raw_path.push(path_bytes(&row.path).as_deref());
        hash.push(Some(row.content_hash.to_string().as_bytes()));
        width.push(Some(&row.width.to_le_bytes()));
        height.push(Some(&row.height.to_le_bytes()));
        format.push(Some(row.format.as_bytes()));
        for (column, text) in [(taken, taken_at), (made_by, camera), (seen_by, lens)] {
            column.push(text.as_deref().map(str::as_bytes));
        }
        for (column, degrees) in [(north, latitude), (east, longitude)] {
            column.push(degrees.map(f64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        }
        stars.push(rating.map(i8::to_le_bytes).as_ref().map(<[u8; 1]>::as_slice));
        words.push_texts(keywords);
        vectors.push(Some(vector.bytes));
        if self.writer.rows() < self.batch_rows { Ok(()) } else { self.write_batch() }
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Sink>> {
        if self.writer.rows() > 0 {
            self.write_batch()?;
        }
        Ok(vec![self.writer.finish().map_err(Error::io("write", &self.out))?])
    }
}

pub(super) fn read_back(path: &Path, shape: &Shape, digest: &mut Digest) -> io::Result<()> {
    ipc::each_batch(path, &mut |batch| {
        let (ids, rest) = batch.first.as_chunks();
        if ids.len() as i64 != batch.rows || !rest.is_empty() {
            return Err(invalid(format!("{} ids in a batch of {} rows", ids.len(), batch.rows)));
        }
        if batch.last.len() != ids.len() * shape.row_bytes() {
            return Err(invalid("vectors of another width"));
        }
        ids.iter().for_each(|id| digest.id(i64::from_le_bytes(*id)));
        digest.vectors(&batch.last);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::flatbuffer::Table;
    use super::*;

    #[test]
    fn a_file_that_was_cut_or_altered_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.arrow");
        let columns = vec![
            Column::new("id", Kind::I64, false),
            Column::new("keywords", Kind::Texts, true),
            Column::new("embedding", Kind::Vectors(2, 4), false),
        ];
        let mut writer = ipc::Writer::new(Vec::new(), columns, vec![]).unwrap();
        for id in 0..3i64 {
            let [ids, words, vectors] = writer.columns() else { unreachable!("three columns") };
            ids.push(Some(&id.to_le_bytes()));
            words.push_texts(&vec!["sea".to_owned(); id as usize]);
            vectors.push(Some(&[id as u8; 8]));
            writer.write_batch().unwrap();
        }
        let whole = writer.finish().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let mut found = Vec::new();
            ipc::each_batch(&path, &mut |batch| {
                found.push((batch.rows, batch.first, batch.last));
                Ok(())
            })
            .map(|()| found)
        };
        let found = read(&whole).unwrap();
        let expected = (0..3u8).map(|id| (1, i64::from(id).to_le_bytes().to_vec(), vec![id; 8]));
        assert_eq!(found, expected.collect::<Vec<_>>());
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut} of {} bytes", whole.len());
        }
        // Whatever a byte becomes, reading ends.
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] = !altered[at];
            let _ = read(&altered);
        }
        assert!(Table::root(&[]).is_none());
    }
}
