//! The vectors as an index keeps them, to order what the codes chose: 24 bits a component, in two memory-mapped
//! files. A third of them tells a cosine to a few ten-thousandths, which leaves few whose other bits matter.
//!
//! ```text
//! rough.bin   rows of: base f32, step f32, check u64, width × u8; padded to whole cache lines
//! fine.bin    rows of: width × i16; padded likewise
//!
//! component = base + step × (rough + fine / 65536 - dither)
//! ```
//!
//! What is added before rounding and taken away again, other for each component, makes what the rough bits round off
//! independent of the vector (subtractive dither: Schuchman, *Dither signals and their effect on quantization noise*,
//! 1964), so that it adds up as chance does, also where many components are the same.
//!
//!
//! The check makes the exclusive or of all words of eight bytes of both rows one of ones only.

mod lanes;

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use memmap2::Mmap;

use self::lanes::{Sums, dot_rough, dot_whole, folded, in_words, sums};
use super::codes::prefetch;
use crate::embedding::{Embedding, dot};
use crate::random::split_mix;

// Files are read in place.
const _: () = assert!(cfg!(target_endian = "little"), "index files are little-endian");

const LINE: usize = 64;
const CHECK: usize = 2 * size_of::<f32>();
const HEADER: usize = CHECK + size_of::<u64>();

/// Steps of the fine bits in one of the rough.
const FINE: f64 = 65_536.0;

/// What a cosine may be, with room for rounding.
const MOST: f64 = 1.001;

/// How near to 1 the cosine of a vector with itself is: unit vectors are rounded, perhaps all components alike.
const ITSELF: f64 = 3e-7;

/// Standard deviations of what rounding to rough bits does to a cosine that are allowed for: exceeded once in a
/// million and a half vectors.
const DEVIATIONS: f64 = 5.0;

/// Bytes of a row in `rough.bin`, for vectors of `width` components.
pub(super) const fn rough_row_bytes(width: usize) -> usize {
    (HEADER + width).next_multiple_of(LINE)
}

/// Bytes of a row in `fine.bin`, for vectors of `width` components.
pub(super) const fn fine_row_bytes(width: usize) -> usize {
    (size_of::<i16>() * width).next_multiple_of(LINE)
}

/// Writes a vector's rows of both files in place of what `rough` and `fine` hold.
pub(super) fn split(values: &[f32], rough: &mut Vec<u8>, fine: &mut Vec<u8>) {
    let (least, most) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), v| (least.min(*v), most.max(*v)));
    // Where all are the same, any step will do.
    let step = if most > least { (most - least) / 255.0 } else { 1.0 };
    rough.clear();
    rough.extend([least, step].iter().flat_map(|value| value.to_le_bytes()));
    rough.resize(HEADER, 0);
    fine.clear();
    for (value, dither) in values.iter().zip(dither(values.len())) {
        let steps = (f64::from(*value) - f64::from(least)) / f64::from(step) + f64::from(*dither);
        let near = steps.round().clamp(0.0, 255.0);
        rough.push(near as u8);
        // The conversion saturates.
        fine.extend((((steps - near) * FINE).round() as i16).to_le_bytes());
    }
    rough.resize(rough_row_bytes(values.len()), 0);
    fine.resize(fine_row_bytes(values.len()), 0);
    let check = !(folded(rough) ^ folded(fine));
    rough[CHECK..HEADER].copy_from_slice(&check.to_le_bytes());
}

/// What is added to components before they are rounded: by their number, from -0.5 to 0.5, in steps of the fine bits.
fn dither(width: usize) -> &'static [f32] {
    static KNOWN: RwLock<&[f32]> = RwLock::new(&[]);
    let known = *KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(..width) {
        return known;
    }
    // Never given back: there are few widths, and a wider one comes once.
    let made: Vec<f32> = (0..width as u64)
        .map(|number| (f64::from(split_mix(&mut { number }) as u16) / FINE - 0.5) as f32)
        .collect();
    let made = Vec::leak(made);
    *KNOWN.write().unwrap_or_else(PoisonError::into_inner) = made;
    made
}

/// A vector that others are compared with.
#[derive(Debug, Clone)]
pub(super) struct Query<'a> {
    values: &'a [f32],
    sum: f64,
    /// The sum of the components times their dither.
    dithered: f64,
    /// The sum of the components' absolute values.
    absolute: f64,
    /// The components in whole numbers, and what one of those is.
    words: Vec<i16>,
    word: f64,
}

impl<'a> Query<'a> {
    pub(super) fn new(embedding: &'a Embedding) -> Self {
        let values = embedding.as_slice();
        let Sums { sum, absolute, largest } = sums(values);
        // As large as they may be for their products with bytes to add up in 32 bits.
        let most = f64::from(i32::MAX / i32::from(u8::MAX)) - values.len() as f64;
        let factor = (most / absolute).min(f64::from(i16::MAX) / largest) as f32;
        let mut words = vec![0; values.len()];
        in_words(values, factor, &mut words);
        let dithered = dot(values, dither(values.len()));
        Self { values, sum, dithered, absolute, words, word: 1.0 / f64::from(factor) }
    }
}

/// A cosine by the rough bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rough {
    /// The cosine, as far as it is known.
    pub(super) cosine: f64,
    /// How much the true one may lie below or above.
    pub(super) margin: f64,
}

/// Unit vectors, one a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes<'a> {
    rough: &'a Mmap,
    fine: &'a Mmap,
    width: usize,
}

impl<'a> Planes<'a> {
    /// Looks at both files as rows of `width` components.
    pub(super) fn new(rough: &'a Mmap, fine: &'a Mmap, width: usize) -> Self {
        Self { rough, fine, width }
    }

