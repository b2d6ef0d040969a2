//! AVX2 and AVX-512 VNNI.

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
fn dots_of_rows<const N: usize, const R: usize>(vectors: &[u8], rows: [&[i8]; R]) -> [[i32; N]; R] {
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
