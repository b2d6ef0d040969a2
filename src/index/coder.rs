//! Vectors → codes of 7 bits a component, whose squared L2 distances order like the cosine.
//!
//! A code is the vector's place in the library's principal components, or in a small library the vector
//! itself, centred on the library's mean, with one scale for all components: so distances between
//! codes are those between unit vectors, ‖a - b‖² = 2 - 2 cos, less what the components leave out.
//!
//! ```text
//! header   8 u32: magic, version, width, code width, components (0 or code width), bits of the step, 0, 0
//! offset   code width f32: where the mean lies
//! scales   components f32
//! rows     components × width i8: orthonormal, divided by their scale
//! ```

use rayon::prelude::*;

use super::Params;
use super::codes::row_bytes;
use super::kernel::{BLOCK, Kernel};
use super::pca::{self, Pca};
use super::vectors::Vectors;
use crate::embedding::{dot, for_each_processor};

const MAGIC: u32 = u32::from_le_bytes(*b"lkco");
const VERSION: u32 = 2;
const HEADER: usize = 8 * 4;

/// The code of the mean; codes reach as far below as above.
const MIDDLE: f32 = 64.0;

/// Vectors are projected in bytes, as rounding their components to a 254th of the largest hardly moves a
/// place beside a code's step. They are unsigned, with 128 for zero, as the instructions want one side.
const ZERO: f32 = 128.0;

/// Vectors that components are learned from, at most.
const LEARN_FROM: usize = 50_000;

/// Components are learned from so many vectors each, at least. From fewer they fit those vectors and no
/// others, and then there is no need either.
const VECTORS_A_COMPONENT: usize = 8;

/// Components of a code where nobody said how many: at least, as a rule at most, and at most. Between them
/// whole blocks, as rows are padded to those. More would make searches hardly faster, as fewer vectors need be
/// looked at, and take more memory than a sixteenth of what a graph over the vectors does.
const WIDTHS: [usize; 3] = [BLOCK, 4 * BLOCK, 6 * BLOCK];

/// Rows looked at to choose the scale.
const SCALE_FROM: usize = 4_096;

/// Turns vectors into codes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Coder {
    width: usize,
    code_width: usize,
    step: f32,
    offset: Vec<f32>,
    /// None where the vector itself is the code.
    components: Vec<i8>,
    /// What each component was divided by.
    scales: Vec<f32>,
    /// The sum of each component, as divided.
    sums: Vec<i32>,
}

/// A coder and how much of the vectors' variance its codes keep.
pub(super) struct Learned {
    pub(super) coder: Coder,
    pub(super) kept: f32,
}

/// Learns codes of `code_width` components, or of all where that is no fewer or the vectors are too few
/// to learn from; without a width, of as few as keep [`Params::KEPT`]. The same vectors give the same coder.
pub(super) fn learn(vectors: Vectors<'_>, code_width: Option<usize>) -> Learned {
    let width = vectors.width();
    let sample = spread(vectors.len(), LEARN_FROM);
    let learnable = vectors.len() / VECTORS_A_COMPONENT;
    let pca = match code_width {
        Some(count) => {
            (count <= learnable && count < width).then(|| pca::train(vectors, &sample, count))
        }
        None => by_spectrum(vectors, &sample, learnable),
    };
    let (mut coder, kept) = match pca {
        None => {
            let offset = pca::mean(vectors, &sample);
            (Coder::new(width, 1.0, offset, Vec::new(), Vec::new()), 1.0)
        }
        Some(pca) => (Coder::of(&pca, width), pca.kept),
    };
    coder.choose_step(vectors);
    Learned { coder, kept }
}

