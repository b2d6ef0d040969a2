//! The tables that stand before a scan: divisors, and Huffman codes (ITU T.81, annexes B.2.4, C and F.2.2).

use super::bits::{Bits, extended};
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

/// A canonical Huffman code.
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
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
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
    fn find(&self, bits: usize) -> Option<(u8, u32)> {
        let length = (1..17).find(|length| (bits as u32) < self.ends[*length])?;
        let place = (bits >> (16 - length)) as i32 + self.offsets[length];
        Some((*self.symbols.get(place as usize)?, length as u32))
    }

    /// The same for all that [`LOOKUP`] bits can be; a length of 0 where the code is longer, or none. Filled code
    /// by code: this is done anew for each picture.
    fn spread(&self) -> Box<[(u8, u32); 1 << LOOKUP]> {
        let mut spread = lookup(|_| (0, 0));
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

/// So many bits are looked up at once.
const LOOKUP: u32 = 11;

/// Looks up how much a first coefficient differs from the one before.
pub(super) struct Differences<'a> {
    code: &'a Code,
    /// By the next bits: how many the code and its value take, 0 where they are more than were looked at;
    /// and the value.
    steps: Box<[(u8, i16); 1 << LOOKUP]>,
}

impl<'a> Differences<'a> {
    pub(super) fn new(code: &'a Code) -> Self {
        let codes = code.spread();
        let steps = lookup(|bits| match codes[bits] {
            (_, 0) => (0, 0),
            (symbol, length) => value_behind(bits, length, symbol.into()).unwrap_or_default(),
        });
        Self { code, steps }
    }

    #[inline(always)]
    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Option<i32> {
        bits.fill();
        let (length, value) = self.steps[bits.peek(LOOKUP)];
        if length > 0 {
            bits.skip(length.into());
            return Some(value.into());
        }
        let (size, length) = self.code.find(bits.peek(16)).filter(|(size, _)| *size <= 16)?;
        bits.skip(length);
        Some(bits.signed(size.into()))
    }
}

/// Looks up the other coefficients, two at a time where their codes are short.
pub(super) struct Coefficients<'a> {
    code: &'a Code,
    steps: Box<[Step; 1 << LOOKUP]>,
}

/// Values that follow one another, from the coefficient on that comes next.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// How many coefficients it goes forward, [`Step::END`] where the block ends.
    pub(super) forward: u8,
    /// How many bits it takes.
    pub(super) bits: u8,
    /// How many coefficients are zeros before each of the values, counted from where the step began. The
    /// second may be a zero that comes where nothing was put yet. [`Step::END`] where the next code does not
    /// fit with its value: then `bits` are those of the code alone, 0 where it does not fit either, and the
    /// first of the values is its symbol.
    pub(super) places: [u8; 2],
    pub(super) values: [i16; 2],
}

impl Step {
    /// More than there are coefficients, however few are left.
    pub(super) const END: u8 = 128;
    /// Neither bits nor values.
    const NOTHING: Self = Self { forward: 0, bits: 0, places: [0; 2], values: [0; 2] };
    const NONE: Self = Self { places: [Self::END; 2], ..Self::NOTHING };

    /// The one that [`LOOKUP`] bits begin with, of the code that they begin with.
    fn one(bits: usize, (symbol, length): (u8, u32)) -> Self {
        let (zeros, size) = (symbol >> 4, symbol & 15);
        let alone = Self { bits: length as u8, ..Self::NOTHING };
        match (zeros, size) {
            _ if length == 0 => Self::NONE,
            (15, 0) => Self { forward: 16, ..alone },
            (_, 0) => Self { forward: Self::END, ..alone },
            _ => match value_behind(bits, length, size.into()) {
                Some((bits, value)) => {
                    Self { forward: zeros + 1, bits, places: [zeros; 2], values: [value, 0] }
                }
                None => Self { values: [symbol.into(), 0], bits: alone.bits, ..Self::NONE },
            },
        }
    }

    /// Both steps, in one.
    fn and(self, next: Self) -> Self {
        let forward =
            if next.forward == Self::END { Self::END } else { self.forward + next.forward };
        let bits = self.bits + next.bits;
        let places = [self.places[0], self.forward + next.places[0]];
        Self { forward, bits, places, values: [self.values[0], next.values[0]] }
    }
}

impl<'a> Coefficients<'a> {
    pub(super) fn new(code: &'a Code) -> Self {
        let codes = code.spread();
        let alone = lookup(|bits| Step::one(bits, codes[bits]));
        let steps = lookup(|bits| {
            let first = alone[bits];
            if first.places[0] == Step::END || first.values[0] == 0 {
                return first;
            }
            let second = alone[bits << first.bits & ((1 << LOOKUP) - 1)];
            let fits = second.places[0] != Step::END
                && u32::from(first.bits) + u32::from(second.bits) <= LOOKUP;
            // Nothing is put behind the first value where no second fits.
            first.and(if fits { second } else { Step::NOTHING })
        });
        Self { code, steps }
    }