    /// Components of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.rough.len() / rough_row_bytes(self.width)
    }

    /// The cosine of `query` and a point as far as the rough bits tell; `None` when it cannot be one, as the row is
    /// damaged.
    pub(super) fn rough(&self, query: &Query<'_>, point: u32) -> Option<Rough> {
        let (base, step, rough) = self.rough_row(point);
        let product = f64::from(dot_rough(&query.words, rough)) * query.word - query.dithered;
        let cosine = base * query.sum + step * product;
        // Each component is rounded by up to half a step, by chance: the variance is a twelfth of the step's square, and
        // the squares of the other vector's components add up to 1.
        let deviation = ((step * step + query.word * query.word) / 12.0).sqrt();
        let most = step / 2.0 * query.absolute + query.word / 2.0 * (self.width as f64).sqrt();
        let margin = (DEVIATIONS * deviation).min(most);
        (cosine.abs() < MOST + margin).then_some(Rough { cosine, margin })
    }

    /// The cosine of `query` and a point as [`Embedding::cosine`] gives it, but for rounding by some 1e-8; `None` when
    /// the rows are not what was written.
    pub(super) fn cosine(&self, query: &Query<'_>, point: u32) -> Option<f32> {
        let (base, step, rough) = self.rough_row(point);
        let product = dot_whole(query.values, rough, self.fine_row(point));
        let cosine = base * query.sum + step * (product / FINE - query.dithered);
        let is_itself = (cosine - 1.0).abs() < ITSELF && self.is(point, query.values);
        let cosine = if is_itself { 1.0 } else { cosine.clamp(-1.0, 1.0) as f32 };
        self.is_as_written(point).then_some(cosine)
    }

    /// Whether a row is what was made of `values`.
    fn is(&self, point: u32, values: &[f32]) -> bool {
        let (_, step, _) = self.rough_row(point);
        let apart = self.components(point).zip(values).map(|(a, b)| f64::from((a - b).abs()));
        apart.fold(0.0, f64::max) <= step / FINE + f64::from(f32::EPSILON)
    }

    fn is_as_written(&self, point: u32) -> bool {
        let rough = row_of(self.rough, rough_row_bytes(self.width), point);
        let fine = row_of(self.fine, fine_row_bytes(self.width), point);
        folded(rough) ^ folded(fine) == u64::MAX
    }

    /// Appends the components of a row; `None` when its rows are not what was written.
    pub(super) fn extend(&self, point: u32, floats: &mut Vec<f32>) -> Option<()> {
        floats.extend(self.components(point));
        self.is_as_written(point).then_some(())
    }

    fn components(&self, point: u32) -> impl Iterator<Item = f32> {
        let (base, step, rough) = self.rough_row(point);
        let steps = rough.iter().zip(self.fine_row(point)).zip(dither(self.width));
        steps.map(move |((rough, fine), dither)| {
            let steps = f64::from(*rough) + f64::from(*fine) / FINE - f64::from(*dither);
            (base + step * steps) as f32
        })
    }

    /// Asks for the rough bits of a row that will be read soon. All of them: by itself the processor goes no further
    /// than to the end of a page.
    #[inline(always)]
    pub(super) fn prefetch_rough(&self, point: u32) {
        prefetch_row(self.rough, rough_row_bytes(self.width), point);
    }

    /// Likewise for the fine bits.
    #[inline(always)]
    pub(super) fn prefetch_fine(&self, point: u32) {
        prefetch_row(self.fine, fine_row_bytes(self.width), point);
    }

    /// Says that the rows of some points are not needed for now, see [`release`].
    pub(super) fn release(&self, points: Range<usize>) {
        release(self.rough, rough_row_bytes(self.width), points.clone());
        release(self.fine, fine_row_bytes(self.width), points);
    }

    /// Base, step and rough bits of a row.
    fn rough_row(&self, point: u32) -> (f64, f64, &'a [u8]) {
        let row = row_of(self.rough, rough_row_bytes(self.width), point);
        let (header, bytes) = row.split_at(HEADER);
        let float = |at: usize| {
            f64::from(f32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes")))
        };
        (float(0), float(4), &bytes[..self.width])
    }

    /// Fine bits of a row.
    fn fine_row(&self, point: u32) -> &'a [i16] {
        let row = row_of(self.fine, fine_row_bytes(self.width), point);
        // SAFETY: any two bytes are a number.
        let (before, words, _) = unsafe { row.align_to::<i16>() };
        assert!(before.is_empty(), "a map begins at a page, and a row at a cache line");
        &words[..self.width]
    }
}

fn row_of(bytes: &[u8], row_bytes: usize, point: u32) -> &[u8] {
    let at = point as usize * row_bytes;
    &bytes[at..at + row_bytes]
}

#[inline(always)]
fn prefetch_row(bytes: &[u8], row_bytes: usize, point: u32) {
    for line in row_of(bytes, row_bytes, point).chunks(LINE) {
        prefetch(&line[0]);
    }
}

/// Says that some rows of a map are not needed for now: they leave this process's memory, and come back from the file
/// when they are looked at again.
pub(super) fn release(map: &Mmap, row_bytes: usize, rows: Range<usize>) {
    #[cfg(unix)]
    {
        // SAFETY: the map is shared with a file and is only read, so the bytes come back as they were.
        let _ = unsafe {
            map.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                rows.start * row_bytes,
                rows.len() * row_bytes,
            )
        };
    }
    #[cfg(not(unix))]
    let _ = (map, row_bytes, rows);
}

#[cfg(test)]
mod tests;
