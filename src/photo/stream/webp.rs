//! WebP with loss: its planes are held, one and a half bytes a pixel, and coloured row by row.

use image_webp::vp8::{Frame, Vp8Decoder};

use super::{Blocks, Small};
use crate::photo::wanted::Wanted;

/// Decodes a still WebP with loss and without alpha that is of that size by its container, too; `None` for any other,
/// and where that does not work or saves nothing.
pub(in crate::photo) fn webp(
    bytes: &[u8],
    (width, height): (u32, u32),
    wanted: &Wanted<'_>,
) -> Option<Small> {
    let coded = chunk(bytes, b"VP8 ").filter(|coded| size(coded) == Some((width, height)))?;
    let mut blocks = Blocks::new((width, height), 3, wanted)?;
    let planes =
        u64::from(width.next_multiple_of(16)) * u64::from(height.next_multiple_of(16)) * 3 / 2;
    let _permit = wanted.room_for(planes).ok()?;
    let frame = Vp8Decoder::decode_frame(coded).ok()?;
    let mut row = Vec::with_capacity(3 * width as usize);
    for y in 0..height as usize {
        colour(&frame, y, &mut row)?;
        blocks.add(&row);
    }
    blocks.finish()
}

/// The chunk of coded pixels that a still picture has, of that name: `VP8 ` without alpha, or `VP8L`.
pub(super) fn chunk<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    const ALPHA: u8 = 1 << 4;
    const ANIMATION: u8 = 1 << 1;
    let unfit = if wanted == b"VP8L" { ANIMATION } else { ALPHA | ANIMATION };
    let mut rest = bytes.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WEBP")?;
    loop {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let content = after.get(..length)?;
        match name {
            name if name == wanted => return Some(content),
            b"VP8X" if content.first()? & unfit != 0 => return None,
            b"VP8 " | b"VP8L" | b"ANMF" | b"ALPH" => return None,
            _ => rest = after.get(length.checked_next_multiple_of(2)?..)?,
        }
    }
}

/// Width and height by the frame's header (RFC 6386, section 9.1).
fn size(coded: &[u8]) -> Option<(u32, u32)> {
    let header = coded.get(3..10)?.strip_prefix(&[0x9d, 0x01, 0x2a])?;
    let side = |at: usize| u32::from(u16::from_le_bytes([header[at], header[at + 1]]) & 0x3fff);
    Some((side(0), side(2)))
}

/// RGB of a row, with the numbers of libwebp (`src/dsp/yuv.h`) but each colour sample for two by two pixels as it is:
/// what lies between them comes to the same in a block's average.
fn colour(frame: &Frame, y: usize, row: &mut Vec<u8>) -> Option<()> {
    let width = usize::from(frame.width);
    let stride = width.next_multiple_of(16);
    let luma = frame.ybuf.get(y * stride..)?.get(..width)?;
    let half = stride / 2;
    let u = frame.ubuf.get(y / 2 * half..)?.get(..half)?;
    let v = frame.vbuf.get(y / 2 * half..)?.get(..half)?;
    row.clear();
    for ((luma, u), v) in luma.chunks(2).zip(u).zip(v) {
        let times = |value: u8, factor: i32| (i32::from(value) * factor) >> 8;
        let byte = |value: i32| (value >> 6).clamp(0, 255) as u8;
        for y in luma {
            let y = times(*y, 19_077);
            row.extend([
                byte(y + times(*v, 26_149) - 14_234),
                byte(y - times(*u, 6_419) - times(*v, 13_320) + 8_708),
                byte(y + times(*u, 33_050) - 17_685),
            ]);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::in_blocks;

    const LOSSY: &[u8] = include_bytes!("../../../tests/reference/golden/turned.webp");

    #[test]
    fn rows_are_nearly_those_of_the_whole() {
        let whole = image::load_from_memory_with_format(LOSSY, ImageFormat::WebP).unwrap();
        let (_, small) = webp(LOSSY, (whole.width(), whole.height()), &wanted(8)).unwrap();
        let expected = in_blocks(&whole, &wanted(8));
        let (small, expected) = (small.to_rgb8(), expected.to_rgb8());
        let apart = small.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b));
        let apart: Vec<u8> = apart.collect();
        let mean = apart.iter().map(|d| f64::from(*d)).sum::<f64>() / apart.len() as f64;
        let most = apart.into_iter().max();
        assert!(mean < 0.5 && most <= Some(6), "{mean} in the mean, {most:?} at most");
    }

    #[test]
    fn what_is_damaged_or_of_another_kind_is_left_to_the_others() {
        let by_header = |bytes: &[u8]| chunk(bytes, b"VP8 ").and_then(size).unwrap_or((1, 1));
        let small = |bytes: &[u8]| webp(bytes, by_header(bytes), &wanted(2));
        assert!(small(include_bytes!("../../../tests/reference/golden/alpha.webp")).is_none());
        assert!(small(include_bytes!("../../../tests/reference/golden/lossless.webp")).is_none());
        for cut in (0..LOSSY.len() / 2).step_by(7) {
            assert!(small(&LOSSY[..cut]).is_none(), "{cut}");
        }
        for at in 12..60 {
            let mut flipped = LOSSY.to_vec();
            flipped[at] ^= 0x55;
            // Whatever it gives, it does not panic.
            let _ = small(&flipped);
        }
        let (width, height) = by_header(LOSSY);
        assert!(small(LOSSY).is_some());
        assert!(webp(LOSSY, (width, height + 1), &wanted(2)).is_none(), "its container says so");
    }
}
