//! Rows of pixels → shorter rows, where the processor can pick any bytes of a register (AVX-512 VBMI, VNNI).
//!
//! Beside its network, a photo of a megapixel costs this pass most after its decoder. fast_image_resize spends
//! it on bringing red, green and blue apart, 16 bytes at a time; here one instruction does that for the 64 bytes
//! that up to five pixels are made of. The pixels are the same.

use std::ops::Range;

use super::geometry::Span;

/// Bytes that are looked at for some neighbouring pixels.
const WINDOW: usize = 64;

/// So many pixels of three channels each have a place in a register of 32-bit sums.
const MOST: usize = 5;

/// Neighbours whose products go into a sum at once.
const AT_ONCE: usize = 4;

/// Bytes that are written at once, of which [`MOST`] pixels count.
const STORED: usize = 16;

/// Pixels that are made of the bytes of one window.
struct Group {
    /// The first byte of the window in a row.
    start: usize,
    /// How many pixels are made.
    count: usize,
    /// Of each pixel's neighbours the first four, the next four, …
    parts: Vec<Part>,
}

/// [`AT_ONCE`] neighbours of each pixel's channels: a byte for each.
#[derive(Clone)]
#[repr(align(64))]
struct Part {
    /// Where in the window the neighbours stand.
    places: [u8; WINDOW],
    /// What they are multiplied by, 256 times.
    upper: [i8; WINDOW],
    /// What they are multiplied by, too.
    lower: [i8; WINDOW],
}

/// Resizes rows of pixels of three bytes, bilinear and antialiased. Made only where the processor can.
pub(in crate::photo) struct Narrowing {
    groups: Vec<Group>,
    /// Binary digits of the weights behind the point.
    digits: u32,
    /// Of a row that comes out.
    row_bytes: usize,
}

impl Narrowing {
    /// From `span` of `width` pixels to `size`. `None` where the processor cannot, or pixels are made of too many to
    /// lie in a window.
    pub(super) fn new(width: usize, span: Span, size: u32) -> Option<Self> {
        if !can() {
            return None;
        }
        let (groups, digits) = Weighted::new(width, span, size).groups()?;
        Some(Self { groups, digits, row_bytes: 3 * size as usize })
    }

    /// Of a resized row.
    pub(in crate::photo) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Puts a row, resized, behind others.
    pub(in crate::photo) fn push(&self, row: &[u8], rows: &mut Vec<u8>) {
        let (start, end) = (rows.len(), rows.len() + self.row_bytes);
        // What is written behind the end is cut off.
        rows.resize(end + STORED, 0);
        let to = &mut rows[start..];
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has what it takes, or this were not made.
        unsafe {
            x86::narrow(row, &self.groups, self.digits, to);
        }
        #[cfg(not(target_arch = "x86_64"))]
        narrow(row, &self.groups, self.digits, to);
        rows.truncate(end);
    }

    /// Resizes all rows of `width` pixels.
    pub(super) fn all(&self, rgb: &[u8], width: usize) -> Vec<u8> {
        let rows = rgb.chunks_exact(3 * width);
        let mut narrowed = Vec::with_capacity(rows.len() * self.row_bytes + STORED);
        rows.for_each(|row| self.push(row, &mut narrowed));
        narrowed
    }
}

