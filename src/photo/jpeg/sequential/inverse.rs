//! Coefficients → samples: the inverse cosine transform, to 1 to 8 samples a side.
//!
//! Eight or sixteen blocks at once, one in each lane, so that no step of it moves values between lanes.

use super::block::{Group, LANES};
use super::lanes::Lanes;

/// The samples of [`LANES`] blocks side by side, row by row; of each row the first `LANES * side` count.
pub(super) type Samples = [[u8; 8 * LANES]; 8];

/// What each coefficient is multiplied by first, in the order of the data.
pub(super) type Divisors = [[i16; LANES]; 64];

/// Where in the data each coefficient stands, row by row (T.81, figure A.6): along diagonals.
const PLACES: [usize; 64] = {
    let mut places = [0; 64];
    let (mut at, mut row, mut column) = (0, 0usize, 0usize);
    while at < 64 {
        places[row * 8 + column] = at;
        let is_upward = (row + column).is_multiple_of(2);
        (row, column) = match (is_upward, row, column) {
            (true, _, 7) => (row + 1, 7),
            (true, 0, _) => (0, column + 1),
            (true, ..) => (row - 1, column + 1),
            (false, 7, _) => (7, column + 1),
            (false, _, 0) => (row + 1, 0),
            (false, ..) => (row + 1, column - 1),
        };
        at += 1;
    }
    places
};

/// Binary digits behind the point of the factors.
const DIGITS: i32 = 13;

/// Binary digits behind the point of what the first pass leaves.
const LEFT: i32 = 2;

/// Transforms the first `blocks` of a group to `side` samples a side: 1, 2, 3, 4, 6 or 8, and empties it.
///
/// With 8 the samples are those of libjpeg's default transform. With fewer they are what it gives at that
/// size, within 1: at 1, 2 and 4 the means of the pixels that a sample stands for, at 3 and 6 the picture
/// without its higher frequencies.
#[inline(always)]
pub(super) fn inverse<L: Lanes>(
    group: &mut Group,
    divisors: &Divisors,
    side: usize,
    blocks: usize,
    samples: &mut Samples,
) {
    for first in (0..blocks).step_by(L::COUNT) {
        match side {
            1 => Means::<1>::inverse::<L>(group, divisors, first, samples),
            2 => Means::<2>::inverse::<L>(group, divisors, first, samples),
            3 => Low::<3>::inverse::<L>(group, divisors, first, samples),
            4 => Means::<4>::inverse::<L>(group, divisors, first, samples),
            6 => Low::<6>::inverse::<L>(group, divisors, first, samples),
            _ => Full::inverse::<L>(group, divisors, first, samples),
        }
    }
    group[..64].fill([0; LANES]);
}

/// A transform to `SIDE` samples a side.
///
/// What it does is inlined into a function with the processor's instructions. Closures are not always.
trait Transform<const SIDE: usize> {
    /// Of a row of coefficients, those beyond are left out.
    const USED: usize = 8;

    /// Of coefficients in a line, `SIDE` samples times the square root of 8, [`DIGITS`] behind the point.
    fn line<L: Lanes>(input: &[L; 8]) -> [L; SIDE];

    /// Columns, then rows, of the blocks from `first` on.
    #[inline(always)]
    fn inverse<L: Lanes>(group: &Group, divisors: &Divisors, first: usize, samples: &mut Samples) {
        let mut columns_done = [[L::splat(0); 8]; SIDE];
        for column in 0..Self::USED {
            let mut input = [L::splat(0); 8];
            for row in 0..Self::USED {
                let place = PLACES[row * 8 + column];
                input[row] = L::multiplied(&group[place][first..], &divisors[place]);
            }
            if column == 0 {
                // Samples are as much above 0 as coefficients say they are above 128, times 8.
                input[0] = input[0] + L::splat(128 * 8);
            }
            for (row, line) in columns_done.iter_mut().zip(Self::line(&input)) {
                row[column] = line.rounded::<{ DIGITS - LEFT }>();
            }
        }
        for (row, samples) in columns_done.iter().zip(samples) {
            let mut done = [L::splat(0); 8];
            for (done, line) in done.iter_mut().zip(Self::line(row)) {
                // Both passes give the square root of 8 times the value.
                *done = line.rounded::<{ DIGITS + LEFT + 3 }>();
            }
            let bytes = L::bytes(&done);
            for lane in 0..L::COUNT {
                samples[(first + lane) * SIDE..][..SIDE].copy_from_slice(&bytes[lane][..SIDE]);
            }
        }
    }
}

