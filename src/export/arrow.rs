//! Apache Arrow's file (IPC, once called Feather 2): the columns of [`super::parquet`], vectors as lists of a
//! fixed size. Readers map it and copy nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Float64Builder, Int8Builder, Int64Builder, ListBuilder, StringBuilder,
    UInt32Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Float16Array, Float32Array, RecordBatch};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use half::f16;

use super::Writer;
use super::jsonl::path_bytes;
use super::manifest::About;
use super::parquet::described_pairs;
use super::sink::Sink;
use super::vectors::{Digest, Dtype, Shape, Vector, invalid};
use crate::error::{Error, Result};
use crate::record::{ExportRow, PhotoDetails};

/// Bytes of vectors in a record batch, about: it is held in memory until it is full.
const BATCH_BYTES: usize = 8 << 20;
/// Rows of a record batch at most.
const BATCH_ROWS: usize = 1 << 16;

pub(super) struct Arrow {
    writer: FileWriter<Sink>,
    schema: SchemaRef,
    shape: Shape,
    batch_rows: usize,
    batch: Batch,
    out: PathBuf,
}

/// A record batch that is being filled.
#[derive(Default)]
struct Batch {
    rows: usize,
    ids: Int64Builder,
    paths: StringBuilder,
    path_bytes: BinaryBuilder,
    hashes: StringBuilder,
    sizes: [UInt32Builder; 2],
    formats: StringBuilder,
    texts: [StringBuilder; 3],
    degrees: [Float64Builder; 2],
    ratings: Int8Builder,
    keywords: Option<ListBuilder<StringBuilder>>,
    floats: Vec<f32>,
    halves: Vec<f16>,
}

fn words() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false))
}

fn component(dtype: Dtype) -> Arc<Field> {
    let dtype = match dtype {
        Dtype::F32 => DataType::Float32,
        Dtype::F16 => DataType::Float16,
    };
    Arc::new(Field::new("item", dtype, false))
}

fn schema(shape: &Shape, about: &About) -> Schema {
    let required = |name: &str, dtype| Field::new(name, dtype, false);
    let optional = |name: &str, dtype| Field::new(name, dtype, true);
    let vector = DataType::FixedSizeList(component(shape.dtype), shape.width as i32);
    let fields = vec![
        required("id", DataType::Int64),
        required("path", DataType::Utf8),
        optional("path_bytes", DataType::Binary),
        required("content_hash", DataType::Utf8),
        required("width", DataType::UInt32),
        required("height", DataType::UInt32),
        required("format", DataType::Utf8),
        optional("taken_at", DataType::Utf8),
        optional("camera", DataType::Utf8),
        optional("lens", DataType::Utf8),
        optional("latitude", DataType::Float64),
        optional("longitude", DataType::Float64),
        optional("rating", DataType::Int8),
        optional("keywords", DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)))),
        required("embedding", vector),
    ];
    Schema::new_with_metadata(fields, HashMap::from(described_pairs(about)))
}

impl Batch {
    fn push(&mut self, row: &ExportRow, vector: Vector<'_>, dtype: Dtype) {
        self.rows += 1;
        self.ids.append_value(row.id.0);
        self.paths.append_value(row.path.to_string_lossy());
        self.path_bytes.append_option(path_bytes(&row.path));
        self.hashes.append_value(row.content_hash.to_string());
        self.sizes[0].append_value(row.width);
        self.sizes[1].append_value(row.height);
        self.formats.append_value(&row.format);
        let PhotoDetails { taken_at, camera, lens, latitude, longitude, rating, keywords } =
            &row.details;
        for (builder, text) in self.texts.iter_mut().zip([taken_at, camera, lens]) {
            builder.append_option(text.as_deref());
        }
        for (builder, degrees) in self.degrees.iter_mut().zip([latitude, longitude]) {
            builder.append_option(*degrees);
        }
        self.ratings.append_option(*rating);
        let lists = self.keywords.get_or_insert_with(words);
        keywords.iter().for_each(|word| lists.values().append_value(word));
        lists.append(!keywords.is_empty());
        match dtype {
            Dtype::F32 => self.floats.extend_from_slice(vector.values),
            Dtype::F16 => {
                let (halves, _) = vector.bytes.as_chunks();
                self.halves.extend(halves.iter().map(|half| f16::from_le_bytes(*half)));
            }
        }
    }

