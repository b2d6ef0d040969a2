//! Photoshop files (PSD, and PSB for large ones), by the flattened picture that Photoshop lays into them.
//!
//! Written here, after Adobe's "Photoshop File Formats Specification" (2019): zune-psd 0.5 reads a third
//! of an uncompressed picture and paints what is missing black, without a word; psd 0.3 is not kept up.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageBuffer, Rgb32FImage, RgbImage};

use super::decode::{Metadata, Raster};
use super::resize::eight_bits;
use super::wanted::Wanted;
use super::{Unreadable, colour, tone};

const FORMAT: &str = "PSD";

/// What the channels mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One bit a pixel, 1 is black.
    Bitmap,
    /// Also duotone, whose inks only Photoshop knows: any other program is to show it grey.
    Grey,
    Indexed,
    Rgb,
    Cmyk,
}

impl Mode {
    fn channels(self) -> usize {
        match self {
            Mode::Bitmap | Mode::Grey | Mode::Indexed => 1,
            Mode::Rgb => 3,
            Mode::Cmyk => 4,
        }
    }
}

/// What stands before the pixels.
struct Header<'a> {
    is_large: bool,
    channels: usize,
    size: (u32, u32),
    /// Bits a sample: 1, 8, 16, or 32 for linear light in floats.
    depth: u16,
    mode: Mode,
    /// Of an indexed picture, 256 reds, greens and blues.
    palette: &'a [u8],
    metadata: Metadata,
    is_packed: bool,
}

/// Decodes the flattened picture. Where it is transparent Photoshop has laid it over white already, so
/// alpha channels are left alone, as are saved selections.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind, as Lab.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let mut rest = bytes;
    let header = Header::read(&mut rest)?;
    let size = header.size;
    wanted.check_size(size)?;
    let samples = u64::from(size.0) * u64::from(size.1) * header.mode.channels() as u64;
    let _permit = wanted.room_for(samples * if header.depth == 32 { 8 } else { 2 })?;
    let image = match (header.depth, header.mode) {
        (32, Mode::Grey | Mode::Rgb) => tone::map(light(&header, rest)?),
        (1, Mode::Bitmap) | (8 | 16, Mode::Grey | Mode::Rgb | Mode::Cmyk) | (8, Mode::Indexed) => {
            picture(&header, samples_of(&header, rest, narrow(header.depth))?)?
        }
        (depth, mode) => return Err(rare(format!("{mode:?} of {depth} bits a sample"))),
    };
    let metadata = match header.mode {
        // Turned into sRGB with its profile, or tone-mapped, already.
        Mode::Cmyk => Metadata { icc: None, ..header.metadata },
        _ if header.depth == 32 => Metadata { icc: None, ..header.metadata },
        _ => header.metadata,
    };
    // Photoshop turns what it opens, and may leave the camera's EXIF as it was.
    let orientation = Some(Orientation::NoTransforms);
    Ok(Raster::whole(image, size, metadata, orientation))
}

impl<'a> Header<'a> {
    /// Reads up to the pixels, and leaves `rest` there.
    fn read(rest: &mut &'a [u8]) -> Result<Self, Unreadable> {
        let fixed: &[u8; 26] = take(rest, 26)?.try_into().expect("as long as was asked for");
        let u16_at = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
        let is_large = u16_at(4) == 2;
        let mode = match u16_at(24) {
            0 => Mode::Bitmap,
            1 | 8 => Mode::Grey,
            2 => Mode::Indexed,
            3 => Mode::Rgb,
            4 => Mode::Cmyk,
            7 => return Err(rare("multichannel".to_owned())),
            9 => return Err(rare("Lab".to_owned())),
            other => return Err(damaged(format!("there is no colour mode {other}"))),
        };
        let channels = usize::from(u16_at(12));
        if channels < mode.channels() {
            return Err(damaged(format!("{mode:?} in {channels} channels")));
        }
        let length = u32_of(rest)?;
        let palette = take(rest, length)?;
        let length = u32_of(rest)?;
        let metadata = metadata(take(rest, length)?);
        let length = if is_large { u64_of(rest)? } else { u32_of(rest)? };
        take(rest, length)?;
        let is_packed = match take(rest, 2)? {
            [0, 0] => false,
            [0, 1] => true,
            _ => return Err(rare("its flattened picture is compressed by ZIP".to_owned())),
        };
        let (size, depth) = ((u32_at(18), u32_at(14)), u16_at(22));
        Ok(Self { is_large, channels, size, depth, mode, palette, metadata, is_packed })
    }

