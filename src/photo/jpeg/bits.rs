//! The coded data of a scan, bit by bit.

/// Coded data. Behind its end, which is a marker, stand zeros: [`Bits::has_overrun`] tells.
///
/// It is small and `Copy` so that a loop can hold it in registers: each code waits for the bits of the one
/// before, and must not wait for memory, too.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    /// What is read next.
    rest: &'a [u8],
    /// The next bits, from the top.
    held: u64,
    /// How many bits are held, 63 at most.
    count: u32,
    /// How many of those, the last ones, are zeros behind the end.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, held: 0, count: 0, padding: 0 }
    }

    /// Holds 56 bits at least.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        if let Some(next) = self.rest.first_chunk::<8>() {
            let word = u64::from_be_bytes(*next);
            // Whether any byte is 0xff, which stands for itself only where a zero follows.
            let has_ff = (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080;
            if has_ff == 0 {
                // As many bytes as there is room for.
                self.held |= word >> self.count;
                self.rest = &self.rest[((63 - self.count) / 8) as usize..];
                self.count |= 56;
                return;
            }
        }
        *self = self.filled();
    }

    #[cold]
    #[inline(never)]
    fn filled(mut self) -> Self {
        while self.count <= 55 {
            let (byte, rest) = match self.rest {
                [0xff, 0, rest @ ..] => (0xff, rest),
                [0xff, ..] | [] => {
                    self.padding += 63 - self.count;
                    self.count = 63;
                    break;
                }
                [byte, rest @ ..] => (*byte, rest),
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.rest = rest;
        }
        self
    }

    /// The next `count` bits, 1 to 32.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.held >> (64 - count)) as usize
    }

    /// Passes over as many bits, which must be held.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.held <<= count;
        self.count -= count;
    }

    /// The next bits, 0 to 16, which must be held.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let taken = (self.held >> 1 >> (63 - count)) as u32;
        self.skip(count);
        taken
    }

    /// A value of so many bits, 0 to 16, which must be held (T.81, F.2.2.1).
    #[inline(always)]
    pub(super) fn signed(&mut self, count: u32) -> i32 {
        extended(self.take(count), count)
    }

    /// Whether more bits were taken than there are.
    pub(super) fn has_overrun(&self) -> bool {
        self.padding > self.count
    }

    /// Goes on behind the next restart marker; `None` where none follows, or too many bits were taken.
    pub(super) fn restart(&mut self) -> Option<()> {
        let [0xff, 0xd0..=0xd7, rest @ ..] = self.rest else { return None };
        let is_sound = !self.has_overrun();
        *self = Self::new(rest);
        is_sound.then_some(())
    }
}

/// The value that `count` bits stand for: the upper half are positive, the lower negative.
#[inline(always)]
pub(super) fn extended(bits: u32, count: u32) -> i32 {
    let is_negative = count > 0 && bits >> (count - 1) == 0;
    bits as i32 + if is_negative { 1 - (1 << count) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_order_and_end_at_a_marker() {
        let bytes =
            [0xff, 0, 0x12, 0x34, 0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff, 0xd0, 0x80, 0xff, 0xd9];
        let mut bits = Bits::new(&bytes);
        let expected = [0xff, 0x12, 0x34, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        for byte in expected {
            bits.fill();
            assert_eq!(bits.peek(8), byte);
            assert_eq!(bits.take(3) << 5 | bits.take(5), byte as u32);
            assert!(!bits.has_overrun());
        }
        let mut beyond = bits;
        beyond.fill();
        assert_eq!((beyond.take(1), beyond.has_overrun(), beyond.restart()), (0, true, None));
        assert_eq!(bits.restart(), Some(()));
        bits.fill();
        assert_eq!((bits.take(8), bits.has_overrun(), bits.restart()), (0x80, false, None));
    }

    #[test]
    fn values_are_signed_as_the_standard_says() {
        for (count, bits, value) in [
            (0, 0, 0),
            (1, 0, -1),
            (1, 1, 1),
            (3, 0, -7),
            (3, 3, -4),
            (3, 4, 4),
            (3, 7, 7),
            (11, 0, -2047),
        ] {
            assert_eq!(extended(bits, count), value);
        }
    }
}
