//! The inner loops of every build and search, each for the instructions that the processor has.
//!
//! Codes are unsigned with 7 bits, so that the difference of two fits a signed byte, its absolute value
//! an unsigned one too, and one VPDPBUSD squares and sums 64 of them.

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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Rows;

    #[target_feature(enable = "avx2")]
    pub(super) fn distances_avx2(query: &[u8], rows: Rows<'_>, points: &[u32], out: &mut [u32]) {
        super::each(query, rows, points, out, |a, b| distance_avx2(a, b));
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn distance_avx2(a: &[u8], b: &[u8]) -> u32 {
        let ones = _mm256_set1_epi16(1);
        let mut sum = _mm256_setzero_si256();
        for (a, b) in a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0) {
            // SAFETY: 32 bytes each, unaligned loads.
            let (a, b) = unsafe {
                (_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast()))
            };
            let away = _mm256_abs_epi8(_mm256_sub_epi8(a, b));
            let pairs = _mm256_maddubs_epi16(away, away);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
        let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let half = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
        let half = _mm_add_epi32(half, _mm_shuffle_epi32::<0b10_11_00_01>(half));
        _mm_cvtsi128_si32(half).cast_unsigned()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn distances_vnni(query: &[u8], rows: Rows<'_>, points: &[u32], out: &mut [u32]) {
        let out = &mut out[..points.len()];
        let row = |point: u32| rows.beside(query, point);
        let (fours, rest) = points.as_chunks::<4>();
        let (out_fours, out_rest) = out.as_chunks_mut::<4>();
        for (points, out) in fours.iter().zip(out_fours) {
            *out = distances_of_four(query, points.map(row));
        }
        super::each(query, rows, rest, out_rest, |a, b| distance_vnni(a, b));
    }

    /// Of four rows at once: the query is read once, and their sums are added up together.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn distances_of_four(query: &[u8], rows: [&[u8]; 4]) -> [u32; 4] {
        assert!(rows.iter().all(|row| row.len() == query.len()));
        let mut sums = [_mm512_setzero_si512(); 4];
        for (at, block) in query.as_chunks::<64>().0.iter().enumerate() {
            // SAFETY: 64 bytes, an unaligned load.
            let block = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            for (sum, row) in sums.iter_mut().zip(rows) {
                // SAFETY: unaligned, too; the row is as long as the query, which has 64 bytes here.
                let row = unsafe { _mm512_loadu_si512(row.as_ptr().add(at * 64).cast()) };
                let away = _mm512_abs_epi8(_mm512_sub_epi8(block, row));
                *sum = _mm512_dpbusd_epi32(*sum, away, away);
            }
        }
        // Each to four sums, those to one row of sums by row, and that to four.
        let halves = sums.map(|sum| {
            let half = _mm512_extracti64x4_epi64::<1>(sum);
            _mm256_add_epi32(_mm512_castsi512_si256(sum), half)
        });
        let [a, b, c, d] = halves;
        let (ab, cd) = (_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let all = _mm256_hadd_epi32(ab, cd);
        let all = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let mut out = [0; 4];
        // SAFETY: 16 bytes, an unaligned store.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), all) };
        out
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn distance_vnni(a: &[u8], b: &[u8]) -> u32 {
        let mut sum = _mm512_setzero_si512();
        for (a, b) in a.as_chunks::<64>().0.iter().zip(b.as_chunks::<64>().0) {
            // SAFETY: 64 bytes each, unaligned loads.
            let (a, b) = unsafe {
                (_mm512_loadu_si512(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast()))
            };
            let away = _mm512_abs_epi8(_mm512_sub_epi8(a, b));
            sum = _mm512_dpbusd_epi32(sum, away, away);
        }
        _mm512_reduce_add_epi32(sum).cast_unsigned()
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn dots_avx2(vectors: &[u8], rows: &[i8], width: usize) -> Vec<i32> {
        super::dots(vectors, rows, width)
    }

    /// Eight vectors with two rows at a time, so that each load serves several products; what is left singly, with four
    /// rows, as each addition waits for the one before it.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn dots_vnni(vectors: &[u8], rows: &[i8], width: usize) -> Vec<i32> {
        const AT_ONCE: usize = 8;
        let count = rows.len() / width;
        let mut out = vec![0; vectors.len() / width * count];
        let (mut vectors, mut rest) = (vectors, &mut out[..]);
        while let Some((eight, more)) = vectors.split_at_checked(AT_ONCE * width) {
            let (out, later) = rest.split_at_mut(AT_ONCE * count);
            dots_of::<AT_ONCE, 2>(eight, rows, width, out);
            (vectors, rest) = (more, later);
        }
        for (vector, out) in vectors.chunks_exact(width).zip(rest.chunks_exact_mut(count)) {
            dots_of::<1, 4>(vector, rows, width, out);
        }
        out
    }

    /// Of `N` vectors, one after the other, with all rows, `R` at a time.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn dots_of<const N: usize, const R: usize>(
        vectors: &[u8],
        rows: &[i8],
        width: usize,
        out: &mut [i32],
    ) {
        let count = rows.len() / width;
        let mut put = |number: usize, dots: [i32; N]| {
            for (out, dot) in out.chunks_exact_mut(count).zip(dots) {
                out[number] = dot;
            }
        };
        let (blocks, rest) = rows.split_at(count / R * R * width);
        for (block, rows) in blocks.chunks_exact(R * width).enumerate() {
            let rows = std::array::from_fn(|row| &rows[row * width..][..width]);
            for (row, dots) in dots_of_rows::<N, R>(vectors, rows).into_iter().enumerate() {
                put(block * R + row, dots);
            }
        }
        for (row, number) in rest.chunks_exact(width).zip(count / R * R..) {
            let [dots] = dots_of_rows::<N, 1>(vectors, [row]);
            put(number, dots);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn dots_of_rows<const N: usize, const R: usize>(
        vectors: &[u8],
        rows: [&[i8]; R],
    ) -> [[i32; N]; R] {
        let width = rows[0].len();
        assert!(vectors.len() == N * width && rows.iter().all(|row| row.len() == width));
        let mut sums = [[_mm512_setzero_si512(); N]; R];
        let whole = width / 64 * 64;
        for at in (0..width / 64).map(|block| block * 64) {
            // SAFETY: unaligned loads of 64 bytes; each row, and each of the vectors, has them here.
            let rows = rows.map(|row| unsafe { _mm512_loadu_si512(row.as_ptr().add(at).cast()) });
            for vector in 0..N {
                // SAFETY: as above.
                let values =
                    unsafe { _mm512_loadu_si512(vectors.as_ptr().add(vector * width + at).cast()) };
                for (sums, row) in sums.iter_mut().zip(rows) {
                    sums[vector] = _mm512_dpbusd_epi32(sums[vector], values, row);
                }
            }
        }
        let mut dots = [[0; N]; R];
        for ((dots, sums), row) in dots.iter_mut().zip(sums).zip(rows) {
            let vectors = vectors.chunks_exact(width);
            for ((dot, sum), vector) in dots.iter_mut().zip(sums).zip(vectors) {
                let rest = super::dot(&vector[whole..], &row[whole..]);
                *dot = _mm512_reduce_add_epi32(sum).wrapping_add(rest);
            }
        }
        dots
    }
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
