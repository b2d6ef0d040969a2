//! Arrow's columns in memory and its file around them
//! (<https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format>): a schema, record batches, and a footer that
//! says where they are.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::flatbuffer::{Table, Value, i64_at, serialise};

const MAGIC: &[u8; 8] = b"ARROW1\0\0";
/// Buffers begin at multiples of this, as the format recommends.
const ALIGN: usize = 64;
/// The fifth version of the metadata, as all since Arrow 1.0.
const VERSION: Value = Value::I16(4);

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    I64,
    U32,
    I8,
    F64,
    Text,
    Bytes,
    /// Lists of texts.
    Texts,
    /// Lists of so many floats of so many bytes each.
    Vectors(usize, usize),
}

/// A column of a record batch that is being filled.
pub(super) struct Column {
    name: &'static str,
    kind: Kind,
    nullable: bool,
    rows: usize,
    nulls: usize,
    /// A bit a row, from the lowest: whether there is a value.
    valid: Vec<u8>,
    /// Where each row's part begins, and where the last ends.
    offsets: Vec<i32>,
    /// Of lists of texts, the same for each text.
    inner: Vec<i32>,
    data: Vec<u8>,
}

impl Column {
    pub(super) fn new(name: &'static str, kind: Kind, nullable: bool) -> Self {
        let (offsets, inner) = (vec![0], vec![0]);
        let (valid, data) = (Vec::new(), Vec::new());
        Self { name, kind, nullable, rows: 0, nulls: 0, valid, offsets, inner, data }
    }

    /// A row's bytes, little-endian; of a kind of fixed size, as many as that has.
    pub(super) fn push(&mut self, value: Option<&[u8]>) {
        self.count(value.is_some());
        match value {
            Some(bytes) => self.data.extend_from_slice(bytes),
            None => self.data.resize(self.data.len() + self.fixed_size(), 0),
        }
        if matches!(self.kind, Kind::Text | Kind::Bytes) {
            self.offsets.push(self.data.len() as i32);
        }
    }

    /// A row's texts; none of them is no value.
    pub(super) fn push_texts(&mut self, texts: &[String]) {
        self.count(!texts.is_empty());
        for text in texts {
            self.data.extend_from_slice(text.as_bytes());
            self.inner.push(self.data.len() as i32);
        }
        self.offsets.push(self.inner.len() as i32 - 1);
    }

    fn count(&mut self, valid: bool) {
        if self.rows.is_multiple_of(8) {
            self.valid.push(0);
        }
        if valid {
            self.valid[self.rows / 8] |= 1 << (self.rows % 8);
        }
        self.rows += 1;
        self.nulls += usize::from(!valid);
    }

    fn fixed_size(&self) -> usize {
        match self.kind {
            Kind::I64 | Kind::F64 => 8,
            Kind::U32 => 4,
            Kind::I8 => 1,
            Kind::Text | Kind::Bytes | Kind::Texts => 0,
            Kind::Vectors(width, size) => width * size,
        }
    }

    fn clear(&mut self) {
        (self.rows, self.nulls) = (0, 0);
        self.valid.clear();
        self.offsets.truncate(1);
        self.inner.truncate(1);
        self.data.clear();
    }

    fn field(&self) -> Value {
        let floating = |precision| (3, vec![Some(Value::I16(precision))]);
        let integer =
            |bits, signed| (2, vec![Some(Value::I32(bits)), Some(Value::U8(u8::from(signed)))]);
        let (number, fields) = match self.kind {
            Kind::I64 => integer(64, true),
            Kind::U32 => integer(32, false),
            Kind::I8 => integer(8, true),
            Kind::F64 => floating(2),
            Kind::Bytes => (4, vec![]),
            Kind::Text => (5, vec![]),
            Kind::Texts => (12, vec![]),
            Kind::Vectors(width, _) => (16, vec![Some(Value::I32(width as i32))]),
        };
        let children = match self.kind {
            Kind::Texts => vec![field("item", false, (5, vec![]), vec![])],
            Kind::Vectors(_, size) => {
                vec![field("item", false, floating(i16::from(size == 4)), vec![])]
            }
            _ => vec![],
        };
        field(self.name, self.nullable, (number, fields), children)
    }