    /// What the next bits begin with.
    #[inline(always)]
    pub(super) fn step(&self, bits: &Bits<'_>) -> Step {
        self.steps[bits.peek(LOOKUP)]
    }

    /// One code with its value, however long: zeros before the value, and the value; `None` for no code. No
    /// value ends the block, or stands for 16 zeros where 15 are said. `step` is what the bits begin with.
    #[inline(always)]
    pub(super) fn one(&self, step: Step, bits: &mut Bits<'_>) -> Option<(u8, Option<i16>)> {
        let (symbol, length) = match step {
            Step { places: [Step::END, _], bits: length @ 1.., values: [symbol, _], .. } => {
                (symbol as u8, length.into())
            }
            _ => self.code.find(bits.peek(16))?,
        };
        bits.skip(length);
        let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
        let value = bits.signed(size) as i16;
        Some((zeros, (size > 0).then_some(value)))
    }
}

/// For all that [`LOOKUP`] bits can be.
fn lookup<T>(of: impl Fn(usize) -> T) -> Box<[T; 1 << LOOKUP]> {
    let all: Box<[T]> = (0..1 << LOOKUP).map(of).collect();
    all.try_into().ok().expect("one for each")
}

/// The value of `size` bits behind a code of `length`, after the bits that both take; `None` where those are
/// more than [`LOOKUP`].
fn value_behind(bits: usize, length: u32, size: u32) -> Option<(u8, i16)> {
    let both = length + size;
    let value = || bits as u32 >> (LOOKUP - both) & ((1 << size) - 1);
    (both <= LOOKUP).then(|| (both as u8, extended(value(), size) as i16))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0: end of block; 10: a value of 1 bit; 110: of 2 bits behind 3 zeros; 1110: 16 zeros; 11110: of 10
    /// bits.
    fn code() -> Code {
        let mut counts = [0; 16];
        counts[..5].fill(1);
        Code::new(&counts, &[0x00, 0x01, 0x32, 0xf0, 0x0a]).unwrap()
    }

    fn bytes(bits: &str) -> Vec<u8> {
        let bits = bits.replace(' ', "");
        let padded = format!("{bits:0<80}");
        padded
            .as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn first_step(text: &str) -> (u8, u8, [u8; 2], [i16; 2]) {
        let (code, bytes) = (code(), bytes(text));
        let mut bits = Bits::new(&bytes);
        bits.fill();
        let Step { forward, bits, places, values } = Coefficients::new(&code).step(&bits);
        (forward, bits, places, values)
    }

    #[test]
    fn two_short_codes_are_one_step() {
        assert_eq!(first_step("10 1 110 00"), (5, 8, [0, 4], [1, -3]));
        assert_eq!(first_step("110 11 10 0 10 1"), (5, 8, [3, 4], [3, -1]));
        assert_eq!(first_step("10 1 0"), (Step::END, 4, [0, 1], [1, 0]));
        assert_eq!(first_step("10 1 1110"), (17, 7, [0, 1], [1, 0]));
        assert_eq!(first_step("10 1 11110 1"), (1, 3, [0, 1], [1, 0]), "the second does not fit");
    }

    #[test]
    fn what_has_no_value_is_a_step_of_its_own() {
        assert_eq!(first_step("0 10 1"), (Step::END, 1, [0, 0], [0, 0]));
        assert_eq!(first_step("1110 10 1"), (16, 4, [0, 0], [0, 0]));
    }

    #[test]
    fn long_codes_are_read_one_by_one() {
        let (code, bytes) = (code(), bytes("11110 1000000001 0"));
        let coefficients = Coefficients::new(&code);
        let mut bits = filled(&bytes);
        let step = coefficients.step(&bits);
        assert_eq!(step.places[0], Step::END);
        assert_eq!(coefficients.one(step, &mut bits), Some((0, Some(513))));
        let step = coefficients.step(&bits);
        assert_eq!(coefficients.one(step, &mut bits), Some((0, None)));
        let mut none = filled(&[0xfe, 0xfe]);
        assert_eq!(coefficients.one(coefficients.step(&none), &mut none), None, "no such code");
    }

    fn filled(bytes: &[u8]) -> Bits<'_> {
        let mut bits = Bits::new(bytes);
        bits.fill();
        bits
    }

    #[test]
    fn more_codes_than_there_can_be_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Code::new(&counts, &[0, 1, 2]).is_none());
        counts[0] = 2;
        assert!(Code::new(&counts, &[0, 1]).is_some());
    }
}
