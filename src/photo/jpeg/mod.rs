//! JPEG: most photos, and so most of the work.
//!
//! Three decoders. `sequential` is ours, for what nearly all photos are: it decodes only what the network will
//! see, to 1/8, 2/8, … of the size where that suffices, faster than the others. What it does not take goes to
//! zune-jpeg at full size, and else to libjpeg-turbo (in mozjpeg's copy, which builds with a C compiler alone),
//! which also decides where another gives up. `means` is for giant progressive ones.

mod bits;
mod clipped;
mod codes;
mod end;
mod frame;
mod lookup;
mod means;
mod rows;
mod segments;
mod sequential;

use image::DynamicImage;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use self::segments::{Coding, Header};
use super::decode::Raster;
use super::guard::quietly;
use super::wanted::Wanted;
use super::{DecodeMode, DecodeOptions, Unreadable, colour};

/// What is coded in passes and would take more bytes than this is taken to an eighth, which takes few, where
/// [`HEAVY_MARGIN`] times the side that is asked for remains.
const HEAVY: u64 = 400_000_000;

/// See [`HEAVY`]. Half of what other photos are left with.
const HEAVY_MARGIN: u32 = 2;

/// Decodes a JPEG, to a smaller size where that suffices.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    if !end::has_end(bytes) && !end::is_complete_without_end(bytes) {
        return Err(Unreadable::Truncated { format: "JPEG" });
    }
    let mut header = Header::read(bytes).ok_or_else(|| Unreadable::damaged("it has no frame"))?;
    let size = (header.width, header.height);
    wanted.check_size(size)?;
    if header.precision != 8 || header.coding == Coding::Other {
        return Err(rare(format!("{} bits a sample, or lossless", header.precision)));
    }
    let mut eighths = wanted.eighths(size);
    let shorter = header.width.min(header.height);
    let is_heavy = header.coding == Coding::Progressive && memory(&header, eighths) > HEAVY;
    if eighths < 8 && is_heavy && shorter / 8 >= HEAVY_MARGIN * wanted.shorter_side {
        eighths = 1;
    }
    let mut decoded = at_scale(bytes, &header, wanted, eighths)?;
    if eighths < 8 && memory(&header, 8) <= DecodeOptions::BUDGET && clipped::grain(&decoded.image)
    {
        eighths = 8;
        decoded = at_scale(bytes, &header, wanted, eighths)?;
    }
    let Decoded { image, corner: (left, top), is_narrow } = decoded;
    let corner = (f64::from(left), f64::from(top));
    if header.components == 4 {
        // What was stored as inks is sRGB by now.
        header.metadata.icc = None;
    }
    let metadata = header.metadata;
    let scale = f64::from(eighths) / 8.0;
    Ok(Raster { image, size, scale, corner, is_narrow, metadata, orientation: None })
}

/// A picture or a part of it, at the size that it was decoded to.
struct Decoded {
    image: DynamicImage,
    /// Its left and top in the picture.
    corner: (u32, u32),
    /// Whether its rows have been resized to those of the square.
    is_narrow: bool,
}