/// All frequencies.
struct Full;

/// The means of the pixels that a sample stands for.
struct Means<const SIDE: usize>;

/// The lowest frequencies.
struct Low<const SIDE: usize>;

impl Transform<8> for Full {
    #[inline(always)]
    fn line<L: Lanes>(input: &[L; 8]) -> [L; 8] {
        eight(input)
    }
}

impl Transform<1> for Means<1> {
    const USED: usize = 1;

    #[inline(always)]
    fn line<L: Lanes>(input: &[L; 8]) -> [L; 1] {
        [input[0].shifted::<DIGITS>()]
    }
}

impl Transform<2> for Means<2> {
    #[inline(always)]
    fn line<L: Lanes>(input: &[L; 8]) -> [L; 2] {
        smaller(input, &[[8_192, 7_423, 0, -2_607, 0, 1_742, 0, -1_477]])
    }
}

impl Transform<4> for Means<4> {
    #[inline(always)]
    fn line<L: Lanes>(input: &[L; 8]) -> [L; 4] {
        const FACTORS: [[i16; 8]; 2] = [
            [8_192, 10_498, 7_568, 3_686, 0, -2_463, -3_135, -2_088],
            [8_192, 4_348, -7_568, -8_900, 0, 5_946, 3_135, -865],
        ];
        smaller(input, &FACTORS)
    }
}

impl Transform<3> for Low<3> {
    const USED: usize = 3;

    #[inline(always)]
    fn line<L: Lanes>(input: &[L; 8]) -> [L; 3] {
        const FACTORS: [[i16; 8]; 2] =
            [[8_192, 10_033, 5_793, 0, 0, 0, 0, 0], [8_192, 0, -11_585, 0, 0, 0, 0, 0]];
        smaller(input, &FACTORS)
    }
}

impl Transform<6> for Low<6> {
    const USED: usize = 6;

    #[inline(always)]
    fn line<L: Lanes>(input: &[L; 8]) -> [L; 6] {
        const FACTORS: [[i16; 8]; 3] = [
            [8_192, 11_190, 10_033, 8_192, 5_793, 2_998, 0, 0],
            [8_192, 8_192, 0, -8_192, -11_585, -8_192, 0, 0],
            [8_192, 2_998, -10_033, -8_192, 5_793, 11_190, 0, 0],
        ];
        smaller(input, &FACTORS)
    }
}

/// Eight values of eight coefficients, times the square root of 8. libjpeg's `jidctint.c` has the algorithm of
/// Loeffler, Ligtenberg and Moschytz (ICASSP 1989): 11 products and sums between them. Here the sums are
/// multiplied out, for instructions that multiply and add pairs: the same integers.
#[inline(always)]
fn eight<L: Lanes>(input: &[L; 8]) -> [L; 8] {
    const ODD: [[i16; 4]; 4] = [
        [11_363, 9_633, 6_437, 2_260],
        [9_633, -2_259, -11_362, -6_436],
        [6_437, -11_362, 2_261, 9_633],
        [2_260, -6_436, 9_633, -11_363],
    ];
    let [c0, c1, c2, c3, c4, c5, c6, c7] = *input;
    let (sum, difference) = ((c0 + c4).shifted::<DIGITS>(), (c0 - c4).shifted::<DIGITS>());
    let pairs = L::pairs(c2, c6);
    let (low, high) = (L::products(pairs, [4_433, -10_704]), L::products(pairs, [10_703, 4_433]));
    let even = [sum + high, difference + low, difference - low, sum - high];

    let pairs = [L::pairs(c1, c3), L::pairs(c5, c7)];
    let mut output = [c0; 8];
    for (x, [f1, f3, f5, f7]) in ODD.into_iter().enumerate() {
        let odd = L::products(pairs[0], [f1, f3]) + L::products(pairs[1], [f5, f7]);
        output[x] = even[x] + odd;
        output[7 - x] = even[x] - odd;
    }
    output
}

