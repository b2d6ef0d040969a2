//! Vectors made small: 8 bits a component and one norm a vector.
//!
//! A row is `width` signed bytes, the largest component scaled to ±127, and the inverse of their L2
//! norm as a little-endian f32. The norm travels with the bytes because hnsw_rs hands its distance
//! nothing but slices.

use super::kernel::dot;
use crate::embedding::Embedding;

/// Bytes of the inverse norm at the end of a row.
const NORM: usize = size_of::<f32>();

/// Bytes of a row for vectors of `width` components.
pub(super) const fn row_bytes(width: usize) -> usize {
    width + NORM
}

/// The row of an embedding.
pub(super) fn encode(embedding: &Embedding) -> Vec<i8> {
    let values = embedding.as_slice();
    // Not zero: an embedding has length 1.
    let largest = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let scale = 127.0 / largest;
    let mut row: Vec<i8> = values.iter().map(|v| (v * scale).round() as i8).collect();
    let norm = (dot(&row, &row) as f32).sqrt();
    row.extend((1.0 / norm).to_le_bytes().map(u8::cast_signed));
    row
}

/// The cosine of two rows of the same width, in [-1, 1]; exactly 1 for a row with itself is not
/// promised, within 1e-6 of it is.
pub(super) fn cosine(a: &[i8], b: &[i8]) -> f32 {
    let ((a, norm_a), (b, norm_b)) = (split(a), split(b));
    // In this order it is the same both ways round.
    let cosine = dot(a, b) as f32 * (norm_a * norm_b);
    // A damaged norm must not become an order that sorting cannot bear.
    if cosine.is_finite() { cosine.clamp(-1.0, 1.0) } else { -1.0 }
}

fn split(row: &[i8]) -> (&[i8], f32) {
    let (code, norm) = row.split_last_chunk::<NORM>().expect("a row ends in its norm");
    (code, f32::from_le_bytes(norm.map(i8::cast_unsigned)))
}

/// Rows of codes, one a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) row_bytes: usize,
}

impl<'a> Codes<'a> {
    /// The row of a point.
    pub(super) fn row(&self, point: u32) -> &'a [i8] {
        let at = point as usize * self.row_bytes;
        as_signed(&self.bytes[at..at + self.row_bytes])
    }

    /// All rows, in the order of their points.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [i8]> {
        self.bytes.chunks_exact(self.row_bytes).map(as_signed)
    }
}

/// The same bytes, read as signed.
fn as_signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: u8 and i8 have the same size and alignment, and every bit pattern is valid for both.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_keep_the_cosine_to_two_digits(
            a in prop::collection::vec(0.0f32..1.0, 256),
            b in prop::collection::vec(0.0f32..1.0, 256),
        ) {
            let (a, b) = (Embedding::normalised(&a).unwrap(), Embedding::normalised(&b).unwrap());
            let (row_a, row_b) = (encode(&a), encode(&b));
            prop_assert!((cosine(&row_a, &row_b) - a.cosine(&b)).abs() < 0.01);
            prop_assert_eq!(cosine(&row_a, &row_b), cosine(&row_b, &row_a));
        }

        #[test]
        fn damaged_rows_never_give_a_number_that_cannot_be_ordered(
            a in prop::collection::vec(any::<i8>(), row_bytes(16)),
            b in prop::collection::vec(any::<i8>(), row_bytes(16)),
        ) {
            prop_assert!((-1.0..=1.0).contains(&cosine(&a, &b)));
        }
    }
}