    /// Rows and missing ones of the column and its children; and all buffers.
    fn parts(&self) -> (Vec<(usize, usize)>, Vec<Part<'_>>) {
        let valid = if self.nulls > 0 { Part::Bytes(&self.valid) } else { Part::Bytes(&[]) };
        let own = (self.rows, self.nulls);
        match self.kind {
            Kind::Text | Kind::Bytes => {
                (vec![own], vec![valid, Part::Offsets(&self.offsets), Part::Bytes(&self.data)])
            }
            Kind::Texts => (
                vec![own, (self.inner.len() - 1, 0)],
                vec![
                    valid,
                    Part::Offsets(&self.offsets),
                    Part::Bytes(&[]),
                    Part::Offsets(&self.inner),
                    Part::Bytes(&self.data),
                ],
            ),
            Kind::Vectors(width, _) => (
                vec![own, (self.rows * width, 0)],
                vec![valid, Part::Bytes(&[]), Part::Bytes(&self.data)],
            ),
            _ => (vec![own], vec![valid, Part::Bytes(&self.data)]),
        }
    }
}

fn field(
    name: &str,
    nullable: bool,
    (number, fields): (u8, Vec<Option<Value>>),
    children: Vec<Value>,
) -> Value {
    Value::Table(vec![
        Some(Value::Text(name.to_owned())),
        Some(Value::U8(u8::from(nullable))),
        Some(Value::U8(number)),
        Some(Value::Table(fields)),
        None,
        Some(Value::Tables(children)),
    ])
}

/// A buffer of a column.
enum Part<'a> {
    Bytes(&'a [u8]),
    Offsets(&'a [i32]),
}

impl Part<'_> {
    fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Offsets(offsets) => 4 * offsets.len(),
        }
    }

    fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        match self {
            Part::Bytes(bytes) => writer.write_all(bytes)?,
            Part::Offsets(offsets) => {
                let bytes: Vec<u8> =
                    offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
                writer.write_all(&bytes)?;
            }
        }
        let padding = self.len().next_multiple_of(ALIGN) - self.len();
        writer.write_all(&[0; ALIGN][..padding])
    }
}

/// A file that is being written.
pub(super) struct Writer<W> {
    to: W,
    written: u64,
    columns: Vec<Column>,
    about: Vec<(String, String)>,
    /// Offset, bytes of metadata, bytes of the body.
    blocks: Vec<(u64, usize, usize)>,
}

impl<W: Write> Writer<W> {
    /// Begins a file of these columns; `about` are texts that its schema holds.
    pub(super) fn new(
        to: W,
        columns: Vec<Column>,
        about: Vec<(String, String)>,
    ) -> io::Result<Self> {
        let mut writer = Self { to, written: 0, columns, about, blocks: Vec::new() };
        writer.to.write_all(MAGIC)?;
        writer.written = MAGIC.len() as u64;
        let schema = writer.schema();
        writer.message(1, schema, 0)?;
        Ok(writer)
    }

    pub(super) fn columns(&mut self) -> &mut [Column] {
        &mut self.columns
    }

    /// Rows that wait for [`Writer::write_batch`].
    pub(super) fn rows(&self) -> usize {
        self.columns[0].rows
    }

    /// Writes the rows that wait as a record batch.
    pub(super) fn write_batch(&mut self) -> io::Result<()> {
        let (mut nodes, mut buffers, mut body) = (Vec::new(), Vec::new(), 0);
        let (mut node_count, mut buffer_count) = (0, 0);
        for column in &self.columns {
            let (rows, parts) = column.parts();
            for (length, nulls) in rows {
                nodes.extend([length, nulls].map(|n| (n as i64).to_le_bytes()).concat());
                node_count += 1;
            }
            for part in parts {
                buffers.extend([body, part.len()].map(|n| (n as i64).to_le_bytes()).concat());
                buffer_count += 1;
                body += part.len().next_multiple_of(ALIGN);
            }
        }
        let batch = Value::Table(vec![
            Some(Value::I64(self.rows() as i64)),
            Some(Value::Structs(node_count, nodes)),
            Some(Value::Structs(buffer_count, buffers)),
        ]);
        let offset = self.written;
        let metadata = self.message(3, batch, body)?;
        for column in &mut self.columns {
            column.parts().1.iter().try_for_each(|part| part.write(&mut self.to))?;
            column.clear();
        }
        self.written += body as u64;
        self.blocks.push((offset, metadata, body));
        Ok(())
    }