    /// Bytes that a row of a channel takes.
    fn row(&self) -> usize {
        (self.size.0 as usize * usize::from(self.depth)).div_ceil(8)
    }
}

/// The image resources that others than Photoshop understand.
fn metadata(mut resources: &[u8]) -> Metadata {
    let mut found = Metadata::default();
    while let Some(([b'8', b'B', b'I', b'M', i0, i1, name], rest)) = resources.split_first_chunk() {
        // The name and the content are each padded to an even length.
        let after_name = usize::from(*name) + usize::from(name % 2 == 0);
        let Some(mut rest) = rest.get(after_name..) else { break };
        let Ok(length) = u32_of(&mut rest) else { break };
        let Some(content) = rest.get(..length) else { break };
        match u16::from_be_bytes([*i0, *i1]) {
            1039 => found.icc = Some(content.to_vec()),
            1058 => found.exif = Some(content.to_vec()),
            1060 => found.xmp = Some(content.to_vec()),
            _ => {}
        }
        resources = rest.get(length + length % 2..).unwrap_or_default();
    }
    found
}

/// Calls `each` with the rows of the channels that are shown: channel after channel, from the top.
fn rows(
    header: &Header<'_>,
    mut rest: &[u8],
    mut each: impl FnMut(usize, usize, &[u8]),
) -> Result<(), Unreadable> {
    let (row, height) = (header.row(), header.size.1 as usize);
    let width_of_length = if header.is_large { 4 } else { 2 };
    let mut lengths: &[u8] = match header.is_packed {
        true => take(&mut rest, header.channels * height * width_of_length)?,
        false => &[],
    };
    let mut unpacked = Vec::with_capacity(row);
    for channel in 0..header.mode.channels() {
        for y in 0..height {
            if header.is_packed {
                let length = take(&mut lengths, width_of_length)?;
                let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                unpack(take(&mut rest, length)?, row, &mut unpacked)?;
                each(channel, y, &unpacked);
            } else {
                each(channel, y, take(&mut rest, row)?);
            }
        }
    }
    Ok(())
}

/// PackBits, as TIFF has it: a length and as many bytes, or a negative length and one byte to repeat.
fn unpack(mut packed: &[u8], row: usize, unpacked: &mut Vec<u8>) -> Result<(), Unreadable> {
    unpacked.clear();
    while unpacked.len() < row {
        let length = take(&mut packed, 1)?[0];
        match length {
            0..=127 => unpacked.extend_from_slice(take(&mut packed, usize::from(length) + 1)?),
            128 => {}
            129..=255 => {
                let byte = take(&mut packed, 1)?[0];
                unpacked.resize(unpacked.len() + 257 - usize::from(length), byte);
            }
        }
    }
    if unpacked.len() > row {
        return Err(damaged("a row is longer than the picture is wide".to_owned()));
    }
    Ok(())
}

/// The samples of all channels side by side, each made of its bytes.
fn samples_of<T: Clone + Default>(
    header: &Header<'_>,
    rest: &[u8],
    sample: impl Fn(&[u8], usize) -> T,
) -> Result<Vec<T>, Unreadable> {
    let (width, channels) = (header.size.0 as usize, header.mode.channels());
    // A header that claims much is cheap, so the memory is asked for once the pixels are there.
    let least = if header.is_packed { header.row().div_ceil(64) } else { header.row() };
    if rest.len() < least * header.size.1 as usize * channels {
        return Err(Unreadable::Truncated { format: FORMAT });
    }
    let mut out = vec![T::default(); width * header.size.1 as usize * channels];
    rows(header, rest, |channel, y, row| {
        let pixels = out[y * width * channels..][..width * channels].chunks_exact_mut(channels);
        for (x, pixel) in pixels.enumerate() {
            pixel[channel] = sample(row, x);
        }
    })?;
    Ok(out)
}

