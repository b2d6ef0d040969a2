//! Radiance HDR, whose rows are packed each by itself (Ward, "Real pixels", in *Graphics Gems II*, 1991).

use std::io::{BufRead, Read};

use super::Small;
use super::light::Sums;
use crate::photo::wanted::Wanted;

/// Longer lines there are none in a header.
const MAX_LINE: u64 = 1 << 16;

/// Red, green and blue, and their common exponent.
type Rgbe = [u8; 4];

/// Decodes a picture by rows, the first of which is its upper one; `None` where that does not work, it is not of that
/// size, or that saves nothing.
pub(in crate::photo) fn hdr<R: BufRead>(
    mut reader: R,
    size: (u32, u32),
    wanted: &Wanted<'_>,
) -> Option<Small> {
    let sums = Sums::new(size, wanted)?;
    let _permit = wanted.room_for(sums.bytes()).ok()?;
    while !line(&mut reader)?.is_empty() {}
    if line(&mut reader)? != format!("-Y {} +X {}", size.1, size.0).as_bytes() {
        return None;
    }
    let mut sums = sums.filled();
    let mut row = vec![[0; 4]; size.0 as usize];
    for y in 0..size.1 as usize {
        next_row(&mut reader, &mut row)?;
        for (x, rgbe) in row.iter().enumerate() {
            let [r, g, b] = light(*rgbe);
            sums.add(x, y, [r, g, b, 1.0]);
        }
    }
    sums.averages(false)
}

fn line(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()?;
    line.pop().filter(|last| *last == b'\n')?;
    Some(line)
}

/// Fills a row. The first four bytes tell whether its components are packed one after the other.
fn next_row(reader: &mut impl Read, row: &mut [Rgbe]) -> Option<()> {
    let first = bytes(reader)?;
    let length = row.len();
    match first {
        [2, 2, high @ 0..128, low] if (8..0x8000).contains(&length) => {
            if usize::from(u16::from_be_bytes([high, low])) != length {
                return None;
            }
            (0..4).try_for_each(|component| unpack(reader, row, component))
        }
        _ => unpack_pixels(reader, row, first),
    }
}

/// Fills a component: a count of bytes that follow, or 128 more than how often one is repeated.
fn unpack(reader: &mut impl Read, row: &mut [Rgbe], component: usize) -> Option<()> {
    let mut rest = row;
    let mut several = [0; 128];
    while !rest.is_empty() {
        let [count] = bytes(reader)?;
        let values = match count {
            0..=128 => {
                let values = &mut several[..usize::from(count)];
                reader.read_exact(values).ok()?;
                &*values
            }
            _ => {
                let [value] = bytes(reader)?;
                let values = &mut several[..usize::from(count) - 128];
                values.fill(value);
                &*values
            }
        };
        let (now, later) = rest.split_at_mut_checked(values.len())?;
        now.iter_mut().zip(values).for_each(|(pixel, value)| pixel[component] = *value);
        rest = later;
        if values.is_empty() {
            return None;
        }
    }
    Some(())
}

/// Fills a row of pixels as they are, the first of which was read; one of ones repeats the pixel before it, and
/// others of them that follow say more of the count's digits.
fn unpack_pixels(reader: &mut impl Read, row: &mut [Rgbe], first: Rgbe) -> Option<()> {
    let (mut done, mut next, mut shift) = (0usize, first, 0);
    loop {
        match next {
            [1, 1, 1, count] => {
                let before = *row.get(done.checked_sub(1)?)?;
                let count = usize::from(count).checked_shl(shift)?;
                row.get_mut(done..done.checked_add(count)?)?.fill(before);
                (done, shift) = (done + count, shift + 8);
            }
            pixel => {
                *row.get_mut(done)? = pixel;
                (done, shift) = (done + 1, 0);
            }
        }
        if done == row.len() {
            return Some(());
        }
        next = bytes(reader)?;
    }
}

fn bytes<const N: usize>(reader: &mut impl Read) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).ok().map(|()| bytes)
}

fn light([r, g, b, exponent]: Rgbe) -> [f32; 3] {
    if exponent == 0 {
        return [0.0; 3];
    }
    let scale = f32::from(i16::from(exponent) - (128 + 8)).exp2();
    [r, g, b].map(|value| f32::from(value) * scale)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat, Rgb32FImage};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::{encoded, in_blocks};

    fn small(bytes: &[u8]) -> Option<DynamicImage> {
        hdr(Cursor::new(bytes), (31, 25), &wanted(2)).map(|(_, small)| small)
    }

    #[test]
    fn rows_are_those_of_the_whole_however_they_are_packed() {
        let picture = Rgb32FImage::from_fn(31, 25, |x, y| {
            image::Rgb([0, 1, 2].map(|c| ((x / 5 * 7 + y / 4 * 3 + c) % 50) as f32 / 9.0))
        });
        let packed = encoded(&picture.into(), ImageFormat::Hdr);
        let whole = image::load_from_memory_with_format(&packed, ImageFormat::Hdr).unwrap();
        let expected = in_blocks(&whole, &wanted(2));
        assert_eq!(small(&packed).unwrap(), expected);

        // The same pixels as they are, and with the old way to repeat them.
        let head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 25 +X 31\n";
        let mut body = Cursor::new(&packed);
        while !line(&mut body).unwrap().is_empty() {}
        line(&mut body).unwrap();
        let (mut plain, mut repeated) = (head.to_vec(), head.to_vec());
        let mut row = vec![[0; 4]; 31];
        for _ in 0..25 {
            next_row(&mut body, &mut row).unwrap();
            plain.extend(row.as_flattened());
            for same in row.chunk_by(|a, b| a == b) {
                repeated.extend(same[0]);
                if same.len() > 1 {
                    repeated.extend([1, 1, 1, same.len() as u8 - 1]);
                }
            }
        }
        assert!(repeated.len() < plain.len());
        assert_eq!(small(&plain).unwrap(), expected);
        assert_eq!(small(&repeated).unwrap(), expected);
        for bytes in [packed, plain, repeated] {
            for cut in [5, head.len() - 3, bytes.len() / 2, bytes.len() - 1] {
                assert!(small(&bytes[..cut]).is_none(), "{cut}");
            }
        }
    }

    #[test]
    fn no_flipped_byte_panics() {
        let picture = Rgb32FImage::from_fn(31, 25, |x, _| image::Rgb([(x / 9) as f32; 3]));
        let bytes = encoded(&picture.into(), ImageFormat::Hdr);
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                let _ = small(&flipped);
            }
        }
    }
}
