//! What values a tensor takes over many photos, and how 8 bits show them best.

/// Bins of a histogram, half of them below zero.
const BINS: usize = 8_192;

/// Shares of the range seen that are tried as the range kept: what lies beyond is clipped, and what lies
/// within gets finer steps.
const SHARES: std::ops::RangeInclusive<u32> = 25..=100;

/// The values of one tensor: their distribution and the mean of each channel.
#[derive(Debug, Clone)]
pub struct Activations {
    /// Counts over [-reach, reach], equally wide.
    bins: Vec<u64>,
    /// A power of two; 0 before the first value other than 0.
    reach: f32,
    lowest: f32,
    highest: f32,
    /// Sums over all but the channels.
    sums: Vec<f64>,
    /// Values in each sum.
    per_channel: u64,
}

/// How 8-bit values stand for numbers: `(value - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) scale: f32,
    pub(super) zero_point: u8,
}

impl Default for Activations {
    fn default() -> Self {
        let (reach, lowest, highest) = (0.0, 0.0, 0.0);
        Self { bins: vec![0; BINS], reach, lowest, highest, sums: Vec::new(), per_channel: 0 }
    }
}

impl Activations {
    /// Takes in a tensor `[batch, channels, …]`. Values that are not finite are passed over.
    ///
    /// # Panics
    /// When the shape has not as many values, or other channels than before.
    pub fn add(&mut self, shape: &[i64], values: &[f32]) {
        let [batch, channels, axes @ ..] = shape else { panic!("a batch of channels: {shape:?}") };
        let (batch, channels) = (*batch as usize, *channels as usize);
        let plane = axes.iter().product::<i64>() as usize;
        assert_eq!(values.len(), batch * channels * plane, "the values of the shape {shape:?}");
        if values.is_empty() {
            return;
        }
        self.sums.resize(channels, 0.0);
        self.per_channel += (batch * plane) as u64;
        for (i, values) in values.chunks_exact(plane).enumerate() {
            self.sums[i % channels] += values.iter().map(|v| f64::from(*v)).sum::<f64>();
        }
        let finite = values.iter().copied().filter(|value| value.is_finite());
        let (lowest, highest) = finite
            .clone()
            .fold((0f32, 0f32), |(low, high), value| (low.min(value), high.max(value)));
        (self.lowest, self.highest) = (self.lowest.min(lowest), self.highest.max(highest));
        self.widen(highest.max(-lowest));
        if self.reach == 0.0 {
            return;
        }
        let (half, per_unit) = (BINS as f32 / 2.0, BINS as f32 / 2.0 / self.reach);
        for value in finite {
            // A cast of floats saturates, so the ends stay inside.
            let bin = (value.mul_add(per_unit, half)) as usize;
            self.bins[bin.min(BINS - 1)] += 1;
        }
    }

    /// Makes room for values as far from zero as `far`.
    fn widen(&mut self, far: f32) {
        if self.reach == 0.0 && far > 0.0 {
            self.reach = f32::exp2(far.log2().ceil().clamp(-120.0, 120.0));
        }
        while self.reach < far && self.reach < f32::MAX / 4.0 {
            let mut merged = vec![0; BINS];
            for (bin, count) in self.bins.iter().enumerate() {
                merged[BINS / 4 + bin / 2] += count;
            }
            self.bins = merged;
            self.reach *= 2.0;
        }
    }

