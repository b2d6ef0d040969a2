//! WebP without loss: its pixels are held once, four bytes each.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use image_webp::WebPDecoder;

use super::webp::chunk;
use super::{Blocks, Small};
use crate::photo::wanted::Wanted;

/// Where a bit says whether pixels have alpha (WebP Lossless Bitstream Specification, section 3).
const ALPHA_AT: usize = 4;
const ALPHA: u8 = 1 << 4;

/// Decodes a still WebP without loss that is of that size by its container, too; `None` for any other, and where that
/// does not work or saves nothing.
pub(in crate::photo) fn lossless(
    bytes: &[u8],
    (width, height): (u32, u32),
    wanted: &Wanted<'_>,
) -> Option<Small> {
    let coded = chunk(bytes, b"VP8L")?;
    let has_alpha = coded.get(ALPHA_AT)? & ALPHA != 0;
    let mut blocks = Blocks::new((width, height), if has_alpha { 4 } else { 3 }, wanted)?;
    let pixel_bytes = u64::from(width) * u64::from(height) * 4;
    let _permit = wanted.room_for(pixel_bytes).ok()?;
    let mut decoder = WebPDecoder::new(WithAlpha::new(coded)?).ok()?;
    if decoder.dimensions() != (width, height) {
        return None;
    }
    let mut pixels = vec![0; usize::try_from(pixel_bytes).ok()?];
    decoder.read_image(&mut pixels).ok()?;
    let mut rgb = Vec::with_capacity(3 * width as usize);
    for row in pixels.chunks_exact(4 * width as usize) {
        if has_alpha {
            blocks.add(row);
        } else {
            rgb.clear();
            rgb.extend(row.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]));
            blocks.add(&rgb);
        }
    }
    blocks.finish()
}

/// A file of nothing but coded pixels, whose header says that they have alpha: where it says that they have none, the
/// decoder would hold them a second time without.
struct WithAlpha<'a> {
    head: Vec<u8>,
    rest: &'a [u8],
    at: usize,
}

impl<'a> WithAlpha<'a> {
    fn new(coded: &'a [u8]) -> Option<Self> {
        let (header, rest) = coded.split_at_checked(ALPHA_AT + 1)?;
        let length = u32::try_from(coded.len()).ok()?;
        let mut head = b"RIFF".to_vec();
        // Of an odd length the pad byte is left out, which nobody misses.
        head.extend(length.checked_add(12)?.to_le_bytes());
        head.extend(b"WEBPVP8L");
        head.extend(length.to_le_bytes());
        head.extend(header);
        *head.last_mut()? |= ALPHA;
        Some(Self { head, rest, at: 0 })
    }
}

impl BufRead for WithAlpha<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(match self.at.checked_sub(self.head.len()) {
            None => &self.head[self.at..],
            Some(at) => self.rest.get(at..).unwrap_or_default(),
        })
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for WithAlpha<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl Seek for WithAlpha<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = (self.head.len() + self.rest.len()) as u64;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => length.checked_add_signed(by),
            SeekFrom::Current(by) => (self.at as u64).checked_add_signed(by),
        };
        let at = at.and_then(|at| usize::try_from(at).ok());
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at as u64)
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageFormat};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::{encoded, in_blocks, picture};

    fn small(bytes: &[u8], size: (u32, u32)) -> Option<DynamicImage> {
        lossless(bytes, size, &wanted(2)).map(|(_, small)| small)
    }

    #[test]
    fn rows_are_those_of_the_whole_with_alpha_and_without() {
        for picture in [picture(), picture().to_rgb8().into()] {
            let bytes = encoded(&picture, ImageFormat::WebP);
            assert_eq!(small(&bytes, (31, 25)).unwrap(), in_blocks(&picture, &wanted(2)));
            assert!(small(&bytes, (25, 31)).is_none(), "its container says so");
            for cut in [15, 22, 24, bytes.len() / 2] {
                assert!(small(&bytes[..cut], (31, 25)).is_none(), "{cut}");
            }
        }
        let lossy = include_bytes!("../../../tests/reference/golden/turned.webp");
        assert!(small(lossy, (31, 25)).is_none());
    }
}
