//! The vectors themselves, which order what the codes chose: rows of a memory-mapped file.

use super::codes::prefetch;
use crate::embedding::{Embedding, dot};

// Files are read in place.
const _: () = assert!(cfg!(target_endian = "little"), "index files are little-endian");

/// How far the squared length of a sound row may be from 1.
const LENGTH: f64 = 1e-3;

/// Unit vectors, one a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vectors<'a> {
    floats: &'a [f32],
    width: usize,
}

impl<'a> Vectors<'a> {
    /// Looks at `bytes`, the content of a file or a memory map, as rows of `width` floats.
    pub(super) fn new(bytes: &'a [u8], width: usize) -> Self {
        // SAFETY: any four bytes are a float.
        let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
        assert!(before.is_empty() && after.is_empty(), "a map begins at a page, and holds floats");
        Self { floats, width }
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.floats.len() / self.width
    }

    /// Components of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The row of a point.
    pub(super) fn row(&self, point: u32) -> &'a [f32] {
        let at = point as usize * self.width;
        &self.floats[at..at + self.width]
    }

    /// Consecutive rows, `[rows × width]`.
    pub(super) fn rows(&self, points: std::ops::Range<usize>) -> &'a [f32] {
        &self.floats[points.start * self.width..points.end * self.width]
    }

    /// The cosine of `query` and a point, the very number that [`Embedding::cosine`] gives; `None` when
    /// it cannot be one, as the row is damaged.
    pub(super) fn cosine(&self, query: &Embedding, point: u32) -> Option<f32> {
        let row = self.row(point);
        if row == query.as_slice() {
            return Some(1.0);
        }
        let cosine = dot(query.as_slice(), row);
        (cosine.abs() < 1.0 + LENGTH).then(|| cosine.clamp(-1.0, 1.0) as f32)
    }

    /// Asks for the beginning of a row that will be read soon; the processor goes on by itself.
    #[inline(always)]
    pub(super) fn prefetch(&self, point: u32) {
        for line in self.row(point).chunks(16).take(8) {
            prefetch(&line[0]);
        }
    }

    /// Whether a row has the length of a unit vector.
    pub(super) fn is_sound(&self, point: u32) -> bool {
        let row = self.row(point);
        (dot(row, row) - 1.0).abs() < LENGTH
    }
}