    /// The mean of each channel.
    pub(super) fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.per_channel.max(1) as f64).collect()
    }

    /// The scale with the least squared error over all values seen, among those that keep some share of
    /// the range on either side. Zero is always shown exactly, as padding is made of it.
    pub(super) fn best_scale(&self) -> Scale {
        let (lowest, highest) = (f64::from(self.lowest), f64::from(self.highest));
        if highest - lowest < f64::from(f32::MIN_POSITIVE) {
            return Scale { scale: 1.0, zero_point: 0 };
        }
        let width = 2.0 * f64::from(self.reach) / BINS as f64;
        let filled: Vec<(f64, f64)> = (self.bins.iter().enumerate())
            .filter(|(_, count)| **count > 0)
            .map(|(bin, count)| ((bin as f64 + 0.5) * width - f64::from(self.reach), *count as f64))
            .collect();
        let scale_of = |low: f64, high: f64| {
            let scale = (high - low) / 255.0;
            (scale, (-low / scale).round().clamp(0.0, 255.0))
        };
        let error = |low: f64, high: f64| -> f64 {
            let (scale, zero_point) = scale_of(low, high);
            let apart = |value: f64| {
                let step = (value / scale).round() + zero_point;
                value - (step.clamp(0.0, 255.0) - zero_point) * scale
            };
            filled.iter().map(|(value, count)| count * apart(*value).powi(2)).sum()
        };
        // One end after the other: a long tail on one side is cut without touching the other.
        let best = |of: f64, error: &dyn Fn(f64) -> f64| {
            let tried = SHARES.rev().map(|percent| of * f64::from(percent) / 100.0);
            tried.min_by(|a, b| error(*a).total_cmp(&error(*b))).expect("some shares are tried")
        };
        let high = if highest > 0.0 { best(highest, &|high| error(lowest, high)) } else { highest };
        let low = if lowest < 0.0 { best(lowest, &|low| error(low, high)) } else { lowest };
        let (scale, zero_point) = scale_of(low, high);
        Scale { scale: scale as f32, zero_point: zero_point as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::split_mix;

    /// Sums of twelve even numbers in [-0.5, 0.5): nearly a bell of deviation 1.
    fn bell(count: usize) -> Vec<f32> {
        let mut state = 9;
        let mut even = || split_mix(&mut state) as f64 / u64::MAX as f64 - 0.5;
        (0..count).map(|_| (0..12).map(|_| even()).sum::<f64>() as f32).collect()
    }

    #[test]
    fn values_that_are_never_negative_start_at_zero() {
        let mut seen = Activations::default();
        seen.add(&[1, 1, 4], &[0.0, 1.0, 2.0, 5.1]);
        let Scale { scale, zero_point } = seen.best_scale();
        assert_eq!(zero_point, 0);
        assert!((0.25..=1.0).contains(&(scale * 255.0 / 5.1)), "{scale}");
    }

    #[test]
    fn one_outlier_in_a_million_does_not_cost_the_others_their_steps() {
        let mut values = bell(1_000_000);
        values[0] = 40.0;
        let mut seen = Activations::default();
        seen.add(&[1, 1, values.len() as i64], &values);
        let Scale { scale, .. } = seen.best_scale();
        assert!(scale * 255.0 < 25.0, "{}", scale * 255.0);
    }

    #[test]
    fn parts_that_come_one_by_one_count_as_the_whole() {
        let values = bell(4_000);
        let mut whole = Activations::default();
        whole.add(&[2, 2, 1_000], &values);
        let mut parts = Activations::default();
        let mut small: Vec<f32> = values[..2_000].iter().map(|v| v * 1e-3).collect();
        parts.add(&[1, 2, 1_000], &small);
        parts.add(&[1, 2, 1_000], &values[2_000..]);
        small.extend(&values[2_000..]);
        let mut together = Activations::default();
        together.add(&[2, 2, 1_000], &small);
        assert_eq!(parts.means(), together.means());
        assert_eq!(parts.bins.iter().sum::<u64>(), 4_000);
        let (a, b) = (parts.best_scale(), together.best_scale());
        assert!((a.scale / b.scale - 1.0).abs() < 0.02, "{a:?} {b:?}");
        assert_eq!(whole.means().len(), 2);
    }

    #[test]
    fn nothing_but_zeros_is_no_harm() {
        let mut seen = Activations::default();
        seen.add(&[1, 2, 2], &[0.0; 4]);
        assert_eq!(seen.best_scale(), Scale { scale: 1.0, zero_point: 0 });
        seen.add(&[1, 2, 1], &[f32::NAN, f32::INFINITY]);
        assert_eq!(seen.best_scale(), Scale { scale: 1.0, zero_point: 0 });
    }
}