/// As many components as keep [`Params::KEPT`], or the most there may be; `None` where the vectors are too
/// few to learn so many from.
fn by_spectrum(vectors: Vectors<'_>, sample: &[u32], learnable: usize) -> Option<Pca> {
    let [least, usual, most] = WIDTHS;
    let most = most.min(vectors.width() - 1).min(learnable) / BLOCK * BLOCK;
    if most < least {
        return None;
    }
    let enough = |pca: &Pca| {
        let total = pca.variances.iter().sum::<f32>() / pca.kept;
        let kept = |count: usize| pca.variances[..count].iter().sum::<f32>() / total;
        (least..=pca.variances.len()).step_by(BLOCK).find(|count| kept(*count) >= Params::KEPT)
    };
    // Twice as many take twice as long, and are hardly ever needed.
    for count in [usual.min(most), most] {
        let mut pca = pca::train(vectors, sample, count);
        let enough = enough(&pca);
        if let Some(count) = enough.or((count == WIDTHS[2]).then_some(count)) {
            pca.cut(count, vectors.width());
            return Some(pca);
        }
    }
    None
}

/// Up to `most` of the points `0..count`, at equal distances.
pub(super) fn spread(count: usize, most: usize) -> Vec<u32> {
    let chosen = count.min(most);
    (0..chosen).map(|i| (i * count / chosen) as u32).collect()
}

for_each_processor! {
    /// Writes a vector in whole numbers from 1 to 255, with 128 for zero; gives what to multiply them with.
    fn in_bytes(vector: &[f32], out: &mut [u8]) -> f32 = rounded
}

#[inline(always)]
fn rounded(vector: &[f32], out: &mut [u8]) -> f32 {
    // Without their signs, floats order like their bits.
    let largest = vector.iter().fold(0, |max, v| v.abs().to_bits().max(max));
    let largest = f32::from_bits(largest);
    let scale = if largest.is_normal() { largest / 127.0 } else { 1.0 };
    let factor = 1.0 / scale;
    // A float of this size has no place behind the point: what is added is rounded, and stands in its lowest
    // bits. Conversions to integers check for what is no number, one at a time.
    const WHOLE: f32 = (1 << 23) as f32;
    let byte = |v: &f32| (v * factor + (WHOLE + ZERO)).to_bits() as u8;
    out.iter_mut().zip(vector).for_each(|(out, v)| *out = byte(v));
    scale
}

impl Coder {
    fn new(
        width: usize,
        step: f32,
        offset: Vec<f32>,
        components: Vec<i8>,
        scales: Vec<f32>,
    ) -> Self {
        let rows = components.chunks_exact(width.max(1));
        let sums = rows.map(|row| row.iter().map(|v| i32::from(*v)).sum()).collect();
        Self { width, code_width: offset.len(), step, offset, components, scales, sums }
    }

    /// By the components, in bytes.
    fn of(pca: &Pca, width: usize) -> Self {
        let (mut components, mut scales, mut offset) = (Vec::new(), Vec::new(), Vec::new());
        for row in pca.components.chunks_exact(width) {
            let mut bytes = vec![0; width];
            let scale = in_bytes(row, &mut bytes);
            let whole: Vec<i8> =
                bytes.iter().map(|v| (i32::from(*v) - ZERO as i32) as i8).collect();
            let divided: Vec<f32> = whole.iter().map(|v| f32::from(*v)).collect();
            offset.push(dot(&divided, &pca.mean) as f32 * scale);
            components.extend(whole);
            scales.push(scale);
        }
        Self::new(width, 1.0, offset, components, scales)
    }

    /// The components of a code.
    pub(super) fn code_width(&self) -> usize {
        self.code_width
    }

    /// How far codes that differ by one lie apart: its square times the distance of two codes is about that of their
    /// vectors, less what codes leave out.
    pub(super) fn step(&self) -> f32 {
        self.step
    }

    /// Whether codes are principal components.
    pub(super) fn is_learned(&self) -> bool {
        !self.components.is_empty()
    }

    /// The code of a unit vector of the coder's width: a row of whole blocks.
    pub(super) fn encode(&self, vector: &[f32]) -> Vec<u8> {
        self.row(&self.places(&[vector]))
    }

    /// The codes of several unit vectors: less time for each.
    pub(super) fn encode_all(&self, vectors: &[&[f32]]) -> Vec<Vec<u8>> {
        self.places(vectors).chunks_exact(self.code_width).map(|place| self.row(place)).collect()
    }

