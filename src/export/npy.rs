//! NumPy's array file (NEP 1, version 1.0): `numpy.load(OUT)` gives float32 `[rows, width]`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::Writer;
use super::jsonl::{self, Ids, ids_beside};
use super::sink::Sink;
use super::vectors::{Digest, Dtype, Shape, Vector, invalid};
use crate::error::Result;
use crate::record::ExportRow;

/// Bytes of the header. A multiple of 64, as the format asks, so that the data is aligned for memory-mapping.
const HEADER: usize = 128;

pub(super) struct Npy {
    data: Sink,
    /// What stands beside; elsewhere the identities are another file's business.
    ids: Option<Ids>,
}

impl Npy {
    pub(super) fn create(out: &Path, shape: &Shape) -> Result<Self> {
        let (mut npy, ids) = (Self::alone(out, shape)?, Ids::create(&ids_beside(out))?);
        npy.ids = Some(ids);
        Ok(npy)
    }

    pub(super) fn alone(out: &Path, shape: &Shape) -> Result<Self> {
        let mut data = Sink::create(out)?;
        data.write_all(&header_of(shape)).map_err(|source| data.failed(source))?;
        Ok(Self { data, ids: None })
    }
}

impl Writer for Npy {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        self.data.write_all(vector.bytes).map_err(|source| self.data.failed(source))?;
        self.ids.as_mut().map_or(Ok(()), |ids| ids.write(row))
    }

    fn finish(self: Box<Self>) -> Result<Vec<Sink>> {
        Ok(std::iter::once(self.data).chain(self.ids.map(Ids::finish)).collect())
    }
}

/// The header of the vectors' array.
pub(super) fn header_of(shape: &Shape) -> Vec<u8> {
    header(descr(shape.dtype), &format!("{}, {}", shape.rows, shape.width))
}

/// NumPy's name of a type.
fn descr(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
    }
}

/// A header; `dims` as they stand between the parentheses.
pub(super) fn header(descr: &str, dims: &str) -> Vec<u8> {
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((HEADER - header.len() - 2) as u16).to_le_bytes());
    header.extend(
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}").bytes(),
    );
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}

/// Reads the header of an array of rows, row by row: what NumPy writes itself, too.
pub(super) fn read_header(reader: &mut dyn Read) -> io::Result<Shape> {
    let mut start = [0; 8];
    reader.read_exact(&mut start)?;
    let length = match start {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            u64::from(u16::from_le_bytes(length))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
            let mut length = [0; 4];
            reader.read_exact(&mut length)?;
            u64::from(u32::from_le_bytes(length))
        }
        _ => return Err(invalid("not an npy file")),
    };
    let mut header = String::new();
    reader.take(length.min(1 << 16)).read_to_string(&mut header)?;
    let value = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start());
    let dtype = match value("'descr':").and_then(|rest| rest.get(..5)) {
        Some("'<f4'") => Dtype::F32,
        Some("'<f2'") => Dtype::F16,
        _ => return Err(invalid("an npy file of another type than float32 or float16")),
    };
    if !value("'fortran_order':").is_some_and(|rest| rest.starts_with("False")) {
        return Err(invalid("an npy file in column-major order"));
    }
    let shape = value("'shape':").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
    let dims: Option<Vec<u64>> =
        shape.and_then(|(dims, _)| dims.split(',').map(|dim| dim.trim().parse().ok()).collect());
    match dims.as_deref() {
        Some(&[rows, width]) => {
            let width = usize::try_from(width).map_err(|_| invalid("an impossible width"))?;
            Ok(Shape { rows, width, dtype })
        }
        _ => Err(invalid("an npy file that does not hold rows of vectors")),
    }
}

/// Reads an array and the ids beside it.
pub(super) fn read_back(data: &Path, ids: &Path, digest: &mut Digest) -> io::Result<()> {
    read_back_alone(data, digest)?;
    jsonl::read_ids(ids, digest)
}

pub(super) fn read_back_alone(data: &Path, digest: &mut Digest) -> io::Result<()> {
    let mut file = File::open(data)?;
    let shape = read_header(&mut file)?;
    digest.vectors_of(&mut file, shape.vector_bytes())?;
    at_end(&mut file)
}

/// Nothing stands behind what was read.
pub(super) fn at_end(reader: &mut dyn Read) -> io::Result<()> {
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(invalid("more bytes than its header says")),
    }
}
