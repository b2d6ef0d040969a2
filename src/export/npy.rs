//! NumPy's array file (NEP 1, version 1.0): `numpy.load(OUT)` gives float32 `[rows, width]`.

use std::io::Write;
use std::path::Path;

use super::jsonl::{Identity, line};
use super::sink::Sink;
use super::{Writer, beside};
use crate::error::Result;
use crate::record::ExportRow;

/// Bytes of the header: fixed, as the number of rows is known only at the end. A multiple of 64, as the
/// format asks, so that the data is aligned for memory-mapping.
const HEADER: usize = 128;

pub(super) struct Npy {
    data: Sink,
    ids: Sink,
    width: usize,
}

impl Npy {
    pub(super) fn create(out: &Path, width: usize) -> Result<Self> {
        let (mut data, ids) = (Sink::create(out)?, Sink::create(&beside(out, "ids.jsonl"))?);
        data.write_all(&header(0, width)).map_err(|source| data.failed(source))?;
        Ok(Self { data, ids, width })
    }
}

impl Writer for Npy {
    fn write(&mut self, row: &ExportRow, vector: &[f32]) -> Result<()> {
        for value in vector {
            self.data.write_all(&value.to_le_bytes()).map_err(|source| self.data.failed(source))?;
        }
        line(&mut self.ids, &Identity::from(row))
    }

    fn finish(mut self: Box<Self>, count: u64) -> Result<Vec<Sink>> {
        self.data.rewrite_head(&header(count, self.width))?;
        Ok(vec![self.data, self.ids])
    }
}

fn header(rows: u64, width: usize) -> Vec<u8> {
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((HEADER - header.len() - 2) as u16).to_le_bytes());
    header.extend(
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}").bytes(),
    );
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}
