//! The vectors themselves, which order what the codes chose: rows of a memory-mapped file.

use std::ops::Range;

use memmap2::Mmap;

use super::codes::prefetch;
use crate::embedding::{Embedding, dot, for_each_processor};

// Files are read in place.
const _: () = assert!(cfg!(target_endian = "little"), "index files are little-endian");

/// How far the squared length of a sound row may be from 1.
const LENGTH: f32 = 1e-3;

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

    /// Says that the rows of some points are not needed for now: they leave this process's memory, and
    /// come back from the file when they are looked at again.
    pub(super) fn release(&self, points: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = self.map {
            let row = self.width * size_of::<f32>();
            // SAFETY: the map is shared with a file and is only read, so the bytes come back as they were.
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    points.start * row,
                    points.len() * row,
                )
            };
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

    /// The cosine of `query` and a point, the very number that [`Embedding::cosine`] gives; `None` when
    /// it cannot be one, as the row is damaged.
    pub(super) fn cosine(&self, query: &Embedding, point: u32) -> Option<f32> {
        let row = self.row(point);
        if row == query.as_slice() {
            return Some(1.0);
        }
        let cosine = dot(query.as_slice(), row);
        (cosine.abs() < 1.0 + f64::from(LENGTH)).then(|| cosine.clamp(-1.0, 1.0) as f32)
    }

    /// Asks for a row that will be read soon. All of it: by itself the processor goes no further than to the end
    /// of a page, which is half a row.
    #[inline(always)]
    pub(super) fn prefetch(&self, point: u32) {
        for line in self.row(point).chunks(16) {
            prefetch(&line[0]);
        }
    }

    /// Whether a row has the length of a unit vector.
    pub(super) fn is_sound(&self, point: u32) -> bool {
        (square(self.row(point)) - 1.0).abs() < LENGTH
    }
}

for_each_processor! {
    /// The squared length of a row. In single precision, which is exact enough to tell a unit vector.
    fn square(row: &[f32]) -> f32 = square_in_lanes
}

#[inline(always)]
fn square_in_lanes(row: &[f32]) -> f32 {
    const LANES: usize = 64;
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for values in whole {
        lanes.iter_mut().zip(values).for_each(|(lane, v)| *lane += v * v);
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|v| v * v).sum::<f32>()
}