/// Decodes to `eighths` / 8 of the size, at least the part that is wanted. What one decoder refuses the next
/// may know.
fn at_scale(
    bytes: &[u8],
    header: &Header,
    wanted: &Wanted<'_>,
    eighths: u8,
) -> Result<Decoded, Unreadable> {
    let from_top = |image| Decoded { image, corner: (0, 0), is_narrow: false };
    if eighths == 1 && header.coding == Coding::Progressive {
        let _permit = wanted.room_for(means::memory(header.width, header.height))?;
        if let Some(image) = means::eighth(bytes, header.is_rgb) {
            return Ok(from_top(image));
        }
    }
    let _permit = wanted.room_for(memory(header, eighths))?;
    let size = (header.width, header.height);
    let part = wanted.part(size);
    // Other profiles' colours are made sRGB before they are mixed.
    let columns = (eighths == 8 && header.metadata.icc.is_none())
        .then(|| wanted.columns(size, header.metadata.orientation()))
        .flatten();
    if header.coding == Coding::Sequential
        && let Some(decoded) =
            sequential::decode(bytes, header.is_rgb, &part, eighths, columns.as_ref())
    {
        return Ok(decoded);
    }
    let rows = part.rows.end;
    let image = match header.components {
        4 => {
            let (size, inks) = turbo(bytes, eighths, rows, mozjpeg::ColorSpace::JCS_CMYK)?;
            // Stored inverted, as Adobe began it and everybody took over.
            let inks: Vec<u8> = inks.into_iter().map(|ink| 255 - ink).collect();
            rgb(size, colour::cmyk_to_rgb(&inks, header.metadata.icc.as_deref()))
        }
        1 | 3 => plain(bytes, header, wanted, rows, eighths),
        other => Err(rare(format!("{other} components"))),
    };
    image.map(from_top)
}

/// Width and height, by the header; `None` for what [`decode`] does not decode.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = Header::read(bytes)?;
    let is_decoded = header.precision == 8 && header.coding != Coding::Other;
    is_decoded.then_some((header.width, header.height))
}

/// Grey or colour.
fn plain(
    bytes: &[u8],
    header: &Header,
    wanted: &Wanted<'_>,
    rows: u32,
    eighths: u8,
) -> Result<DynamicImage, Unreadable> {
    let space = match header.components {
        1 => mozjpeg::ColorSpace::JCS_GRAYSCALE,
        _ => mozjpeg::ColorSpace::JCS_RGB,
    };
    let turbo =
        || turbo(bytes, eighths, rows, space).and_then(|(size, pixels)| picture(size, pixels));
    let by_zune = eighths == 8
        && header.coding != Coding::Arithmetic
        && wanted.mode == DecodeMode::Fast
        && !is_beyond_zune(header);
    if by_zune {
        match zune(bytes, header) {
            Ok(image) => return Ok(image),
            Err(reason) => return turbo().map_err(|_| reason),
        }
    }
    turbo()
}

/// What zune-jpeg 0.5 decodes to other colours than libjpeg: pictures that are not progressive and yet
/// have components in scans of their own, and those of few pixels (of 3 x 3 up to 81 of 255 apart).
fn is_beyond_zune(header: &Header) -> bool {
    const SMALL: u32 = 64;
    let in_scans_apart = header.coding == Coding::Sequential && !header.interleaved;
    in_scans_apart || header.width.min(header.height) < SMALL
}

/// Decodes to `eighths` / 8 of the size, no further down than the first `rows` of the whole picture.
fn turbo(
    bytes: &[u8],
    eighths: u8,
    rows: u32,
    space: mozjpeg::ColorSpace,
) -> Result<((u32, u32), Vec<u8>), Unreadable> {
    // libjpeg's fatal errors unwind.
    let decoded = quietly(|| -> std::io::Result<_> {
        let mut decoder = mozjpeg::Decompress::new_mem(bytes)?;
        decoder.scale(eighths);
        let mut started = decoder.to_colorspace(space)?;
        let rows = (u64::from(rows) * u64::from(eighths)).div_ceil(8) as usize;
        let (width, height) = (started.width(), started.height().min(rows));
        let channels = match space {
            mozjpeg::ColorSpace::JCS_GRAYSCALE => 1,
            mozjpeg::ColorSpace::JCS_CMYK => 4,
            _ => 3,
        };
        let mut pixels = vec![0; width * height * channels];
        started.read_scanlines_into(&mut pixels)?;
        Ok(((width as u32, height as u32), pixels))
    });
    decoded.map_err(Unreadable::damaged)?.map_err(Unreadable::damaged)
}

fn zune(bytes: &[u8], header: &Header) -> Result<DynamicImage, Unreadable> {
    let space = if header.components == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(space)
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(Unreadable::damaged)?;
    picture((header.width, header.height), pixels)
}

