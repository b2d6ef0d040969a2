//! Apache Parquet: a column for each thing that is known of an image, and the vector as a list.
//!
//! Uncompressed and plain where it counts: floats of features do not compress, and readers that map files
//! like it so. Row groups are bounded, so that memory is.

mod read;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType,
    FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

pub(super) use read::{Read, each_row, read_back, rows};

use super::Writer;
use super::jsonl::path_bytes;
use super::manifest::About;
use super::sink::Sink;
use super::vectors::{Dtype, Shape, Vector, invalid};
use crate::error::{Error, Result};
use crate::record::{ExportRow, PhotoDetails};

/// Bytes of vectors in a row group, about: it is held in memory until it is full.
const GROUP_BYTES: usize = 32 << 20;
/// Rows of a row group at most.
const GROUP_ROWS: usize = 1 << 16;
/// Vectors that are written, or read, at once.
const AT_ONCE: usize = 64;

/// Which columns there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// Everything, the vector last.
    Everything,
    /// What Milvus's bulk import takes: `id`, `path`, `embedding`, nullable, and no other.
    Milvus,
    /// Everything but the vector, and the path as `image_path`, as clip-retrieval reads it.
    ClipRetrieval,
}

impl Columns {
    fn schema(self, dtype: Dtype) -> String {
        let element = match dtype {
            Dtype::F32 => "float element",
            Dtype::F16 => "fixed_len_byte_array(2) element (FLOAT16)",
        };
        let list = |name: &str, presence: &str| {
            format!(
                "{presence} group {name} (LIST) {{ repeated group list {{ {presence} {element}; }} }}"
            )
        };
        let everything = |path: &str, embedding: &str| {
            format!(
                "message photos {{
                    required int64 id;
                    required binary {path} (STRING);
                    optional binary path_bytes;
                    required binary content_hash (STRING);
                    required int32 width (INTEGER(32,false));
                    required int32 height (INTEGER(32,false));
                    required binary format (STRING);
                    optional binary taken_at (STRING);
                    optional binary camera (STRING);
                    optional binary lens (STRING);
                    optional double latitude;
                    optional double longitude;
                    optional int32 rating (INTEGER(8,true));
                    optional group keywords (LIST) {{
                        repeated group list {{ required binary element (STRING); }}
                    }}
                    {embedding}
                }}"
            )
        };
        match self {
            Columns::Everything => everything("path", &list("embedding", "required")),
            Columns::ClipRetrieval => everything("image_path", ""),
            Columns::Milvus => format!(
                "message photos {{
                    optional int64 id;
                    optional binary path (STRING);
                    {}
                }}",
                list("embedding", "optional")
            ),
        }
    }
}

/// Values of a column, and which rows have one.
#[derive(Default)]
struct Cells<T> {
    values: Vec<T>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl<T> Cells<T> {
    fn push(&mut self, value: Option<T>) {
        self.definition.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.definition.clear();
        self.repetition.clear();
    }
}

/// A row group that is being filled. What is never missing has definition levels, too: they are ignored where
/// the schema says required.
#[derive(Default)]
struct Group {
    ids: Cells<i64>,
    paths: Cells<ByteArray>,
    path_bytes: Cells<ByteArray>,
    hashes: Cells<ByteArray>,
    sizes: [Cells<i32>; 2],
    formats: Cells<ByteArray>,
    /// taken_at, camera, lens.
    texts: [Cells<ByteArray>; 3],
    /// latitude, longitude.
    degrees: [Cells<f64>; 2],
    ratings: Cells<i32>,
    keywords: Cells<ByteArray>,
    floats: Vec<f32>,
    halves: Vec<u8>,
}

impl Group {
    fn rows(&self) -> usize {
        self.ids.values.len()
    }

