//! The inner loops over the rows of [`super::Planes`]. All processors give the same numbers, as the order of the operations
//! is written down.

use crate::embedding::for_each_processor;

/// Sums are made in so many lanes of a fixed order, of blocks of four times as many. As in [`Embedding::cosine`] four
/// numbers are added in single precision before they are in double.
const LANES: usize = 16;
const BLOCK: usize = 4 * LANES;

/// Of a vector's components.
pub(crate) struct Sums {
    pub(super) sum: f64,
    /// Of their absolute values.
    pub(super) absolute: f64,
    /// The largest of those.
    pub(super) largest: f64,
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

/// The four of a block that belong to a lane.
#[inline(always)]
fn four(lane: usize, of: impl Fn(usize) -> f32) -> [f32; 4] {
    [of(lane), of(LANES + lane), of(2 * LANES + lane), of(3 * LANES + lane)]
}

#[inline(always)]
fn added([a, b, c, d]: [f32; 4]) -> f32 {
    (a + b) + (c + d)
}
