//! Tensors and the shapes of tensors, as an ONNX file describes them.

use super::wire::{Malformed, fields};
use super::{FLOAT, entry};

/// A `TensorProto`: its description; the data stays where it is.
#[derive(Debug, Default)]
pub(crate) struct Tensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) dims: Vec<i64>,
    pub(crate) data_type: i64,
    /// Whether the data lies in another file.
    pub(crate) external: bool,
    /// Where: keys and values.
    pub(crate) external_data: Vec<(&'a str, &'a str)>,
    raw_data: Option<&'a [u8]>,
    float_data: Option<&'a [u8]>,
    int64_data: Vec<i64>,
}

/// A `ValueInfoProto` of a tensor.
#[derive(Debug, Default)]
pub(crate) struct ValueInfo<'a> {
    pub(crate) name: &'a str,
    /// The `TensorProto.DataType`, 0 where it is not said.
    pub(crate) elem_type: i64,
    /// The axes, `None` where the shape is not said.
    pub(crate) dims: Option<Vec<Dim<'a>>>,
}

/// The length of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dim<'a> {
    Fixed(i64),
    Named(&'a str),
    Unknown,
}

impl<'a> Tensor<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut tensor = Self::default();
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => field.ints(&mut tensor.dims)?,
                2 => tensor.data_type = field.int()?,
                // Packed, as every writer of today has it.
                4 => tensor.float_data = field.bytes().ok(),
                7 => field.ints(&mut tensor.int64_data)?,
                8 => tensor.name = field.text()?,
                9 => tensor.raw_data = Some(field.bytes()?),
                13 => tensor.external_data.push(entry(field.bytes()?)?),
                14 => tensor.external = field.int()? == 1,
                _ => {}
            }
        }
        Ok(tensor)
    }

    /// The data as it lies in the file, little-endian, where it lies there as bytes.
    pub(crate) fn raw(&self) -> Option<&'a [u8]> {
        self.raw_data
    }

    /// The values of a tensor of 32-bit floats; `None` for other types, and where there are not as many
    /// as its axes say.
    pub(crate) fn floats(&self) -> Option<Vec<f32>> {
        if self.data_type != FLOAT || self.external {
            return None;
        }
        let (values, rest) = self.raw_data.or(self.float_data)?.as_chunks::<4>();
        let count = self.dims.iter().try_fold(1i64, |count, length| count.checked_mul(*length))?;
        let whole = rest.is_empty() && usize::try_from(count) == Ok(values.len());
        whole.then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    /// The values of a tensor of 64-bit integers, as shapes are given; `None` for other types.
    pub(crate) fn int64s(&self) -> Option<Vec<i64>> {
        const INT64: i64 = 7;
        if self.data_type != INT64 || self.external {
            return None;
        }
        match self.raw_data {
            Some(raw) => {
                let (values, rest) = raw.as_chunks::<8>();
                rest.is_empty().then(|| values.iter().map(|v| i64::from_le_bytes(*v)).collect())
            }
            None => Some(self.int64_data.clone()),
        }
    }
}

impl<'a> ValueInfo<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut info = Self::default();
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => info.name = field.text()?,
                2 => info.parse_type(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(info)
    }

    fn parse_type(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        for field in fields(bytes) {
            let field = field?;
            // Tensors only: sequences, maps and optionals carry no shape.
            if field.number != 1 {
                continue;
            }
            for field in fields(field.bytes()?) {
                let field = field?;
                match field.number {
                    1 => self.elem_type = field.int()?,
                    2 => self.dims = Some(parse_shape(field.bytes()?)?),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn parse_shape(bytes: &[u8]) -> Result<Vec<Dim<'_>>, Malformed> {
    let mut dims = Vec::new();
    for field in fields(bytes) {
        let field = field?;
        if field.number != 1 {
            continue;
        }
        let mut dim = Dim::Unknown;
        for field in fields(field.bytes()?) {
            let field = field?;
            match field.number {
                1 => dim = Dim::Fixed(field.int()?),
                2 if !field.bytes()?.is_empty() => dim = Dim::Named(field.text()?),
                _ => {}
            }
        }
        dims.push(dim);
    }
    Ok(dims)
}
