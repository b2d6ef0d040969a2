//! The vectors of FAISS's and the SIFT sets' tools: each with its width before it, as an int32; float32.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::Writer;
use super::jsonl::{self, Ids, ids_beside};
use super::sink::Sink;
use super::vectors::{Digest, Shape, Vector, invalid};
use crate::error::Result;
use crate::record::ExportRow;

pub(super) struct Fvecs {
    data: Sink,
    ids: Ids,
    width: [u8; 4],
}

impl Fvecs {
    pub(super) fn create(out: &Path, shape: &Shape) -> Result<Self> {
        let width = (shape.width as i32).to_le_bytes();
        Ok(Self { data: Sink::create(out)?, ids: Ids::create(&ids_beside(out))?, width })
    }
}

impl Writer for Fvecs {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        self.data
            .write_all(&self.width)
            .and_then(|()| self.data.write_all(vector.bytes))
            .map_err(|source| self.data.failed(source))?;
        self.ids.write(row)
    }

    fn finish(self: Box<Self>) -> Result<Vec<Sink>> {
        Ok(vec![self.data, self.ids.finish()])
    }
}

pub(super) fn read_back(
    data: &Path,
    ids: &Path,
    shape: &Shape,
    digest: &mut Digest,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(data)?);
    let mut vector = vec![0; shape.row_bytes()];
    for _ in 0..shape.rows {
        let mut width = [0; 4];
        reader.read_exact(&mut width)?;
        if i32::from_le_bytes(width) != shape.width as i32 {
            return Err(invalid(format!("a vector of width {}", i32::from_le_bytes(width))));
        }
        reader.read_exact(&mut vector)?;
        digest.vectors(&vector);
    }
    super::npy::at_end(&mut reader)?;
    jsonl::read_ids(ids, digest)
}
