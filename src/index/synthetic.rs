//! Vectors like those of a photo library, for tests and benches: clusters whose spread, spectrum and
//! sparsity were fitted to ResNet-50's features. Deterministic, so that a failure can be repeated from its
//! seed, and each by itself, so that a million need not be held.
//!
//! The numbers are what `benches/search/fit.py` found for the 1,010 photos of 101 kinds in
//! `../shared/photos/categories`; its head says what they mean, `benches/RESULTS.md` how near they come.

/// Directions in which vectors differ in common; the rest is noise. An eighth of the width where that is less.
const LATENT: usize = 256;

/// How far the levels of components lie apart.
const LEVEL: f32 = 0.6986;

/// How far clusters lie apart, and how quickly the variances of the directions fall off between them.
const BETWEEN: (f32, f32) = (0.6008, 0.7225);

/// The same within a cluster.
const WITHIN: (f32, f32) = (0.5809, 0.8582);

/// Noise of each component.
const NOISE: f32 = 0.2769;

/// How much the spread differs between clusters, in its logarithm.
const UNEVEN: f32 = 0.1706;

/// Below this a component is zero.
const CUT: f32 = 0.3765;

/// Vectors in a cluster, on average.
const CLUSTER: usize = 40;

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

/// Makes the vectors of one library.
pub(crate) struct Maker {
    seed: u64,
    /// `[width]`.
    levels: Vec<f32>,
    /// `[latent × width]`.
    weights: Vec<f32>,
    /// `[latent]`: the deviation along each direction within a cluster.
    within: Vec<f32>,
    /// Each cluster's place, `[latent]`, and its spread.
    clusters: Vec<(Vec<f32>, f32)>,
}

impl Maker {
    /// A library of about `count` vectors of `width` components: how many decides how many clusters.
    pub(crate) fn new(count: usize, width: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let latent = LATENT.min(width.div_ceil(8));
        let deviations = |(total, decay): (f32, f32)| -> Vec<f32> {
            let variances = (1..=latent).map(|l| (l as f32).powf(-decay)).collect::<Vec<f32>>();
            let sum: f32 = variances.iter().sum();
            variances.iter().map(|variance| total * (variance / sum).sqrt()).collect()
        };
        let levels = random.normals(width).into_iter().map(|level| LEVEL * level).collect();
        let weights = random.normals(latent * width);
        let between = deviations(BETWEEN);
        let cluster = |_| {
            let place = random.normals(latent).iter().zip(&between).map(|(n, d)| n * d).collect();
            (place, (UNEVEN * random.normal() - UNEVEN * UNEVEN).exp())
        };
        let clusters = (0..count.div_ceil(CLUSTER)).map(cluster).collect();
        Self { seed, levels, weights, within: deviations(WITHIN), clusters }
    }

    /// The vector of a number: no component negative, some zero.
    pub(crate) fn vector(&self, number: usize) -> Vec<f32> {
        let mut random =
            Random(self.seed ^ (number as u64 + 1).wrapping_mul(0xd605_1f3a_6c1d_93e5));
        let (centre, spread) = &self.clusters[random.next() as usize % self.clusters.len()];
        let mut values = self.levels.clone();
        let rows = self.weights.chunks_exact(values.len());
        for ((row, centre), deviation) in rows.zip(centre).zip(&self.within) {
            let place = centre + spread * deviation * random.normal();
            values.iter_mut().zip(row).for_each(|(value, weight)| *value += place * weight);
        }
        // A little of everything, so that no vector is zero.
        let value = |value: &mut f32| {
            *value = ((*value + NOISE * random.normal()).exp() - CUT).max(0.0) + 1e-6;
        };
        values.iter_mut().for_each(value);
        values
    }
}

/// `count` vectors of `width` components, see [`Maker`].
pub(crate) fn vectors(count: usize, width: usize, seed: u64) -> impl Iterator<Item = Vec<f32>> {
    let maker = Maker::new(count, width, seed);
    (0..count).map(move |number| maker.vector(number))
}
