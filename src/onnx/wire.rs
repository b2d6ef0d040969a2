//! The protobuf wire format, read without copying and written field by field.
//!
//! Not a protobuf library: only what an edit of an ONNX file needs. A message is walked as a list of
//! fields, each with the very bytes it came in, so that whatever is kept, known or not, is written
//! back unchanged. Every length is checked against what is there.

/// Why bytes are not a protobuf message, or not of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a number takes more than 64 bits")]
    LongVarint,
    #[error("a field has the impossible number {0}")]
    FieldNumber(u64),
    #[error("a field has the unknown wire type {0}")]
    WireType(u8),
    #[error("field {0} has another type than ONNX gives it")]
    FieldType(u32),
    #[error("a name is not UTF-8")]
    Text,
    #[error("it holds more than one graph")]
    TwoGraphs,
    #[error("it holds no graph")]
    NoGraph,
    #[error("its graph has more than {0} parts")]
    TooManyParts(usize),
    #[error("its graphs are nested more than {0} deep")]
    TooDeep(usize),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field<'a> {
    /// The field's number in the message's definition.
    pub(crate) number: u32,
    /// What it holds.
    pub(crate) value: Value<'a>,
    /// The bytes it came in, key included.
    pub(crate) raw: &'a [u8],
}

/// What a field holds, by wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Field<'a> {
    /// The content of a string, bytes, message or packed field.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::FieldType(self.number)),
        }
    }

    /// The content of a string field.
    pub(crate) fn text(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// The content of an integer or enum field.
    pub(crate) fn int(&self) -> Result<i64, Malformed> {
        match self.value {
            Value::Varint(value) => Ok(value as i64),
            _ => Err(Malformed::FieldType(self.number)),
        }
    }

    /// Appends the content of a repeated integer field, which comes packed or one by one.
    pub(crate) fn ints(&self, into: &mut Vec<i64>) -> Result<(), Malformed> {
        match self.value {
            Value::Varint(value) => into.push(value as i64),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    into.push(take_varint(&mut packed)? as i64);
                }
            }
            _ => return Err(Malformed::FieldType(self.number)),
        }
        Ok(())
    }
}

/// The fields of a message, in the order they stand. After an error it ends.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// See [`fields`].
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = take_field(&mut self.rest);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, Malformed> {
    let start = *rest;
    let key = take_varint(rest)?;
    let number = key >> 3;
    // 2^29 - 1 is the largest field number protobuf knows.
    if number == 0 || number >= 1 << 29 {
        return Err(Malformed::FieldNumber(number));
    }
    let value = match (key & 7) as u8 {
        0 => Value::Varint(take_varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed64)?,
        2 => {
            let length = take_varint(rest)?;
            Value::Bytes(take(rest, usize::try_from(length).map_err(|_| Malformed::Truncated)?)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed32)?,
        other => return Err(Malformed::WireType(other)),
    };
    let raw = &start[..start.len() - rest.len()];
    Ok(Field { number: number as u32, value, raw })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (head, tail) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        // The tenth byte carries only the highest bit.
        if i == 9 && byte > 1 {
            return Err(Malformed::LongVarint);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { Malformed::Truncated } else { Malformed::LongVarint })
}

/// Appends an integer field.
pub(crate) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value as u64);
}

/// Appends a string, bytes or message field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_length(out, number, content.len());
    out.extend_from_slice(content);
}

/// Appends the key and length of a field whose `length` bytes of content follow elsewhere.
pub(crate) fn put_length(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_damage_has_its_name() {
        let first = |bytes| fields(bytes).next().unwrap().unwrap_err();
        assert_eq!(first(&[0x08]), Malformed::Truncated);
        assert_eq!(first(&[0x0a, 5, 1]), Malformed::Truncated);
        assert_eq!(first(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), {
            Malformed::Truncated
        });
        assert_eq!(first(&[0x0d, 1, 2, 3]), Malformed::Truncated);
        assert_eq!(first(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), {
            Malformed::LongVarint
        });
        assert_eq!(first(&[0x00, 1]), Malformed::FieldNumber(0));
        assert_eq!(first(&[0x0b]), Malformed::WireType(3));
        assert_eq!(fields(&[0x08, 1]).next().unwrap().unwrap().text(), {
            Err(Malformed::FieldType(1))
        });
    }

    #[test]
    fn packed_and_unpacked_integers_read_alike() {
        let mut bytes = Vec::new();
        put_int(&mut bytes, 1, -1);
        put_bytes(&mut bytes, 1, &[3, 0x96, 1]);
        let mut ints = Vec::new();
        for field in fields(&bytes) {
            field.unwrap().ints(&mut ints).unwrap();
        }
        assert_eq!(ints, [-1, 3, 150]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 1u32..1 << 29, int: i64, bytes: Vec<u8>) {
            let mut message = Vec::new();
            put_int(&mut message, number, int);
            put_bytes(&mut message, number, &bytes);
            let read: Vec<_> = fields(&message).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read[0].int().unwrap(), int);
            prop_assert_eq!(read[1].bytes().unwrap(), &bytes);
            prop_assert_eq!([read[0].raw, read[1].raw].concat(), message);
        }

        #[test]
        fn any_bytes_are_fields_or_an_error(bytes: Vec<u8>) {
            let raw: Vec<u8> = fields(&bytes).map_while(Result::ok).flat_map(|f| f.raw).copied().collect();
            prop_assert!(bytes.starts_with(&raw));
        }
    }
}
