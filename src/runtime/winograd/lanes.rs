//! The values of some channels at one place, in a register.

use std::arch::x86_64::*;

/// As many 32-bit floats as the processor has room for in one register, which are as many channels as ONNX Runtime lays
/// side by side on it. May only be made where the processor has the instructions.
pub(super) trait Lanes: Copy {
    /// How many.
    const COUNT: usize;

    /// How many rows of two registers of sums leave room for what is multiplied.
    const MOST_ROWS: usize;

    fn splat(value: f32) -> Self;

    /// # Safety
    /// As many values as there are lanes may be read.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// As many values as there are lanes may be written.
    unsafe fn store(self, to: *mut f32);

    fn plus(self, other: Self) -> Self;

    fn minus(self, other: Self) -> Self;

    /// `self * factor + sum`, rounded once.
    fn times_plus(self, factor: Self, sum: Self) -> Self;

    /// What is less than zero as zero.
    fn positive(self) -> Self;
}

macro_rules! lanes {
    ($name:ident, $register:ty, $count:literal, $rows:literal, $set1:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident, $max:ident) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name($register);

        // Of all below: the type is named only by code that runs where the processor has the instructions, and
        // whoever gives a pointer answers for it.
        impl Lanes for $name {
            const COUNT: usize = $count;
            const MOST_ROWS: usize = $rows;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: as above.
                unsafe { Self($set1(value)) }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: as above.
                unsafe { Self($load(from)) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: as above.
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($add(self.0, other.0)) }
            }

            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($sub(self.0, other.0)) }
            }

            #[inline(always)]
            fn times_plus(self, factor: Self, sum: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($fma(self.0, factor.0, sum.0)) }
            }

            #[inline(always)]
            fn positive(self) -> Self {
                // SAFETY: as above.
                unsafe { Self($max(self.0, $set1(0.0))) }
            }
        }
    };
}

lanes!(
    Avx512,
    __m512,
    16,
    14,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_fmadd_ps,
    _mm512_max_ps
);
lanes!(
    Avx2,
    __m256,
    8,
    6,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_fmadd_ps,
    _mm256_max_ps
);
