//! The three steps of a convolution, of one unit of work each.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::array::from_fn;

use super::convolution::Convolution;
use super::lanes::Lanes;
use super::tile::{self, Tile};

/// How many pairs of blocks ahead filters are asked for.
const AHEAD: usize = 2;

/// Values of a line of the caches. What is as far apart as a power of two is moved by one, or would share a place there.
pub(super) const LINE: usize = 16;

/// Some tiles, one after another over all pictures.
pub(super) struct Group<'a> {
    pub(super) convolution: &'a Convolution<'a>,
    pub(super) output: *mut f32,
    /// `[point, block of rows, channel block, row, channel of the block]`, where a row is a tile.
    pub(super) inputs: *mut f32,
    /// From point to point.
    pub(super) input_stride: usize,
    /// `[point, block of rows, block of filters, row, filter of the block]`.
    pub(super) products: *mut f32,
    pub(super) product_stride: usize,
    /// The first tile of all.
    pub(super) first: usize,
    pub(super) tiles: usize,
    /// Tiles that are multiplied at once.
    pub(super) rows: usize,
}

// SAFETY: threads write through the pointers to places of their own.
unsafe impl Sync for Group<'_> {}

/// A tile's place.
struct At {
    image: usize,
    /// Its first pixel.
    row: usize,
    column: usize,
    /// Its row among those that are multiplied.
    block: usize,
    in_block: usize,
}

impl Group<'_> {
    #[inline(always)]
    fn at<T: Tile>(&self, tile: usize) -> At {
        let shape = &self.convolution.shape;
        let (down, across) = (shape.height.div_ceil(T::OUT), shape.width.div_ceil(T::OUT));
        let number = self.first + tile;
        let (image, inside) = (number / (down * across), number % (down * across));
        At {
            image,
            row: inside / across * T::OUT,
            column: inside % across * T::OUT,
            block: tile / self.rows,
            in_block: tile % self.rows,
        }
    }
}

/// # Safety
/// The processor has the instructions, `tile` is one of the group, nobody else has its row of `inputs`.
#[inline(always)]
pub(super) unsafe fn transform_input<T: Tile, V: Lanes>(group: &Group<'_>, tile: usize) {
    let shape = &group.convolution.shape;
    let at = group.at::<T>(tile);
    let blocks = shape.channels / V::COUNT;
    let plane = shape.height * shape.width * V::COUNT;
    let inside = at.row > 0
        && at.column > 0
        && at.row + T::IN <= shape.height + 1
        && at.column + T::IN <= shape.width + 1;
    let row_of_block = at.block * group.rows * shape.channels + at.in_block * V::COUNT;
    for block in 0..blocks {
        // SAFETY: within the picture, as `inside` says or each pixel is asked; within the group's row.
        unsafe {
            let picture = group.convolution.input.as_ptr().add((at.image * blocks + block) * plane);
            let to = group.inputs.add(row_of_block + block * group.rows * V::COUNT);
            let pixel = |row: usize, column: usize| {
                V::load(picture.add((row * shape.width + column) * V::COUNT))
            };
            if inside {
                let (top, left) = (at.row - 1, at.column - 1);
                transform_one::<T, V>(
                    |row, column| pixel(top + row, left + column),
                    to,
                    group.input_stride,
                );
            } else {
                let padded = |row: usize, column: usize| {
                    // The first row and column are those before the tile.
                    let (row, column) = (at.row + row, at.column + column);
                    let is_there =
                        (1..=shape.height).contains(&row) && (1..=shape.width).contains(&column);
                    if is_there { pixel(row - 1, column - 1) } else { V::splat(0.0) }
                };
                transform_one::<T, V>(padded, to, group.input_stride);
            }
        }
    }
}

/// # Safety
/// `IN²` rows, `stride` apart, may be written.
#[inline(always)]
unsafe fn transform_one<T: Tile, V: Lanes>(
    pixel: impl Fn(usize, usize) -> V,
    to: *mut f32,
    stride: usize,
) {
    for (row, values) in tile::input::<T, V>(pixel).into_iter().enumerate().take(T::IN) {
        for (column, value) in values.into_iter().enumerate().take(T::IN) {
            // SAFETY: the caller's.
            unsafe { value.store(to.add((row * T::IN + column) * stride)) };
        }
    }
}