/// One byte a pixel is grey, three are colour.
fn picture((width, height): (u32, u32), pixels: Vec<u8>) -> Result<DynamicImage, Unreadable> {
    if pixels.len() == width as usize * height as usize {
        let grey = image::GrayImage::from_raw(width, height, pixels);
        return grey
            .map(DynamicImage::ImageLuma8)
            .ok_or_else(|| Unreadable::damaged("it has no pixels"));
    }
    rgb((width, height), pixels)
}

fn rgb((width, height): (u32, u32), pixels: Vec<u8>) -> Result<DynamicImage, Unreadable> {
    image::RgbImage::from_raw(width, height, pixels)
        .map(DynamicImage::ImageRgb8)
        .ok_or_else(|| Unreadable::damaged("it has another number of pixels than its header says"))
}

/// Bytes that decoding takes: the pixels that come out, and for what is coded in passes every
/// coefficient of the whole picture in 16 bits, chroma at a quarter as photos have it.
fn memory(header: &Header, eighths: u8) -> u64 {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let components = u64::from(header.components);
    let out = pixels * components * u64::from(eighths).pow(2) / 64;
    match header.coding {
        Coding::Sequential if header.interleaved => out,
        _ if components == 3 => out + pixels * 3,
        _ => out + pixels * components * 2,
    }
}

fn rare(reason: String) -> Unreadable {
    Unreadable::Variant { format: "JPEG", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::photo::decode::tests::wanted;

    fn segment(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&[0xff, kind], &length[..], content].concat()
    }

    /// A picture of 64 x 64 pixels of one colour, with each component in a scan of its own, and half the
    /// chroma across.
    fn in_scans_apart() -> Vec<u8> {
        // What 8 x 8 pixels of a value add up to, by 8, is its distance from 128.
        let quantisers = [&[0][..], &[8; 64]].concat();
        let frame = [8, 0, 64, 0, 64, 3, 1, 0x21, 0, 2, 0x11, 0, 3, 0x11, 0];
        let table = |class: u8, symbols: &[u8]| {
            let mut lengths = [0; 16];
            // Codes 0, then 10.
            lengths[..symbols.len()].fill(1);
            [&[class << 4][..], &lengths, symbols].concat()
        };
        let mut bytes = vec![0xff, 0xd8];
        bytes.extend(segment(0xdb, &quantisers));
        bytes.extend(segment(0xc0, &frame));
        bytes.extend(segment(0xc4, &table(0, &[0, 6])));
        bytes.extend(segment(0xc4, &table(1, &[0])));
        // 6 bits: 40 is itself, -40 is 63 less.
        for (component, blocks, first) in [(1, 64, 40), (2, 32, 63 - 40), (3, 32, 50)] {
            bytes.extend(segment(0xda, &[1, component, 0, 0, 63, 0]));
            let mut bits = format!("10{first:06b}0");
            bits.push_str(&"00".repeat(blocks - 1));
            while bits.len() % 8 != 0 {
                bits.push('1');
            }
            let coded = bits.as_bytes().chunks(8).map(|byte| std::str::from_utf8(byte).unwrap());
            bytes.extend(coded.map(|byte| u8::from_str_radix(byte, 2).unwrap()));
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    #[test]
    fn components_in_scans_of_their_own_keep_their_colours() {
        let bytes = in_scans_apart();
        let raster = decode(&bytes, &wanted(64)).unwrap();
        let rgb = raster.image.into_rgb8();
        assert_eq!(rgb.dimensions(), (64, 64));
        // By JFIF, of Y 168, Cb 88 and Cr 178.
        let apart = |pixel: &image::Rgb<u8>| {
            pixel.0.iter().zip([238, 146, 97]).map(|(a, b): (&u8, u8)| a.abs_diff(b)).max()
        };
        assert_eq!(rgb.pixels().filter(|pixel| apart(pixel) > Some(1)).count(), 0);
    }
}
