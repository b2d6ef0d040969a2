//! Vectors in a space where what most photos of the library share counts less.
//!
//! Along each of the first principal components a vector is divided by the fourth root of the variance
//! there: half way to whitening (Jégou and Chum, *Negative evidences and co-occurrences in image
//! retrieval*, 2012, divide by the second).

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use super::Unusable;
use super::coder::spread;
use super::manifest::ROUGH;
use super::open::Index;
use super::pca;
use super::vectors::Vectors;
use crate::embedding::{Embedding, dot};
use crate::record::Hit;

/// Components kept, at most. Further ones are mostly noise, which the division makes louder.
const COMPONENTS: usize = 128;

/// Vectors for each component, at least.
const VECTORS_A_COMPONENT: usize = 4;

/// Vectors that are learned from, at most.
const LEARN_FROM: usize = 4_096;

/// Vectors with fewer than so many components to keep are left as they are.
const LEAST: usize = 8;

/// What the variance along a component is raised to.
const EXPONENT: f32 = -0.25;

/// Rows that one task looks at.
const BLOCK: usize = 512;

/// The way into that space, learned from the vectors of a library.
#[derive(Debug, Clone)]
pub struct Whitening {
    width: usize,
    /// `[count × width]`, each row an orthonormal component times its factor.
    components: Vec<f32>,
    /// `[count]`: where the mean comes to lie.
    offset: Vec<f32>,
}

impl Whitening {
    /// Learns from vectors of `width` components, one after the other; `None` from fewer than 32.
    pub fn learn(vectors: &[f32], width: usize) -> Option<Self> {
        let vectors = Vectors::of(vectors, width);
        let sample = spread(vectors.len(), LEARN_FROM);
        let count = COMPONENTS.min(sample.len() / VECTORS_A_COMPONENT).min(width);
        if count < LEAST.min(width) || sample.is_empty() {
            return None;
        }
        let pca = pca::train(vectors, &sample, count);
        let mut components = pca.components;
        for (row, variance) in components.chunks_exact_mut(width).zip(&pca.variances) {
            // A component without variance was none.
            let factor = if *variance > f32::EPSILON { variance.powf(EXPONENT) } else { 0.0 };
            row.iter_mut().for_each(|value| *value *= factor);
        }
        let rows = components.chunks_exact(width);
        let offset = rows.map(|row| dot(row, &pca.mean) as f32).collect();
        Some(Self { width, components, offset })
    }

    /// Components of a vector in that space.
    pub fn width(&self) -> usize {
        self.offset.len()
    }

    /// The vector's direction in that space; `None` for one at the mean of all, which has none.
    ///
    /// # Panics
    /// When its width is another: embeddings of different models never meet.
    pub fn apply(&self, embedding: &Embedding) -> Option<Embedding> {
        assert_eq!(embedding.width(), self.width, "embeddings of different models never meet");
        let rows = self.components.chunks_exact(self.width).zip(&self.offset);
        let place: Vec<f32> =
            rows.map(|(row, offset)| dot(row, embedding.as_slice()) as f32 - offset).collect();
        Embedding::normalised(&place).ok()
    }
}

impl Index {
    /// Learns from the vectors of the index; `None` from fewer than 32.
    pub fn whitening(&self) -> Option<Whitening> {
        let vectors = self.vectors();
        let (mut sample, mut row) = (Vec::new(), Vec::new());
        for point in spread(vectors.len(), LEARN_FROM) {
            row.clear();
            // Whoever searches comes upon a damaged one, too, and tells.
            if vectors.extend(point, &mut row).is_some() {
                sample.extend_from_slice(&row);
            }
        }
        Whitening::learn(&sample, vectors.width())
    }

    /// Every image with its cosine to the query in the whitened space, in no order. `query` is what
    /// [`Whitening::apply`] gave. Reads all vectors.
    ///
    /// # Errors
    /// [`Unusable::Damaged`] when a vector is.
    pub fn whitened(&self, whitening: &Whitening, query: &Embedding) -> Result<Vec<Hit>, Unusable> {
        let vectors = self.vectors();
        let (count, width) = (query.width(), whitening.width);
        let components = matrix(&whitening.components, count, width);
        let starts: Vec<usize> = (0..vectors.len()).step_by(BLOCK).collect();
        let blocks: Vec<Vec<Hit>> = starts
            .into_par_iter()
            .map(|start| -> Option<Vec<Hit>> {
                let end = (start + BLOCK).min(vectors.len());
                let mut rows = Vec::with_capacity((end - start) * width);
                (start..end).try_for_each(|point| vectors.extend(point as u32, &mut rows))?;
                vectors.release(start..end);
                let places = matrix(&rows, end - start, width).dot(&components.t());
                let score = |row: usize| {
                    let place = places.slice(s![row, ..]);
                    let centred = place.iter().zip(&whitening.offset).map(|(v, o)| v - o);
                    let (product, square) = centred.zip(query.as_slice()).fold(
                        (0.0f64, 0.0f64),
                        |(product, square), (v, q)| {
                            let v = f64::from(v);
                            (product + v * f64::from(*q), square + v * v)
                        },
                    );
                    let cosine = if square > 0.0 { product / square.sqrt() } else { 0.0 };
                    Hit { id: self.id((start + row) as u32), score: cosine.clamp(-1.0, 1.0) as f32 }
                };
                Some((0..end - start).map(score).collect())
            })
            .collect::<Option<_>>()
            .ok_or_else(|| self.damaged(ROUGH, "holds a vector that is none"))?;
        Ok(blocks.concat())
    }
}

fn matrix(floats: &[f32], rows: usize, width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, width), floats).expect("whole rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::synthetic;

    const WIDTH: usize = 32;

    fn rows(count: usize) -> Vec<f32> {
        let vectors = synthetic::vectors(count, WIDTH, 3);
        vectors.flat_map(|row| Embedding::normalised(&row).unwrap().as_slice().to_vec()).collect()
    }

    #[test]
    fn variances_are_raised_to_one_half() {
        let rows = rows(600);
        let whitening = Whitening::learn(&rows, WIDTH).unwrap();
        let count = whitening.offset.len();
        assert_eq!(count, WIDTH);
        let place = |row: &[f32], of: usize| {
            let component = &whitening.components[of * WIDTH..(of + 1) * WIDTH];
            dot(component, row) - f64::from(whitening.offset[of])
        };
        let variance =
            |of: usize| rows.chunks(WIDTH).map(|row| place(row, of).powi(2)).sum::<f64>() / 600.0;
        // v / v^0.5, where v is the variance before: the components are orthonormal.
        for of in [0, 1, 5] {
            let component = &whitening.components[of * WIDTH..(of + 1) * WIDTH];
            let factor = dot(component, component).sqrt();
            let before = variance(of) / factor.powi(2);
            assert!((factor - before.powf(-0.25)).abs() < 0.02 * factor, "{of}");
        }
    }

    #[test]
    fn few_vectors_teach_nothing() {
        assert!(Whitening::learn(&rows(31), WIDTH).is_none());
        assert!(Whitening::learn(&rows(32), WIDTH).is_some());
        assert!(Whitening::learn(&[], WIDTH).is_none());
    }
}
