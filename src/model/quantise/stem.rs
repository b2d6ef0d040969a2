//! A network's first convolution, over quarters of the picture.
//!
//! It mostly goes over three channels in steps of two pixels, and ONNX Runtime's convolution of integers gathers what
//! lies under the kernel three bytes at a time. Where each 2 x 2 pixels lie behind one another in four times as many
//! channels, a kernel of half the side, in steps of one, has the same sums in two thirds of the time: of ResNet-50
//! in 8 bits that is a fortieth.

use crate::model::trace::Trace;
use crate::onnx::{Dim, Node};

/// Pixels of a side that come to lie behind one another.
pub(super) const SIDE: usize = 2;

/// More channels than these are gathered well enough as they are.
const CHANNELS: usize = 4;

/// How a convolution goes over quarters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stem {
    axes: [Axis; 2],
}

/// Of a kernel, downwards or across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    /// Rows of zeros before it, so that its first row is the first of a pair.
    shift: usize,
    /// Its side over quarters.
    side: usize,
    /// Rows of zeros before the picture, and behind.
    pads: [usize; 2],
}

impl Axis {
    /// Of a kernel of `side` pixels in steps of [`SIDE`], over a picture of so many.
    fn new(side: usize, pads: [usize; 2], pixels: usize) -> Option<Self> {
        let all = pixels + pads[0] + pads[1];
        if !pixels.is_multiple_of(SIDE) || side < 3 || all < side {
            return None;
        }
        let shift = pads[0] % SIDE;
        let (quarters, before) = ((side + shift).div_ceil(SIDE), (pads[0] + shift) / SIDE);
        let steps = (all - side) / SIDE + 1;
        let behind = (steps + quarters - 1).checked_sub(pixels / SIDE + before)?;
        Some(Self { shift, side: quarters, pads: [before, behind] })
    }
}

impl Stem {
    /// How the convolution `node`, with weights of `shape`, would; `None` for another kind, and where the size of the
    /// picture is not known. Nothing else may look at the picture.
    pub(super) fn of(node: &Node<'_>, shape: [usize; 4], trace: &Trace<'_, '_>) -> Option<Self> {
        let [_, channels, height, width] = shape;
        let all_are = |name: &str, value: i64| {
            node.ints(name).is_none_or(|all| all.iter().all(|i| *i == value))
        };
        let is_plain = node.input(0) == Some(trace.image.name)
            && channels <= CHANNELS
            && node.int("group", 1) == 1
            && node.ints("strides").is_some()
            && all_are("strides", SIDE as i64)
            && all_are("dilations", 1)
            && matches!(node.text("auto_pad"), None | Some("NOTSET"));
        let [_, _, Dim::Fixed(rows), Dim::Fixed(columns)] = trace.image.dims.as_deref()? else {
            return None;
        };
        let pads = node.ints("pads").unwrap_or(&[0; 4]);
        let [top, left, bottom, right] = *<&[i64; 4]>::try_from(pads).ok()?;
        let axis = |side: usize, before: i64, behind: i64, pixels: i64| {
            let pads = [before.try_into().ok()?, behind.try_into().ok()?];
            Axis::new(side, pads, pixels.try_into().ok()?)
        };
        let axes = [axis(height, top, bottom, *rows)?, axis(width, left, right, *columns)?];
        is_plain.then_some(Self { axes })
    }

    /// Zeros before and behind the quarters, as the attribute `pads` has them.
    pub(super) fn pads(&self) -> [i64; 4] {
        let [[top, bottom], [left, right]] = self.axes.map(|axis| axis.pads.map(|pad| pad as i64));
        [top, left, bottom, right]
    }

