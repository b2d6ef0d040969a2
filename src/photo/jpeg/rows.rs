//! Rows of samples → rows of pixels: chroma to the picture's size, and YCbCr to RGB, as libjpeg does both.

/// Chroma of twice the width: three parts of the nearer sample, one of the next; rounded down and up in turn,
/// as libjpeg does. The outermost samples stand for themselves.
#[inline(always)]
pub(super) fn widen(row: &[u8], out: &mut [u8]) {
    let Some(last) = row.len().checked_sub(1) else { return };
    let (pairs, _) = out.as_chunks_mut::<2>();
    pairs[0] = [row[0], mixed(row[0], row[1.min(last)], 2) as u8];
    for (pair, around) in pairs[1..].iter_mut().zip(row.windows(3)) {
        *pair = both(mixed(around[1], around[0], 1), mixed(around[1], around[2], 2));
    }
    let first = if last > 0 { mixed(row[last], row[last - 1], 1) as u8 } else { row[0] };
    pairs[last] = [first, row[last]];
}

#[inline(always)]
fn mixed(near: u8, far: u8, rounding: u16) -> u16 {
    (3 * u16::from(near) + u16::from(far) + rounding) >> 2
}

/// Two samples that stand side by side. Put together in one number: the compiler would weave bytes slowly.
#[inline(always)]
fn both(left: u16, right: u16) -> [u8; 2] {
    (left | right << 8).to_le_bytes()
}

/// Chroma between two rows, a quarter on the way: four times the value.
#[inline(always)]
pub(super) fn between(near: &[u8], far: &[u8], out: &mut [u16]) {
    for (out, (near, far)) in out.iter_mut().zip(near.iter().zip(far)) {
        *out = 3 * u16::from(*near) + u16::from(*far);
    }
}

/// As [`widen`], of four times the values.
#[inline(always)]
pub(super) fn widen_between(row: &[u16], out: &mut [u8]) {
    let Some(last) = row.len().checked_sub(1) else { return };
    let mixed = |near: u16, far: u16, rounding: u16| (3 * near + far + rounding) >> 4;
    let alone = |value: u16, rounding: u16| (4 * value + rounding) >> 4;
    let (pairs, _) = out.as_chunks_mut::<2>();
    pairs[0] = both(alone(row[0], 8), mixed(row[0], row[1.min(last)], 7));
    for (pair, around) in pairs[1..].iter_mut().zip(row.windows(3)) {
        *pair = both(mixed(around[1], around[0], 8), mixed(around[1], around[2], 7));
    }
    let first = if last > 0 { mixed(row[last], row[last - 1], 8) } else { alone(row[0], 8) };
    pairs[last] = both(first, alone(row[last], 7));
}

/// Chroma between two rows that is not widened.
#[inline(always)]
pub(super) fn settle(row: &[u16], is_upper: bool, out: &mut [u8]) {
    let rounding = if is_upper { 1 } else { 2 };
    for (out, value) in out.iter_mut().zip(row) {
        *out = ((value + rounding) >> 2) as u8;
    }
}

/// Three planes, red, green and blue already or JFIF's YCbCr, as pixels.
#[inline(always)]
pub(super) fn to_pixels(planes: [&[u8]; 3], is_rgb: bool, rgb: &mut [u8]) {
    if is_rgb { interleave(planes, rgb) } else { to_rgb(planes, rgb) }
}

/// JFIF's colours, ITU-R BT.601 over the full range, by libjpeg's factors of 16 binary digits.
#[inline(always)]
fn to_rgb(planes: [&[u8]; 3], rgb: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512bw") {
        // SAFETY: the processor has what it takes.
        return unsafe { x86::to_rgb(planes, rgb) };
    }
    to_rgb_anywhere(planes, rgb);
}

#[inline(always)]
fn to_rgb_anywhere([y, cb, cr]: [&[u8]; 3], rgb: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    let (pixels, _) = rgb.as_chunks_mut::<3>();
    for (((pixel, y), cb), cr) in pixels.iter_mut().zip(y).zip(cb).zip(cr) {
        let (y, cb, cr) = (i32::from(*y), i32::from(*cb) - 128, i32::from(*cr) - 128);
        let red = y + ((91_881 * cr + HALF) >> 16);
        let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
        let blue = y + ((116_130 * cb + HALF) >> 16);
        *pixel = [red.clamp(0, 255) as u8, green.clamp(0, 255) as u8, blue.clamp(0, 255) as u8];
    }
}