/// How a sample of this depth becomes 8 bits.
fn narrow(depth: u16) -> impl Fn(&[u8], usize) -> u8 {
    move |row, x| match depth {
        1 => 255 * u8::from(row[x / 8] >> (7 - x % 8) & 1 == 0),
        8 => row[x],
        _ => eight_bits(u16::from_be_bytes([row[2 * x], row[2 * x + 1]])),
    }
}

fn picture(header: &Header<'_>, samples: Vec<u8>) -> Result<DynamicImage, Unreadable> {
    let (width, height) = header.size;
    let whole = "as many samples as were asked for";
    let rgb = |samples| RgbImage::from_raw(width, height, samples).expect(whole).into();
    Ok(match header.mode {
        Mode::Bitmap | Mode::Grey => {
            GrayImage::from_raw(width, height, samples).expect(whole).into()
        }
        Mode::Rgb => rgb(samples),
        Mode::Cmyk => {
            // Stored inverted.
            let inks: Vec<u8> = samples.into_iter().map(|sample| 255 - sample).collect();
            rgb(colour::cmyk_to_rgb(&inks, header.metadata.icc.as_deref()))
        }
        Mode::Indexed => {
            let Some(palette) = header.palette.first_chunk::<768>() else {
                return Err(damaged("its palette is incomplete".to_owned()));
            };
            let colours = samples.into_iter().map(usize::from);
            rgb(colours.flat_map(|n| [palette[n], palette[256 + n], palette[512 + n]]).collect())
        }
    })
}

