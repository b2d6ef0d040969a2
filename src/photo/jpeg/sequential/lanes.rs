//! A value of each of some blocks, for the instructions that the processor has.
//!
//! Written out, as the compiler leaves plain loops over such arrays in pieces, or in single values.

use std::ops::{Add, Sub};

use super::block::LANES;

/// Values of 32 bits, one a block. Damaged data may hold any coefficients: values overflow, and the pixels are
/// wrong either way.
pub(super) trait Lanes: Copy + Add<Output = Self> + Sub<Output = Self> {
    /// How many blocks: [`LANES`] or a part of it.
    const COUNT: usize;

    /// Two values a block, of 16 bits.
    type Pairs: Copy;

    fn splat(value: i32) -> Self;

    /// Products that are cut to 16 bits. Of either the first count.
    fn multiplied(values: &[i16], factors: &[i16; LANES]) -> Self;

    fn pairs(first: Self, second: Self) -> Self::Pairs;

    /// The first values times the first factor, and the second times the second.
    fn products(pairs: Self::Pairs, factors: [i16; 2]) -> Self;

    /// Times a power of two.
    fn shifted<const DIGITS: i32>(self) -> Self;

    /// Divided by a power of two, and rounded: half up.
    fn rounded<const DIGITS: i32>(self) -> Self;

    /// The eight values of each lane, as bytes: what is less than 0 is 0, what is more than 255 is that. As many as
    /// there are lanes count.
    fn bytes(values: &[Self; 8]) -> [[u8; 8]; LANES];
}

/// Whatever the compiler makes of it.
#[derive(Clone, Copy)]
pub(super) struct Portable([i32; LANES]);

impl Lanes for Portable {
    const COUNT: usize = LANES;

    type Pairs = [[i16; 2]; LANES];

    #[inline(always)]
    fn splat(value: i32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn multiplied(values: &[i16], factors: &[i16; LANES]) -> Self {
        Self(std::array::from_fn(|lane| values[lane].wrapping_mul(factors[lane]).into()))
    }

    #[inline(always)]
    fn pairs(first: Self, second: Self) -> Self::Pairs {
        std::array::from_fn(|lane| [first.0[lane] as i16, second.0[lane] as i16])
    }

    #[inline(always)]
    fn products(pairs: Self::Pairs, factors: [i16; 2]) -> Self {
        let [a, b] = factors.map(i32::from);
        Self(
            pairs.map(|[first, second]| (i32::from(first) * a).wrapping_add(i32::from(second) * b)),
        )
    }

    #[inline(always)]
    fn shifted<const DIGITS: i32>(self) -> Self {
        Self(self.0.map(|value| value << DIGITS))
    }

    #[inline(always)]
    fn rounded<const DIGITS: i32>(self) -> Self {
        Self(self.0.map(|value| value.wrapping_add(1 << (DIGITS - 1)) >> DIGITS))
    }

    #[inline(always)]
    fn bytes(values: &[Self; 8]) -> [[u8; 8]; LANES] {
        std::array::from_fn(|lane| values.map(|value| value.0[lane].clamp(0, 255) as u8))
    }
}

impl Add for Portable {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].wrapping_add(other.0[lane])))
    }
}

