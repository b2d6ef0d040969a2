//! BMP and Netpbm whose samples lie in the file as they are.

use std::io::{BufRead, Read, Seek, SeekFrom};

use super::{Blocks, Small, narrow};
use crate::photo::Unreadable;
use crate::photo::format::Format;
use crate::photo::wanted::Wanted;

/// Where the rows of a picture lie, and what they hold.
struct Rows {
    size: (u32, u32),
    /// Of the row that comes first in the file, in bytes.
    start: u64,
    /// Bytes from one row to the next.
    row_bytes: u64,
    /// Whether the last row comes first.
    upwards: bool,
    samples: Samples,
}

enum Samples {
    /// Of so many channels, side by side.
    Bytes(usize),
    /// Of 16 bits, the high byte first.
    Words(usize),
    /// Blue, green, red, and perhaps a byte without meaning.
    Bgr(usize),
    /// The colours that a byte stands for: blue, green, red and a byte without meaning.
    Palette(Vec<u8>),
}

/// Decodes a BMP that is not compressed, or a binary PGM or PPM, by rows; `None` for any other, one that is not of that
/// size, and where that saves nothing.
///
/// # Errors
/// [`Unreadable::Truncated`] when the file is too short for its rows.
pub(in crate::photo) fn plain<R: BufRead + Seek>(
    mut reader: R,
    format: Format,
    size: (u32, u32),
    wanted: &Wanted<'_>,
) -> Result<Option<Small>, Unreadable> {
    let Some(rows) = header(&mut reader).filter(|rows| rows.size == size) else { return Ok(None) };
    if reader.seek(SeekFrom::End(0))? < rows.start + u64::from(size.1) * rows.row_bytes {
        return Err(Unreadable::Truncated { format: format.usual_name() });
    }
    Ok(averaged(reader, &rows, wanted))
}

fn header<R: BufRead + Seek>(reader: &mut R) -> Option<Rows> {
    let mut magic = [0; 2];
    reader.read_exact(&mut magic).ok()?;
    match &magic {
        b"BM" => bmp(reader),
        b"P5" => pnm(reader, 1),
        b"P6" => pnm(reader, 3),
        _ => None,
    }
}

fn averaged<R: BufRead + Seek>(mut reader: R, rows: &Rows, wanted: &Wanted<'_>) -> Option<Small> {
    let channels = match rows.samples {
        Samples::Bytes(channels) | Samples::Words(channels) => channels,
        Samples::Bgr(_) | Samples::Palette(_) => 3,
    };
    let mut blocks = Blocks::new(rows.size, channels, wanted)?;
    let height = u64::from(rows.size.1);
    let mut row = vec![0; usize::try_from(rows.row_bytes).ok()?];
    reader.seek(SeekFrom::Start(rows.start)).ok()?;
    for y in 0..height {
        if rows.upwards {
            reader.seek(SeekFrom::Start(rows.start + (height - 1 - y) * rows.row_bytes)).ok()?;
        }
        reader.read_exact(&mut row).ok()?;
        match &rows.samples {
            Samples::Bytes(_) => blocks.add(&row),
            Samples::Words(_) => blocks.add(&narrow(&row, u16::from_be_bytes)),
            Samples::Bgr(bytes) => {
                let pixels = row.chunks_exact(*bytes).take(rows.size.0 as usize);
                let rgb: Vec<u8> = pixels.flat_map(|bgr| [bgr[2], bgr[1], bgr[0]]).collect();
                blocks.add(&rgb);
            }
            Samples::Palette(colours) => {
                let pixels = row.iter().take(rows.size.0 as usize);
                // An index without a colour is black.
                let colour = |index: &u8| colours.as_chunks::<4>().0.get(usize::from(*index));
                let rgb = pixels.flat_map(|index| {
                    colour(index).map_or([0; 3], |[blue, green, red, _]| [*red, *green, *blue])
                });
                blocks.add(&rgb.collect::<Vec<u8>>());
            }
        }
    }
    blocks.finish()
}

/// Reads the header of a bitmap (BITMAPINFOHEADER, or a later one that begins the same), from its third byte on.
fn bmp(reader: &mut impl Read) -> Option<Rows> {
    const FILE_HEADER: usize = 14;
    const INFO_HEADER: usize = 40;
    let mut header = [0; FILE_HEADER + INFO_HEADER];
    reader.read_exact(&mut header[2..]).ok()?;
    let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    let header_bytes = u32_at(14) as usize;
    let (width, height) = (u32_at(18).cast_signed(), u32_at(22).cast_signed());
    let (bits, compression) = (u16_at(28), u32_at(30));
    if header_bytes < INFO_HEADER || width <= 0 || height == 0 || compression != 0 {
        return None;
    }
    let samples = match bits {
        8 => {
            let colours = match u32_at(46) {
                0 => 256,
                count => count.min(256) as usize,
            };
            let after_header = (header_bytes - INFO_HEADER) as u64;
            let skipped = std::io::copy(&mut reader.take(after_header), &mut std::io::sink());
            let mut palette = vec![0; 4 * colours];
            reader.read_exact(&mut palette).ok().filter(|_| skipped.ok() == Some(after_header))?;
            Samples::Palette(palette)
        }
        24 => Samples::Bgr(3),
        32 => Samples::Bgr(4),
        _ => return None,
    };
    let size = (width.cast_unsigned(), height.unsigned_abs());
    let row_bytes = (u64::from(size.0) * u64::from(bits)).div_ceil(32) * 4;
    Some(Rows { size, start: u32_at(10).into(), row_bytes, upwards: height > 0, samples })
}

