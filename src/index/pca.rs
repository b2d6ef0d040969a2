//! Principal components: the directions in which the vectors of this library differ most.
//!
//! Only the space that the components span matters to distances, and only to a few per cent of its
//! last directions. So the covariance is applied to a random basis a few times, made orthonormal in
//! between (simultaneous iteration; Trefethen and Bau, *Numerical Linear Algebra*, lecture 28), instead
//! of finding all eigenvectors, of which most would be thrown away.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView1, ArrayView2, s};
use rayon::prelude::*;

use super::vectors::Vectors;
use crate::embedding::dot;
use crate::random::split_mix;

/// Times the covariance is applied. The spectrum falls quickly; a test compares with many more.
const ITERATIONS: usize = 10;

/// Vectors added to the covariance at once.
const CHUNK: usize = 1_024;

/// Columns of a matrix that one task computes.
const PANEL: usize = 128;

/// What a library's vectors have in common and where they differ.
#[derive(Debug, Clone)]
pub(super) struct Pca {
    /// `[width]`.
    pub(super) mean: Vec<f32>,
    /// `[count × width]`, orthonormal rows, the one of the largest variance first.
    pub(super) components: Vec<f32>,
    /// `[count]`: the variance along each component.
    pub(super) variances: Vec<f32>,
    /// The share of the variance that lies in the components, in [0, 1].
    pub(super) kept: f32,
}

impl Pca {
    /// Leaves the first `count` components of `width`.
    pub(super) fn cut(&mut self, count: usize, width: usize) {
        let total = self.variances.iter().sum::<f32>() / self.kept.max(f32::MIN_POSITIVE);
        self.components.truncate(count * width);
        self.variances.truncate(count);
        if total > 0.0 {
            self.kept = (self.variances.iter().sum::<f32>() / total).clamp(0.0, 1.0);
        }
    }
}

/// Finds `count` principal components, at most the width, of the points in `sample`: one or more.
/// The same vectors give the same components, whatever the number of threads.
pub(super) fn train(vectors: Vectors<'_>, sample: &[u32], count: usize) -> Pca {
    let (width, count) = (vectors.width(), count.min(vectors.width()));
    let mean = mean(vectors, sample);
    let covariance = covariance(vectors, sample, &mean);
    // To begin with any numbers will do, as long as they are always the same: here in [-1, 1).
    let mut state = 1;
    let mut random = || (split_mix(&mut state) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    let mut basis = Array2::from_shape_simple_fn((count, width), &mut random);
    for _ in 0..ITERATIONS {
        basis = times(&basis, &covariance);
        orthonormalise(&mut basis);
    }
    let applied = times(&basis, &covariance);
    let total: f64 = covariance.diag().iter().map(|v| f64::from(*v)).sum();
    let along = |(b, a): (ArrayView1<'_, f32>, ArrayView1<'_, f32>)| b.dot(&a).max(0.0);
    let variances: Vec<f32> = basis.rows().into_iter().zip(applied.rows()).map(along).collect();
    let kept: f64 = variances.iter().map(|v| f64::from(*v)).sum();
    let kept = if total > 0.0 { (kept / total).clamp(0.0, 1.0) as f32 } else { 1.0 };
    Pca { mean, components: basis.into_raw_vec_and_offset().0, variances, kept }
}

/// `basis` times a symmetric matrix.
fn times(basis: &Array2<f32>, matrix: &Array2<f32>) -> Array2<f32> {
    let (rows, width) = basis.dim();
    let starts: Vec<usize> = (0..width).step_by(PANEL).collect();
    let panels: Vec<Array2<f32>> = starts
        .par_iter()
        .map(|start| basis.dot(&matrix.slice(s![.., *start..(start + PANEL).min(width)])))
        .collect();
    let mut product = Array2::zeros((rows, width));
    for (panel, start) in panels.iter().zip(starts) {
        product.slice_mut(s![.., start..start + panel.ncols()]).assign(panel);
    }
    product
}

/// The mean of the points in `sample`, `[width]`.
pub(super) fn mean(vectors: Vectors<'_>, sample: &[u32]) -> Vec<f32> {
    let sums: Vec<Vec<f64>> = sample
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut sum = vec![0.0; vectors.width()];
            for point in chunk {
                sum.iter_mut().zip(vectors.row(*point)).for_each(|(s, v)| *s += f64::from(*v));
            }
            vectors.release(span(chunk));
            sum
        })
        .collect();
    let column = |i: usize| sums.iter().map(|sum| sum[i]).sum::<f64>() / sample.len().max(1) as f64;
    (0..vectors.width()).map(|i| column(i) as f32).collect()
}

/// From the first to the last of some points in ascending order.
fn span(points: &[u32]) -> Range<usize> {
    match points {
        [first, .., last] => *first as usize..*last as usize + 1,
        [only] => *only as usize..*only as usize + 1,
        [] => 0..0,
    }
}

