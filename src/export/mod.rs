//! Embeddings for other systems: one file a format, and a manifest beside it.
//!
//! Everything is written under temporary names, made durable, read back and compared with what was to be written,
//! hashed, and only then renamed: an export that fails before leaves the previous one untouched. An earlier manifest
//! is removed before the first file is renamed and the new one comes last, so that whatever has a manifest is whole.
//! Rows are streamed: memory does not grow with their number. A folder is
//! filled under a temporary name and renamed as one. What is no earlier export is never replaced.
//!
//! [`Import`] is the way back.

mod arrow;
mod clip_retrieval;
mod csv;
mod format;
mod fvecs;
mod import;
mod jsonl;
mod leftover;
mod manifest;
mod npy;
mod npz;
mod parquet;
mod place;
mod projector;
mod safetensors;
mod sink;
mod vectors;

use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use format::Format;
pub use import::{Import, ImportedImage, Verified};
pub use manifest::{About, FileRecord, Manifest};
pub use place::hold_publishing;
pub use projector::MOST_POINTS;
pub use vectors::Dtype;

use crate::error::{Error, Result};
use crate::network::Pixels;
use crate::progress::{Doing, Event, Watch};
use crate::record::ExportRow;
use parquet::Columns;
use place::Place;
use sink::{Durable, Sink};
use vectors::{Digest, Encoder, Shape, Vector};

/// Gives the central square of each photo, made so many pixels wide, or nothing where it cannot be decoded.
pub type Thumbnails<'a> = &'a dyn Fn(&[PathBuf], u32) -> Vec<Option<Pixels>>;

/// How an export is written.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The format.
    pub format: Format,
    /// What components are written as.
    pub dtype: Dtype,
    /// The most rows of a file; `None` for all in one. Files are numbered then.
    pub shard: Option<NonZeroU64>,
    /// Where [`Format::Projector`] gets its pictures from; without it all are grey.
    pub thumbnails: Option<Thumbnails<'a>>,
    /// The folder of the library that the rows come from: nothing is written in there.
    pub library: Option<&'a Path>,
}

impl Options<'_> {
    /// One file of 32-bit floats.
    pub fn new(format: Format) -> Self {
        Self { format, dtype: Dtype::F32, shard: None, thumbnails: None, library: None }
    }

    /// Whether so many rows can be written so.
    ///
    /// # Errors
    /// [`Error::ExportUnsuited`] with what does, when not.
    pub fn check(&self, rows: u64) -> Result<()> {
        if !self.format.holds(self.dtype) {
            return Err(Error::ExportUnsuited {
                what: format!("16-bit floats cannot be written as {}", self.format.name()),
                remedy: "leave `--dtype` out, or export npy, npz, parquet, arrow, safetensors or \
                         clip-retrieval"
                    .into(),
            });
        }
        if self.format == Format::Projector {
            if rows > MOST_POINTS {
                return Err(projector::too_many(rows));
            }
            if self.shard.is_some() {
                return Err(Error::ExportUnsuited {
                    what: "the Embedding Projector takes one file of vectors".into(),
                    remedy: "leave `--shard` out".into(),
                });
            }
        }
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Rows.
    pub count: u64,
    /// The files, the manifest last; of a folder, the folder.
    pub files: Vec<PathBuf>,
}

/// One way of writing rows.
trait Writer {
    /// Writes a row; `vector` is what the reader asked for, raw or of length 1.
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()>;

    /// Completes the files and gives them up, in the order that [`read_back`] takes them.
    fn finish(self: Box<Self>) -> Result<Vec<Sink>>;
}

/// Rows between two events.
const TOLD: u64 = 256;

