//! Coded bits → the coefficients of a block.

use crate::photo::jpeg::bits::Bits;
use crate::photo::jpeg::lookup::{Coefficients, Differences, Step};

/// How many blocks stand side by side: as many as any processor transforms at once.
pub(super) const LANES: usize = 16;

/// The coefficients of [`LANES`] blocks side by side, in the order of the data and as they stand there; behind
/// them, room for what damaged data puts beyond the last. As many as 8 bits can name, so that no place need be
/// checked.
pub(super) type Group = [[i16; LANES]; 256];

/// A group of blocks of zeros.
pub(super) const EMPTY: Group = [[0; LANES]; 256];

/// Where the blocks of a unit go: those of each row into the lanes of a group, from one on. The lanes must be
/// zeros.
pub(super) struct Unit<'a> {
    pub(super) groups: &'a mut [Group],
    /// Of the first block in a row, times whole groups.
    pub(super) lane: usize,
    /// Blocks in a row.
    pub(super) across: usize,
}

/// What the blocks of a component are decoded with. Components share the tables of a copy.
#[derive(Clone)]
pub(super) struct Decoder<'a> {
    differences: Differences<'a>,
    coefficients: Coefficients<'a>,
    /// Whether the processor has shifts by any register, and loads of either order.
    #[cfg(target_arch = "x86_64")]
    has_shifts: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(differences: Differences<'a>, coefficients: Coefficients<'a>) -> Self {
        Self {
            differences,
            coefficients,
            #[cfg(target_arch = "x86_64")]
            has_shifts: is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("movbe"),
        }
    }

    /// Reads the blocks of a unit. `before` is the first coefficient of the block before, and then of the last.
    /// `None` where the data are damaged.
    #[inline(always)]
    pub(super) fn read(&self, bits: &mut Bits<'_>, before: &mut i32, to: Unit<'_>) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        if self.has_shifts {
            // SAFETY: the processor has them.
            return unsafe { self.read_by_shifts(bits, before, to) };
        }
        self.read_anywhere(bits, before, to)
    }

    /// Not inlined: it wants all registers for itself.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "bmi1,bmi2,movbe")]
    #[inline(never)]
    fn read_by_shifts(&self, bits: &mut Bits<'_>, before: &mut i32, to: Unit<'_>) -> Option<()> {
        self.read_anywhere(bits, before, to)
    }

    #[inline(always)]
    fn read_anywhere(&self, bits: &mut Bits<'_>, before: &mut i32, to: Unit<'_>) -> Option<()> {
        // By value: see `Bits`.
        let (mut data, mut first) = (*bits, *before);
        for group in to.groups {
            for x in 0..to.across {
                self.read_block(&mut data, &mut first, group, (to.lane + x) % LANES)?;
            }
        }
        (*bits, *before) = (data, first);
        Some(())
    }

    /// Passes over so many blocks. `before` and the rest as in [`Decoder::read`].
    #[inline(always)]
    pub(super) fn pass(&self, bits: &mut Bits<'_>, before: &mut i32, blocks: usize) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        if self.has_shifts {
            // SAFETY: the processor has them.
            return unsafe { self.pass_by_shifts(bits, before, blocks) };
        }
        self.pass_anywhere(bits, before, blocks)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "bmi1,bmi2,movbe")]
    #[inline(never)]
    fn pass_by_shifts(&self, bits: &mut Bits<'_>, before: &mut i32, blocks: usize) -> Option<()> {
        self.pass_anywhere(bits, before, blocks)
    }

    #[inline(always)]
    fn pass_anywhere(&self, bits: &mut Bits<'_>, before: &mut i32, blocks: usize) -> Option<()> {
        let (mut data, mut first) = (*bits, *before);
        for _ in 0..blocks {
            self.pass_block(&mut data, &mut first)?;
        }
        (*bits, *before) = (data, first);
        Some(())
    }

    #[inline(always)]
    fn pass_block(&self, data: &mut Bits<'_>, before: &mut i32) -> Option<()> {
        *before = before.wrapping_add(self.differences.read(data)?);
        let mut next = 1u8;
        while next < 64 {
            data.fill();
            // So many strides take no more bits than are held.
            for _ in 0..3 {
                let stride = self.coefficients.stride(data);
                let is_within = next + (stride.forward & (Step::END - 1)) < 64;
                if is_within && stride.bits > 0 {
                    data.skip(stride.bits.into());
                    next += stride.forward;
                } else {
                    data.fill();
                    next += self.coefficients.one(self.coefficients.step(data), data)?.forward();
                    break;
                }
                if next >= 64 {
                    break;
                }
            }
        }
        (next == 64 || next >= Step::END).then_some(())
    }

    #[inline(always)]
    fn read_block(
        &self,
        data: &mut Bits<'_>,
        before: &mut i32,
        group: &mut Group,
        lane: usize,
    ) -> Option<()> {
        let mut put = |coefficient: u8, value: i16| group[usize::from(coefficient)][lane] = value;
        *before = before.wrapping_add(self.differences.read(data)?);
        put(0, *before as i16);
        let mut next = 1u8;
        while next < 64 {
            data.fill();
            // So many steps take no more bits than are held.
            for _ in 0..4 {
                let step = self.coefficients.step(data);
                let first = next.wrapping_add(step.places[0]);
                // Behind the 64th value stands another block: it is read alone.
                if first < 63 {
                    data.skip(step.bits.into());
                    put(first, step.values[0]);
                    put(next.wrapping_add(step.places[1]), step.values[1]);
                    next = next.wrapping_add(step.forward);
                } else {
                    data.fill();
                    let one = self.coefficients.one(step, data)?;
                    if let Some(value) = one.value {
                        put(next + one.zeros, value);
                    }
                    next += one.forward();
                    break;
                }
                if next >= 64 {
                    break;
                }
            }
        }
        (next == 64 || next >= Step::END).then_some(())
    }
}