    fn row(&self, place: &[f32]) -> Vec<u8> {
        let mut row = vec![MIDDLE as u8; row_bytes(self.code_width)];
        let scale = 1.0 / self.step;
        for (code, value) in row.iter_mut().zip(place) {
            // Saturates, and takes what is no number for zero; what is below zero is cut off there.
            *code = ((value * scale + (MIDDLE + 0.5)) as u8).min(127);
        }
        row
    }

    /// Where vectors lie from the mean, before that is made small: `[vectors × code width]`.
    fn places(&self, vectors: &[&[f32]]) -> Vec<f32> {
        let met = vectors.iter().all(|vector| vector.len() == self.width);
        assert!(met, "embeddings of different models never meet");
        if self.components.is_empty() {
            let place = |vector: &&[f32]| -> Vec<f32> {
                vector.iter().zip(&self.offset).map(|(v, o)| v - o).collect()
            };
            return vectors.iter().flat_map(place).collect();
        }
        let mut bytes = vec![0; vectors.len() * self.width];
        let scales: Vec<f32> = vectors
            .iter()
            .zip(bytes.chunks_exact_mut(self.width))
            .map(|(vector, out)| in_bytes(vector, out))
            .collect();
        let dots = Kernel::best().dots(&bytes, &self.components, self.width);
        let mut places = Vec::with_capacity(dots.len());
        for (dots, scale) in dots.chunks_exact(self.code_width).zip(scales) {
            let rows = dots.iter().zip(&self.sums).zip(self.scales.iter().zip(&self.offset));
            places.extend(rows.map(|((dot, sum), (row, offset))| {
                // Without what the 128 for zero adds.
                (dot - ZERO as i32 * sum) as f32 * (scale * row) - offset
            }));
        }
        places
    }

    /// Chooses the step that loses least: a fine one cuts off what lies far out, a coarse one rounds.
    fn choose_step(&mut self, vectors: Vectors<'_>) {
        let sample = spread(vectors.len(), SCALE_FROM);
        let places: Vec<f32> =
            sample.par_iter().flat_map_iter(|point| self.places(&[vectors.row(*point)])).collect();
        let farthest = places.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        if farthest == 0.0 {
            return;
        }
        let loss = |step: f32| -> f64 {
            let chunks = places.par_chunks(1 << 16).map(|places| -> f64 {
                let lost = |v: &f32| {
                    let code = (v / step).round().clamp(-MIDDLE, 127.0 - MIDDLE);
                    f64::from(v - code * step).powi(2)
                };
                places.iter().map(lost).sum()
            });
            // In one order, whatever the number of threads.
            chunks.collect::<Vec<f64>>().iter().sum()
        };
        let steps = (0..16).map(|i| farthest / (127.0 - MIDDLE) * 0.85f32.powi(i));
        let best = steps.map(|step| (loss(step), step)).min_by(|a, b| a.0.total_cmp(&b.0));
        self.step = best.map_or(1.0, |(_, step)| step);
    }

