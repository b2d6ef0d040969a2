//! Vectors as they are written, and the digest that tells whether they read back the same.

use std::io::{self, Read};

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::record::ExportRow;

/// What a component of a vector is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Dtype {
    /// 32-bit IEEE float: what the library holds, to the bit.
    #[default]
    #[serde(rename = "float32")]
    F32,
    /// 16-bit IEEE float, rounded to the nearest, ties to even.
    #[serde(rename = "float16")]
    F16,
}

impl Dtype {
    /// Bytes a component.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 => 2,
        }
    }
}

/// What all files of an export have in common, and how many rows one of them has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: u64,
    pub(super) width: usize,
    pub(super) dtype: Dtype,
}

impl Shape {
    /// Bytes a vector.
    pub(super) fn row_bytes(&self) -> usize {
        self.width * self.dtype.size()
    }

    /// Bytes of all vectors.
    pub(super) fn vector_bytes(&self) -> u64 {
        self.rows * self.row_bytes() as u64
    }
}

/// One vector, both ways.
#[derive(Clone, Copy)]
pub(super) struct Vector<'a> {
    /// Its components in single precision; where they are written in half, before they were rounded.
    pub(super) values: &'a [f32],
    /// Its components as they are written, little-endian.
    pub(super) bytes: &'a [u8],
}

/// Makes vectors of features.
pub(super) struct Encoder {
    dtype: Dtype,
    normalized: bool,
    unit: Option<Embedding>,
    halves: Vec<f16>,
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(dtype: Dtype, normalized: bool, width: usize) -> Self {
        let halves = vec![f16::ZERO; if dtype == Dtype::F16 { width } else { 0 }];
        Self { dtype, normalized, unit: None, halves, bytes: vec![0; width * dtype.size()] }
    }

    pub(super) fn vector<'a>(&'a mut self, row: &'a ExportRow) -> Result<Vector<'a>> {
        let values = match self.normalized {
            true => self.unit.insert(row.features.embedding()).as_slice(),
            false => row.features.as_slice(),
        };
        match self.dtype {
            Dtype::F32 => le_bytes(values, &mut self.bytes),
            Dtype::F16 => {
                self.halves.convert_from_f32_slice(values);
                if let Some(index) = self.halves.iter().position(|half| !half.is_finite()) {
                    return Err(Error::ExportOverflow { image: row.id, value: values[index] });
                }
                let (chunks, _) = self.bytes.as_chunks_mut();
                chunks.iter_mut().zip(&self.halves).for_each(|(c, v)| *c = v.to_le_bytes());
            }
        }
        Ok(Vector { values, bytes: &self.bytes })
    }
}

/// Bytes of values in single precision, little-endian. In chunks, so that it becomes one copy.
pub(super) fn le_bytes(values: &[f32], into: &mut Vec<u8>) {
    into.resize(values.len() * 4, 0);
    let (chunks, _) = into.as_chunks_mut();
    chunks.iter_mut().zip(values).for_each(|(c, v)| *c = v.to_le_bytes());
}

/// Which vectors and which ids, in which order. Two exports with the same digest hold the same.
#[derive(Default)]
pub(super) struct Digest {
    ids: u64,
    bytes: u64,
    of_vectors: blake3::Hasher,
    of_ids: blake3::Hasher,
}

impl Digest {
    pub(super) fn id(&mut self, id: i64) {
        self.ids += 1;
        self.of_ids.update(&id.to_le_bytes());
    }

    /// The ids of another digest, which were read elsewhere; there were none before.
    pub(super) fn take_ids(&mut self, other: Digest) {
        (self.ids, self.of_ids) = (other.ids, other.of_ids);
    }

    /// One vector or several, as they lie in the file.
    pub(super) fn vectors(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.of_vectors.update(bytes);
    }

    pub(super) fn values(&mut self, values: &[f32], scratch: &mut Vec<u8>) {
        le_bytes(values, scratch);
        self.vectors(scratch);
    }

    /// Reads vectors from a file in which they lie one behind the other.
    pub(super) fn vectors_of(&mut self, reader: &mut dyn Read, mut bytes: u64) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        while bytes > 0 {
            let part = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            reader.read_exact(&mut buffer[..part])?;
            self.vectors(&buffer[..part]);
            bytes -= part as u64;
        }
        Ok(())
    }

    /// What is not as it was written, for a person; `None` when all is.
    pub(super) fn difference(&self, written: &Digest, row_bytes: usize) -> Option<String> {
        let row_bytes = row_bytes.max(1) as u64;
        if self.ids != written.ids {
            return Some(format!("{} ids instead of {}", self.ids, written.ids));
        }
        if self.bytes != written.bytes {
            let vectors = |digest: &Digest| digest.bytes / row_bytes;
            return Some(format!("{} vectors instead of {}", vectors(self), vectors(written)));
        }
        if self.of_ids.finalize() != written.of_ids.finalize() {
            return Some("other ids, or in another order".into());
        }
        if self.of_vectors.finalize() != written.of_vectors.finalize() {
            return Some("other vectors, or in another order".into());
        }
        None
    }
}

/// For readers that find something else than they should.
pub(super) fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
