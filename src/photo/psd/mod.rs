//! Photoshop files (PSD, and PSB for large ones), by the flattened picture that Photoshop lays into them.
//!
//! Written here, after Adobe's "Photoshop File Formats Specification" (2019): zune-psd 0.5 reads a third
//! of an uncompressed picture and paints what is missing black, without a word; psd 0.3 is not kept up.

mod file;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek};

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageBuffer, Rgb32FImage, RgbImage};

use self::file::{Header, rows, truncated};
use super::decode::Raster;
use super::image_rs::WHOLE;
use super::resize::eight_bits;
use super::stream::{Averages, Planes, Small};
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

/// Decodes the flattened picture, of a very large one the averages of blocks. Where it is transparent Photoshop has laid
/// it over white already, so alpha channels are left alone, as are saved selections. `length` is the file's, in bytes.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind, as Lab.
pub(super) fn decode(
    mut file: impl Read + Seek,
    length: u64,
    wanted: &Wanted<'_>,
) -> Result<Raster, Unreadable> {
    let header = Header::read(&mut file)?;
    let size = header.size;
    wanted.check_size(size)?;
    match (header.depth, header.mode) {
        (32, Mode::Grey | Mode::Rgb)
        | (1, Mode::Bitmap)
        | (8 | 16, Mode::Grey | Mode::Rgb | Mode::Cmyk)
        | (8, Mode::Indexed) => {}
        (depth, mode) => return Err(rare(format!("{mode:?} of {depth} bits a sample"))),
    }
    let rows = u64::from(size.1) * header.mode.channels() as u64;
    // A header that claims much is cheap, so the memory is asked for once the pixels are there.
    let least = if header.is_packed { header.row().div_ceil(64) } else { header.row() };
    if length.saturating_sub(file.stream_position()?) < least as u64 * rows {
        return Err(truncated());
    }
    let is_light = header.depth == 32;
    let bytes = u64::from(size.0) * rows * if is_light { 8 } else { 2 };
    let small = (bytes > WHOLE && !is_light).then(|| by_rows(&header, &mut file, wanted));
    let (scale, image) = match small.transpose()?.flatten() {
        Some(small) => small,
        None => {
            let _permit = wanted.room_for(bytes)?;
            (1.0, whole(&header, &mut file)?)
        }
    };
    // Inks were turned into sRGB with their profile, and light was tone-mapped, already.
    let is_done = is_light || header.mode == Mode::Cmyk;
    let mut metadata = header.metadata;
    metadata.icc.take_if(|_| is_done);
    // Photoshop turns what it opens, and may leave the camera's EXIF as it was.
    let orientation = Some(Orientation::NoTransforms);
    Ok(Raster { scale, ..Raster::whole(image, size, metadata, orientation) })
}

/// The averages of blocks, channel after channel as they come; `None` where that saves nothing.
fn by_rows(
    header: &Header,
    file: &mut impl Read,
    wanted: &Wanted<'_>,
) -> Result<Option<Small>, Unreadable> {
    let palette = header.palette()?;
    let channels = palette.map_or(header.mode.channels(), |_| 3);
    let Some(mut planes) = Planes::new(header.size, channels, wanted) else { return Ok(None) };
    let sample = narrow(header.depth);
    let mut samples = vec![0; header.size.0 as usize];
    rows(header, file, |channel, _, row| match palette {
        Some(palette) => {
            for (channel, colours) in palette.chunks_exact(256).enumerate() {
                let indices = samples.iter_mut().zip(row);
                indices.for_each(|(sample, index)| *sample = colours[usize::from(*index)]);
                planes.add(channel, &samples);
            }
        }
        None => {
            samples.iter_mut().enumerate().for_each(|(x, value)| *value = sample(row, x));
            planes.add(channel, &samples);
        }
    })?;
    let Averages { scale, size, samples, .. } = planes.finish();
    Ok(Some((scale, picture(header, size, samples))))
}

fn whole(header: &Header, file: &mut impl Read) -> Result<DynamicImage, Unreadable> {
    if header.depth == 32 {
        return Ok(tone::map(light(header, file)?));
    }
    let samples = samples_of(header, file, narrow(header.depth))?;
    let samples = match header.palette()? {
        Some(palette) => {
            let colours = samples.into_iter().map(usize::from);
            colours.flat_map(|n| [palette[n], palette[256 + n], palette[512 + n]]).collect()
        }
        None => samples,
    };
    Ok(picture(header, header.size, samples))
}

/// The samples of all channels side by side, each made of its bytes.
fn samples_of<T: Clone + Default>(
    header: &Header,
    file: &mut impl Read,
    sample: impl Fn(&[u8], usize) -> T,
) -> Result<Vec<T>, Unreadable> {
    let (width, channels) = (header.size.0 as usize, header.mode.channels());
    let mut out = vec![T::default(); width * header.size.1 as usize * channels];
    rows(header, file, |channel, y, row| {
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

/// Of samples that are what the mode says; those of an indexed picture are its colours.
fn picture(header: &Header, (width, height): (u32, u32), samples: Vec<u8>) -> DynamicImage {
    let rgb = |samples| RgbImage::from_raw(width, height, samples).map(DynamicImage::ImageRgb8);
    let picture = match header.mode {
        Mode::Bitmap | Mode::Grey => {
            GrayImage::from_raw(width, height, samples).map(DynamicImage::ImageLuma8)
        }
        Mode::Rgb | Mode::Indexed => rgb(samples),
        Mode::Cmyk => {
            // Stored inverted.
            let inks: Vec<u8> = samples.into_iter().map(|sample| 255 - sample).collect();
            rgb(colour::cmyk_to_rgb(&inks, header.metadata.icc.as_deref()))
        }
    };
    picture.expect("as many samples as were asked for")
}

/// Floats, for the tone mapping.
fn light(header: &Header, file: &mut impl Read) -> Result<DynamicImage, Unreadable> {
    let float = |row: &[u8], x: usize| {
        f32::from_be_bytes([row[4 * x], row[4 * x + 1], row[4 * x + 2], row[4 * x + 3]])
    };
    let samples = samples_of(header, file, float)?;
    let (width, height) = header.size;
    let samples = match header.mode {
        Mode::Rgb => samples,
        _ => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
    };
    let image: Rgb32FImage =
        ImageBuffer::from_raw(width, height, samples).expect("as many samples as were asked for");
    Ok(image.into())
}

fn damaged(reason: String) -> Unreadable {
    Unreadable::Damaged { reason }
}

fn rare(reason: String) -> Unreadable {
    Unreadable::Variant { format: FORMAT, reason }
}
