//! The tables that stand before a scan: divisors, and Huffman codes (ITU T.81, annexes B.2.4, C and F.2.2).

use super::segments::Segment;

/// What the segments before a scan said.
#[derive(Default)]
pub(super) struct Tables {
    /// In the order of the coefficients.
    pub(super) divisors: [Option<[u16; 64]>; 4],
    /// Of first coefficients.
    pub(super) first: [Option<Code>; 4],
    /// Of the others.
    pub(super) others: [Option<Code>; 4],
    /// Units between restarts; 0 for none.
    pub(super) restarts: usize,
}

impl Tables {
    /// Takes in a segment that holds tables, and leaves others alone; `None` where it cannot be understood.
    pub(super) fn take(&mut self, segment: &Segment<'_>) -> Option<()> {
        match segment.kind {
            0xc4 => self.take_codes(segment.content),
            0xdb => self.take_divisors(segment.content),
            0xdd => {
                self.restarts = u16::from_be_bytes(segment.content.try_into().ok()?).into();
                Some(())
            }
            _ => Some(()),
        }
    }

    fn take_divisors(&mut self, mut content: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = content {
            let size = if kind >> 4 == 0 { 1 } else { 2 };
            let (table, behind) = rest.split_at_checked(64 * size)?;
            let divisors = self.divisors.get_mut(usize::from(kind & 15))?.insert([0; 64]);
            for (divisor, bytes) in divisors.iter_mut().zip(table.chunks_exact(size)) {
                *divisor = bytes.iter().fold(0, |value, byte| value << 8 | u16::from(*byte));
            }
            content = behind;
        }
        Some(())
    }

    fn take_codes(&mut self, mut content: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = content {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let symbols = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, behind) = rest.split_at_checked(symbols)?;
            let tables = if kind >> 4 == 0 { &mut self.first } else { &mut self.others };
            *tables.get_mut(usize::from(kind & 15))? = Some(Code::new(counts, symbols)?);
            content = behind;
        }
        Some(())
    }
}

/// So many bits are looked up at once.
pub(super) const LOOKUP: u32 = 11;

/// A canonical Huffman code.
#[derive(Clone, PartialEq)]
pub(super) struct Code {
    /// For each length, the first 16 bits that begin with no code of it or of a shorter one.
    ends: [u32; 17],
    /// For each length, what added to a code gives the place of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Code {
    /// Of the number of codes of 1 to 16 bits, and their symbols in order; `None` for more codes than there
    /// can be.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let (mut ends, mut offsets) = ([0; 17], [0; 17]);
        let (mut code, mut place) = (0u32, 0i32);
        for (length, count) in (1..).zip(counts) {
            offsets[length] = place - code as i32;
            code += u32::from(*count);
            place += i32::from(*count);
            ends[length] = code << (16 - length);
            if ends[length] > 1 << 16 {
                return None;
            }
            code <<= 1;
        }
        Some(Self { ends, offsets, symbols: symbols.to_vec() })
    }

    /// The symbol, and its length in bits, that 16 bits begin with.
    #[inline(never)]
    pub(super) fn find(&self, bits: usize) -> Option<(u8, u32)> {
        let length = (1..17).find(|length| (bits as u32) < self.ends[*length])?;
        let place = (bits >> (16 - length)) as i32 + self.offsets[length];
        Some((*self.symbols.get(place as usize)?, length as u32))
    }

    /// The same for all that [`LOOKUP`] bits can be; a length of 0 where the code is longer, or none. Filled code
    /// by code: many pictures have codes of their own.
    pub(super) fn spread(&self) -> Box<[(u8, u32); 1 << LOOKUP]> {
        let mut spread = Box::new([(0, 0); 1 << LOOKUP]);
        for length in 1..=LOOKUP {
            let ends = |length: u32| (self.ends[length as usize] >> (16 - LOOKUP)) as usize;
            let codes =
                spread[ends(length - 1)..ends(length)].chunks_exact_mut(1 << (LOOKUP - length));
            let first = (self.ends[length as usize - 1] >> (16 - length)) as i32;
            let place = (first + self.offsets[length as usize]) as usize;
            for (bits, symbol) in codes.zip(&self.symbols[place..]) {
                bits.fill((*symbol, length));
            }
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_codes_than_there_can_be_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Code::new(&counts, &[0, 1, 2]).is_none());
        counts[0] = 2;
        assert!(Code::new(&counts, &[0, 1]).is_some());
    }
}