/// `[width × width]`, symmetric.
fn covariance(vectors: Vectors<'_>, sample: &[u32], mean: &[f32]) -> Array2<f32> {
    let width = vectors.width();
    let starts: Vec<usize> = (0..width).step_by(PANEL).collect();
    // The columns from `start` on, and of those the rows from `start` on: the lower half.
    let panel = |start: &usize| Array2::zeros((width - start, PANEL.min(width - start)));
    let mut panels: Vec<Array2<f32>> = starts.iter().map(panel).collect();
    let mut centred = Vec::new();
    for chunk in sample.chunks(CHUNK) {
        centred.resize(chunk.len() * width, 0.0);
        centred.par_chunks_exact_mut(width).zip(chunk).for_each(|(out, point)| {
            let row = vectors.row(*point).iter().zip(mean);
            out.iter_mut().zip(row).for_each(|(out, (v, m))| *out = v - m);
        });
        vectors.release(span(chunk));
        let rows = ArrayView2::from_shape((chunk.len(), width), &centred).expect("sized just now");
        panels.par_iter_mut().zip(&starts).for_each(|(panel, start)| {
            let (below, columns) = (rows.slice(s![.., *start..]), *start..start + panel.ncols());
            general_mat_mul(1.0, &below.t(), &rows.slice(s![.., columns]), 1.0, panel);
        });
    }
    let scale = 1.0 / sample.len() as f32;
    Array2::from_shape_fn((width, width), |(i, j)| {
        let (low, high) = (i.min(j), i.max(j));
        let start = starts[low / PANEL];
        panels[low / PANEL][(high - start, low - start)] * scale
    })
}

/// Makes the rows orthonormal (Gram and Schmidt, modified; twice, which is enough). A row that is
/// nothing but what those before it are becomes zero.
fn orthonormalise(basis: &mut Array2<f32>) {
    let (rows, width) = basis.dim();
    for _ in 0..2 {
        let mut rest = basis.as_slice_mut().expect("a basis lies in rows");
        for _ in 0..rows {
            let (row, others) = rest.split_at_mut(width);
            let norm = dot(row, row).sqrt();
            let scale = if norm > f64::from(f32::MIN_POSITIVE) { 1.0 / norm } else { 0.0 };
            row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
            others.par_chunks_exact_mut(width).with_min_len(32).for_each(|other| {
                let along = dot(row, other) as f32;
                other.iter_mut().zip(&*row).for_each(|(o, r)| *o -= along * r);
            });
            rest = others;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::Embedding;
    use crate::index::synthetic;

    const WIDTH: usize = 300;

    fn rows(count: usize) -> Vec<f32> {
        let rows = synthetic::vectors(count, WIDTH, 5);
        rows.flat_map(|row| Embedding::normalised(&row).unwrap().as_slice().to_vec()).collect()
    }

    fn bytes(floats: &[f32]) -> &[u8] {
        // SAFETY: any float is four bytes.
        unsafe { floats.align_to().1 }
    }

    #[test]
    fn components_are_orthonormal_and_keep_what_the_best_ones_keep() {
        let rows = rows(1_500);
        let vectors = Vectors::new(bytes(&rows), WIDTH);
        let sample: Vec<u32> = (0..1_500).collect();
        let pca = train(vectors, &sample, 20);
        for (i, a) in pca.components.chunks_exact(WIDTH).enumerate() {
            for (j, b) in pca.components.chunks_exact(WIDTH).enumerate() {
                assert!((dot(a, b) - f64::from(u8::from(i == j))).abs() < 1e-5, "{i} and {j}");
            }
        }
        // The trace of the covariance within the best space, by many more iterations.
        let covariance = covariance(vectors, &sample, &mean(vectors, &sample));
        let mut best = Array2::from_shape_fn((20, WIDTH), |(i, j)| f32::from(u8::from(i == j)));
        for _ in 0..300 {
            best = times(&best, &covariance);
            orthonormalise(&mut best);
        }
        let of = |basis: &Array2<f32>| -> f64 {
            let applied = times(basis, &covariance);
            basis.iter().zip(&applied).map(|(b, a)| f64::from(b * a)).sum()
        };
        let best = of(&best) / covariance.diag().iter().map(|v| f64::from(*v)).sum::<f64>();
        assert!(f64::from(pca.kept) > 0.995 * best, "{} of {best}", pca.kept);
    }

    #[test]
    fn one_thread_and_many_find_the_same() {
        let rows = rows(2_500);
        let sample: Vec<u32> = (0..2_500).collect();
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(Vectors::new(bytes(&rows), WIDTH), &sample, 16).components)
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn equal_vectors_have_no_direction() {
        let row = Embedding::normalised(&[1.0, 2.0, 3.0]).unwrap();
        let rows = row.as_slice().repeat(5);
        let pca = train(Vectors::new(bytes(&rows), 3), &[0, 1, 2, 3, 4], 2);
        assert!(pca.components.iter().all(|v| v.is_finite()));
        assert_eq!(pca.components.len(), 6);
    }
}
