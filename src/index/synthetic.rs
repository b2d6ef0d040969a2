//! Vectors like those of a photo library, for tests and benches: rectified, of low intrinsic
//! dimension, in clusters. Deterministic, so that a failure can be repeated from its seed.

/// Dimensions of the space the clusters lie in: a few dozen carry nearly all of the variance of real
/// pooled features.
const LATENT: usize = 32;

/// Vectors in a cluster, on average.
const CLUSTER: usize = 40;

/// How far a vector lies from its cluster's centre, as a share of how far the centres lie apart.
const SPREAD: f32 = 0.5;

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Near enough to normal: the sum of four uniform numbers, mean 0, variance 1.
    fn normal(&mut self) -> f32 {
        ((0..4).map(|_| self.uniform()).sum::<f32>() - 2.0) * 3.0f32.sqrt()
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

/// `count` vectors of `width` components, none negative, about half of them zero.
pub(crate) fn vectors(count: usize, width: usize, seed: u64) -> impl Iterator<Item = Vec<f32>> {
    let mut random = Random(seed);
    let weights = random.normals(width * LATENT);
    let centres: Vec<_> = (0..count.div_ceil(CLUSTER)).map(|_| random.normals(LATENT)).collect();
    (0..count).map(move |_| {
        let centre = &centres[random.next() as usize % centres.len()];
        let point: Vec<f32> = centre.iter().map(|c| c + SPREAD * random.normal()).collect();
        let weigh = |row: &[f32]| -> f32 { row.iter().zip(&point).map(|(w, p)| w * p).sum() };
        // A little of everything, so that no vector is zero.
        weights.chunks_exact(LATENT).map(|row| weigh(row).max(0.0) + 1e-3).collect()
    })
}
