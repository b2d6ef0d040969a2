//! Feature vectors: what the network gives ([`Features`]) and what is compared ([`Embedding`]).

/// Raw pooled features of one image as the network gave them: finite, and not all zero.
///
/// Held unnormalised, because other systems may want the magnitudes; comparison goes through
/// [`Features::embedding`].
#[derive(Debug, Clone, PartialEq)]
pub struct Features(Vec<f32>);

/// A unit vector for comparison: finite, non-zero, L2 norm 1 ± 1e-4. The dot product of two
/// embeddings of one model is the cosine of their images.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Vec<f32>);

/// Why a vector cannot be an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVector {
    /// A component is infinite or not a number.
    #[error("component {index} of the feature vector is not a finite number")]
    NotFinite {
        /// The first such component, counted from 0.
        index: usize,
    },
    /// Every component is zero, or so small that the direction is lost.
    #[error("the feature vector is zero")]
    Zero,
    /// The network gave another number of components than its manifest states.
    #[error("the feature vector has {found} components, expected {expected}")]
    Width {
        /// What the model states.
        expected: usize,
        /// What came.
        found: usize,
    },
}

impl Features {
    /// Takes the network's output for one image, of the width its model states.
    ///
    /// # Errors
    /// [`InvalidVector`] when the width is another, a component is not finite, or all are zero.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self, InvalidVector> {
        if values.len() != width {
            return Err(InvalidVector::Width { expected: width, found: values.len() });
        }
        norm(&values)?;
        Ok(Self(values))
    }

    /// Reads the little-endian form that [`Features::to_le_bytes`] writes.
    ///
    /// # Errors
    /// As [`Features::new`]; a damaged blob is found here.
    pub fn from_le_bytes(bytes: &[u8], width: usize) -> Result<Self, InvalidVector> {
        let (chunks, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(InvalidVector::Width { expected: width, found: chunks.len() });
        }
        Self::new(chunks.iter().map(|c| f32::from_le_bytes(*c)).collect(), width)
    }

    /// The components as 32-bit IEEE floats, little-endian, 4 × width bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// The components, `[width]`, unnormalised.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The unit vector in the same direction.
    pub fn embedding(&self) -> Embedding {
        let norm = norm(&self.0).expect("the constructor checked it");
        Embedding(self.0.iter().map(|&v| (f64::from(v) / norm) as f32).collect())
    }
}

impl Embedding {
    /// By how much a search of an index may be off in a cosine: it keeps vectors in 24 bits a component.
    pub const ROUNDING: f32 = 2e-7;

    /// Normalises `values` to length 1.
    ///
    /// # Errors
    /// [`InvalidVector`] when a component is not finite or all are zero.
    pub fn normalised(values: &[f32]) -> Result<Self, InvalidVector> {
        Ok(Features::new(values.to_vec(), values.len())?.embedding())
    }

    /// The direction of a weighted sum: what several images have in common, without what those of
    /// negative weight show.
    ///
    /// # Errors
    /// [`InvalidVector::Zero`] when they cancel out or there are none.
    ///
    /// # Panics
    /// When the widths differ: embeddings of different models never meet.
    pub fn weighted_sum(parts: &[(f32, Embedding)]) -> Result<Self, InvalidVector> {
        if let [(weight, only)] = parts
            && *weight > 0.0
        {
            return Ok(only.clone());
        }
        let mut sum = vec![0.0f64; parts.first().map_or(0, |(_, first)| first.width())];
        for (weight, part) in parts {
            assert_eq!(part.width(), sum.len(), "embeddings of different models never meet");
            for (sum, value) in sum.iter_mut().zip(part.as_slice()) {
                *sum += f64::from(*weight) * f64::from(*value);
            }
        }
        // What remains of equal parts is rounding.
        let weights: f64 = parts.iter().map(|(weight, _)| f64::from(weight.abs())).sum();
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        if length <= weights * 1e-6 {
            return Err(InvalidVector::Zero);
        }
        let unit: Vec<f32> = sum.into_iter().map(|value| (value / length) as f32).collect();
        Self::normalised(&unit)
    }

    /// The components, `[width]`, L2 norm 1 ± 1e-4.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The number of components.
    pub fn width(&self) -> usize {
        self.0.len()
    }