    /// The weights for quarters, with their shape. SpaceToDepth puts the pixels of a square row by row, all channels of
    /// one before those of the next.
    pub(super) fn weights(&self, shape: [usize; 4], weights: &[u8]) -> ([usize; 4], Vec<u8>) {
        let [outputs, channels, height, width] = shape;
        let [down, across] = self.axes;
        let into = [outputs, SIDE * SIDE * channels, down.side, across.side];
        let mut quarters = vec![0; into.iter().product()];
        for (at, weight) in weights.iter().enumerate() {
            let (x, y) = (at % width + across.shift, at / width % height + down.shift);
            let (channel, output) =
                (at / (width * height) % channels, at / (width * height * channels));
            let channel = (y % SIDE * SIDE + x % SIDE) * channels + channel;
            let row = (output * into[1] + channel) * into[2] + y / SIDE;
            quarters[row * into[3] + x / SIDE] = *weight;
        }
        (into, quarters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::split_mix;

    /// A convolution by its definition: `[outputs, rows, columns]` of a picture `[channels, side, side]`.
    fn convolved(
        picture: &[i32],
        side: usize,
        (shape, weights): ([usize; 4], &[u8]),
        pads: [i64; 4],
        stride: usize,
    ) -> Vec<i32> {
        let [outputs, channels, height, width] = shape;
        let steps = |before: i64, behind: i64, kernel: usize| {
            (side + before as usize + behind as usize - kernel) / stride + 1
        };
        let (rows, columns) = (steps(pads[0], pads[2], height), steps(pads[1], pads[3], width));
        let mut sums = Vec::new();
        for (output, row, column) in (0..outputs * rows * columns)
            .map(|at| (at / (rows * columns), at / columns % rows, at % columns))
        {
            let mut sum = 0;
            for at in 0..channels * height * width {
                let (channel, y, x) = (at / (height * width), at / width % height, at % width);
                let from_edge =
                    |step: usize, at: usize, pad: i64| (step * stride + at) as i64 - pad;
                let (y, x) = (from_edge(row, y, pads[0]), from_edge(column, x, pads[1]));
                if (0..side as i64).contains(&y) && (0..side as i64).contains(&x) {
                    let pixel = picture[(channel * side + y as usize) * side + x as usize];
                    let weight = weights[output * channels * height * width + at] as i8;
                    sum += pixel * i32::from(weight);
                }
            }
            sums.push(sum);
        }
        sums
    }

    #[test]
    fn the_sums_are_those_of_the_convolution() {
        let mut state = 11;
        let mut random = || split_mix(&mut state) as u8;
        let (side, channels) = (16, 3);
        let picture: Vec<i32> = (0..channels * side * side).map(|_| random().into()).collect();
        let half = side / SIDE;
        // ONNX: a channel of the quarters is that of the picture, from a pixel of each square.
        let quarters: Vec<i32> = (0..SIDE * SIDE * channels * half * half)
            .map(|at| {
                let (channel, y, x) = (at / (half * half), at / half % half, at % half);
                let (square, channel) = (channel / channels, channel % channels);
                let (y, x) = (y * SIDE + square / SIDE, x * SIDE + square % SIDE);
                picture[(channel * side + y) * side + x]
            })
            .collect();
        // ResNet's, MobileNet's by PyTorch and by TensorFlow, and others.
        for (kernel, pads) in [
            ([7, 7], [3, 3, 3, 3]),
            ([3, 3], [1, 1, 1, 1]),
            ([3, 3], [0, 0, 1, 1]),
            ([4, 5], [1, 2, 1, 2]),
            ([6, 3], [2, 0, 2, 0]),
        ] {
            let shape = [2, channels, kernel[0], kernel[1]];
            let weights: Vec<u8> = (0..shape.iter().product()).map(|_| random()).collect();
            let axis = |i: usize| {
                Axis::new(kernel[i], [pads[i] as usize, pads[i + 2] as usize], side).unwrap()
            };
            let stem = Stem { axes: [axis(0), axis(1)] };
            let (into, folded) = stem.weights(shape, &weights);
            assert_eq!(
                convolved(&picture, side, (shape, &weights), pads, SIDE),
                convolved(&quarters, half, (into, &folded), stem.pads(), 1),
                "{kernel:?} {pads:?}"
            );
        }
    }

    #[test]
    fn odd_pictures_and_small_kernels_are_left_as_they_are() {
        assert!(Axis::new(7, [3, 3], 224).is_some());
        assert_eq!(Axis::new(7, [3, 3], 225), None);
        assert_eq!(Axis::new(1, [0, 0], 224), None);
        assert_eq!(Axis::new(7, [0, 0], 4), None);
    }
}