/// Writes `total` rows to `out` and what belongs to it, and describes them in `OUT.manifest.json`, or in the
/// folder's `manifest.json`.
///
/// # Errors
/// [`Error::ExportTarget`] when something else than an earlier export would be replaced; the errors of
/// [`Options::check`]; [`Error::ExportOverflow`]; [`Error::ExportReadBack`] when something else stands on the disk
/// than was written; [`Error::Io`] when a file cannot be written; [`Error::Cancelled`]; whatever `rows` gives. In
/// every case nothing is published, unless a file could be written but not be given its name: then there is no
/// manifest any more.
pub fn export(
    out: &Path,
    total: u64,
    rows: &mut dyn Iterator<Item = Result<ExportRow>>,
    options: &Options<'_>,
    about: &About,
    watch: &Watch<'_>,
) -> Result<Summary> {
    options.check(total)?;
    let shard = match (options.shard, options.format) {
        (Some(rows), _) => Some(rows.get()),
        (None, Format::ClipRetrieval) => Some(clip_retrieval::PART_ROWS),
        (None, _) => None,
    };
    let shard_rows = shard.unwrap_or(total).max(1);
    let shards = total.div_ceil(shard_rows).max(1);
    let numbered = options.shard.is_some() || options.format == Format::ClipRetrieval;
    let place = Place::new(out, numbered.then_some(shards), options)?;

    let mut encoder = Encoder::new(options.dtype, about.normalized, about.width);
    let (mut written, mut records, mut done) = (Vec::new(), Vec::new(), 0);
    for shard in 0..shards {
        let rows_here = shard_rows.min(total - done);
        let shape = Shape { rows: rows_here, width: about.width, dtype: options.dtype };
        let number = numbered.then_some((shard, shards));
        let mut writer = open(&place, number, &shape, options, about)?;
        let mut digest = Digest::default();
        for _ in 0..rows_here {
            watch.check()?;
            let row = rows.next().ok_or_else(|| place.changed())??;
            let vector = encoder.vector(&row)?;
            digest.id(row.id.0);
            digest.vectors(vector.bytes);
            writer.write(&row, vector)?;
            done += 1;
            if done % TOLD == 0 {
                watch.tell(Event::Vectors { doing: Doing::Exporting, done, total });
            }
        }
        let files: Vec<Durable> =
            writer.finish()?.into_iter().map(Sink::complete).collect::<Result<_>>()?;
        watch.check()?;
        verify(options.format, &files, &shape, &digest)?;
        for (at, file) in files.into_iter().enumerate() {
            records.push(file.record(place.folder(), (at == 0).then_some(rows_here))?);
            written.push(file);
        }
    }
    if rows.next().is_some() {
        return Err(place.changed());
    }
    watch.tell(Event::Vectors { doing: Doing::Exporting, done, total });
    let manifest = Manifest {
        likeness: env!("CARGO_PKG_VERSION").to_owned(),
        library: about.library.clone(),
        format: options.format,
        model: about.model.clone(),
        fingerprint: about.fingerprint,
        preprocessing: about.preprocessing.clone(),
        width: about.width,
        count: total,
        dtype: options.dtype,
        normalized: about.normalized,
        files: records,
    };
    let mut sink = Sink::create(&place.manifest())?;
    manifest.write(&mut sink)?;
    let manifest = sink.complete()?;
    Ok(Summary { count: total, files: place.publish(written, manifest, watch)? })
}

fn open<'a>(
    place: &Place,
    number: Option<(u64, u64)>,
    shape: &Shape,
    options: &Options<'a>,
    about: &About,
) -> Result<Box<dyn Writer + 'a>> {
    let out = &place.file(number.map(|(shard, _)| shard));
    let parquet = |columns| parquet::Parquet::create(out, columns, shape, about);
    Ok(match options.format {
        Format::Npy => Box::new(npy::Npy::create(out, shape)?),
        Format::Npz => Box::new(npz::Npz::create(out, shape)?),
        Format::Csv => Box::new(csv::Csv::create(out, about.width)?),
        Format::Jsonl => Box::new(jsonl::Jsonl::create(out)?),
        Format::Parquet => Box::new(parquet(Columns::Everything)?),
        Format::MilvusParquet => Box::new(parquet(Columns::Milvus)?),
        Format::Arrow => Box::new(arrow::Arrow::create(out, shape, about)?),
        Format::Safetensors => Box::new(safetensors::Safetensors::create(out, shape, about)?),
        Format::Fvecs => Box::new(fvecs::Fvecs::create(out, shape)?),
        Format::Projector => {
            let thumbnails = options.thumbnails.unwrap_or(&|paths, _| vec![None; paths.len()]);
            Box::new(projector::Projector::create(out, shape, thumbnails)?)
        }
        Format::ClipRetrieval => {
            let (shard, shards) = number.unwrap_or((0, 1));
            let digits = (shards - 1).to_string().len();
            let number = format!("{shard:0digits$}");
            Box::new(clip_retrieval::ClipRetrieval::create(out, &number, shape, about)?)
        }
    })
}

/// Reads what was written, as a stranger would, and compares.
fn verify(format: Format, files: &[Durable], shape: &Shape, written: &Digest) -> Result<()> {
    let paths: Vec<&Path> = files.iter().map(Durable::path).collect();
    let mut digest = Digest::default();
    let what = match read_back(format, &paths, shape, &mut digest) {
        Ok(()) => digest.difference(written, shape.row_bytes()),
        Err(error) => Some(error.to_string()),
    };
    match what {
        None => Ok(()),
        Some(what) => Err(Error::ExportReadBack { path: files[0].target().to_path_buf(), what }),
    }
}

/// Gives all ids and vectors of a format's files to a digest.
fn read_back(
    format: Format,
    paths: &[&Path],
    shape: &Shape,
    digest: &mut Digest,
) -> io::Result<()> {
    match (format, paths) {
        (Format::Npy, [data, ids]) => npy::read_back(data, ids, digest),
        (Format::Npz, [file]) => npz::read_back(file, shape, digest),
        (Format::Csv, [file]) => csv::read_back(file, shape.width, digest),
        (Format::Jsonl, [file]) => jsonl::read_back(file, shape.width, digest),
        (Format::Parquet | Format::MilvusParquet, [file]) => {
            parquet::read_back(file, shape, digest)
        }
        (Format::Arrow, [file]) => arrow::read_back(file, shape, digest),
        (Format::Safetensors, [file, ids]) => safetensors::read_back(file, ids, digest),
        (Format::Fvecs, [file, ids]) => fvecs::read_back(file, ids, shape, digest),
        (Format::Projector, [vectors, metadata, sprite, _]) => {
            projector::read_back([vectors, metadata, sprite], shape, digest)
        }
        (Format::ClipRetrieval, [vectors, metadata]) => {
            npy::read_back_alone(vectors, digest)?;
            parquet::read_back(metadata, shape, digest)
        }
        _ => unreachable!("each writer gives as many files as its reader takes"),
    }
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
