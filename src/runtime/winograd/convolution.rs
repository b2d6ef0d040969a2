//! A convolution by tiles: each is transformed, multiplied with the transformed filters, and transformed back.
//!
//! Where a tile has `IN × IN` values, that many products of matrices take the place of the convolution, each
//! `[tiles, channels] × [channels, filters]`. Tiles are taken in groups that stay near the processor between the three
//! steps.
//!
//! Pictures lie as ONNX Runtime's `nchwc` has them: `[image, channel block, row, column, channel of the block]`.

use super::lanes::{Avx2, Avx512, Lanes};
use super::steps::{Group, LINE, multiply, transform_input, transform_output};
use super::tile::{Four, MOST, Tile, Two};

/// Tiles that are worth a pass over the filters: with fewer, reading filters takes longer than products with them.
/// More leave the caches.
const GROUP: usize = 70;

/// What is convolved, in pixels and channels. What goes in and what comes out are as high and as wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) filters: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Shape {
    pub(super) fn input(&self) -> usize {
        self.images * self.channels * self.height * self.width
    }

    pub(super) fn output(&self) -> usize {
        self.images * self.filters * self.height * self.width
    }
}

/// A convolution with 3 × 3 filters, one pixel of zeros around the picture, and what ONNX Runtime joins to it.
pub(super) struct Convolution<'a> {
    pub(super) shape: Shape,
    /// The pictures.
    pub(super) input: &'a [f32],
    /// As [`Method::filters`] lays them out.
    pub(super) filters: &'a [f32],
    /// One value a filter.
    pub(super) bias: &'a [f32],
    /// Pictures that are added to what comes out.
    pub(super) sum: Option<&'a [f32]>,
    /// Whether what is less than zero is zero, after all else.
    pub(super) relu: bool,
}