/// Three planes that are red, green and blue already.
#[inline(always)]
fn interleave([red, green, blue]: [&[u8]; 3], rgb: &mut [u8]) {
    let (pixels, _) = rgb.as_chunks_mut::<3>();
    for (((pixel, red), green), blue) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
        *pixel = [*red, *green, *blue];
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Pixels that are made at once.
    const PIXELS: usize = 32;

    /// Where the colours of each pixel stand, among red and green, eight bytes of either in turn, and twice blue in
    /// a register behind.
    static ORDER: Aligned = Aligned({
        let mut order = [0; 128];
        let mut at = 0;
        while at < 3 * PIXELS {
            let (pixel, colour) = (at / 3, at % 3);
            let place = pixel / 8 * 16 + pixel % 8;
            order[at] = (place + [0, 8, 64][colour]) as u8;
            at += 1;
        }
        order
    });

    #[repr(align(64))]
    struct Aligned([u8; 128]);

    /// As [`super::to_rgb_anywhere`]: the same colours.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn to_rgb(planes: [&[u8]; 3], rgb: &mut [u8]) {
        let mut at = 0;
        let count = planes.iter().map(|plane| plane.len()).fold(rgb.len() / 3, usize::min);
        while at + PIXELS <= count {
            let [y, cb, cr] = planes
                .map(|plane| plane[at..].first_chunk::<PIXELS>().expect("as many as are counted"));
            let to = rgb[3 * at..].first_chunk_mut::<{ 3 * PIXELS }>().expect("as many");
            block([y, cb, cr], to);
            at += PIXELS;
        }
        let rest = planes.map(|plane| &plane[at..count]);
        super::to_rgb_anywhere(rest, &mut rgb[3 * at..3 * count]);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn block(planes: [&[u8; PIXELS]; 3], rgb: &mut [u8; 3 * PIXELS]) {
        // SAFETY: 32 bytes are in each.
        let [y, cb, cr] = planes.map(|plane| unsafe { wide(plane) });
        let middle = _mm512_set1_epi16(128);
        let (cb, cr) = (_mm512_sub_epi16(cb, middle), _mm512_sub_epi16(cr, middle));
        let one = _mm512_set1_epi16(1);
        // A product's upper half, rounded: of twice the value, so that a digit behind the point is left.
        let part = |twice, factor| {
            let product = _mm512_mulhi_epi16(twice, _mm512_set1_epi16(factor));
            _mm512_srai_epi16::<1>(_mm512_add_epi16(product, one))
        };
        let (twice_cb, twice_cr) = (_mm512_add_epi16(cb, cb), _mm512_add_epi16(cr, cr));
        // Factors beyond 16 bits, without what is whole of them: 91,881 is 65,536 + 26,345.
        let red = _mm512_add_epi16(_mm512_add_epi16(y, cr), part(twice_cr, 26_345));
        // 116,130 is 2 × 65,536 - 14,942.
        let blue = _mm512_add_epi16(_mm512_add_epi16(y, twice_cb), part(twice_cb, -14_942));
        // -46,802 is -65,536 + 18,734.
        let factors = _mm512_set1_epi32((18_734 << 16) | i32::from(-22_554i16 as u16));
        let sum = |pairs| {
            let half = _mm512_set1_epi32(1 << 15);
            _mm512_srai_epi32::<16>(_mm512_add_epi32(_mm512_madd_epi16(pairs, factors), half))
        };
        let (low, high) = (_mm512_unpacklo_epi16(cb, cr), _mm512_unpackhi_epi16(cb, cr));
        let part = _mm512_packs_epi32(sum(low), sum(high));
        let green = _mm512_add_epi16(_mm512_sub_epi16(y, cr), part);

        let (red_green, blue) = (_mm512_packus_epi16(red, green), _mm512_packus_epi16(blue, blue));
        // SAFETY: the bytes that are read and written are as many as there are.
        unsafe {
            let order: *const i8 = ORDER.0.as_ptr().cast();
            let (first, last) = (_mm512_loadu_epi8(order), _mm512_loadu_epi8(order.add(64)));
            let to: *mut i8 = rgb.as_mut_ptr().cast();
            _mm512_storeu_epi8(to, _mm512_permutex2var_epi8(red_green, first, blue));
            let last = _mm512_permutex2var_epi8(red_green, last, blue);
            _mm256_storeu_si256(to.add(64).cast(), _mm512_castsi512_si256(last));
        }
    }

    /// Bytes in 16 bits each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn wide(bytes: &[u8; PIXELS]) -> __m512i {
        // SAFETY: 32 bytes are there.
        _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_colours_are_the_same_with_any_instructions() {
        let all = || 0..=255u8;
        for y in [0, 1, 77, 128, 254, 255] {
            for cb in all() {
                let (ys, cbs) = ([y; 256], [cb; 256]);
                let crs = all().collect::<Vec<_>>();
                // Of a length that no block has.
                let planes = [&ys[..251], &cbs[..], &crs[..]];
                let (mut ours, mut plain) = ([0; 753], [0; 753]);
                to_rgb(planes, &mut ours);
                to_rgb_anywhere(planes, &mut plain);
                assert!(ours == plain, "{y} {cb}");
            }
        }
    }
}