    /// The cosine with another embedding, in [-1, 1]; exactly 1 for an embedding with itself.
    ///
    /// Summed in double precision, so that the rounding (below 1e-7 for 2048 components) never
    /// decides between two hits that a reader would call different.
    ///
    /// # Panics
    /// When the widths differ: embeddings of different models never meet.
    pub fn cosine(&self, other: &Embedding) -> f32 {
        assert_eq!(self.width(), other.width(), "embeddings of different models never meet");
        if self.0 == other.0 {
            return 1.0;
        }
        dot(&self.0, &other.0).clamp(-1.0, 1.0) as f32
    }
}

/// A function that is compiled for several processors; which one it runs on is asked each time. All give the
/// same numbers, as the order of the operations is written down.
macro_rules! for_each_processor {
    ($(#[$docs:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $body:ident) => {
        $(#[$docs])*
        pub(crate) fn $name($($arg: $type),*) -> $result {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) -> $result {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw")]
                fn avx512($($arg: $type),*) -> $result {
                    $body($($arg),*)
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                    // SAFETY: the processor has just been asked.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}
pub(crate) use for_each_processor;

for_each_processor! {
    /// The dot product in double precision, in lanes of a fixed order.
    fn dot(a: &[f32], b: &[f32]) -> f64 = in_lanes
}

#[inline(always)]
fn in_lanes(a: &[f32], b: &[f32]) -> f64 {
    // Four products are added in single precision before they are in double: that rounds by some 1e-9, and
    // converting each product would cost more than the memory that the vectors come from.
    const LANES: usize = 16;
    let (whole_a, rest_a) = a.as_chunks::<{ 4 * LANES }>();
    let (whole_b, rest_b) = b.as_chunks::<{ 4 * LANES }>();
    let mut lanes = [0.0f64; LANES];
    for (a, b) in whole_a.iter().zip(whole_b) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            let product = |group: usize| a[group * LANES + i] * b[group * LANES + i];
            *lane += f64::from((product(0) + product(1)) + (product(2) + product(3)));
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    lanes.iter().sum::<f64>() + rest
}

/// The L2 norm in double precision: squares of f32 neither overflow nor vanish there.
fn norm(values: &[f32]) -> Result<f64, InvalidVector> {
    if let Some(index) = values.iter().position(|v| !v.is_finite()) {
        return Err(InvalidVector::NotFinite { index });
    }
    let norm = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if norm > 0.0 { Ok(norm) } else { Err(InvalidVector::Zero) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_vector_without_direction_is_refused() {
        assert_eq!(Features::new(vec![0.0; 3], 3), Err(InvalidVector::Zero));
        let not_finite = Err(InvalidVector::NotFinite { index: 1 });
        assert_eq!(Features::new(vec![1.0, f32::NAN], 2), not_finite);
        let width = Err(InvalidVector::Width { expected: 3, found: 1 });
        assert_eq!(Features::new(vec![1.0], 3), width);
        assert_eq!(
            Features::from_le_bytes(&[0, 0, 128], 1).unwrap_err().to_string(),
            "the feature vector has 0 components, expected 1"
        );
    }

    #[test]
    fn a_weighted_sum_is_a_direction() {
        let [a, b] = [[1.0, 0.0], [0.0, 2.0]].map(|v| Embedding::normalised(&v).unwrap());
        let sum = Embedding::weighted_sum(&[(3.0, a.clone()), (-4.0, b)]).unwrap();
        assert_eq!(sum.as_slice(), [0.6, -0.8]);
        assert_eq!(Embedding::weighted_sum(&[(0.2, a.clone())]).unwrap(), a);
        let cancelled = Embedding::weighted_sum(&[(0.3, a.clone()), (-0.3, a)]);
        assert_eq!(cancelled, Err(InvalidVector::Zero));
        assert_eq!(Embedding::weighted_sum(&[]), Err(InvalidVector::Zero));
    }

    proptest! {
        #[test]
        fn an_embedding_has_length_one(values in prop::collection::vec(-1e30f32..1e30, 1..64)) {
            prop_assume!(values.iter().any(|v| *v != 0.0));
            let embedding = Embedding::normalised(&values).unwrap();
            let norm: f64 = embedding.as_slice().iter().map(|&v| f64::from(v).powi(2)).sum();
            prop_assert!((norm.sqrt() - 1.0).abs() < 1e-4);
            prop_assert_eq!(embedding.cosine(&embedding), 1.0);
        }

        #[test]
        fn features_survive_their_bytes(values in prop::collection::vec(-1e9f32..1e9, 1..64)) {
            prop_assume!(values.iter().any(|v| *v != 0.0));
            let features = Features::new(values.clone(), values.len()).unwrap();
            let back = Features::from_le_bytes(&features.to_le_bytes(), values.len()).unwrap();
            prop_assert_eq!(features, back);
        }
    }
}
