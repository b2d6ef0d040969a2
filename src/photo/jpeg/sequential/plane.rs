//! The samples of one component: a window of two rows of units that moves down the picture.

use std::ops::Range;

use super::Sampling;
use super::block::{Decoder, EMPTY, Group, LANES, Unit};
use super::inverse::{Divisors, Samples, inverse};
use super::lanes::Lanes;
use crate::photo::jpeg::bits::Bits;
use crate::photo::jpeg::rows;

/// The samples of a component.
pub(super) struct Plane<'a> {
    decoder: Decoder<'a>,
    divisors: Divisors,
    sampling: Sampling,
    /// The first coefficient of the block before.
    before: i32,
    /// Coefficients that are not transformed yet, for each row of blocks in a unit.
    groups: Vec<Group>,
    /// The rows of two rows of units: each takes the place of the one before the last.
    samples: Vec<u8>,
    /// Samples of a row.
    width: usize,
    /// How many of them lie in the picture.
    inside: usize,
    /// Rows of the whole picture.
    height: usize,
    /// Chroma between two rows.
    mixed: Vec<u16>,
    /// A row, once it is as wide as the picture.
    wide: Vec<u8>,
}

impl<'a> Plane<'a> {
    /// A plane of a picture that is `whole` samples wide and high; only the units of `columns` are kept.
    pub(super) fn new(
        decoder: Decoder<'a>,
        divisors: &[u16; 64],
        sampling: Sampling,
        whole: (usize, usize),
        columns: &Range<usize>,
    ) -> Self {
        let Sampling { blocks, side, pixels } = sampling;
        let width = columns.len() * blocks.0 * side;
        Self {
            decoder,
            divisors: divisors.map(|divisor| [divisor as i16; LANES]),
            sampling,
            before: 0,
            groups: vec![EMPTY; blocks.1],
            samples: vec![0; 2 * blocks.1 * side * width],
            width,
            inside: width.min(whole.0 - columns.start * blocks.0 * side),
            height: whole.1,
            mixed: vec![0; width],
            wide: vec![0; pixels.0 * width],
        }
    }

    /// Begins anew, behind a restart marker.
    #[inline(always)]
    pub(super) fn restart(&mut self) {
        self.before = 0;
    }

    /// Reads the blocks of a unit in a row of units, the `column`th of those that are kept. `None` where the
    /// data are damaged.
    #[inline(always)]
    pub(super) fn take<L: Lanes>(
        &mut self,
        bits: &mut Bits<'_>,
        row: usize,
        column: usize,
        is_last: bool,
    ) -> Option<()> {
        let (across, down) = self.sampling.blocks;
        let first = column * across;
        let to = Unit { groups: &mut self.groups, lane: first, across };
        self.decoder.read(bits, &mut self.before, to)?;
        let end = first + across;
        if end.is_multiple_of(LANES) || is_last {
            for y in 0..down {
                self.transform::<L>(row * down + y, y, (end - 1) / LANES * LANES..end);
            }
        }
        Some(())
    }

    /// Reads the blocks of a unit that is not kept.
    #[inline(always)]
    pub(super) fn pass_over(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let (across, down) = self.sampling.blocks;
        self.decoder.pass(bits, &mut self.before, across * down)
    }

    /// Puts the samples of a group's blocks where they belong.
    #[inline(always)]
    fn transform<L: Lanes>(&mut self, row: usize, group: usize, blocks: Range<usize>) {
        let side = self.sampling.side;
        let mut samples: Samples = [[0; 8 * LANES]; 8];
        let group = &mut self.groups[group];
        inverse::<L>(group, &self.divisors, side, blocks.len(), &mut samples);
        for (y, samples) in samples.iter().enumerate().take(side) {
            let start = self.start_of(row * side + y);
            self.samples[start..][blocks.start * side..blocks.end * side]
                .copy_from_slice(&samples[..blocks.len() * side]);
        }
    }

    /// Where a row of the picture is kept.
    #[inline(always)]
    fn start_of(&self, row: usize) -> usize {
        row % (2 * self.sampling.blocks.1 * self.sampling.side) * self.width
    }

    #[inline(always)]
    fn samples_of(&self, row: usize) -> &[u8] {
        &self.samples[self.start_of(row)..][..self.inside]
    }

    /// The samples of a row of pixels, one for each. `units` are the rows of units that are kept: beyond
    /// them, and beyond the picture, its outermost samples go on.
    #[inline(always)]
    pub(super) fn row(&mut self, y: usize, units: &Range<usize>) -> &[u8] {
        let Sampling { blocks, side, pixels } = self.sampling;
        let near = y / pixels.1;
        if pixels.1 == 2 {
            let (first, end) = (units.start * blocks.1 * side, units.end * blocks.1 * side);
            let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
            let far = far.clamp(first, end.min(self.height) - 1);
            let mut mixed = std::mem::take(&mut self.mixed);
            rows::between(self.samples_of(near), self.samples_of(far), &mut mixed);
            let row = &mixed[..self.inside];
            match pixels.0 {
                2 => rows::widen_between(row, &mut self.wide),
                _ => rows::settle(row, y.is_multiple_of(2), &mut self.wide),
            }
            self.mixed = mixed;
            return &self.wide;
        }
        if pixels.0 == 2 {
            let mut wide = std::mem::take(&mut self.wide);
            rows::widen(self.samples_of(near), &mut wide);
            self.wide = wide;
            return &self.wide;
        }
        self.samples_of(near)
    }
}