    fn push(&mut self, row: &ExportRow, columns: Columns, vector: Option<(Dtype, Vector<'_>)>) {
        self.ids.push(Some(row.id.0));
        self.paths.push(Some(row.path.to_string_lossy().as_ref().into()));
        match vector {
            Some((Dtype::F32, vector)) => self.floats.extend_from_slice(vector.values),
            Some((Dtype::F16, vector)) => self.halves.extend_from_slice(vector.bytes),
            None => {}
        }
        if columns == Columns::Milvus {
            return;
        }
        self.path_bytes.push(path_bytes(&row.path).map(ByteArray::from));
        self.hashes.push(Some(row.content_hash.to_string().into_bytes().into()));
        for (cells, side) in self.sizes.iter_mut().zip([row.width, row.height]) {
            cells.push(Some(side.cast_signed()));
        }
        self.formats.push(Some(row.format.as_str().into()));
        let PhotoDetails { taken_at, camera, lens, latitude, longitude, rating, keywords } =
            &row.details;
        for (cells, text) in self.texts.iter_mut().zip([taken_at, camera, lens]) {
            cells.push(text.as_deref().map(ByteArray::from));
        }
        for (cells, degrees) in self.degrees.iter_mut().zip([latitude, longitude]) {
            cells.push(*degrees);
        }
        self.ratings.push(rating.map(i32::from));
        // Levels of an optional list of required values: 0 none, 2 a value; repeated after the first.
        self.keywords.definition.extend(match keywords.len() {
            0 => vec![0],
            some => vec![2; some],
        });
        self.keywords.repetition.extend((0..keywords.len().max(1)).map(|i| i16::from(i > 0)));
        self.keywords.values.extend(keywords.iter().map(|word| ByteArray::from(word.as_str())));
    }

    fn clear(&mut self) {
        let Self { ids, paths, path_bytes, hashes, sizes, formats, texts, degrees, .. } = self;
        ids.clear();
        for cells in [paths, path_bytes, hashes, formats, &mut self.keywords] {
            cells.clear();
        }
        texts.iter_mut().for_each(Cells::clear);
        sizes.iter_mut().for_each(Cells::clear);
        degrees.iter_mut().for_each(Cells::clear);
        self.ratings.clear();
        self.floats.clear();
        self.halves.clear();
    }
}

pub(super) struct Parquet {
    writer: SerializedFileWriter<Sink>,
    columns: Columns,
    shape: Shape,
    group: Group,
    group_rows: usize,
    out: PathBuf,
}

impl Parquet {
    pub(super) fn create(
        out: &Path,
        columns: Columns,
        shape: &Shape,
        about: &About,
    ) -> Result<Self> {
        let schema = parse_message_type(&columns.schema(shape.dtype)).expect("the schema is ours");
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("likeness {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_key_value_metadata(Some(described(about)));
        for repeated in ["format", "camera", "lens"] {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(repeated), true);
        }
        let embedding =
            || ColumnPath::from(["embedding", "list", "element"].map(str::to_owned).to_vec());
        properties = properties
            .set_column_encoding(embedding(), Encoding::PLAIN)
            .set_column_statistics_enabled(embedding(), EnabledStatistics::None);
        let writer = SerializedFileWriter::new(
            Sink::create(out)?,
            Arc::new(schema),
            Arc::new(properties.build()),
        )
        .map_err(|error| Error::io("write", out)(failure(error)))?;
        let by_bytes = GROUP_BYTES / shape.row_bytes().max(1);
        let group_rows = match columns {
            Columns::ClipRetrieval => GROUP_ROWS,
            _ => by_bytes.clamp(1, GROUP_ROWS),
        };
        let (group, out) = (Group::default(), out.to_path_buf());
        Ok(Self { writer, columns, shape: *shape, group, group_rows, out })
    }

    pub(super) fn push(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        let vector = (self.columns != Columns::ClipRetrieval).then_some((self.shape.dtype, vector));
        self.group.push(row, self.columns, vector);
        if self.group.rows() < self.group_rows {
            return Ok(());
        }
        self.write_group()
    }

    fn write_group(&mut self) -> Result<()> {
        let (group, columns, shape) = (&self.group, self.columns, &self.shape);
        if group.rows() == 0 {
            return Ok(());
        }
        write_group(&mut self.writer, group, columns, shape)
            .map_err(|error| Error::io("write", &self.out)(failure(error)))?;
        self.group.clear();
        Ok(())
    }

