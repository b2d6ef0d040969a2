//! As much of FlatBuffers as Arrow's metadata needs: a tree of values becomes bytes, and tables are looked into.
//!
//! A table is written behind its own vtable, and what it refers to behind the table, so that every offset is known
//! as soon as its target is there (<https://flatbuffers.dev/internals/>).

/// A value in a table.
pub(super) enum Value {
    U8(u8),
    I16(i16),
    I32(i32),
    I64(i64),
    Text(String),
    /// Fields by their numbers.
    Table(Vec<Option<Value>>),
    Tables(Vec<Value>),
    /// So many structs, one behind the other, which begin with 64-bit numbers.
    Structs(usize, Vec<u8>),
}

impl Value {
    /// Bytes in the table itself.
    fn inline(&self) -> usize {
        match self {
            Value::U8(_) => 1,
            Value::I16(_) => 2,
            Value::I64(_) => 8,
            _ => 4,
        }
    }
}

/// A buffer with `root` as its root table.
pub(super) fn serialise(root: &Value) -> Vec<u8> {
    let mut buffer = vec![0; 4];
    refer(&mut buffer, 0, root);
    buffer
}

/// Writes a value at the end and its distance at `at`.
fn refer(buffer: &mut Vec<u8>, at: usize, value: &Value) {
    let target = write(buffer, value);
    buffer[at..at + 4].copy_from_slice(&((target - at) as u32).to_le_bytes());
}

fn pad(buffer: &mut Vec<u8>, before: usize, align: usize) {
    buffer.resize((buffer.len() + before).next_multiple_of(align) - before, 0);
}

fn write(buffer: &mut Vec<u8>, value: &Value) -> usize {
    match value {
        Value::Text(text) => {
            pad(buffer, 0, 4);
            let at = buffer.len();
            buffer.extend((text.len() as u32).to_le_bytes());
            buffer.extend(text.bytes());
            buffer.push(0);
            at
        }
        Value::Structs(count, bytes) => {
            pad(buffer, 4, 8);
            let at = buffer.len();
            buffer.extend((*count as u32).to_le_bytes());
            buffer.extend(bytes);
            at
        }
        Value::Tables(tables) => {
            pad(buffer, 0, 4);
            let at = buffer.len();
            buffer.extend((tables.len() as u32).to_le_bytes());
            buffer.resize(buffer.len() + 4 * tables.len(), 0);
            for (i, table) in tables.iter().enumerate() {
                refer(buffer, at + 4 + 4 * i, table);
            }
            at
        }
        Value::Table(fields) => write_table(buffer, fields),
        Value::U8(_) | Value::I16(_) | Value::I32(_) | Value::I64(_) => {
            unreachable!("numbers stand in their table")
        }
    }
}

fn write_table(buffer: &mut Vec<u8>, fields: &[Option<Value>]) -> usize {
    let mut size = 4usize;
    let places: Vec<usize> = fields
        .iter()
        .map(|field| {
            let Some(value) = field else { return 0 };
            size = size.next_multiple_of(value.inline());
            size += value.inline();
            size - value.inline()
        })
        .collect();
    let vtable = 4 + 2 * fields.len();
    pad(buffer, vtable, 8);
    for number in [vtable, size].into_iter().chain(places.iter().copied()) {
        buffer.extend((number as u16).to_le_bytes());
    }
    let at = buffer.len();
    buffer.resize(at + size, 0);
    buffer[at..at + 4].copy_from_slice(&(vtable as i32).to_le_bytes());
    for (place, value) in places.iter().zip(fields) {
        let place = at + place;
        match value {
            Some(Value::U8(number)) => buffer[place] = *number,
            Some(Value::I16(n)) => buffer[place..place + 2].copy_from_slice(&n.to_le_bytes()),
            Some(Value::I32(n)) => buffer[place..place + 4].copy_from_slice(&n.to_le_bytes()),
            Some(Value::I64(n)) => buffer[place..place + 8].copy_from_slice(&n.to_le_bytes()),
            Some(other) => refer(buffer, place, other),
            None => {}
        }
    }
    at
}

/// A table of a buffer, or its place at least: whatever lies outside of the buffer is not there.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    pub(super) fn root(buffer: &'a [u8]) -> Option<Self> {
        Some(Self { buffer, at: u32_at(buffer, 0)? as usize })
    }

    /// Where a field stands.
    fn field(&self, number: usize) -> Option<usize> {
        let distance = i32::from_le_bytes(*self.buffer.get(self.at..)?.first_chunk()?);
        let vtable = self.at.checked_add_signed(-(distance as isize))?;
        let entry = |at: usize| -> Option<usize> {
            Some(usize::from(u16::from_le_bytes(*self.buffer.get(at..)?.first_chunk()?)))
        };
        let place = 4 + 2 * number;
        if place + 2 > entry(vtable)? {
            return None;
        }
        entry(vtable + place).filter(|place| *place > 0).map(|place| self.at + place)
    }

    pub(super) fn i64(&self, number: usize) -> Option<i64> {
        i64_at(self.buffer, self.field(number)?)
    }

    pub(super) fn table(&self, number: usize) -> Option<Table<'a>> {
        let field = self.field(number)?;
        let at = field.checked_add(u32_at(self.buffer, field)? as usize)?;
        Some(Self { buffer: self.buffer, at })
    }

    /// The bytes of structs of `size` bytes each.
    pub(super) fn structs(&self, number: usize, size: usize) -> Option<Vec<&'a [u8]>> {
        let at = self.table(number)?.at;
        let count = u32_at(self.buffer, at)? as usize;
        let bytes = self.buffer.get(at + 4..)?.get(..count.checked_mul(size)?)?;
        Some(bytes.chunks_exact(size).collect())
    }
}

fn u32_at(buffer: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*buffer.get(at..)?.first_chunk()?))
}

/// A 64-bit number in a struct.
pub(super) fn i64_at(buffer: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(*buffer.get(at..)?.first_chunk()?))
}