/// A size of tile for the instructions of a processor. The steps are given one unit of work each.
#[derive(Clone, Copy)]
pub(super) struct Method {
    /// Channels that lie side by side.
    pub(super) lanes: usize,
    /// Pixels of a tile that come out, a side.
    tile: usize,
    most_rows: usize,
    filter: fn([f32; 9]) -> [f32; MOST * MOST],
    /// Of a tile of the group.
    transform_input: unsafe fn(&Group<'_>, usize),
    /// Of one of the products.
    multiply: unsafe fn(&Group<'_>, usize),
    /// Of a tile of the group.
    transform_output: unsafe fn(&Group<'_>, usize),
}

macro_rules! method {
    ($features:literal, $lanes:ty, $tile:ty) => {{
        #[target_feature(enable = $features)]
        unsafe fn input(group: &Group<'_>, tile: usize) {
            // SAFETY: the caller's.
            unsafe { transform_input::<$tile, $lanes>(group, tile) }
        }
        #[target_feature(enable = $features)]
        unsafe fn multiplied(group: &Group<'_>, point: usize) {
            // SAFETY: the caller's.
            unsafe { multiply::<$lanes>(group, point) }
        }
        #[target_feature(enable = $features)]
        unsafe fn output(group: &Group<'_>, tile: usize) {
            // SAFETY: the caller's.
            unsafe { transform_output::<$tile, $lanes>(group, tile) }
        }
        Method {
            lanes: <$lanes>::COUNT,
            tile: <$tile>::OUT,
            most_rows: <$lanes>::MOST_ROWS,
            filter: super::tile::filter::<$tile>,
            transform_input: input,
            multiply: multiplied,
            transform_output: output,
        }
    }};
}

impl Method {
    /// Those that this processor can do, of the smaller tiles and of the larger ones, for as many channels side by side
    /// as ONNX Runtime has on it. `None` where it has other instructions.
    pub(super) fn available() -> Option<[Self; 2]> {
        if is_x86_feature_detected!("avx512f") {
            return Some([method!("avx512f", Avx512, Two), method!("avx512f", Avx512, Four)]);
        }
        Self::narrow()
    }

    /// All that this processor can do, whatever ONNX Runtime has on it.
    #[cfg(test)]
    pub(super) fn every() -> impl Iterator<Item = Self> {
        Self::available().into_iter().chain(Self::narrow()).flatten()
    }

    /// For half as many channels side by side.
    fn narrow() -> Option<[Self; 2]> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
            .then(|| [method!("avx2,fma", Avx2, Two), method!("avx2,fma", Avx2, Four)])
    }

    /// Of this size of tile.
    pub(super) fn of_tile(tile: usize) -> Option<Self> {
        Self::available()?.into_iter().find(|method| method.tile == tile)
    }

    /// Pixels of a tile that come out, a side.
    pub(super) fn tile(&self) -> usize {
        self.tile
    }

    /// How many products take the place of a convolution.
    pub(super) fn points(&self) -> usize {
        (self.tile + 2) * (self.tile + 2)
    }

    /// How many tiles a picture has.
    pub(super) fn tiles(&self, height: usize, width: usize) -> usize {
        height.div_ceil(self.tile) * width.div_ceil(self.tile)
    }

    /// The transforms of filters `[filters, channels, 3, 3]`, given one by one, as [`Convolution::filters`] wants them:
    /// `[point, pair of blocks of filters, channel, filter of the pair]`. A block without another is a pair by itself.
    pub(super) fn filters(
        &self,
        filters: usize,
        channels: usize,
        of: impl Fn(usize, usize) -> [f32; 9],
    ) -> Vec<f32> {
        let count = filters * channels;
        let mut laid_out = vec![0.0; self.points() * count];
        let pair = 2 * self.lanes;
        for filter in 0..filters {
            let first = filter / pair * pair;
            let together = pair.min(filters - first);
            for channel in 0..channels {
                let at = first * channels + channel * together + filter - first;
                let transformed = (self.filter)(of(filter, channel));
                for (point, value) in transformed[..self.points()].iter().enumerate() {
                    laid_out[point * count + at] = *value;
                }
            }
        }
        laid_out
    }

    /// Convolves into `output`, by `each`, which calls what it is given for all numbers below a count, in any order and
    /// from any threads. `scratch` is grown to some megabytes, and may be used again.
    ///
    /// # Panics
    /// When a slice is not as long as the shape says, or channels or filters are no whole blocks.
    pub(super) fn run(
        &self,
        convolution: &Convolution<'_>,
        output: &mut [f32],
        scratch: &mut Vec<f32>,
        each: impl Fn(usize, &(dyn Fn(usize) + Sync)),
    ) {
        let shape = convolution.shape;
        assert!(
            shape.channels.is_multiple_of(self.lanes) && shape.filters.is_multiple_of(self.lanes)
        );
        assert_eq!(convolution.input.len(), shape.input());
        assert_eq!(convolution.filters.len(), self.points() * shape.channels * shape.filters);
        assert_eq!(convolution.bias.len(), shape.filters);
        assert!(convolution.sum.is_none_or(|sum| sum.len() == shape.output()));
        assert_eq!(output.len(), shape.output());

        let tiles = shape.images * self.tiles(shape.height, shape.width);
        let most = tiles.div_ceil(tiles.div_ceil(GROUP).max(1));
        let blocks = most.div_ceil(self.most_rows);
        let rows = most.div_ceil(blocks.max(1));
        let input_stride = blocks * rows * shape.channels + LINE;
        let product_stride = blocks * rows * shape.filters + LINE;
        let needed = self.points() * (input_stride + product_stride) + LINE;
        if scratch.len() < needed {
            scratch.resize(needed, 0.0);
        }
        // Registers that lie across two lines of the cache are read in two steps.
        let aligned = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let (inputs, products) = scratch[aligned..].split_at_mut(self.points() * input_stride);
        let (inputs, products) = (inputs.as_mut_ptr(), products.as_mut_ptr());
        for first in (0..tiles).step_by((blocks * rows).max(1)) {
            let group = Group {
                convolution,
                output: output.as_mut_ptr(),
                inputs,
                input_stride,
                products,
                product_stride,
                first,
                tiles: (tiles - first).min(blocks * rows),
                rows,
            };
            let step = |step: unsafe fn(&Group<'_>, usize), count| {
                // SAFETY: a method is made only where the processor has its instructions; lengths are checked above,
                // and units of a step write to places of their own.
                each(count, &|unit| unsafe { step(&group, unit) });
            };
            step(self.transform_input, group.tiles);
            step(self.multiply, self.points());
            step(self.transform_output, group.tiles);
        }
    }
}