/// # Safety
/// The processor has the instructions, `point` is one of the tile's, nobody else has its `products`.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes>(group: &Group<'_>, point: usize) {
    let shape = &group.convolution.shape;
    let pair = 2 * V::COUNT;
    // SAFETY: as many as the lengths say, which `run` checked and made.
    unsafe {
        let filters =
            group.convolution.filters.as_ptr().add(point * shape.channels * shape.filters);
        let inputs = group.inputs.add(point * group.input_stride);
        let products = group.products.add(point * group.product_stride);
        for first in (0..shape.filters).step_by(pair) {
            let filters = filters.add(first * shape.channels);
            // Filters stay next to the processor, and the tiles pass by.
            let blocks = group.tiles.div_ceil(group.rows);
            let lines = (pair * V::COUNT / LINE).div_ceil(blocks);
            for block in 0..blocks {
                let ahead = AHEAD * pair * shape.channels
                    + block * lines * LINE * (shape.channels / V::COUNT);
                let ahead = Ahead { from: filters.wrapping_add(ahead), lines };
                let inputs = inputs.add(block * group.rows * shape.channels);
                let products = products.add((block * shape.filters + first) * group.rows);
                if first + pair <= shape.filters {
                    rows::<V, 2>(group.rows, shape.channels, inputs, filters, products, ahead);
                } else {
                    rows::<V, 1>(group.rows, shape.channels, inputs, filters, products, ahead);
                }
            }
        }
    }
}

/// Filters that are brought nearer while others are multiplied. All of a network's are more than caches hold, and the
/// processor does not foresee each part: with this the whole takes a tenth less.
#[derive(Clone, Copy)]
struct Ahead {
    from: *const f32,
    /// For each block of channels.
    lines: usize,
}

impl Ahead {
    #[inline(always)]
    fn ask(&mut self) {
        for line in 0..self.lines {
            // SAFETY: asking for memory that is not there does nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.from.wrapping_add(line * LINE).cast()) };
        }
        self.from = self.from.wrapping_add(self.lines * LINE);
    }
}

/// # Safety
/// Those of [`product`].
#[inline(always)]
unsafe fn rows<V: Lanes, const BLOCKS: usize>(
    rows: usize,
    channels: usize,
    inputs: *const f32,
    filters: *const f32,
    products: *mut f32,
    ahead: Ahead,
) {
    macro_rules! by_rows {
        ($($count:literal)*) => {
            match rows {
                // SAFETY: the caller's.
                $($count if $count <= V::MOST_ROWS => unsafe {
                    product::<V, $count, BLOCKS>(channels, inputs, filters, products, ahead);
                })*
                _ => unreachable!("rows are cut to size"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// The product of `ROWS` rows with some blocks of filters. Sums go through the channels in order, whatever the number
/// of rows: a picture's features do not depend on those beside it.
///
/// # Safety
/// As much may be read and written as rows, blocks and channels say.
#[inline(always)]
unsafe fn product<V: Lanes, const ROWS: usize, const BLOCKS: usize>(
    channels: usize,
    mut inputs: *const f32,
    mut filters: *const f32,
    products: *mut f32,
    mut ahead: Ahead,
) {
    let mut sums = [[V::splat(0.0); BLOCKS]; ROWS];
    // SAFETY: the caller's.
    unsafe {
        for _ in 0..channels / V::COUNT {
            ahead.ask();
            for channel in 0..V::COUNT {
                let factors: [V; BLOCKS] = from_fn(|block| V::load(filters.add(block * V::COUNT)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = V::splat(*inputs.add(row * V::COUNT + channel));
                    for (sum, factor) in sums.iter_mut().zip(factors) {
                        *sum = value.times_plus(factor, *sum);
                    }
                }
                filters = filters.add(BLOCKS * V::COUNT);
            }
            inputs = inputs.add(ROWS * V::COUNT);
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (block, sum) in sums.into_iter().enumerate() {
                sum.store(products.add((block * ROWS + row) * V::COUNT));
            }
        }
    }
}

/// # Safety
/// The processor has the instructions, `tile` is one of the group, nobody else has its pixels.
#[inline(always)]
pub(super) unsafe fn transform_output<T: Tile, V: Lanes>(group: &Group<'_>, tile: usize) {
    let convolution = group.convolution;
    let shape = &convolution.shape;
    let at = group.at::<T>(tile);
    let blocks = shape.filters / V::COUNT;
    let plane = shape.height * shape.width * V::COUNT;
    let row_of_block = at.block * group.rows * shape.filters + at.in_block * V::COUNT;
    for block in 0..blocks {
        // SAFETY: within the group's row, and pixels within the picture.
        unsafe {
            let from = group.products.add(row_of_block + block * group.rows * V::COUNT);
            let bias = V::load(convolution.bias.as_ptr().add(block * V::COUNT));
            let picture = (at.image * blocks + block) * plane;
            let product = |row: usize, column: usize| {
                V::load(from.add((row * T::IN + column) * group.product_stride))
            };
            let rows = T::OUT.min(shape.height - at.row);
            for (row, values) in tile::output::<T, V>(product).into_iter().enumerate().take(rows) {
                let columns = T::OUT.min(shape.width - at.column);
                for (column, value) in values.into_iter().enumerate().take(columns) {
                    let pixel = (at.row + row) * shape.width + at.column + column;
                    let place = picture + pixel * V::COUNT;
                    let mut value = value.plus(bias);
                    if let Some(sum) = convolution.sum {
                        value = value.plus(V::load(sum.as_ptr().add(place)));
                    }
                    if convolution.relu {
                        value = value.positive();
                    }
                    value.store(group.output.add(place));
                }
            }
        }
    }
}