    fn take(&mut self, schema: &SchemaRef, shape: &Shape) -> Result<RecordBatch, ArrowError> {
        let Self { ids, paths, path_bytes, hashes, sizes, formats, texts, degrees, .. } = self;
        let values: ArrayRef = match shape.dtype {
            Dtype::F32 => Arc::new(Float32Array::from(std::mem::take(&mut self.floats))),
            Dtype::F16 => Arc::new(Float16Array::from(std::mem::take(&mut self.halves))),
        };
        let (component, width) = (component(shape.dtype), shape.width as i32);
        let vectors = FixedSizeListArray::try_new(component, width, values, None)?;
        let [widths, heights] = sizes.each_mut().map(UInt32Builder::finish);
        let [taken_at, cameras, lenses] = texts.each_mut().map(StringBuilder::finish);
        let [latitudes, longitudes] = degrees.each_mut().map(Float64Builder::finish);
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ids.finish()),
            Arc::new(paths.finish()),
            Arc::new(path_bytes.finish()),
            Arc::new(hashes.finish()),
            Arc::new(widths),
            Arc::new(heights),
            Arc::new(formats.finish()),
            Arc::new(taken_at),
            Arc::new(cameras),
            Arc::new(lenses),
            Arc::new(latitudes),
            Arc::new(longitudes),
            Arc::new(self.ratings.finish()),
            Arc::new(self.keywords.get_or_insert_with(words).finish()),
            Arc::new(vectors),
        ];
        RecordBatch::try_new(schema.clone(), columns)
    }
}

impl Arrow {
    pub(super) fn create(out: &Path, shape: &Shape, about: &About) -> Result<Self> {
        let schema = Arc::new(schema(shape, about));
        let writer = FileWriter::try_new(Sink::create(out)?, &schema)
            .map_err(|error| Error::io("write", out)(failure(error)))?;
        let batch_rows = (BATCH_BYTES / shape.row_bytes().max(1)).clamp(1, BATCH_ROWS);
        let (batch, out) = (Batch::default(), out.to_path_buf());
        Ok(Self { writer, schema, shape: *shape, batch_rows, batch, out })
    }

    fn write_batch(&mut self) -> Result<()> {
        if self.batch.rows == 0 {
            return Ok(());
        }
        let batch = self.batch.take(&self.schema, &self.shape);
        batch
            .and_then(|batch| self.writer.write(&batch))
            .map_err(|error| Error::io("write", &self.out)(failure(error)))
    }
}

impl Writer for Arrow {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        self.batch.push(row, vector, self.shape.dtype);
        if self.batch.rows < self.batch_rows {
            return Ok(());
        }
        self.write_batch()
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Sink>> {
        self.write_batch()?;
        // Completes the file first.
        let sink = self.writer.into_inner();
        Ok(vec![sink.map_err(|error| Error::io("write", &self.out)(failure(error)))?])
    }
}

fn failure(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, source) => source,
        other => invalid(other),
    }
}

pub(super) fn read_back(path: &Path, shape: &Shape, digest: &mut Digest) -> io::Result<()> {
    let reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let reader = FileReader::try_new(reader, None).map_err(failure)?;
    let mut scratch = Vec::new();
    for batch in reader {
        let batch = batch.map_err(failure)?;
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| invalid(format!("there is no column {name}")))
        };
        let ids = column("id")?.as_primitive_opt::<Int64Type>();
        let ids = ids.ok_or_else(|| invalid("the ids are of another type"))?;
        ids.values().iter().for_each(|id| digest.id(*id));
        let vectors = column("embedding")?.as_fixed_size_list_opt();
        let vectors = vectors.ok_or_else(|| invalid("the vectors are of another type"))?;
        if vectors.value_length() != shape.width as i32 {
            return Err(invalid(format!("vectors of width {}", vectors.value_length())));
        }
        match shape.dtype {
            Dtype::F32 => {
                let values = vectors.values().as_primitive_opt::<Float32Type>();
                let values = values.ok_or_else(|| invalid("components of another type"))?;
                digest.values(values.values(), &mut scratch);
            }
            Dtype::F16 => {
                let values = vectors.values().as_primitive_opt::<Float16Type>();
                let values = values.ok_or_else(|| invalid("components of another type"))?;
                scratch.clear();
                values.values().iter().for_each(|half| scratch.extend(half.to_le_bytes()));
                digest.vectors(&scratch);
            }
        }
    }
    Ok(())
}