/// Each sample by its factors for the coefficients. Given are those of the first half: the others mirror them,
/// with the same even and opposite odd ones.
#[inline(always)]
fn smaller<L: Lanes, const HALF: usize, const SIDE: usize>(
    input: &[L; 8],
    factors: &[[i16; 8]; HALF],
) -> [L; SIDE] {
    // Of even and of odd coefficients, the lower and the higher ones.
    const FIRST: [usize; 4] = [0, 4, 1, 5];
    let mut pairs = [L::pairs(input[0], input[2]); 4];
    for at in 1..4 {
        pairs[at] = L::pairs(input[FIRST[at]], input[FIRST[at] + 2]);
    }
    let mut output = [L::splat(0); SIDE];
    for (x, factors) in factors.iter().enumerate() {
        let mut sums = [L::splat(0); 4];
        for at in 0..4 {
            let factors = [factors[FIRST[at]], factors[FIRST[at] + 2]];
            if factors != [0, 0] {
                sums[at] = L::products(pairs[at], factors);
            }
        }
        let (even, odd) = (sums[0] + sums[1], sums[2] + sums[3]);
        output[SIDE - 1 - x] = even - odd;
        output[x] = even + odd;
    }
    output
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{PI, SQRT_2};

    use super::*;
    use crate::photo::jpeg::sequential::block::EMPTY;
    use crate::photo::jpeg::sequential::lanes::Portable;
    use crate::random::split_mix;

    /// The value of a coefficient's cosine at a sample of `side`.
    fn cosine(side: usize, sample: usize, coefficient: usize) -> f64 {
        let angle = (2 * sample + 1) as f64 * coefficient as f64 * PI / (2 * side) as f64;
        angle.cos() * if coefficient == 0 { 1.0 } else { SQRT_2 }
    }

    /// What a sample of `side` is of each coefficient.
    fn factor(side: usize, sample: usize, coefficient: usize) -> f64 {
        if side.is_multiple_of(3) {
            return if coefficient < side { cosine(side, sample, coefficient) } else { 0.0 };
        }
        let stands_for = 8 / side;
        let cosines = (0..stands_for).map(|i| cosine(8, sample * stands_for + i, coefficient));
        cosines.sum::<f64>() / stands_for as f64
    }

    #[test]
    fn samples_are_those_of_the_formula() {
        let mut state = 3;
        for side in [1, 2, 3, 4, 6, 8] {
            let mut group = EMPTY;
            let divisors: Divisors = std::array::from_fn(|place| [1 + place as i16 % 3; LANES]);
            let mut coefficients = [[0; LANES]; 64];
            for (at, values) in coefficients.iter_mut().enumerate() {
                // As in photos: the higher, the smaller.
                let range = 500 / (1 + (at / 8).pow(2) + (at % 8).pow(2)) as i64;
                let coded =
                    [(); LANES].map(|()| (split_mix(&mut state) as i64 % (range + 1)) as i16);
                group[PLACES[at]] = coded;
                *values = coded.map(|value| value * divisors[PLACES[at]][0]);
            }
            let mut samples = [[0; 8 * LANES]; 8];
            inverse::<Portable>(&mut group, &divisors, side, LANES, &mut samples);
            assert_eq!(group, EMPTY);
            for (lane, y, x) in
                (0..LANES * side * side).map(|i| (i % LANES, i / LANES / side, i / LANES % side))
            {
                let mut exact = 128.0;
                for (row, column) in (0..64).map(|i| (i / 8, i % 8)) {
                    let value = f64::from(coefficients[row * 8 + column][lane]);
                    exact += value * factor(side, y, row) * factor(side, x, column) / 8.0;
                }
                let sample = f64::from(samples[y][lane * side + x]);
                assert!(
                    (sample - exact.clamp(0.0, 255.0)).abs() < 0.6,
                    "{side}: {sample} for {exact}"
                );
            }
        }
    }
}
