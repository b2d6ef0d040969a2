//! The inner loop of every build and search: the dot product of two codes.

/// The dot product in 32-bit integers: exact up to 131,071 components of ±127. What the longer of the
/// two has beyond the other does not count.
///
/// One loop, which the compiler vectorises, compiled twice: the baseline of x86-64 has no instruction
/// that widens bytes with their sign, and takes 379 ns for 2,048 components where AVX2 takes 94.
pub(crate) fn dot(a: &[i8], b: &[i8]) -> i32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just been asked.
        return unsafe { dot_avx2(a, b) };
    }
    portable(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_avx2(a: &[i8], b: &[i8]) -> i32 {
    portable(a, b)
}

#[inline(always)]
fn portable(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_forms_give_the_sum_of_the_products(
            pairs in prop::collection::vec(any::<(i8, i8)>(), 0..300),
        ) {
            let (a, b): (Vec<i8>, Vec<i8>) = pairs.iter().copied().unzip();
            let naive: i64 = pairs.iter().map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
            prop_assert_eq!(i64::from(dot(&a, &b)), naive);
            prop_assert_eq!(i64::from(portable(&a, &b)), naive);
        }
    }

    #[test]
    fn the_largest_codes_do_not_overflow() {
        let row = vec![-128; 8_192];
        assert_eq!(dot(&row, &row), 8_192 * 16_384);
    }
}
