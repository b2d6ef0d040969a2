//! Parts of an ONNX file, written. Field numbers are those of `onnx.proto`.

use std::borrow::Cow;

use super::wire::{Malformed, fields, put_bytes, put_int};
use super::{Dim, FLOAT};

/// A graph's field 1: a node of the standard domain without name, with integer attributes.
pub(crate) fn node_field(
    op: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[(&str, i64)],
) -> Vec<u8> {
    node_field_in("", op, inputs, output, attributes)
}

/// The same, of another domain.
pub(crate) fn node_field_in(
    domain: &str,
    op: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[(&str, i64)],
) -> Vec<u8> {
    const INT: i64 = 2;
    let attributes = attributes.iter().map(|(name, value)| {
        let mut attribute = named(name, INT);
        put_int(&mut attribute, 3, *value);
        attribute
    });
    node_of(domain, op, inputs, output, attributes)
}

/// The same, with attributes that are lists of integers.
pub(crate) fn node_field_with_lists(
    op: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[(&str, &[i64])],
) -> Vec<u8> {
    const INTS: i64 = 7;
    let attributes = attributes.iter().map(|(name, values)| {
        let mut attribute = named(name, INTS);
        values.iter().for_each(|value| put_int(&mut attribute, 8, *value));
        attribute
    });
    node_of("", op, inputs, output, attributes)
}

/// The beginning of an attribute.
fn named(name: &str, kind: i64) -> Vec<u8> {
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, name.as_bytes());
    put_int(&mut attribute, 20, kind);
    attribute
}

fn node_of(
    domain: &str,
    op: &str,
    inputs: &[&str],
    output: &str,
    attributes: impl Iterator<Item = Vec<u8>>,
) -> Vec<u8> {
    let mut node = Vec::new();
    for input in inputs {
        put_bytes(&mut node, 1, input.as_bytes());
    }
    put_bytes(&mut node, 2, output.as_bytes());
    put_bytes(&mut node, 4, op.as_bytes());
    attributes.for_each(|attribute| put_bytes(&mut node, 5, &attribute));
    if !domain.is_empty() {
        put_bytes(&mut node, 7, domain.as_bytes());
    }
    let mut field = Vec::new();
    put_bytes(&mut field, 1, &node);
    field
}

/// A graph's field `number` (11 input, 12 output): a tensor of 32-bit floats of this shape.
pub(crate) fn value_info_field(number: u32, name: &str, dims: &[Dim<'_>]) -> Vec<u8> {
    typed_value_info_field(number, name, FLOAT, dims)
}

/// The same, of another type.
pub(crate) fn typed_value_info_field(
    number: u32,
    name: &str,
    data_type: i64,
    dims: &[Dim<'_>],
) -> Vec<u8> {
    let mut shape = Vec::new();
    for dim in dims {
        let mut content = Vec::new();
        match dim {
            Dim::Fixed(length) => put_int(&mut content, 1, *length),
            Dim::Named(name) => put_bytes(&mut content, 2, name.as_bytes()),
            Dim::Unknown => {}
        }
        put_bytes(&mut shape, 1, &content);
    }
    let mut tensor = Vec::new();
    put_int(&mut tensor, 1, data_type);
    put_bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    put_bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    put_bytes(&mut info, 1, name.as_bytes());
    put_bytes(&mut info, 2, &kind);
    let mut field = Vec::new();
    put_bytes(&mut field, number, &info);
    field
}

/// A graph's field 5: a constant without its own data type's field, as `raw`, little-endian.
pub(crate) fn tensor_field(name: &str, data_type: i64, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::with_capacity(raw.len() + name.len() + 64);
    for length in dims {
        put_int(&mut tensor, 1, *length);
    }
    put_int(&mut tensor, 2, data_type);
    put_bytes(&mut tensor, 8, name.as_bytes());
    put_bytes(&mut tensor, 9, raw);
    let mut field = Vec::with_capacity(tensor.len() + 8);
    put_bytes(&mut field, 5, &tensor);
    field
}

/// The same, its `length` bytes from `offset` on in the file `location`, which lies beside.
pub(crate) fn external_tensor_field(
    name: &str,
    data_type: i64,
    dims: &[i64],
    (location, offset, length): (&str, u64, u64),
) -> Vec<u8> {
    const EXTERNAL: i64 = 1;
    let mut tensor = Vec::new();
    for axis in dims {
        put_int(&mut tensor, 1, *axis);
    }
    put_int(&mut tensor, 2, data_type);
    put_bytes(&mut tensor, 8, name.as_bytes());
    let (offset, length) = (offset.to_string(), length.to_string());
    for (key, value) in [("location", location), ("offset", &offset), ("length", &length)] {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, key.as_bytes());
        put_bytes(&mut entry, 2, value.as_bytes());
        put_bytes(&mut tensor, 13, &entry);
    }
    put_int(&mut tensor, 14, EXTERNAL);
    let mut field = Vec::new();
    put_bytes(&mut field, 5, &tensor);
    field
}

/// A file's field 8: the version of the operators of a domain; the standard's has no name.
pub(crate) fn opset_field(domain: &str, version: i64) -> Vec<u8> {
    let mut opset = Vec::new();
    put_bytes(&mut opset, 1, domain.as_bytes());
    put_int(&mut opset, 2, version);
    let mut field = Vec::new();
    put_bytes(&mut field, 8, &opset);
    field
}

/// The graph's field `raw`, a node, with these inputs in place of its own, and otherwise to the byte.
pub(crate) fn node_with_inputs(raw: &[u8], inputs: &[Cow<'_, str>]) -> Result<Vec<u8>, Malformed> {
    const INPUT: u32 = 1;
    let node = fields(raw).next().ok_or(Malformed::Truncated)??.bytes()?;
    let mut rewired = Vec::with_capacity(node.len() + 64);
    for input in inputs {
        put_bytes(&mut rewired, INPUT, input.as_bytes());
    }
    for field in fields(node) {
        let field = field?;
        if field.number != INPUT {
            rewired.extend_from_slice(field.raw);
        }
    }
    let mut field = Vec::new();
    put_bytes(&mut field, 1, &rewired);
    Ok(field)
}
