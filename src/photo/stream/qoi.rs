//! QOI (The Quite OK Image Format, version 1.0), whose pixels follow from a few before them.

use std::io::{self, BufRead};

use super::{Blocks, Small};
use crate::photo::Unreadable;
use crate::photo::format::Format;
use crate::photo::wanted::Wanted;

/// Decodes a QOI of that size by rows; `None` where that saves nothing.
///
/// # Errors
/// [`Unreadable::Truncated`] when the file ends before its pixels do.
pub(in crate::photo) fn qoi(
    mut reader: impl BufRead,
    size: (u32, u32),
    wanted: &Wanted<'_>,
) -> Result<Option<Small>, Unreadable> {
    let mut header = [0; 14];
    reader.read_exact(&mut header).map_err(cut)?;
    let [b'q', b'o', b'i', b'f', w0, w1, w2, w3, h0, h1, h2, h3, channels, _] = header else {
        return Ok(None);
    };
    let said = [[w0, w1, w2, w3], [h0, h1, h2, h3]].map(u32::from_be_bytes);
    if !matches!(channels, 3 | 4) || said != <[u32; 2]>::from(size) {
        return Ok(None);
    }
    let channels = usize::from(channels);
    let Some(mut blocks) = Blocks::new(size, channels, wanted) else { return Ok(None) };
    let mut coded = Coded { reader, seen: [[0; 4]; 64], last: [0, 0, 0, 255], repeats: 0 };
    let mut row = vec![0; channels * size.0 as usize];
    for _ in 0..size.1 {
        for place in row.chunks_exact_mut(channels) {
            place.copy_from_slice(&coded.next().map_err(cut)?[..channels]);
        }
        blocks.add(&row);
    }
    Ok(blocks.finish())
}

fn cut(error: io::Error) -> Unreadable {
    Unreadable::cut(error, Format::Qoi.usual_name())
}

struct Coded<R> {
    reader: R,
    /// Pixels that were, each in the place of its hash: red, green, blue, alpha.
    seen: [[u8; 4]; 64],
    last: [u8; 4],
    /// How many more times that one comes.
    repeats: u8,
}

impl<R: BufRead> Coded<R> {
    fn next(&mut self) -> io::Result<[u8; 4]> {
        if self.repeats > 0 {
            self.repeats -= 1;
            return Ok(self.last);
        }
        let [tag] = self.bytes()?;
        let [red, green, blue, alpha] = self.last;
        let moved = |by: [u8; 3]| {
            let [r, g, b] = by;
            [red.wrapping_add(r), green.wrapping_add(g), blue.wrapping_add(b), alpha]
        };
        self.last = match tag {
            0xff => self.bytes()?,
            0xfe => {
                let [red, green, blue] = self.bytes()?;
                [red, green, blue, alpha]
            }
            0xc0.. => {
                self.repeats = tag & 0x3f;
                self.last
            }
            0x80.. => {
                let [others] = self.bytes()?;
                let by = (tag & 0x3f).wrapping_sub(32);
                let besides = |more: u8| by.wrapping_add(more).wrapping_sub(8);
                moved([besides(others >> 4), by, besides(others & 0xf)])
            }
            0x40.. => moved([tag >> 4, tag >> 2, tag].map(|by| (by & 3).wrapping_sub(2))),
            _ => self.seen[usize::from(tag)],
        };
        let [red, green, blue, alpha] = self.last.map(usize::from);
        self.seen[(3 * red + 5 * green + 7 * blue + 11 * alpha) % 64] = self.last;
        Ok(self.last)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::{encoded, in_blocks, picture};
    use crate::random::split_mix;

    fn small(bytes: &[u8]) -> Result<Option<DynamicImage>, Unreadable> {
        let small = qoi(Cursor::new(bytes), (31, 25), &wanted(2))?;
        Ok(small.map(|(_, small)| small))
    }

    /// Neighbours that are the same, near, far, and seen before.
    fn mixed() -> DynamicImage {
        let (mut state, mut pixel) = (3, [9u8, 8, 7, 255]);
        RgbaImage::from_fn(31, 25, |_, _| {
            let random = split_mix(&mut state).to_le_bytes();
            pixel = match random[0] % 5 {
                0 => pixel,
                1 => pixel.map(|value| value.wrapping_add(random[1] % 3)),
                2 => [0, 1, 2]
                    .map(|c| pixel[c].wrapping_add(random[1] % 40 + random[2 + c] % 8))
                    .iter()
                    .copied()
                    .chain([pixel[3]])
                    .collect::<Vec<_>>()
                    .try_into()
                    .unwrap(),
                3 => [random[1] % 4, 0, 0, 255],
                _ => [random[1], random[2], random[3], random[4]],
            };
            Rgba(pixel)
        })
        .into()
    }

    #[test]
    fn rows_are_those_of_the_whole() {
        let rgb = |image: DynamicImage| DynamicImage::from(image.to_rgb8());
        for picture in [picture(), rgb(picture()), mixed(), rgb(mixed())] {
            let bytes = encoded(&picture, ImageFormat::Qoi);
            assert_eq!(small(&bytes).unwrap().unwrap(), in_blocks(&picture, &wanted(2)));
            for cut in [4, 13, 14, bytes.len() / 2] {
                let error = small(&bytes[..cut]).unwrap_err();
                assert!(matches!(error, Unreadable::Truncated { .. }), "{cut}: {error}");
            }
        }
    }

    #[test]
    fn another_size_is_left_to_the_others() {
        let bytes = encoded(&picture(), ImageFormat::Qoi);
        assert!(qoi(Cursor::new(&bytes), (25, 31), &wanted(2)).unwrap().is_none());
        assert!(qoi(Cursor::new(&bytes), (31, 25), &wanted(8)).unwrap().is_none());
    }
}