impl Sub for Portable {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].wrapping_sub(other.0[lane])))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use self::x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Add, LANES, Lanes, Sub};

    /// Eight values in a register. May only be made, and used, where the processor has AVX2.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256i);

    // SAFETY: of all below: the type is named only by code that runs where the processor has AVX2.
    impl Lanes for Avx2 {
        const COUNT: usize = 8;

        type Pairs = Self;

        #[inline(always)]
        fn splat(value: i32) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_set1_epi32(value)) }
        }

        #[inline(always)]
        fn multiplied(values: &[i16], factors: &[i16; LANES]) -> Self {
            let values = &values[..Self::COUNT];
            // SAFETY: as above, and 16 bytes are in either.
            unsafe {
                let values = _mm_loadu_si128(values.as_ptr().cast());
                let factors = _mm_loadu_si128(factors.as_ptr().cast());
                Self(_mm256_cvtepi16_epi32(_mm_mullo_epi16(values, factors)))
            }
        }

        #[inline(always)]
        fn pairs(first: Self, second: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                let upper = _mm256_slli_epi32::<16>(second.0);
                Self(_mm256_blend_epi16::<0b1010_1010>(first.0, upper))
            }
        }

        #[inline(always)]
        fn products(pairs: Self, [first, second]: [i16; 2]) -> Self {
            let factors = i32::from(second) << 16 | i32::from(first as u16);
            // SAFETY: as above.
            unsafe { Self(_mm256_madd_epi16(pairs.0, _mm256_set1_epi32(factors))) }
        }

        #[inline(always)]
        fn shifted<const DIGITS: i32>(self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_slli_epi32::<DIGITS>(self.0)) }
        }

        #[inline(always)]
        fn rounded<const DIGITS: i32>(self) -> Self {
            // SAFETY: as above.
            unsafe {
                let half = _mm256_set1_epi32(1 << (DIGITS - 1));
                Self(_mm256_srai_epi32::<DIGITS>(_mm256_add_epi32(self.0, half)))
            }
        }

        #[inline(always)]
        fn bytes(values: &[Self; 8]) -> [[u8; 8]; LANES] {
            let [a, b, c, d, e, f, g, h] = *values;
            // SAFETY: as above; the bytes that are stored are as many as there are.
            unsafe {
                // In each half of a register: four lanes of a value, of the next, …
                let four = |a: Self, b: Self, c: Self, d: Self| {
                    _mm256_packus_epi16(_mm256_packs_epi32(a.0, b.0), _mm256_packs_epi32(c.0, d.0))
                };
                // Four values of a lane, of the next, …
                let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                    0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
                ));
                let first = _mm256_shuffle_epi8(four(a, b, c, d), order);
                let second = _mm256_shuffle_epi8(four(e, f, g, h), order);
                // All eight of a lane: 0 and 1, 4 and 5; 2 and 3, 6 and 7.
                let low = _mm256_unpacklo_epi32(first, second);
                let high = _mm256_unpackhi_epi32(first, second);
                let mut bytes = [[0; 8]; LANES];
                let to: *mut __m256i = bytes.as_mut_ptr().cast();
                _mm256_storeu_si256(to, _mm256_permute2x128_si256::<0x20>(low, high));
                _mm256_storeu_si256(to.add(1), _mm256_permute2x128_si256::<0x31>(low, high));
                bytes
            }
        }
    }

    impl Add for Avx2 {
        type Output = Self;

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
        }
    }

    impl Sub for Avx2 {
        type Output = Self;

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_sub_epi32(self.0, other.0)) }
        }
    }

    /// Sixteen values in a register. May only be made, and used, where the processor has AVX-512 F and BW.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512i);

    // SAFETY: of all below: the type is named only by code that runs where the processor has AVX-512 F and BW.
    impl Lanes for Avx512 {
        const COUNT: usize = 16;

        type Pairs = Self;

        #[inline(always)]
        fn splat(value: i32) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_set1_epi32(value)) }
        }

        #[inline(always)]
        fn multiplied(values: &[i16], factors: &[i16; LANES]) -> Self {
            let values = &values[..Self::COUNT];
            // SAFETY: as above, and 32 bytes are in either.
            unsafe {
                let values = _mm256_loadu_si256(values.as_ptr().cast());
                let factors = _mm256_loadu_si256(factors.as_ptr().cast());
                Self(_mm512_cvtepi16_epi32(_mm256_mullo_epi16(values, factors)))
            }
        }

        #[inline(always)]
        fn pairs(first: Self, second: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                let upper = _mm512_slli_epi32::<16>(second.0);
                Self(_mm512_mask_blend_epi16(0xaaaa_aaaa, first.0, upper))
            }
        }

        #[inline(always)]
        fn products(pairs: Self, [first, second]: [i16; 2]) -> Self {
            let factors = i32::from(second) << 16 | i32::from(first as u16);
            // SAFETY: as above.
            unsafe { Self(_mm512_madd_epi16(pairs.0, _mm512_set1_epi32(factors))) }
        }

        #[inline(always)]
        fn shifted<const DIGITS: i32>(self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_sll_epi32(self.0, _mm_cvtsi32_si128(DIGITS))) }
        }

        #[inline(always)]
        fn rounded<const DIGITS: i32>(self) -> Self {
            // SAFETY: as above.
            unsafe {
                let half = _mm512_set1_epi32(1 << (DIGITS - 1));
                Self(_mm512_sra_epi32(_mm512_add_epi32(self.0, half), _mm_cvtsi32_si128(DIGITS)))
            }
        }

        #[inline(always)]
        fn bytes(values: &[Self; 8]) -> [[u8; 8]; LANES] {
            let [a, b, c, d, e, f, g, h] = *values;
            // SAFETY: as above; the bytes that are stored are as many as there are.
            unsafe {
                // As with eight lanes, in each quarter of a register.
                let four = |a: Self, b: Self, c: Self, d: Self| {
                    _mm512_packus_epi16(_mm512_packs_epi32(a.0, b.0), _mm512_packs_epi32(c.0, d.0))
                };
                let order = _mm512_broadcast_i32x4(_mm_setr_epi8(
                    0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
                ));
                let first = _mm512_shuffle_epi8(four(a, b, c, d), order);
                let second = _mm512_shuffle_epi8(four(e, f, g, h), order);
                // All eight of a lane: 0 and 1, 4 and 5, …; 2 and 3, 6 and 7, ….
                let low = _mm512_unpacklo_epi32(first, second);
                let high = _mm512_unpackhi_epi32(first, second);
                let lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
                let upper = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
                let mut bytes = [[0; 8]; LANES];
                let to: *mut i64 = bytes.as_mut_ptr().cast();
                _mm512_storeu_epi64(to, _mm512_permutex2var_epi64(low, lower, high));
                _mm512_storeu_epi64(to.add(8), _mm512_permutex2var_epi64(low, upper, high));
                bytes
            }
        }
    }

    impl Add for Avx512 {
        type Output = Self;

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
        }
    }

    impl Sub for Avx512 {
        type Output = Self;

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm512_sub_epi32(self.0, other.0)) }
        }
    }
}