    /// The file's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let components = self.scales.len();
        let numbers = [
            MAGIC,
            VERSION,
            self.width as u32,
            self.code_width as u32,
            components as u32,
            self.step.to_bits(),
            0,
            0,
        ];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.extend(self.offset.iter().flat_map(|v| v.to_le_bytes()));
        bytes.extend(self.scales.iter().flat_map(|v| v.to_le_bytes()));
        bytes.extend(self.components.iter().map(|v| v.cast_unsigned()));
        bytes
    }

    /// Reads what [`Coder::to_bytes`] wrote.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub(super) fn parse(bytes: &[u8], width: usize) -> Result<Self, String> {
        let (header, rest) = bytes.split_at_checked(HEADER).ok_or("ends early")?;
        let mut numbers = header.as_chunks::<4>().0.iter().map(|n| u32::from_le_bytes(*n));
        let mut next = || numbers.next().expect("eight numbers");
        if (next(), next()) != (MAGIC, VERSION) {
            return Err("is no coder of this version".to_owned());
        }
        let [found, code_width, components] = [next(), next(), next()].map(|n| n as usize);
        let step = f32::from_bits(next());
        let sound = found == width
            && (1..=width).contains(&code_width)
            && (components == code_width || (components == 0 && code_width == width))
            && step.is_normal()
            && step > 0.0;
        let size =
            code_width.saturating_mul(4).saturating_add(components.saturating_mul(4 + width));
        if !sound || rest.len() != size {
            return Err("has impossible sizes".to_owned());
        }
        let (offset, rest) = rest.split_at(4 * code_width);
        let (scales, components) = rest.split_at(4 * components);
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)).collect()
        };
        let components = components.iter().map(|v| v.cast_signed()).collect();
        Ok(Self::new(width, step, floats(offset), components, floats(scales)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::embedding::Embedding;
    use crate::index::codes::Codes;
    use crate::index::synthetic;

    const WIDTH: usize = 96;

    fn embeddings(count: usize) -> Vec<Embedding> {
        let vectors = synthetic::vectors(count, WIDTH, 9);
        vectors.map(|values| Embedding::normalised(&values).unwrap()).collect()
    }

    fn learned(embeddings: &[Embedding], code_width: usize) -> Learned {
        let floats: Vec<f32> = embeddings.iter().flat_map(|e| e.as_slice()).copied().collect();
        // SAFETY: any float is four bytes.
        learn(Vectors::new(unsafe { floats.align_to().1 }, WIDTH), Some(code_width))
    }

    #[test]
    fn distances_of_codes_order_like_cosines() {
        let all = embeddings(1_000);
        for (code_width, few) in [(48, false), (256, true)] {
            let Learned { coder, kept } = learned(&all, code_width);
            assert_eq!(coder.is_learned(), !few);
            assert!(kept > 0.9, "{kept}");
            let rows: Vec<u8> = all.iter().flat_map(|e| coder.encode(e.as_slice())).collect();
            let codes = Codes::new(&rows, row_bytes(coder.code_width()));
            let near = |distance: &dyn Fn(usize) -> f32, k: usize| {
                let mut others: Vec<usize> = (1..all.len()).collect();
                others.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
                others.truncate(k);
                others
            };
            let by_vectors = near(&|other| -all[0].cosine(&all[other]), 10);
            let by_codes = near(&|other| codes.between(0, other as u32) as f32, 30);
            assert!(by_vectors.iter().all(|point| by_codes.contains(point)), "{kept}");
            assert_eq!(codes.between(7, 7), 0);
        }
    }

    #[test]
    fn a_coder_survives_its_bytes() {
        let all = embeddings(500);
        for code_width in [16, 256] {
            let coder = learned(&all, code_width).coder;
            assert_eq!(Coder::parse(&coder.to_bytes(), WIDTH), Ok(coder.clone()));
            assert!(Coder::parse(&coder.to_bytes(), WIDTH + 1).is_err());
        }
    }

    #[test]
    fn equal_vectors_and_a_single_one_have_codes_too() {
        let one = embeddings(1);
        for count in [1, 300] {
            let all = vec![one[0].clone(); count];
            let coder = learned(&all, 16).coder;
            assert_eq!(Coder::parse(&coder.to_bytes(), WIDTH).unwrap(), coder);
            coder.encode(one[0].as_slice());
        }
    }

    proptest! {
        #[test]
        fn a_damaged_file_gives_an_error_or_a_coder_that_encodes(
            at in 0usize..2_000, value in any::<u8>(), cut in 0usize..200,
        ) {
            let coder = Coder::new(8, 0.1, vec![0.0; 4], vec![9; 32], vec![0.01; 4]);
            let mut bytes = coder.to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= value;
            bytes.truncate(bytes.len() - cut.saturating_sub(150));
            if let Ok(coder) = Coder::parse(&bytes, 8) {
                prop_assert_eq!(coder.encode(&[0.3; 8]).len(), 64);
            }
        }
    }
}
