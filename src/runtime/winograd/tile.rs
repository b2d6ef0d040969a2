//! The transforms of Winograd's minimal filtering.
//!
//! After Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (2016), sections 4.1 to 4.3. A row of
//! `OUT` values of a filter of three is `A^T [(G g) ⊙ (B^T d)]`, of `OUT + 2` values `d` and the filter `g`.

use super::lanes::Lanes;

/// Most values that a transform takes.
pub(super) const MOST: usize = 6;

/// A size of tile with its transforms in one dimension. Of arrays longer than needed the first values count.
pub(super) trait Tile {
    /// Values that come out, a side.
    const OUT: usize;
    /// Values that go in, a side, and factors for each of a filter.
    const IN: usize = Self::OUT + 2;

    /// `G`.
    const FILTER: [[f64; 3]; MOST];

    /// `B^T d`.
    fn input<V: Lanes>(d: [V; MOST]) -> [V; MOST];

    /// `A^T m`.
    fn output<V: Lanes>(m: [V; MOST]) -> [V; MOST - 2];
}

/// F(2 × 2, 3 × 3): 16 products for 4 pixels, where a plain convolution has 36.
pub(super) struct Two;

impl Tile for Two {
    const OUT: usize = 2;

    const FILTER: [[f64; 3]; MOST] =
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0], [0.0; 3], [0.0; 3]];

    #[inline(always)]
    fn input<V: Lanes>(d: [V; MOST]) -> [V; MOST] {
        [d[0].minus(d[2]), d[1].plus(d[2]), d[2].minus(d[1]), d[1].minus(d[3]), d[4], d[5]]
    }

    #[inline(always)]
    fn output<V: Lanes>(m: [V; MOST]) -> [V; MOST - 2] {
        [m[0].plus(m[1]).plus(m[2]), m[1].minus(m[2]).minus(m[3]), m[4], m[5]]
    }
}

/// F(4 × 4, 3 × 3): 36 products for 16 pixels, where a plain convolution has 144.
pub(super) struct Four;

impl Tile for Four {
    const OUT: usize = 4;

    const FILTER: [[f64; 3]; MOST] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    fn input<V: Lanes>(d: [V; MOST]) -> [V; MOST] {
        let [two, four, less_two, less_four, less_five] =
            [2.0, 4.0, -2.0, -4.0, -5.0].map(V::splat);
        let even = d[2].times_plus(less_four, d[4]);
        let odd = d[1].times_plus(less_four, d[3]);
        let (wide_even, wide_odd) = (d[4].minus(d[2]), d[3].minus(d[1]));
        [
            d[0].times_plus(four, d[2].times_plus(less_five, d[4])),
            even.plus(odd),
            even.minus(odd),
            wide_odd.times_plus(two, wide_even),
            wide_odd.times_plus(less_two, wide_even),
            d[1].times_plus(four, d[3].times_plus(less_five, d[5])),
        ]
    }

    #[inline(always)]
    fn output<V: Lanes>(m: [V; MOST]) -> [V; MOST - 2] {
        let [two, four, eight] = [2.0, 4.0, 8.0].map(V::splat);
        let (near_sum, near) = (m[1].plus(m[2]), m[1].minus(m[2]));
        let (far_sum, far) = (m[3].plus(m[4]), m[3].minus(m[4]));
        [
            m[0].plus(near_sum).plus(far_sum),
            far.times_plus(two, near),
            far_sum.times_plus(four, near_sum),
            far.times_plus(eight, near).plus(m[5]),
        ]
    }
}

/// `B^T d B`, row by row: columns are transformed, then rows. In loops, as calls that take closures are not always put
/// in place, and without it the instructions are not there.
#[inline(always)]
pub(super) fn input<T: Tile, V: Lanes>(d: impl Fn(usize, usize) -> V) -> [[V; MOST]; MOST] {
    let zero = V::splat(0.0);
    let mut columns = [[zero; MOST]; MOST];
    for (column, values) in columns.iter_mut().enumerate().take(T::IN) {
        let mut down = [zero; MOST];
        for (row, value) in down.iter_mut().enumerate().take(T::IN) {
            *value = d(row, column);
        }
        *values = T::input(down);
    }
    let mut rows = [[zero; MOST]; MOST];
    for (row, values) in rows.iter_mut().enumerate().take(T::IN) {
        let mut across = [zero; MOST];
        for (value, column) in across.iter_mut().zip(&columns) {
            *value = column[row];
        }
        *values = T::input(across);
    }
    rows
}

/// `A^T m A`, row by row.
#[inline(always)]
pub(super) fn output<T: Tile, V: Lanes>(
    m: impl Fn(usize, usize) -> V,
) -> [[V; MOST - 2]; MOST - 2] {
    let zero = V::splat(0.0);
    let mut columns = [[zero; MOST - 2]; MOST];
    for (column, values) in columns.iter_mut().enumerate().take(T::IN) {
        let mut down = [zero; MOST];
        for (row, value) in down.iter_mut().enumerate().take(T::IN) {
            *value = m(row, column);
        }
        *values = T::output(down);
    }
    let mut rows = [[zero; MOST - 2]; MOST - 2];
    for (row, values) in rows.iter_mut().enumerate().take(T::OUT) {
        let mut across = [zero; MOST];
        for (value, column) in across.iter_mut().zip(&columns) {
            *value = column[row];
        }
        *values = T::output(across);
    }
    rows
}

/// `G g G^T` of one filter, row by row, as the first `IN²` of what is given.
pub(super) fn filter<T: Tile>(g: [f32; 9]) -> [f32; MOST * MOST] {
    let mut transformed = [0.0; MOST * MOST];
    for row in 0..T::IN {
        for column in 0..T::IN {
            let value =
                |at: usize| T::FILTER[row][at / 3] * f64::from(g[at]) * T::FILTER[column][at % 3];
            transformed[row * T::IN + column] = (0..9).map(value).sum::<f64>() as f32;
        }
    }
    transformed
}
