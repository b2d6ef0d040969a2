//! NumPy's archive: `numpy.load(OUT)` gives `embeddings`, `ids`, `paths` and `hashes`, row by row the same.
//!
//! A ZIP file of npy files, uncompressed, as `numpy.savez` writes it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::Writer;
use super::npy::{self, header};
use super::sink::{Sink, folder_of};
use super::vectors::{Digest, Shape, Vector, invalid};
use crate::error::{Error, Result};
use crate::record::{ExportRow, PathBytes};

pub(super) struct Npz {
    zip: ZipWriter<UntilFailure>,
    rows: u64,
    // The other arrays wait on disk until the first is complete.
    ids: BufWriter<File>,
    hashes: BufWriter<File>,
    /// Each with its length before it.
    paths: BufWriter<File>,
    /// Code points of the longest path.
    longest: usize,
    out: std::path::PathBuf,
}

/// Lets nothing through after a failure, which was told: a ZIP writer that is dropped tries to end its file, and prints
/// that it cannot.
struct UntilFailure {
    sink: Sink,
    at: u64,
    failed: bool,
}

impl UntilFailure {
    fn tell<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| self.failed |= error.kind() != io::ErrorKind::Interrupted)
    }
}

impl Write for UntilFailure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = if self.failed {
            bytes.len()
        } else {
            let done = self.sink.write(bytes);
            self.tell(done)?
        };
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let done = self.sink.flush();
        self.tell(done)
    }
}

impl Seek for UntilFailure {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) if self.failed => at,
            SeekFrom::Current(by) | SeekFrom::End(by) if self.failed => {
                self.at.saturating_add_signed(by)
            }
            to => {
                let done = self.sink.seek(to);
                self.tell(done)?
            }
        };
        Ok(self.at)
    }
}

impl Npz {
    pub(super) fn create(out: &Path, shape: &Shape) -> Result<Self> {
        let failed = |source| Error::io("write", out)(source);
        let waiting = || tempfile::tempfile_in(folder_of(out)).map(BufWriter::new);
        let (ids, hashes, paths) =
            (|| Ok((waiting()?, waiting()?, waiting()?)))().map_err(failed)?;
        let sink = Sink::create(out)?;
        let mut zip = ZipWriter::new(UntilFailure { sink, at: 0, failed: false });
        zip.start_file("embeddings.npy", stored())
            .map_err(io::Error::from)
            .and_then(|()| zip.write_all(&npy::header_of(shape)))
            .map_err(failed)?;
        let (rows, longest, out) = (shape.rows, 1, out.to_path_buf());
        Ok(Self { zip, rows, ids, hashes, paths, longest, out })
    }

    fn write_row(&mut self, row: &ExportRow, vector: Vector<'_>) -> io::Result<()> {
        self.zip.write_all(vector.bytes)?;
        self.ids.write_all(&row.id.0.to_le_bytes())?;
        write!(self.hashes, "{}", row.content_hash)?;
        let path = PathBytes::from_path(&row.path);
        self.longest = self.longest.max(code_points(path.as_bytes()).count());
        self.paths.write_all(&(path.as_bytes().len() as u32).to_le_bytes())?;
        self.paths.write_all(path.as_bytes())
    }

    fn write_rest(&mut self) -> io::Result<()> {
        let rows = format!("{},", self.rows);
        self.zip.start_file("ids.npy", stored())?;
        self.zip.write_all(&header("<i8", &rows))?;
        append(&mut self.ids, &mut self.zip)?;
        self.zip.start_file("hashes.npy", stored())?;
        self.zip.write_all(&header("|S64", &rows))?;
        append(&mut self.hashes, &mut self.zip)?;

        self.zip.start_file("paths.npy", stored())?;
        self.zip.write_all(&header(&format!("<U{}", self.longest), &rows))?;
        self.paths.seek(SeekFrom::Start(0))?;
        let mut paths = BufReader::new(self.paths.get_ref());
        let (mut path, mut cell) = (Vec::new(), Vec::new());
        for _ in 0..self.rows {
            let mut length = [0; 4];
            paths.read_exact(&mut length)?;
            path.resize(u32::from_le_bytes(length) as usize, 0);
            paths.read_exact(&mut path)?;
            cell.clear();
            cell.extend(code_points(&path).flat_map(u32::to_le_bytes));
            cell.resize(4 * self.longest, 0);
            self.zip.write_all(&cell)?;
        }
        Ok(())
    }
}

impl Writer for Npz {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        self.write_row(row, vector).map_err(|source| Error::io("write", &self.out)(source))
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Sink>> {
        self.write_rest().map_err(|source| Error::io("write", &self.out)(source))?;
        let whole = self.zip.finish().map_err(io::Error::from);
        Ok(vec![whole.map_err(|source| Error::io("write", &self.out)(source))?.sink])
    }
}

fn stored() -> SimpleFileOptions {
    // Any part may be over 4 GB: that is known only when it is written.
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true)
}

fn append(from: &mut BufWriter<File>, to: &mut ZipWriter<UntilFailure>) -> io::Result<()> {
    from.seek(SeekFrom::Start(0))?;
    io::copy(&mut from.get_ref(), to).map(drop)
}

/// A path as Python has it (PEP 383): a byte that is not UTF-8 becomes U+DC00 and itself, so that
/// `os.fsencode` gives the path back.
fn code_points(path: &[u8]) -> impl Iterator<Item = u32> {
    path.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|byte| 0xdc00 + u32::from(*byte));
        chunk.valid().chars().map(u32::from).chain(invalid)
    })
}

pub(super) fn read_back(path: &Path, shape: &Shape, digest: &mut Digest) -> io::Result<()> {
    let mut zip = ZipArchive::new(File::open(path)?)?;
    let mut embeddings = zip.by_name("embeddings.npy")?;
    let found = npy::read_header(&mut embeddings)?;
    digest.vectors_of(&mut embeddings, found.vector_bytes())?;
    npy::at_end(&mut embeddings)?;
    drop(embeddings);

    let mut ids = BufReader::new(zip.by_name("ids.npy")?);
    let mut start = vec![0; header("<i8", "").len()];
    ids.read_exact(&mut start)?;
    for _ in 0..shape.rows {
        let mut id = [0; 8];
        ids.read_exact(&mut id)?;
        digest.id(i64::from_le_bytes(id));
    }
    npy::at_end(&mut ids)?;
    drop(ids);
    // Their checksums are compared as they are read.
    for (name, row_bytes) in [("hashes.npy", Some(64)), ("paths.npy", None)] {
        let bytes = io::copy(&mut zip.by_name(name)?, &mut io::sink())? - start.len() as u64;
        if row_bytes.is_some_and(|row_bytes| bytes != row_bytes * shape.rows) {
            return Err(invalid(format!("{name} holds another number of rows")));
        }
    }
    Ok(())
}
