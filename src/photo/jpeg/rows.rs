//! Rows of samples → rows of pixels: chroma to the picture's size, and YCbCr to RGB, as libjpeg does both.

/// Chroma of twice the width: three parts of the nearer sample, one of the next; rounded down and up in turn,
/// as libjpeg does. The outermost samples stand for themselves.
#[inline(always)]
pub(super) fn widen(row: &[u8], out: &mut [u8]) {
    let Some(last) = row.len().checked_sub(1) else { return };
    let (pairs, _) = out.as_chunks_mut::<2>();
    pairs[0] = [row[0], mixed(row[0], row[1.min(last)], 2)];
    for (pair, around) in pairs[1..].iter_mut().zip(row.windows(3)) {
        *pair = [mixed(around[1], around[0], 1), mixed(around[1], around[2], 2)];
    }
    pairs[last] = [if last > 0 { mixed(row[last], row[last - 1], 1) } else { row[0] }, row[last]];
}

#[inline(always)]
fn mixed(near: u8, far: u8, rounding: u16) -> u8 {
    ((3 * u16::from(near) + u16::from(far) + rounding) >> 2) as u8
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
    let mixed = |near: u16, far: u16, rounding: u16| ((3 * near + far + rounding) >> 4) as u8;
    let alone = |value: u16, rounding: u16| ((4 * value + rounding) >> 4) as u8;
    let (pairs, _) = out.as_chunks_mut::<2>();
    pairs[0] = [alone(row[0], 8), mixed(row[0], row[1.min(last)], 7)];
    for (pair, around) in pairs[1..].iter_mut().zip(row.windows(3)) {
        *pair = [mixed(around[1], around[0], 8), mixed(around[1], around[2], 7)];
    }
    let first = if last > 0 { mixed(row[last], row[last - 1], 8) } else { alone(row[0], 8) };
    pairs[last] = [first, alone(row[last], 7)];
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
fn to_rgb([y, cb, cr]: [&[u8]; 3], rgb: &mut [u8]) {
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
