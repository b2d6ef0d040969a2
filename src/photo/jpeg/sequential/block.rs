//! Coded bits → the coefficients of a block.

use crate::photo::jpeg::bits::Bits;
use crate::photo::jpeg::codes::{Coefficients, Differences, Step};

/// How many blocks are transformed at once.
pub(super) const LANES: usize = 8;

/// The coefficients of [`LANES`] blocks side by side, row by row; behind them, room for what damaged data
/// puts beyond the last. As many as 8 bits can name, so that no place need be checked.
pub(super) type Group = [[i16; LANES]; 256];

/// A group of blocks of zeros.
pub(super) const EMPTY: Group = [[0; LANES]; 256];

/// Where in a [`Group`] each coefficient goes, by its place in the data (T.81, figure A.6): along diagonals.
const PLACES: [u8; 256] = {
    let mut places = [64; 256];
    let (mut at, mut row, mut column) = (0, 0i32, 0i32);
    while at < 64 {
        places[at] = (row * 8 + column) as u8;
        let is_upward = (row + column) % 2 == 0;
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

/// Where the blocks of a unit go: those of each row into the lanes of a group, from one on. The lanes must be
/// zeros.
pub(super) struct Unit<'a> {
    pub(super) groups: &'a mut [Group],
    /// Of the first block in a row, times whole groups.
    pub(super) lane: usize,
    /// Blocks in a row.
    pub(super) across: usize,
}

/// What the blocks of a component are decoded with.
pub(super) struct Decoder<'a> {
    differences: Differences<'a>,
    coefficients: Coefficients<'a>,
    /// In the order of the data; room for what damaged data puts beyond the last.
    divisors: [i16; 256],
    /// Whether the processor has shifts by any register, and loads of either order.
    #[cfg(target_arch = "x86_64")]
    has_shifts: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(
        differences: Differences<'a>,
        coefficients: Coefficients<'a>,
        divisors: &[u16; 64],
    ) -> Self {
        let mut padded = [0; 256];
        for (to, from) in padded.iter_mut().zip(divisors) {
            *to = *from as i16;
        }
        Self {
            differences,
            coefficients,
            divisors: padded,
            #[cfg(target_arch = "x86_64")]
            has_shifts: is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("movbe"),
        }
    }

    /// Reads the blocks of a unit: the coefficients as they are before the transform. `before` is the first
    /// coefficient of the block before, and then of the last. `None` where the data are damaged.
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

    #[inline(always)]
    fn read_block(
        &self,
        data: &mut Bits<'_>,
        before: &mut i32,
        group: &mut Group,
        lane: usize,
    ) -> Option<()> {
        let mut put = |coefficient: u8, value: i16| {
            let coefficient = usize::from(coefficient);
            let place = usize::from(PLACES[coefficient]);
            group[place][lane] = value.wrapping_mul(self.divisors[coefficient]);
        };
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
                    let (zeros, value) = self.coefficients.one(step, data)?;
                    if let Some(value) = value {
                        put(next + zeros, value);
                    }
                    next += match value {
                        Some(_) => zeros + 1,
                        None if zeros == 15 => 16,
                        None => Step::END,
                    };
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
