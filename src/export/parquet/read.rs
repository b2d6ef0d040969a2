//! Parquet files of ours, read back by columns.

use std::fs::File;
use std::io;
use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type,
};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;

use super::super::vectors::{Digest, Dtype, Shape, invalid};
use super::{AT_ONCE, Cells, failure};
use crate::record::{ContentHash, PhotoDetails};

/// A row of a file, without its vector.
pub(in crate::export) struct Read {
    pub(in crate::export) content_hash: Option<ContentHash>,
    pub(in crate::export) size: (u32, u32),
    pub(in crate::export) format: String,
    pub(in crate::export) details: PhotoDetails,
}

/// Gives the ids, and the vectors where the file holds some, to the digest.
pub(in crate::export) fn read_back(
    path: &Path,
    shape: &Shape,
    digest: &mut Digest,
) -> io::Result<()> {
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
pub(in crate::export) fn each_row(
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
pub(in crate::export) fn rows(path: &Path) -> io::Result<u64> {
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
