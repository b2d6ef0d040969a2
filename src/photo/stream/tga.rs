//! TGA (Truevision TGA File Format Specification 2.0) in grey or true colours, also in packets.

use std::io::{self, BufRead, Seek, SeekFrom};

use super::{Blocks, Small};
use crate::photo::Unreadable;
use crate::photo::format::Format;
use crate::photo::wanted::Wanted;

/// What the first 18 bytes say.
struct Header {
    /// Where the pixels begin.
    start: u64,
    /// Bytes a pixel: grey; blue, green, red; or those and alpha.
    bytes: usize,
    in_packets: bool,
    /// Whether the last row comes first.
    upwards: bool,
    /// Whether the last pixel of a row comes first.
    leftwards: bool,
}

/// Decodes a TGA of that size by rows; `None` for palettes and pixels of 16 bits, and where that saves nothing.
///
/// # Errors
/// [`Unreadable::Truncated`] when the file ends before its pixels do.
pub(in crate::photo) fn tga<R: BufRead + Seek>(
    mut reader: R,
    size: (u32, u32),
    wanted: &Wanted<'_>,
) -> Result<Option<Small>, Unreadable> {
    let mut head = [0; 18];
    reader.read_exact(&mut head).map_err(cut)?;
    let Some(header) = header(head, size) else { return Ok(None) };
    let mut found = averaged(&mut reader, &header, size, header.bytes == 4, wanted)?;
    if let Some((_, false)) = found {
        // Programs that know no alpha leave it 0: such a picture is meant to be seen.
        found = averaged(&mut reader, &header, size, false, wanted)?;
    }
    Ok(found.map(|(small, _)| small))
}

fn header(head: [u8; 18], size: (u32, u32)) -> Option<Header> {
    let [id, map, kind, _, _, n0, n1, map_bits, .., w0, w1, h0, h1, bits, flags] = head;
    const IN_PACKETS: u8 = 8;
    const LEFTWARDS: u8 = 0x10;
    const DOWNWARDS: u8 = 0x20;
    let alpha_bits = flags & 0xf;
    let bytes = match (kind & !IN_PACKETS, bits, alpha_bits) {
        (2, 24, 0) => 3,
        (2, 32, 0 | 8) => 4,
        (3, 8, 0) => 1,
        _ => return None,
    };
    let said = [[w0, w1], [h0, h1]].map(|side| u32::from(u16::from_le_bytes(side)));
    let map_bytes = match map {
        0 => 0,
        _ => u64::from(u16::from_le_bytes([n0, n1])) * u64::from(map_bits.div_ceil(8)),
    };
    (said == <[u32; 2]>::from(size)).then_some(Header {
        start: head.len() as u64 + u64::from(id) + map_bytes,
        bytes,
        in_packets: kind & IN_PACKETS != 0,
        upwards: flags & DOWNWARDS == 0,
        leftwards: flags & LEFTWARDS != 0,
    })
}

/// The averages, and whether there is anything to be seen of them: alpha that is not 0 everywhere, or none that counts.
fn averaged<R: BufRead + Seek>(
    reader: &mut R,
    header: &Header,
    size: (u32, u32),
    has_alpha: bool,
    wanted: &Wanted<'_>,
) -> Result<Option<(Small, bool)>, Unreadable> {
    let channels = if header.bytes == 4 && !has_alpha { 3 } else { header.bytes };
    let Some(mut blocks) = Blocks::new(size, channels, wanted) else { return Ok(None) };
    if header.upwards {
        blocks = blocks.upwards(size.1);
    }
    reader.seek(SeekFrom::Start(header.start))?;
    let mut packets = Packets { reader, left: 0, repeated: None };
    let mut row = vec![0; header.bytes * size.0 as usize];
    let mut pixels = Vec::with_capacity(row.len());
    let mut is_seen = !has_alpha;
    for _ in 0..size.1 {
        match header.in_packets {
            true => packets.fill(&mut row, header.bytes),
            false => packets.reader.read_exact(&mut row),
        }
        .map_err(cut)?;
        pixels.clear();
        let coded = row.chunks_exact(header.bytes);
        let mut add = |pixel: &[u8]| match *pixel {
            [blue, green, red, alpha] if has_alpha => {
                is_seen |= alpha > 0;
                pixels.extend([red, green, blue, alpha]);
            }
            [blue, green, red, ..] => pixels.extend([red, green, blue]),
            _ => pixels.extend(pixel),
        };
        if header.leftwards {
            coded.rev().for_each(&mut add);
        } else {
            coded.for_each(&mut add);
        }
        blocks.add(&pixels);
    }
    let small = blocks.finish().map(|(scale, image)| match header.upwards {
        true => (scale, image.flipv()),
        false => (scale, image),
    });
    Ok(small.map(|small| (small, is_seen)))
}

