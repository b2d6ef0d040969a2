//! The inner loops of every build and search, each for the instructions that the processor has.
//!
//! Codes are unsigned with 7 bits, so that the difference of two fits a signed byte, its absolute value
//! an unsigned one too, and one VPDPBUSD squares and sums 64 of them.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

/// Codes are compared in blocks of so many bytes; rows are padded to whole blocks.
pub(crate) const BLOCK: usize = 64;

/// A way to compute distances. All give the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Whatever the compiler makes of it.
    Portable,
    /// 32 bytes at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 64 bytes at a time.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// 16 bytes at a time; every 64-bit ARM has it.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Codes in rows, or the same columns of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// From the first column of the first row that is looked at.
    pub(crate) bytes: &'a [u8],
    /// From one row to the next.
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    /// As much of a row as a query has columns.
    #[inline(always)]
    fn beside(self, query: &[u8], point: u32) -> &'a [u8] {
        let at = point as usize * self.stride;
        &self.bytes[at..at + query.len()]
    }
}

impl Kernel {
    /// The fastest that this processor can do; looked up once.
    pub(crate) fn best() -> Kernel {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| *Kernel::available().last().expect("the portable one is there"))
    }

    /// All that this processor can do, the fastest last.
    pub(crate) fn available() -> Vec<Kernel> {
        let mut kernels = vec![Kernel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                kernels.push(Kernel::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
            {
                kernels.push(Kernel::Vnni);
            }
        }
        #[cfg(target_arch = "aarch64")]
        kernels.push(Kernel::Neon);
        kernels
    }

    /// The squared L2 distance of `query` to each of `points` by what of their rows lies beside it: exact
    /// for codes of 7 bits and queries of up to 266,000 bytes. Other bytes give other numbers, no harm.
    ///
    /// # Panics
    /// When a point is no row, or `out` is shorter than `points`.
    pub(crate) fn distances(self, query: &[u8], rows: Rows<'_>, points: &[u32], out: &mut [u32]) {
        match self {
            Kernel::Portable => each(query, rows, points, out, portable),
            // SAFETY: these kernels exist only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { x86::distances_avx2(query, rows, points, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Vnni => unsafe { x86::distances_vnni(query, rows, points, out) },
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => each(query, rows, points, out, neon::distance),
        }
    }

    /// The dot products of each of `vectors` with each of `rows`, all `width` long, one after the other:
    /// `[vectors × rows]`. Exact for widths of up to 66,000. Several vectors at once take less time each, as
    /// every row is read once for eight of them.
    pub(crate) fn dots(self, vectors: &[u8], rows: &[i8], width: usize) -> Vec<i32> {
        match self {
            // SAFETY: these kernels exist only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { x86::dots_avx2(vectors, rows, width) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Vnni => unsafe { x86::dots_vnni(vectors, rows, width) },
            _ => dots(vectors, rows, width),
        }
    }
}

#[inline(always)]
fn each(
    query: &[u8],
    rows: Rows<'_>,
    points: &[u32],
    out: &mut [u32],
    distance: impl Fn(&[u8], &[u8]) -> u32,
) {
    let out = &mut out[..points.len()];
    for (point, out) in points.iter().zip(out) {
        *out = distance(query, rows.beside(query, *point));
    }
}

fn portable(a: &[u8], b: &[u8]) -> u32 {
    let square = |(a, b): (&u8, &u8)| u32::from(a.abs_diff(*b)) * u32::from(a.abs_diff(*b));
    a.iter().zip(b).map(square).fold(0, u32::wrapping_add)
}

#[inline(always)]
fn dots(vectors: &[u8], rows: &[i8], width: usize) -> Vec<i32> {
    let mut out = Vec::with_capacity(vectors.len() / width * (rows.len() / width));
    for vector in vectors.chunks_exact(width) {
        out.extend(rows.chunks_exact(width).map(|row| dot(vector, row)));
    }
    out
}

/// The compiler knows instructions for this sum.
#[inline(always)]
fn dot(a: &[u8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).fold(0, i32::wrapping_add)
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    pub(super) fn distance(a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: every 64-bit ARM has NEON; 16 bytes each, unaligned loads.
        unsafe {
            let mut sum = vdupq_n_u32(0);
            for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
                let away = vabdq_u8(vld1q_u8(a.as_ptr()), vld1q_u8(b.as_ptr()));
                let (low, high) = (vget_low_u8(away), vget_high_u8(away));
                sum = vpadalq_u16(sum, vmull_u8(low, low));
                sum = vpadalq_u16(sum, vmull_u8(high, high));
            }
            vaddvq_u32(sum)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_kernel_gives_the_numbers_of_the_portable_one(
            blocks in 1usize..6, more in 0usize..3, rows in 1usize..9, seed in any::<u64>(),
        ) {
            let mut random = crate::index::synthetic::Random(seed);
            let mut code = || (random.next() % 128) as u8;
            let query: Vec<u8> = (0..blocks * BLOCK).map(|_| code()).collect();
            let stride = query.len() + more * BLOCK;
            let codes: Vec<u8> = (0..rows * stride).map(|_| code()).collect();
            let points: Vec<u32> = (0..rows as u32).rev().collect();
            let by = |kernel: Kernel| {
                let mut out = vec![0; rows];
                // The last columns of each row.
                let rows = Rows { bytes: &codes[more * BLOCK..], stride };
                kernel.distances(&query, rows, &points, &mut out);
                out
            };
            for kernel in Kernel::available() {
                prop_assert_eq!(by(kernel), by(Kernel::Portable), "{:?}", kernel);
            }
        }

        #[test]
        fn every_kernel_gives_the_sum_of_the_products(
            width in 1usize..600, vectors in 1usize..19, rows in 1usize..4, seed in any::<u64>(),
        ) {
            let mut random = crate::index::synthetic::Random(seed);
            let vectors: Vec<u8> = (0..vectors * width).map(|_| random.next() as u8).collect();
            let rows: Vec<i8> = (0..rows * width).map(|_| random.next() as i8).collect();
            let mut expected = Vec::new();
            for vector in vectors.chunks(width) {
                for row in rows.chunks(width) {
                    let products = vector.iter().zip(row).map(|(a, b)| i32::from(*a) * i32::from(*b));
                    expected.push(products.sum::<i32>());
                }
            }
            for kernel in Kernel::available() {
                prop_assert_eq!(&kernel.dots(&vectors, &rows, width), &expected, "{:?}", kernel);
            }
        }

        #[test]
        fn bytes_that_are_no_codes_do_no_harm(
            bytes in prop::collection::vec(any::<u8>(), 2 * BLOCK),
        ) {
            for kernel in Kernel::available() {
                let rows = Rows { bytes: &bytes, stride: BLOCK };
                kernel.distances(&bytes[BLOCK..], rows, &[0, 1], &mut [0; 2]);
            }
        }
    }

    #[test]
    fn the_farthest_codes_do_not_overflow() {
        let codes = [vec![0; 8_192], vec![127; 8_192]].concat();
        for kernel in Kernel::available() {
            let mut out = [0];
            let rows = Rows { bytes: &codes, stride: 8_192 };
            kernel.distances(&codes[..8_192], rows, &[1], &mut out);
            assert_eq!(out, [8_192 * 127 * 127], "{kernel:?}");
        }
    }
}