/// Reads the header of a binary Netpbm file, from its third byte on: three numbers, with comments between them.
fn pnm(reader: &mut (impl BufRead + Seek), channels: usize) -> Option<Rows> {
    let mut number = || -> Option<u32> {
        let mut digits = String::new();
        loop {
            let mut byte = [0];
            reader.read_exact(&mut byte).ok()?;
            match byte[0] {
                b'#' => {
                    reader.by_ref().take(1 << 20).skip_until(b'\n').ok()?;
                }
                byte if byte.is_ascii_whitespace() && digits.is_empty() => {}
                byte if byte.is_ascii_whitespace() => return digits.parse().ok(),
                byte if byte.is_ascii_digit() && digits.len() < 10 => digits.push(byte.into()),
                _ => return None,
            }
        }
    };
    let (size, most) = ((number()?, number()?), number()?);
    let (samples, bytes) = match most {
        255 => (Samples::Bytes(channels), channels),
        65_535 => (Samples::Words(channels), 2 * channels),
        _ => return None,
    };
    let row_bytes = u64::from(size.0) * bytes as u64;
    Some(Rows { size, start: reader.stream_position().ok()?, row_bytes, upwards: false, samples })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::{encoded, in_blocks, picture};

    fn small(bytes: &[u8]) -> Result<Option<DynamicImage>, Unreadable> {
        let small = plain(Cursor::new(bytes), Format::Bmp, (31, 25), &wanted(2))?;
        Ok(small.map(|(_, small)| small))
    }

    #[test]
    fn rows_are_those_of_the_whole() {
        let (grey, rgb) = (picture().to_luma8(), picture().to_rgb8());
        let deep = DynamicImage::from(rgb.clone()).to_rgb16();
        let words: Vec<u8> = deep.iter().flat_map(|value| value.to_be_bytes()).collect();
        let cases = [
            (encoded(&rgb.clone().into(), ImageFormat::Bmp), ImageFormat::Bmp),
            (encoded(&grey.clone().into(), ImageFormat::Bmp), ImageFormat::Bmp),
            ([b"P6 31 25 255\n", rgb.as_raw().as_slice()].concat(), ImageFormat::Pnm),
            ([b"P5 31 25 255\n", grey.as_raw().as_slice()].concat(), ImageFormat::Pnm),
            ([b"P6 31 25 65535\n", words.as_slice()].concat(), ImageFormat::Pnm),
        ];
        for (bytes, format) in cases {
            let whole = image::load_from_memory_with_format(&bytes, format).unwrap();
            let expected = in_blocks(&whole.to_rgb8().into(), &wanted(2)).to_rgb8();
            assert_eq!(small(&bytes).unwrap().unwrap().to_rgb8(), expected, "{format:?}");
            let cut = small(&bytes[..bytes.len() - 8]).unwrap_err();
            assert!(matches!(cut, Unreadable::Truncated { .. }), "{format:?}: {cut}");
        }
    }

    #[test]
    fn a_bitmap_may_stand_on_its_feet_and_have_a_byte_too_many() {
        let rgb = picture().to_rgb8();
        let mut bytes = encoded(&rgb.clone().into(), ImageFormat::Bmp)[..54].to_vec();
        bytes[22..26].copy_from_slice(&(-25i32).to_le_bytes());
        bytes[28] = 32;
        bytes.extend(rgb.pixels().flat_map(|pixel| [pixel[2], pixel[1], pixel[0], 9]));
        assert_eq!(small(&bytes).unwrap().unwrap(), in_blocks(&rgb.into(), &wanted(2)));
        bytes[30] = 3;
        assert!(small(&bytes).unwrap().is_none(), "colours in bits of its own choice");
    }

    #[test]
    fn comments_are_passed_over_and_rare_ranges_left_to_the_others() {
        let grey = picture().to_luma8();
        let file = |header: &str| [header.as_bytes(), grey.as_raw()].concat();
        let expected = in_blocks(&grey.clone().into(), &wanted(2));
        for header in ["P5 31 25 255\n", "P5\n# by hand\n31\t25 # wide, high\n255\n"] {
            assert_eq!(small(&file(header)).unwrap().as_ref(), Some(&expected), "{header}");
        }
        for header in
            ["P5 31 25 100\n", "P2 31 25 255\n", "P5 31 x 255\n", "P5 99999999999 25 255\n"]
        {
            assert!(small(&file(header)).unwrap().is_none(), "{header}");
        }
    }
}
