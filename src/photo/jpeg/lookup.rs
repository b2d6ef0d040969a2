//! Coded bits → coefficients, by tables of all that the next bits can be: several codes at a time, with their
//! values.

use std::cell::RefCell;
use std::rc::Rc;

use super::bits::{Bits, extended};
use super::codes::{Code, LOOKUP};

/// Something for all that [`LOOKUP`] bits can be.
type Lookup<T> = Rc<[T; 1 << LOOKUP]>;

/// What a thread made of codes lately, the newest last.
type Lately<T> = RefCell<Vec<(Code, T)>>;

/// Codes whose tables are kept: those of brightness and of chroma, of two kinds of pictures.
const KEPT: usize = 4;

thread_local! {
    static DIFFERENCES: Lately<Lookup<(u8, i16)>> = const { RefCell::new(Vec::new()) };
    static COEFFICIENTS: Lately<(Lookup<Step>, Lookup<Stride>)> = const { RefCell::new(Vec::new()) };
}

/// What was made of the same code lately, or is made now: the pictures of one camera or program mostly have the same
/// codes, and of a photo of a megapixel a twentieth of the time would go into tables.
fn lately<T: Clone>(lately: &Lately<T>, code: &Code, make: impl FnOnce() -> T) -> T {
    let mut lately = lately.borrow_mut();
    let made = match lately.iter().position(|(known, _)| known == code) {
        Some(at) => lately.remove(at),
        None => (code.clone(), make()),
    };
    if lately.len() == KEPT {
        lately.remove(0);
    }
    lately.push(made.clone());
    made.1
}

/// Looks up how much a first coefficient differs from the one before.
#[derive(Clone)]
pub(super) struct Differences<'a> {
    code: &'a Code,
    /// By the next bits: how many the code and its value take, 0 where they are more than were looked at;
    /// and the value.
    steps: Lookup<(u8, i16)>,
}

