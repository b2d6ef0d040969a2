//! Vectors in single precision, as an index is learned from: rows of a memory-mapped file, or of memory.

use std::ops::Range;

use memmap2::Mmap;

use super::planes::release;

/// Unit vectors, one a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vectors<'a> {
    floats: &'a [f32],
    width: usize,
    map: Option<&'a Mmap>,
}

impl<'a> Vectors<'a> {
    /// Looks at `bytes`, the content of a file or a memory map, as rows of `width` floats.
    pub(super) fn new(bytes: &'a [u8], width: usize) -> Self {
        // SAFETY: any four bytes are a float.
        let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
        assert!(before.is_empty() && after.is_empty(), "a map begins at a page, and holds floats");
        Self::of(floats, width)
    }

    /// Looks at floats in memory as rows of `width`.
    pub(super) fn of(floats: &'a [f32], width: usize) -> Self {
        Self { floats, width, map: None }
    }

    /// As [`Vectors::new`], of a memory map that may be asked to [`Vectors::release`] its memory.
    pub(super) fn mapped(map: &'a Mmap, width: usize) -> Self {
        Self { map: Some(map), ..Self::new(map, width) }
    }

    /// Says that the rows of some points are not needed for now, see [`release`].
    pub(super) fn release(&self, points: Range<usize>) {
        if let Some(map) = self.map {
            release(map, self.width * size_of::<f32>(), points);
        }
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
    pub(super) fn rows(&self, points: Range<usize>) -> &'a [f32] {
        &self.floats[points.start * self.width..points.end * self.width]
    }
}