/// Floats, for the tone mapping.
fn light(header: &Header<'_>, rest: &[u8]) -> Result<DynamicImage, Unreadable> {
    let float = |row: &[u8], x: usize| {
        f32::from_be_bytes([row[4 * x], row[4 * x + 1], row[4 * x + 2], row[4 * x + 3]])
    };
    let samples = samples_of(header, rest, float)?;
    let (width, height) = header.size;
    let samples = match header.mode {
        Mode::Rgb => samples,
        _ => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
    };
    let image: Rgb32FImage =
        ImageBuffer::from_raw(width, height, samples).expect("as many samples as were asked for");
    Ok(image.into())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unreadable> {
    let (taken, after) =
        rest.split_at_checked(length).ok_or(Unreadable::Truncated { format: FORMAT })?;
    *rest = after;
    Ok(taken)
}

fn u32_of(rest: &mut &[u8]) -> Result<usize, Unreadable> {
    Ok(take(rest, 4)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

fn u64_of(rest: &mut &[u8]) -> Result<usize, Unreadable> {
    let (high, low) = (u32_of(rest)?, u32_of(rest)?);
    // Longer than 4 GB is longer than any file that was read whole.
    if high == 0 { Ok(low) } else { Err(Unreadable::Truncated { format: FORMAT }) }
}

fn damaged(reason: String) -> Unreadable {
    Unreadable::Damaged { reason }
}

fn rare(reason: String) -> Unreadable {
    Unreadable::Variant { format: FORMAT, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::photo::decode::tests::wanted;

    /// A file of 3 × 2 pixels from its planes, by rows; each is packed as bytes that are not repeated,
    /// but for the first two, where `packed`.
    fn file(version: u16, mode: u16, depth: u16, planes: &[&[u8]], packed: bool) -> Vec<u8> {
        let mut bytes = b"8BPS".to_vec();
        let channels = planes.len() as u16;
        for number in [version, 0, 0, 0, channels, 0, 2, 0, 3, depth, mode] {
            bytes.extend(number.to_be_bytes());
        }
        let palette: Vec<u8> =
            if mode == 2 { (0..768u32).map(|n| n as u8).collect() } else { vec![] };
        bytes.extend((palette.len() as u32).to_be_bytes());
        bytes.extend(&palette);
        let resources = b"8BIM\x04\x24\0\0\0\0\0\x03<x>\0";
        bytes.extend((resources.len() as u32).to_be_bytes());
        bytes.extend(resources);
        bytes.extend(vec![0; if version == 2 { 8 } else { 4 }]);
        bytes.extend(u16::from(packed).to_be_bytes());
        let rows: Vec<&[u8]> =
            planes.iter().flat_map(|plane| plane.chunks(plane.len() / 2)).collect();
        if !packed {
            return [bytes, rows.concat()].concat();
        }
        let pack = |row: &&[u8]| match row {
            [a, b, rest @ ..] if a == b && !rest.is_empty() => {
                [&[255, *a, 128, rest.len() as u8 - 1], rest].concat()
            }
            row => [&[row.len() as u8 - 1], *row].concat(),
        };
        let rows: Vec<Vec<u8>> = rows.iter().map(pack).collect();
        for row in &rows {
            match version {
                2 => bytes.extend((row.len() as u32).to_be_bytes()),
                _ => bytes.extend((row.len() as u16).to_be_bytes()),
            }
        }
        [bytes, rows.concat()].concat()
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let raster = decode(bytes, &wanted(224))?;
        assert_eq!((raster.size, raster.metadata.xmp.as_deref()), ((3, 2), Some(&b"<x>"[..])));
        Ok(raster.image.into_bytes())
    }

    const RED: &[u8] = &[9, 9, 1, 2, 3, 4];
    const GREEN: &[u8] = &[10, 20, 30, 40, 50, 60];
    const BLUE: &[u8] = &[7, 7, 7, 200, 201, 202];
    const ALPHA: &[u8] = &[0; 6];

    #[test]
    fn planes_come_side_by_side_packed_or_not() {
        let expected = [9, 10, 7, 9, 20, 7, 1, 30, 7, 2, 40, 200, 3, 50, 201, 4, 60, 202];
        for (version, packed) in [(1, false), (1, true), (2, false), (2, true)] {
            let whole = file(version, 3, 8, &[RED, GREEN, BLUE, ALPHA], packed);
            assert_eq!(decoded(&whole).unwrap(), expected, "{version} {packed}");
            // What is shown stands before the alpha channel.
            let shown = whole.len() - 12;
            for end in 4..shown {
                assert!(decoded(&whole[..end]).is_err(), "cut to {end} of {}", whole.len());
            }
        }
    }

    #[test]
    fn every_mode_becomes_grey_or_rgb() {
        assert_eq!(decoded(&file(1, 1, 8, &[GREEN], true)).unwrap(), GREEN);
        let sixteen = [0, 0, 0x80, 0x80, 0xff, 0xff, 1, 1, 2, 2, 3, 3];
        assert_eq!(decoded(&file(1, 8, 16, &[&sixteen], true)).unwrap(), [0, 128, 255, 1, 2, 3]);
        let bits = [0b0101_0000, 0b1110_0000];
        assert_eq!(decoded(&file(1, 0, 1, &[&bits], false)).unwrap(), [255, 0, 255, 0, 0, 0]);
        let indexed = decoded(&file(1, 2, 8, &[GREEN], false)).unwrap();
        assert_eq!(indexed[..6], [10, 10, 10, 20, 20, 20]);
        let cmyk =
            decoded(&file(1, 4, 8, &[&[255; 6], &[0; 6], &[255; 6], &[255; 6]], true)).unwrap();
        assert_eq!(cmyk[..3], [255, 0, 255], "all of the second ink, magenta");
        let floats: Vec<u8> = [0.1f32; 6].iter().flat_map(|light| light.to_be_bytes()).collect();
        let light = decoded(&file(1, 1, 32, &[&floats], false)).unwrap();
        assert!(light.len() == 18 && light[0] > 90, "{light:?}");
    }

    #[test]
    fn what_is_not_decoded_is_named() {
        let lab = decoded(&file(1, 9, 8, &[RED, GREEN, BLUE], false)).unwrap_err();
        let expected = "a kind of PSD that is not decoded by this version: Lab";
        assert_eq!(lab.to_string(), expected);
        let mut huge = file(1, 3, 8, &[RED, GREEN, BLUE], true);
        huge[14..22].copy_from_slice(&[0, 0, 0x03, 0xe8, 0, 0, 0x03, 0xe8]);
        let error = decoded(&huge).unwrap_err();
        assert!(matches!(error, Unreadable::Truncated { .. }), "{error}");
    }

    #[test]
    fn no_flipped_byte_panics() {
        for whole in [file(1, 3, 8, &[RED, GREEN, BLUE], true), file(2, 2, 8, &[RED], true)] {
            for at in 0..whole.len() {
                for flip in [1, 0x80, 0xff] {
                    let mut flipped = whole.clone();
                    flipped[at] ^= flip;
                    let _ = decode(&flipped, &wanted(224));
                }
            }
        }
    }
}