impl<'a> Differences<'a> {
    pub(super) fn new(code: &'a Code) -> Self {
        let make = || {
            let codes = code.spread();
            lookup(|bits| match codes[bits] {
                (_, 0) => (0, 0),
                (symbol, length) => value_behind(bits, length, symbol.into()).unwrap_or_default(),
            })
        };
        Self { code, steps: DIFFERENCES.with(|known| lately(known, code, make)) }
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
#[derive(Clone)]
pub(super) struct Coefficients<'a> {
    code: &'a Code,
    steps: Lookup<Step>,
    strides: Lookup<Stride>,
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

/// A code and its value.
#[derive(Debug, PartialEq)]
pub(super) struct One {
    /// Zeros before the value.
    pub(super) zeros: u8,
    /// `None` ends the block, or stands for a zero where 15 zeros are before it.
    pub(super) value: Option<i16>,
}

impl One {
    /// How many coefficients it goes forward, [`Step::END`] where the block ends.
    #[inline(always)]
    pub(super) fn forward(&self) -> u8 {
        if self.value.is_some() || self.zeros == 15 { self.zeros + 1 } else { Step::END }
    }
}

/// Values that are passed over: all whose codes are among the bits that were looked at, whether the values are
/// or not.
#[derive(Clone, Copy, Default)]
pub(super) struct Stride {
    /// How many coefficients it goes forward, and [`Step::END`] more where the block ends there. Both are 0
    /// where the next code does not fit.
    pub(super) forward: u8,
    /// How many bits it takes, [`Stride::MOST`] at most.
    pub(super) bits: u8,
}

impl Stride {
    /// Three of them take no more bits than are held.
    const MOST: u32 = 18;

    /// The one that [`LOOKUP`] bits begin with.
    fn new(bits: usize, codes: &[(u8, u32); 1 << LOOKUP]) -> Self {
        let (mut forward, mut taken) = (0, 0);
        while taken < LOOKUP && forward < 64 {
            let (symbol, length) = codes[bits << taken & ((1 << LOOKUP) - 1)];
            let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
            if length == 0 || taken + length > LOOKUP || taken + length + size > Self::MOST {
                break;
            }
            taken += length + size;
            if size == 0 && zeros < 15 {
                forward += Step::END;
                break;
            }
            forward += zeros + 1;
        }
        Self { forward, bits: taken as u8 }
    }
}

impl<'a> Coefficients<'a> {
    pub(super) fn new(code: &'a Code) -> Self {
        let (steps, strides) =
            COEFFICIENTS.with(|known| lately(known, code, || Self::tables(code)));
        Self { code, steps, strides }
    }

    fn tables(code: &Code) -> (Lookup<Step>, Lookup<Stride>) {
        let codes = code.spread();
        let strides = lookup(|bits| Stride::new(bits, &codes));
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
        (steps, strides)
    }

    /// What the next bits begin with.
    #[inline(always)]
    pub(super) fn step(&self, bits: &Bits<'_>) -> Step {
        self.steps[bits.peek(LOOKUP)]
    }

    /// The same, where values do not matter.
    #[inline(always)]
    pub(super) fn stride(&self, bits: &Bits<'_>) -> Stride {
        self.strides[bits.peek(LOOKUP)]
    }

    /// One code with its value, however long; `None` for no code. `step` is what the bits begin with.
    #[inline(always)]
    pub(super) fn one(&self, step: Step, bits: &mut Bits<'_>) -> Option<One> {
        let (symbol, length) = match step {
            Step { places: [Step::END, _], bits: length @ 1.., values: [symbol, _], .. } => {
                (symbol as u8, length.into())
            }
            _ => self.code.find(bits.peek(16))?,
        };
        bits.skip(length);
        let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
        let value = bits.signed(size) as i16;
        Some(One { zeros, value: (size > 0).then_some(value) })
    }
}

/// For all that [`LOOKUP`] bits can be.
fn lookup<T>(of: impl Fn(usize) -> T) -> Lookup<T> {
    let all: Rc<[T]> = (0..1 << LOOKUP).map(of).collect();
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
    fn tables_are_made_once_for_codes_that_come_again() {
        let codes = (0..=KEPT as u8).map(|symbol| Code::new(&[1; 16], &[symbol; 16]).unwrap());
        let codes: Vec<Code> = codes.collect();
        let steps = |code: &Code| Coefficients::new(code).steps;
        let first = steps(&codes[0]);
        assert!(Rc::ptr_eq(&first, &steps(&codes[0].clone())), "the same code, of another picture");
        for code in &codes[1..] {
            assert!(!Rc::ptr_eq(&first, &steps(code)));
        }
        assert!(!Rc::ptr_eq(&first, &steps(&codes[0])), "of many, the oldest are forgotten");
        assert!(COEFFICIENTS.with(|known| known.borrow().len()) == KEPT);
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
    fn a_stride_goes_over_all_codes_that_are_seen_and_over_values_that_are_not() {
        let code = code();
        let first_stride = |text: &str| {
            let bytes = bytes(text);
            let Stride { forward, bits } = Coefficients::new(&code).stride(&filled(&bytes));
            (forward, bits)
        };
        assert_eq!(
            first_stride("10 1 10 0 10 1 10 1"),
            (4, 12),
            "of the last, only the code is seen"
        );
        assert_eq!(first_stride("110 11 10 0 0 10 1"), (Step::END + 5, 9));
        assert_eq!(first_stride("10 1 1110 10 1 10 1"), (18, 10), "the last code is half seen");
        assert_eq!(first_stride("11110 1000000001 0"), (1, 15));
        assert_eq!(first_stride("10 1 10 1 11110 1"), (2, 6), "the third takes too many");
        assert_eq!(first_stride("11111 10"), (0, 0), "no such code");
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
        assert_eq!(coefficients.one(step, &mut bits), Some(One { zeros: 0, value: Some(513) }));
        let step = coefficients.step(&bits);
        assert_eq!(coefficients.one(step, &mut bits), Some(One { zeros: 0, value: None }));
        let mut none = filled(&[0xfe, 0xfe]);
        assert_eq!(coefficients.one(coefficients.step(&none), &mut none), None, "no such code");
    }

    fn filled(bytes: &[u8]) -> Bits<'_> {
        let mut bits = Bits::new(bytes);
        bits.fill();
        bits
    }
}