/// Pixels that come in packets, of one that is repeated or of several that are not.
struct Packets<R> {
    reader: R,
    /// How many pixels the packet still holds.
    left: usize,
    repeated: Option<[u8; 4]>,
}

impl<R: BufRead> Packets<R> {
    fn fill(&mut self, row: &mut [u8], bytes: usize) -> io::Result<()> {
        for place in row.chunks_exact_mut(bytes) {
            if self.left == 0 {
                let mut tag = [0];
                self.reader.read_exact(&mut tag)?;
                self.left = usize::from(tag[0] & 0x7f) + 1;
                self.repeated = None;
                if tag[0] & 0x80 != 0 {
                    let mut pixel = [0; 4];
                    self.reader.read_exact(&mut pixel[..bytes])?;
                    self.repeated = Some(pixel);
                }
            }
            self.left -= 1;
            match self.repeated {
                Some(pixel) => place.copy_from_slice(&pixel[..bytes]),
                None => self.reader.read_exact(place)?,
            }
        }
        Ok(())
    }
}

fn cut(error: io::Error) -> Unreadable {
    Unreadable::cut(error, Format::Tga.usual_name())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::codecs::tga::TgaEncoder;
    use image::{DynamicImage, ImageFormat};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::{in_blocks, picture};

    fn encoded(image: &DynamicImage, in_packets: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = TgaEncoder::new(&mut bytes);
        let encoder = if in_packets { encoder } else { encoder.disable_rle() };
        image.write_with_encoder(encoder).unwrap();
        bytes
    }

    fn small(bytes: &[u8]) -> Result<Option<DynamicImage>, Unreadable> {
        let small = tga(Cursor::new(bytes), (31, 25), &wanted(2))?;
        Ok(small.map(|(_, small)| small))
    }

    #[test]
    fn rows_are_those_of_the_whole_in_any_order() {
        let rgba = picture();
        for picture in [rgba.to_luma8().into(), rgba.to_rgb8().into(), rgba] {
            for in_packets in [false, true] {
                for flags in [0, 0x10, 0x20, 0x30] {
                    let mut bytes = encoded(&picture, in_packets);
                    bytes[17] = bytes[17] & 0xf | flags;
                    let whole = image::load_from_memory_with_format(&bytes, ImageFormat::Tga);
                    let expected = in_blocks(&whole.unwrap(), &wanted(2));
                    let found = small(&bytes).unwrap().unwrap();
                    assert_eq!(found, expected, "{in_packets} {flags:#x} {:?}", picture.color());
                    for cut in [17, 18, bytes.len() / 2] {
                        let error = small(&bytes[..cut]).unwrap_err();
                        assert!(matches!(error, Unreadable::Truncated { .. }), "{cut}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_lies_before_the_pixels_is_passed_over() {
        let picture = DynamicImage::from(picture().to_rgb8());
        let mut bytes = encoded(&picture, true);
        // A name of three bytes, and two colours for nobody.
        (bytes[0], bytes[1], bytes[5], bytes[7]) = (3, 1, 2, 24);
        bytes.splice(18..18, *b"sea\x01\x02\x03\x04\x05\x06");
        assert_eq!(small(&bytes).unwrap().unwrap(), in_blocks(&picture, &wanted(2)));
    }

    #[test]
    fn alpha_that_is_zero_everywhere_is_none() {
        let mut picture = picture().into_rgba8();
        picture.pixels_mut().for_each(|pixel| pixel.0[3] = 0);
        let clear = DynamicImage::from(picture);
        let rgb = DynamicImage::from(clear.to_rgb8());
        assert_eq!(small(&encoded(&clear, true)).unwrap(), Some(in_blocks(&rgb, &wanted(2))));
    }

    #[test]
    fn rare_pixels_and_other_sizes_are_left_to_the_others() {
        let bytes = encoded(&picture(), false);
        assert!(tga(Cursor::new(&bytes), (25, 31), &wanted(2)).unwrap().is_none());
        for (at, value) in [(2, 1), (16, 16), (17, 0x21)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert!(small(&other).unwrap().is_none(), "byte {at}");
        }
    }
}
