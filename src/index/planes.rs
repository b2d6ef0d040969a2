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

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use memmap2::Mmap;

use super::codes::prefetch;
use crate::embedding::{Embedding, dot, for_each_processor};
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
        let most = step / 2.0 * query.absolute + query.word;
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
        let mut row = Vec::with_capacity(self.width);
        self.extend(point, &mut row);
        let apart = row.iter().zip(values).map(|(a, b)| f64::from((a - b).abs()));
        apart.fold(0.0, f64::max) <= step / FINE + f64::from(f32::EPSILON)
    }

    fn is_as_written(&self, point: u32) -> bool {
        let rough = row_of(self.rough, rough_row_bytes(self.width), point);
        let fine = row_of(self.fine, fine_row_bytes(self.width), point);
        folded(rough) ^ folded(fine) == u64::MAX
    }

    /// Appends the components of a row.
    pub(super) fn extend(&self, point: u32, floats: &mut Vec<f32>) {
        let (base, step, rough) = self.rough_row(point);
        let steps = rough.iter().zip(self.fine_row(point)).zip(dither(self.width));
        let component = |((rough, fine), dither): ((&u8, &i16), &f32)| {
            let steps = f64::from(*rough) + f64::from(*fine) / FINE - f64::from(*dither);
            (base + step * steps) as f32
        };
        floats.extend(steps.map(component));
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

/// Of a vector's components.
pub(crate) struct Sums {
    sum: f64,
    /// Of their absolute values.
    absolute: f64,
    /// The largest of those.
    largest: f64,
}

for_each_processor! {
    fn sums(values: &[f32]) -> Sums = sums_in_lanes
}

#[inline(always)]
fn sums_in_lanes(values: &[f32]) -> Sums {
    let (whole, rest) = values.as_chunks::<BLOCK>();
    let (mut sums, mut absolute, mut largest) = ([0.0f64; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    for values in whole {
        for lane in 0..LANES {
            let of = four(lane, |i| values[i]);
            let away = of.map(f32::abs);
            sums[lane] += f64::from(added(of));
            absolute[lane] += added(away);
            // The maximum of floats that may be none takes longer.
            largest[lane] =
                away.iter().fold(largest[lane], |max, v| if *v > max { *v } else { max });
        }
    }
    for value in rest {
        sums[0] += f64::from(*value);
        absolute[0] += value.abs();
        largest[0] = largest[0].max(value.abs());
    }
    Sums {
        sum: sums.iter().sum(),
        absolute: f64::from(absolute.iter().sum::<f32>()),
        largest: f64::from(largest.iter().fold(0.0, |max: f32, v| max.max(*v))),
    }
}

for_each_processor! {
    /// Writes values times a factor in whole numbers, which they must fit.
    fn in_words(values: &[f32], factor: f32, out: &mut [i16]) -> () = rounded
}

#[inline(always)]
fn rounded(values: &[f32], factor: f32, out: &mut [i16]) {
    // A float of this size has no place behind the point: what is added is rounded, and stands in its lowest bits.
    const WHOLE: f32 = (3 << 22) as f32;
    let word = |value: &f32| (value * factor + WHOLE).to_bits() as i16;
    out.iter_mut().zip(values).for_each(|(out, value)| *out = word(value));
}

for_each_processor! {
    /// The dot product. The compiler knows instructions for this sum.
    fn dot_rough(a: &[i16], rough: &[u8]) -> i32 = dot_of_words
}

#[inline(always)]
fn dot_of_words(a: &[i16], rough: &[u8]) -> i32 {
    a.iter().zip(rough).map(|(a, b)| i32::from(*a) * i32::from(*b)).fold(0, i32::wrapping_add)
}

for_each_processor! {
    /// The dot product with the whole numbers of 24 bits that both files have of a row, in double precision.
    fn dot_whole(a: &[f32], rough: &[u8], fine: &[i16]) -> f64 = dot_in_lanes
}

#[inline(always)]
fn dot_in_lanes(a: &[f32], rough: &[u8], fine: &[i16]) -> f64 {
    // 24 bits are what single precision holds.
    let number = |rough: u8, fine: i16| ((i32::from(rough) << 16) + i32::from(fine)) as f32;
    let (a, a_rest) = a.as_chunks::<BLOCK>();
    let (rough, rough_rest) = rough.as_chunks::<BLOCK>();
    let (fine, fine_rest) = fine.as_chunks::<BLOCK>();
    let mut lanes = [0.0f64; LANES];
    for ((a, rough), fine) in a.iter().zip(rough).zip(fine) {
        let products: [f32; BLOCK] = std::array::from_fn(|i| a[i] * number(rough[i], fine[i]));
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f64::from(added(four(lane, |i| products[i])));
        }
    }
    let rest = a_rest.iter().zip(rough_rest).zip(fine_rest);
    let rest = rest.map(|((a, rough), fine)| f64::from(a * number(*rough, *fine)));
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

for_each_processor! {
    /// The exclusive or of all words of eight bytes, of which there are whole ones.
    fn folded(bytes: &[u8]) -> u64 = folded_words
}

#[inline(always)]
fn folded_words(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<8>().0.iter().fold(0, |all, word| all ^ u64::from_le_bytes(*word))
}

/// Sums are made in so many lanes of a fixed order, of blocks of four times as many. As in [`Embedding::cosine`] four
/// numbers are added in single precision before they are in double.
const LANES: usize = 16;
const BLOCK: usize = 4 * LANES;

/// The four of a block that belong to a lane.
#[inline(always)]
fn four(lane: usize, of: impl Fn(usize) -> f32) -> [f32; 4] {
    [of(lane), of(LANES + lane), of(2 * LANES + lane), of(3 * LANES + lane)]
}

#[inline(always)]
fn added([a, b, c, d]: [f32; 4]) -> f32 {
    (a + b) + (c + d)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both files of some vectors.
    fn written(all: &[Embedding]) -> (Mmap, Mmap) {
        let (mut rough, mut fine) = (Vec::new(), Vec::new());
        let (mut rough_row, mut fine_row) = (Vec::new(), Vec::new());
        for embedding in all {
            split(embedding.as_slice(), &mut rough_row, &mut fine_row);
            rough.extend_from_slice(&rough_row);
            fine.extend_from_slice(&fine_row);
        }
        let map = |bytes: Vec<u8>| {
            let mut map = memmap2::MmapMut::map_anon(bytes.len()).unwrap();
            map.copy_from_slice(&bytes);
            map.make_read_only().unwrap()
        };
        (map(rough), map(fine))
    }

    /// Vectors of any shape: of zeros but for a few, of one large component, all the same, with signs and without.
    fn vectors() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let component = prop_oneof![Just(0.0f32), 0.0f32..1.0, -1.0f32..1.0, Just(1.0), Just(30.0)];
        let pair = move |width: usize| {
            let free = prop::collection::vec(component.clone(), width);
            let same = (0.1f32..1.0).prop_map(move |v| vec![v; width]);
            prop::collection::vec(prop_oneof![8 => free, 1 => same], 2)
        };
        (1usize..300).prop_flat_map(pair)
    }

    proptest! {
        #[test]
        fn cosines_are_those_of_the_vectors(vectors in vectors()) {
            let all = vectors.iter().map(|values| Embedding::normalised(values));
            let Ok(all) = all.collect::<Result<Vec<_>, _>>() else { return Ok(()) };
            let width = all[0].width();
            let (rough, fine) = written(&all);
            let planes = Planes::new(&rough, &fine, width);
            prop_assert_eq!(planes.len(), 2);
            for embedding in &all {
                let query = Query::new(embedding);
                for (point, other) in (0..).zip(&all) {
                    let rough = planes.rough(&query, point).unwrap();
                    let cosine = planes.cosine(&query, point).unwrap();
                    let expected = embedding.cosine(other);
                    prop_assert!((cosine - expected).abs() < 1.5e-7, "{cosine} {expected}");
                    prop_assert!((rough.cosine - f64::from(expected)).abs() <= rough.margin + 1e-7);

                    if other == embedding {
                        prop_assert_eq!(cosine, 1.0);
                    }
                    let mut floats = Vec::new();
                    planes.extend(point, &mut floats);
                    let off = floats.iter().zip(other.as_slice()).map(|(a, b)| (a - b).abs());
                    prop_assert!(off.fold(0.0, f32::max) < 1e-7);
                }
            }
        }
    }

    #[test]
    fn a_row_that_was_altered_is_told() {
        let [a, b] = [[3.0, 4.0, 0.0], [0.0, 1.0, 1.0]].map(|v| Embedding::normalised(&v).unwrap());
        let (rough, fine) = written(&[a.clone(), b.clone()]);
        let query = Query::new(&b);
        let altered = |of: &Mmap, alter: &dyn Fn(&mut [u8])| {
            let mut altered = memmap2::MmapMut::map_anon(of.len()).unwrap();
            altered.copy_from_slice(of);
            alter(&mut altered);
            altered.make_read_only().unwrap()
        };
        let cosine = |rough: &Mmap, fine: &Mmap, point: u32| {
            Planes::new(rough, fine, 3).cosine(&query, point)
        };
        assert!((cosine(&rough, &fine, 0).unwrap() - a.cosine(&b)).abs() < 1e-7);
        for bit in 0..8 * (HEADER + 3) {
            let flipped = altered(&rough, &|row| row[bit / 8] ^= 1 << (bit % 8));
            assert_eq!(cosine(&flipped, &fine, 0), None, "{bit}");
            assert_eq!(cosine(&flipped, &fine, 1), Some(1.0));
        }
        let nothing = [&rough, &fine].map(|file| altered(file, &|row| row.fill(0)));
        for (rough, fine) in
            [(&nothing[0], &fine), (&rough, &nothing[1]), (&nothing[0], &nothing[1])]
        {
            assert_eq!(cosine(rough, fine, 0), None);
        }
        for step in [f32::NAN, f32::INFINITY, 1.0] {
            let bytes = step.to_le_bytes();
            let rough = altered(&rough, &|row| row[4..8].copy_from_slice(&bytes));
            let read = Planes::new(&rough, &fine, 3).rough(&query, 0);
            assert!(read.is_none() || step == 1.0, "{read:?}");
        }
    }
}