/// Whether the processor has the instructions.
#[cfg(target_arch = "x86_64")]
fn can() -> bool {
    is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn can() -> bool {
    false
}

/// The neighbours that pixels are made of.
struct Weighted {
    /// Of each pixel the first neighbour, and behind which of `weights` its own end.
    pixels: Vec<(usize, usize)>,
    weights: Vec<f64>,
}

impl Weighted {
    /// As fast_image_resize, and Pillow, weigh them.
    fn new(width: usize, span: Span, size: u32) -> Self {
        // Not `length`, which this may differ from in its last digit.
        let step = (span.start + span.length - span.start) / f64::from(size);
        let radius = step.max(1.0);
        let most = 2 * radius.ceil() as usize + 1;
        let mut weights: Vec<f64> = Vec::with_capacity(size as usize * most);
        let pixels = (0..size).map(|x| {
            let center = span.start + (f64::from(x) + 0.5) * step;
            let first = (center - radius).floor().max(0.0) as usize;
            let end = ((center + radius).ceil() as usize).min(width);
            let own = weights.len();
            let weight = |x: usize| 1.0 - ((x as f64 - (center - 0.5)) * (1.0 / radius)).abs();
            weights.extend((first..end).map(|x| weight(x).max(0.0)));
            let sum: f64 = weights[own..].iter().sum();
            weights[own..].iter_mut().for_each(|weight| *weight /= sum);
            (first, weights.len())
        });
        Self { pixels: pixels.collect(), weights }
    }

    /// The first neighbour of a pixel, and the weights from there on.
    fn of(&self, pixel: usize) -> (usize, &[f64]) {
        let start = pixel.checked_sub(1).map_or(0, |before| self.pixels[before].1);
        let (first, end) = self.pixels[pixel];
        (first, &self.weights[start..end])
    }

    /// Pixels whose neighbours lie in one window, and how many binary digits weights have behind the point. `None`
    /// where one has no place.
    fn groups(&self) -> Option<(Vec<Group>, u32)> {
        // As many as 16 bits hold.
        let largest = self.weights.iter().copied().fold(0.0, f64::max);
        let is_held = |digits: &u32| (largest * f64::from(1 << (digits + 1))).round() < 32_768.0;
        let digits = (0..21).take_while(is_held).count() as u32;
        let all = 0..self.pixels.len();
        // The same for all groups, so that the processor foresees it.
        let parts = all.clone().map(|x| self.of(x).1.len().div_ceil(AT_ONCE)).max()?;
        let mut groups = Vec::with_capacity(all.len());
        let mut start = 0;
        while start < all.end {
            let first = self.of(start).0;
            let fits = |pixel: &usize| {
                let (neighbour, weights) = self.of(*pixel);
                3 * (neighbour + weights.len() - first) <= WINDOW
            };
            let count = (start..all.end).take(MOST).take_while(fits).count();
            let pixels = start..start + count;
            groups.push(Group::new(self, pixels, digits, parts).filter(|_| count > 0)?);
            start += count;
        }
        Some((groups, digits))
    }
}

impl Group {
    /// `None` for weights that have no place in two halves.
    fn new(weighted: &Weighted, pixels: Range<usize>, digits: u32, parts: usize) -> Option<Self> {
        let (count, first) = (pixels.len(), weighted.of(pixels.start).0);
        let none = Part { places: [0; WINDOW], upper: [0; WINDOW], lower: [0; WINDOW] };
        let mut parts = vec![none; parts];
        for (place, pixel) in pixels.enumerate() {
            let (start, weights) = weighted.of(pixel);
            for (neighbour, weight) in weights.iter().enumerate() {
                let weight = (weight * f64::from(1 << digits)).round() as i32;
                let halves = (weight + 128) >> 8;
                let Part { places, upper, lower } = &mut parts[neighbour / AT_ONCE];
                for channel in 0..3 {
                    let at = AT_ONCE * (3 * place + channel) + neighbour % AT_ONCE;
                    places[at] = (3 * (start - first + neighbour) + channel) as u8;
                    upper[at] = halves.try_into().ok()?;
                    lower[at] = (weight - (halves << 8)) as i8;
                }
            }
        }
        Some(Self { start: 3 * first, count, parts })
    }
}

/// What the processor does in [`x86::narrow`], byte by byte.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn narrow(row: &[u8], groups: &[Group], digits: u32, out: &mut [u8]) {
    let mut out = out.iter_mut();
    for Group { start, count, parts } in groups {
        for (byte, out) in out.by_ref().take(3 * count).enumerate() {
            let mut sum = 1 << digits >> 1;
            for Part { places, upper, lower } in parts {
                for at in AT_ONCE * byte..AT_ONCE * (byte + 1) {
                    let weight = (i32::from(upper[at]) << 8) + i32::from(lower[at]);
                    let value = row.get(start + usize::from(places[at]));
                    sum += weight * value.map_or(0, |value| i32::from(*value));
                }
            }
            *out = (sum >> digits) as u8;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Group, Part, STORED, WINDOW};

    /// Where the lowest bytes of the sums stand.
    static LOWEST: [u8; WINDOW] = {
        let mut places = [0; WINDOW];
        let mut at = 0;
        while at < STORED {
            places[at] = 4 * at as u8;
            at += 1;
        }
        places
    };

    /// Makes the pixels of all groups, of weights with so many `digits`, one behind the other. Behind the last are
    /// [`STORED`] bytes at least.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    pub(super) fn narrow(row: &[u8], groups: &[Group], digits: u32, out: &mut [u8]) {
        let half = _mm512_set1_epi32(1 << digits >> 1);
        let digits = _mm_cvtsi32_si128(digits as i32);
        let lowest = whole(&LOWEST);
        let mut at = 0;
        for Group { start, count, parts } in groups {
            let window = &row[*start..];
            let inside = u64::MAX >> (WINDOW - window.len().min(WINDOW));
            // SAFETY: bytes beyond the row are masked, and not read.
            let window = unsafe { _mm512_maskz_loadu_epi8(inside, window.as_ptr().cast()) };
            let (mut uppers, mut sums) = (_mm512_setzero_si512(), half);
            for Part { places, upper, lower } in parts {
                let values = _mm512_permutexvar_epi8(whole(places), window);
                uppers = _mm512_dpbusd_epi32(uppers, values, whole(upper));
                sums = _mm512_dpbusd_epi32(sums, values, whole(lower));
            }
            let sums = _mm512_add_epi32(_mm512_slli_epi32::<8>(uppers), sums);
            // What weights are rounded by adds up to too little for more than 255.
            let bytes = _mm512_permutexvar_epi8(lowest, _mm512_sra_epi32(sums, digits));
            let to = out[at..].first_chunk_mut::<STORED>().expect("as many");
            // SAFETY: 16 bytes are there.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_castsi512_si128(bytes)) };
            at += 3 * count;
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn whole<T>(bytes: &[T; WINDOW]) -> __m512i {
        const { assert!(size_of::<T>() == 1) };
        // SAFETY: 64 bytes are there.
        unsafe { _mm512_loadu_epi8(bytes.as_ptr().cast()) }
    }
}

#[cfg(test)]
mod tests {
    use fast_image_resize::FilterType;

    use super::*;
    use crate::photo::resize::{CropBox, pass};
    use crate::random::split_mix;

    #[test]
    fn pixels_are_those_of_fast_image_resize() {
        let mut state = 3;
        let mut narrowed = 0;
        for (width, size, start, length) in [
            (816, 224, 51.0, 714.0),
            (766, 224, 25.3, 713.9),
            (301, 224, 0.0, 301.0),
            (200, 224, 10.5, 175.0),
            (97, 20, 0.0, 97.0),
            (1_023, 224, 63.9, 895.1),
            (4, 9, 0.0, 4.0),
            (5_000, 224, 0.0, 5_000.0),
        ] {
            let rgb = (0..3 * width * 5).map(|_| split_mix(&mut state) as u8).collect::<Vec<_>>();
            let span = Span { start, length };
            let Some(narrowing) = Narrowing::new(width as usize, span, size) else { continue };
            let ours = narrowing.all(&rgb, width as usize);
            narrowed += 1;
            let crop = CropBox { left: start, top: 0.0, width: length, height: 5.0 };
            let theirs = pass(&rgb, (width, 5), crop, (size, 5), FilterType::Bilinear);
            assert!(ours == theirs, "{width} to {size}");
            let mut plain = vec![0; narrowing.row_bytes];
            narrow(&rgb, &narrowing.groups, narrowing.digits, &mut plain);
            assert!(ours.starts_with(&plain), "{width} to {size}, byte by byte");
        }
        // More than 21 neighbours have no place in a window, and nothing has one on other processors.
        assert!(matches!(narrowed, 0 | 7), "{narrowed}");
    }

    #[test]
    fn white_stays_white_and_nothing_is_written_behind_the_last_row() {
        let span = Span { start: 0.7, length: 399.3 };
        if let Some(narrowing) = Narrowing::new(400, span, 224) {
            assert_eq!(narrowing.all(&[255; 3 * 400 * 3], 400), [255; 3 * 224 * 3]);
        }
    }
}
