//! Apache Parquet: a column for each thing that is known of an image, and the vector as a list.
//!
//! Uncompressed and plain where it counts: floats of features do not compress, and readers that map files
//! like it so. Row groups are bounded, so that memory is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType,
    FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::Writer;
use super::jsonl::path_bytes;
use super::manifest::About;
use super::sink::Sink;
use super::vectors::{Digest, Dtype, Shape, Vector, invalid};
use crate::error::{Error, Result};
use crate::record::{ContentHash, ExportRow, PhotoDetails};

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
                    required int32 width;
                    required int32 height;
                    required binary format (STRING);
                    optional binary taken_at (STRING);
                    optional binary camera (STRING);
                    optional binary lens (STRING);
                    optional double latitude;
                    optional double longitude;
                    optional int32 rating;
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

/// What stands in the file's own metadata, so that it can be told what it is without its manifest.
pub(super) fn described_pairs(about: &About) -> [(String, String); 5] {
    [
        ("likeness.model", about.model.clone()),
        ("likeness.fingerprint", about.fingerprint.to_string()),
        ("likeness.width", about.width.to_string()),
        ("likeness.normalized", about.normalized.to_string()),
        ("likeness.library", about.library.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
}

fn described(about: &About) -> Vec<KeyValue> {
    let pairs = described_pairs(about).into_iter();
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

/// A row of a file, without its vector.
pub(super) struct Read {
    pub(super) content_hash: Option<ContentHash>,
    pub(super) size: (u32, u32),
    pub(super) format: String,
    pub(super) details: PhotoDetails,
}

/// Gives the ids, and the vectors where the file holds some, to the digest.
pub(super) fn read_back(path: &Path, shape: &Shape, digest: &mut Digest) -> io::Result<()> {
    let reader = open(path)?;
    for at in 0..reader.num_row_groups() {
        let group = reader.get_row_group(at).map_err(failure)?;
        let ids = read_column::<Int64Type>(&*group, "id")?;
        ids.values.iter().for_each(|id| digest.id(*id));
        if find(&*group, "embedding.list.element").is_none() {
            continue;
        }
        let mut scratch = Vec::new();
        match shape.dtype {
            Dtype::F32 => each_list::<FloatType>(&*group, shape.width, &mut |values| {
                digest.values(values, &mut scratch);
                Ok(())
            })?,
            Dtype::F16 => {
                each_list::<FixedLenByteArrayType>(&*group, shape.width, &mut |values| {
                    scratch.clear();
                    values.iter().for_each(|value| scratch.extend_from_slice(value.data()));
                    digest.vectors(&scratch);
                    Ok(())
                })?
            }
        }
    }
    Ok(())
}

/// Gives each row of a file of [`Columns::Everything`] in single precision, with its vector.
pub(super) fn each_row(
    path: &Path,
    width: usize,
    each: &mut dyn FnMut(Read, Vec<f32>) -> io::Result<()>,
) -> io::Result<()> {
    let reader = open(path)?;
    for at in 0..reader.num_row_groups() {
        let group = reader.get_row_group(at).map_err(failure)?;
        let mut rows = read_group(&*group)?.into_iter();
        each_list::<FloatType>(&*group, width, &mut |values| {
            for vector in values.chunks_exact(width) {
                let row = rows.next().ok_or_else(|| invalid("more vectors than rows"))?;
                each(row, vector.to_vec())?;
            }
            Ok(())
        })?;
        if rows.next().is_some() {
            return Err(invalid("fewer vectors than rows"));
        }
    }
    Ok(())
}

/// How many rows a file has.
pub(super) fn rows(path: &Path) -> io::Result<u64> {
    let rows = open(path)?.metadata().file_metadata().num_rows();
    u64::try_from(rows).map_err(invalid)
}

fn open(path: &Path) -> io::Result<SerializedFileReader<File>> {
    SerializedFileReader::new(File::open(path)?).map_err(failure)
}

fn read_group(group: &dyn RowGroupReader) -> io::Result<Vec<Read>> {
    let hashes = read_column::<ByteArrayType>(group, "content_hash")?.values;
    let mut widths = read_column::<Int32Type>(group, "width")?.values.into_iter();
    let mut heights = read_column::<Int32Type>(group, "height")?.values.into_iter();
    let mut formats = read_column::<ByteArrayType>(group, "format")?.values.into_iter();
    let mut taken_at = read_column::<ByteArrayType>(group, "taken_at")?.into_rows();
    let mut cameras = read_column::<ByteArrayType>(group, "camera")?.into_rows();
    let mut lenses = read_column::<ByteArrayType>(group, "lens")?.into_rows();
    let mut latitudes = read_column::<DoubleType>(group, "latitude")?.into_rows();
    let mut longitudes = read_column::<DoubleType>(group, "longitude")?.into_rows();
    let mut ratings = read_column::<Int32Type>(group, "rating")?.into_rows();
    let mut keywords = read_column::<ByteArrayType>(group, "keywords.list.element")?.into_lists();
    let text = |bytes: Option<ByteArray>| -> io::Result<Option<String>> {
        bytes.map(|bytes| bytes.as_utf8().map(str::to_owned).map_err(failure)).transpose()
    };
    let mut rows = Vec::with_capacity(hashes.len());
    for hash in &hashes {
        let side = |cells: &mut dyn Iterator<Item = i32>| cells.next().map(i32::cast_unsigned);
        let missing = || invalid("columns of different lengths");
        rows.push(Read {
            content_hash: hash.as_utf8().ok().and_then(ContentHash::from_hex),
            size: (side(&mut widths).ok_or_else(missing)?, side(&mut heights).ok_or_else(missing)?),
            format: text(formats.next())?.ok_or_else(missing)?,
            details: PhotoDetails {
                taken_at: text(taken_at.next().flatten())?,
                camera: text(cameras.next().flatten())?,
                lens: text(lenses.next().flatten())?,
                latitude: latitudes.next().flatten(),
                longitude: longitudes.next().flatten(),
                rating: ratings.next().flatten().and_then(|stars| i8::try_from(stars).ok()),
                keywords: keywords
                    .next()
                    .unwrap_or_default()
                    .into_iter()
                    .map(|word| text(Some(word)).map(Option::unwrap_or_default))
                    .collect::<io::Result<_>>()?,
            },
        });
    }
    Ok(rows)
}

fn find(group: &dyn RowGroupReader, name: &str) -> Option<usize> {
    group.metadata().columns().iter().position(|column| column.column_path().string() == name)
}

fn reader_of<T: DataType>(
    group: &dyn RowGroupReader,
    name: &str,
) -> io::Result<ColumnReaderImpl<T>> {
    let at = find(group, name).ok_or_else(|| invalid(format!("there is no column {name}")))?;
    let reader: ColumnReader = group.get_column_reader(at).map_err(failure)?;
    let expected = T::get_physical_type();
    let found = group.metadata().column(at).column_type();
    if found != expected {
        return Err(invalid(format!("column {name} is {found}, not {expected}")));
    }
    Ok(get_typed_column_reader::<T>(reader))
}

fn read_column<T: DataType>(group: &dyn RowGroupReader, name: &str) -> io::Result<Cells<T::T>> {
    let mut reader = reader_of::<T>(group, name)?;
    let mut cells = Cells { values: Vec::new(), definition: Vec::new(), repetition: Vec::new() };
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let (read, _, _) = reader
        .read_records(
            rows,
            Some(&mut cells.definition),
            Some(&mut cells.repetition),
            &mut cells.values,
        )
        .map_err(failure)?;
    match read == rows {
        true => Ok(cells),
        false => Err(invalid(format!("column {name} holds {read} of {rows} rows"))),
    }
}

impl<T> Cells<T> {
    /// Of an optional column, each row's value.
    fn into_rows(self) -> impl Iterator<Item = Option<T>> {
        let mut values = self.values.into_iter();
        self.definition.into_iter().map(move |level| (level > 0).then(|| values.next()).flatten())
    }

    /// Of an optional list, each row's values.
    fn into_lists(self) -> impl Iterator<Item = Vec<T>> {
        let mut values = self.values.into_iter();
        let mut levels = self.definition.into_iter().zip(self.repetition).peekable();
        std::iter::from_fn(move || {
            let (first, _) = levels.next()?;
            let mut list: Vec<T> =
                (first == 2).then(|| values.next()).flatten().into_iter().collect();
            while levels.next_if(|(_, repeated)| *repeated > 0).is_some() {
                list.extend(values.next());
            }
            Some(list)
        })
    }
}

/// Gives some whole vectors at once.
fn each_list<T: DataType>(
    group: &dyn RowGroupReader,
    width: usize,
    each: &mut dyn FnMut(&[T::T]) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = reader_of::<T>(group, "embedding.list.element")?;
    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        values.clear();
        definition.clear();
        repetition.clear();
        let (records, found, levels) = reader
            .read_records(AT_ONCE, Some(&mut definition), Some(&mut repetition), &mut values)
            .map_err(failure)?;
        if records == 0 {
            return Ok(());
        }
        let whole = repetition.chunks(width).all(|list| list[0] == 0 && !list[1..].contains(&0));
        if found != records * width || levels != found || !whole {
            return Err(invalid(format!("vectors of another width than {width}")));
        }
        each(&values)?;
    }
}