    pub(super) fn complete(mut self) -> Result<Sink> {
        self.write_group()?;
        self.writer.into_inner().map_err(|error| Error::io("write", &self.out)(failure(error)))
    }
}

impl Writer for Parquet {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        self.push(row, vector)
    }

    fn finish(self: Box<Self>) -> Result<Vec<Sink>> {
        Ok(vec![self.complete()?])
    }
}

fn described(about: &About) -> Vec<KeyValue> {
    let pairs = about.pairs().into_iter();
    pairs.map(|(key, value)| KeyValue::new(key, Some(value))).collect()
}

type Written<T> = std::result::Result<T, ParquetError>;

fn write_group(
    writer: &mut SerializedFileWriter<Sink>,
    group: &Group,
    columns: Columns,
    shape: &Shape,
) -> Written<()> {
    let mut to = writer.next_row_group()?;
    column::<Int64Type>(&mut to, &group.ids)?;
    column::<ByteArrayType>(&mut to, &group.paths)?;
    if columns != Columns::Milvus {
        column::<ByteArrayType>(&mut to, &group.path_bytes)?;
        column::<ByteArrayType>(&mut to, &group.hashes)?;
        group.sizes.iter().try_for_each(|cells| column::<Int32Type>(&mut to, cells))?;
        column::<ByteArrayType>(&mut to, &group.formats)?;
        group.texts.iter().try_for_each(|cells| column::<ByteArrayType>(&mut to, cells))?;
        group.degrees.iter().try_for_each(|cells| column::<DoubleType>(&mut to, cells))?;
        column::<Int32Type>(&mut to, &group.ratings)?;
        column::<ByteArrayType>(&mut to, &group.keywords)?;
    }
    let most = if columns == Columns::Milvus { 3 } else { 1 };
    match (columns, shape.dtype) {
        (Columns::ClipRetrieval, _) => {}
        (_, Dtype::F32) => {
            let values = group.floats.chunks(AT_ONCE * shape.width);
            lists::<FloatType>(&mut to, shape.width, most, values)?;
        }
        (_, Dtype::F16) => {
            // One buffer for many values, which each hold a place in it.
            let buffers = group.halves.chunks(AT_ONCE * shape.row_bytes());
            let values = buffers.map(|buffer| -> Vec<FixedLenByteArray> {
                let buffer = ByteArray::from(buffer.to_vec());
                (0..buffer.len() / 2).map(|i| buffer.slice(2 * i, 2).into()).collect()
            });
            lists::<FixedLenByteArrayType>(&mut to, shape.width, most, values)?;
        }
    }
    to.close().map(drop)
}

fn column<T: DataType>(
    to: &mut SerializedRowGroupWriter<'_, Sink>,
    cells: &Cells<T::T>,
) -> Written<()> {
    let mut column = to.next_column()?.expect("as many columns as the schema has");
    let repetition = (!cells.repetition.is_empty()).then_some(cells.repetition.as_slice());
    column.typed::<T>().write_batch(&cells.values, Some(&cells.definition), repetition)?;
    column.close()
}

/// Writes vectors of `width`; `most` is the definition level of a value that is there.
fn lists<T: DataType>(
    to: &mut SerializedRowGroupWriter<'_, Sink>,
    width: usize,
    most: i16,
    chunks: impl Iterator<Item = impl AsRef<[T::T]>>,
) -> Written<()> {
    let mut column = to.next_column()?.expect("the last column of the schema");
    let definition = vec![most; AT_ONCE * width];
    let repetition: Vec<i16> = (0..AT_ONCE * width).map(|i| i16::from(i % width > 0)).collect();
    for values in chunks {
        let values = values.as_ref();
        let (definition, repetition) = (&definition[..values.len()], &repetition[..values.len()]);
        column.typed::<T>().write_batch(values, Some(definition), Some(repetition))?;
    }
    column.close()
}

fn failure(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(source) => invalid(source),
        },
        other => invalid(other),
    }
}