    /// Writes the footer and gives the file back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let mut blocks = Vec::new();
        for (offset, metadata, body) in &self.blocks {
            // 32 bits of the metadata's length, and as many for alignment.
            blocks.extend(
                [*offset as i64, *metadata as i64, *body as i64].map(i64::to_le_bytes).concat(),
            );
        }
        let footer = serialise(&Value::Table(vec![
            Some(VERSION),
            Some(self.schema()),
            Some(Value::Structs(0, Vec::new())),
            Some(Value::Structs(self.blocks.len(), blocks)),
        ]));
        // The end of what streams would be.
        self.to.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])?;
        self.to.write_all(&footer)?;
        self.to.write_all(&(footer.len() as i32).to_le_bytes())?;
        self.to.write_all(&MAGIC[..6])?;
        Ok(self.to)
    }

    fn schema(&self) -> Value {
        let pairs = self.about.iter().map(|(key, value)| {
            Value::Table([key, value].map(|text| Some(Value::Text(text.clone()))).into())
        });
        Value::Table(vec![
            Some(Value::I16(0)),
            Some(Value::Tables(self.columns.iter().map(Column::field).collect())),
            Some(Value::Tables(pairs.collect())),
        ])
    }

    /// Writes a message's metadata, padded so that a body behind it is aligned. Returns its bytes.
    fn message(&mut self, kind: u8, header: Value, body: usize) -> io::Result<usize> {
        let mut bytes = serialise(&Value::Table(vec![
            Some(VERSION),
            Some(Value::U8(kind)),
            Some(header),
            Some(Value::I64(body as i64)),
        ]));
        let start = self.written as usize + 8;
        bytes.resize((start + bytes.len()).next_multiple_of(ALIGN) - start, 0);
        self.to.write_all(&[0xff; 4])?;
        self.to.write_all(&(bytes.len() as i32).to_le_bytes())?;
        self.to.write_all(&bytes)?;
        self.written += 8 + bytes.len() as u64;
        Ok(8 + bytes.len())
    }
}

/// What is read of a record batch.
pub(super) struct Batch {
    pub(super) rows: i64,
    /// Bytes of the first column's values.
    pub(super) first: Vec<u8>,
    /// Bytes of the last column's values, or of those in its lists.
    pub(super) last: Vec<u8>,
}

/// Gives each record batch.
pub(super) fn each_batch(
    path: &Path,
    each: &mut dyn FnMut(Batch) -> io::Result<()>,
) -> io::Result<()> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "not a whole Arrow file");
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut end = [0; 10];
    file.seek(SeekFrom::Start(length.checked_sub(10).ok_or_else(broken)?))?;
    file.read_exact(&mut end)?;
    let (footer_length, magic) = end.split_first_chunk::<4>().ok_or_else(broken)?;
    let footer_length = u64::from(u32::from_le_bytes(*footer_length));
    if magic != &MAGIC[..6] || footer_length > length - 10 {
        return Err(broken());
    }
    let mut read = |from: u64, bytes: u64| -> io::Result<Vec<u8>> {
        if from.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(broken());
        }
        let mut buffer = vec![0; bytes as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut buffer)?;
        Ok(buffer)
    };
    let footer = read(length - 10 - footer_length, footer_length)?;
    let blocks =
        Table::root(&footer).and_then(|footer| footer.structs(3, 24)).ok_or_else(broken)?;
    for block in blocks {
        let number = |at| i64_at(block, at).map(i64::cast_unsigned);
        let (Some(offset), Some(metadata)) = (number(0), number(8)) else { return Err(broken()) };
        let bytes = read(offset, metadata & 0xffff_ffff)?;
        let batch = bytes.get(8..).and_then(Table::root).and_then(|message| message.table(2));
        let buffers = batch.and_then(|batch| Some((batch.i64(0)?, batch.structs(2, 16)?)));
        let Some((rows, buffers)) = buffers else { return Err(broken()) };
        // Buffer 0 of the first column says which values there are.
        let mut values = |buffer: Option<&&[u8]>| {
            let place = buffer.and_then(|b| Some((i64_at(b, 0)?, i64_at(b, 8)?)));
            let (from, bytes) = place.ok_or_else(broken)?;
            let body = offset + (metadata & 0xffff_ffff);
            read(body.saturating_add(from.cast_unsigned()), bytes.cast_unsigned())
        };
        let (first, last) = (values(buffers.get(1))?, values(buffers.last())?);
        each(Batch { rows, first, last })?;
    }
    Ok(())
}
