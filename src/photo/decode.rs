//! Bytes → the upright square the network sees, whatever the bytes do.

use std::cell::Cell;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::read::PhotoBytes;
use super::{Unreadable, jpeg, resize, sniff};
use crate::network::{Pixels, Preprocessing};
use crate::record::PhotoFacts;

/// The largest picture that is decoded, in millions of pixels; read from the header, before anything
/// is allocated.
pub const MAX_MEGAPIXELS: u64 = 500;

/// The most a decoder may allocate for one picture, in bytes.
const MAX_ALLOCATION: u64 = 2 << 30;

/// The most that a PNG's compressed texts and profiles may grow to, in bytes: an 815 KB file was seen
/// to take 404 MB.
const MAX_PNG_METADATA: u64 = 64 << 20;

/// What decoding gives.
#[derive(Debug)]
pub struct Photo {
    /// The upright central square, as the preprocessing asks: `size` × `size`.
    pub pixels: Pixels,
    /// What is known of the whole picture.
    pub facts: PhotoFacts,
}

/// Decodes a picture (the first frame, if it moves), lays it over white, turns it upright, and makes
/// the square that `preprocessing` asks for.
///
/// # Errors
/// [`Unreadable`] when the bytes are damaged, truncated or more than can be decoded safely. A decoder
/// that panics counts as damage.
pub fn decode(photo: &PhotoBytes, preprocessing: &Preprocessing) -> Result<Photo, Unreadable> {
    quietly(|| decode_or_panic(photo, preprocessing)).unwrap_or_else(|| {
        Err(Unreadable::Damaged { reason: "the decoder gave up on it".to_owned() })
    })
}

fn decode_or_panic(photo: &PhotoBytes, preprocessing: &Preprocessing) -> Result<Photo, Unreadable> {
    if photo.format == ImageFormat::Jpeg
        && !jpeg::has_end(&photo.bytes)
        && !jpeg::is_complete_without_end(&photo.bytes)
    {
        return Err(Unreadable::Truncated { format: "JPEG" });
    }
    let mut decoder = decoder(photo)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Unreadable::Damaged { reason: "it has no pixels".to_owned() });
    }
    if u64::from(width) * u64::from(height) > MAX_MEGAPIXELS * 1_000_000
        || decoder.total_bytes() > MAX_ALLOCATION
    {
        return Err(Unreadable::TooLarge { width, height });
    }
    // A picture whose EXIF cannot be read is shown as it is stored, as every viewer does.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(photo, &error))?;
    let rgb = over_white(image);
    let pixels = resize::to_square(&rgb, rgb.dimensions(), orientation, preprocessing);
    let (width, height) = match orientation.to_exif() {
        5..=8 => (height, width),
        _ => (width, height),
    };
    Ok(Photo { pixels, facts: PhotoFacts { width, height, format: sniff::name(photo.format) } })
}

fn decoder(photo: &PhotoBytes) -> Result<Box<dyn ImageDecoder + '_>, Unreadable> {
    let bytes = Cursor::new(photo.bytes.as_slice());
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOCATION);
    if photo.format == ImageFormat::Png {
        // The PNG decoder holds the limits it was made with against its metadata only.
        let mut metadata_limits = Limits::no_limits();
        metadata_limits.max_alloc = Some(MAX_PNG_METADATA);
        let mut decoder =
            PngDecoder::with_limits(bytes, metadata_limits).map_err(|e| damaged(photo, &e))?;
        decoder.set_limits(limits).map_err(|e| damaged(photo, &e))?;
        return Ok(Box::new(decoder));
    }
    let mut reader = ImageReader::with_format(bytes, photo.format);
    reader.limits(limits);
    Ok(Box::new(reader.into_decoder().map_err(|e| damaged(photo, &e))?))
}

fn damaged(photo: &PhotoBytes, error: &ImageError) -> Unreadable {
    let format = sniff::usual_name(photo.format);
    let text = error.to_string();
    let reason = || text.trim_end_matches('.').replace('\n', " ");
    match error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            Unreadable::Truncated { format }
        }
        _ if text.contains("unexpected end of file") => Unreadable::Truncated { format },
        ImageError::Unsupported(_) => Unreadable::Variant { format, reason: reason() },
        _ => Unreadable::Damaged { reason: reason() },
    }
}

/// 8-bit RGB; what is transparent shows white, as on a page.
fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    let (width, height) = rgba.dimensions();
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    let (pixels, _) = rgba.as_raw().as_chunks::<4>();
    for &[r, g, b, alpha] in pixels {
        let blend = |value: u8| {
            let sum = u32::from(value) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
            ((sum + 127) / 255) as u8
        };
        rgb.extend([blend(r), blend(g), blend(b)]);
    }
    RgbImage::from_raw(width, height, rgb).expect("3 bytes a pixel")
}

/// Runs a decoder; `None` when it panicked, without the message that a panic prints otherwise.
fn quietly<T>(decode: impl FnOnce() -> T) -> Option<T> {
    thread_local!(static DECODING: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                loud(info);
            }
        }));
    });
    let before = DECODING.replace(true);
    // The decoder owns everything it may leave half done, and all of it is dropped here.
    let result = catch_unwind(AssertUnwindSafe(decode)).ok();
    DECODING.set(before);
    result
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;
    use crate::photo::from_bytes;

    fn square(size: u32) -> Preprocessing {
        Preprocessing {
            size,
            resize: size,
            filter: crate::network::Filter::Bilinear,
            channels: crate::network::Channels::Rgb,
            layout: crate::network::Layout::Nchw,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    fn encode(image: &DynamicImage, format: ImageFormat) -> PhotoBytes {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        from_bytes(bytes.into_inner()).unwrap()
    }

    #[test]
    fn what_is_transparent_shows_white() {
        let image =
            RgbaImage::from_fn(8, 8, |x, _| Rgba([0, 100, 200, if x < 4 { 0 } else { 128 }]));
        let photo = decode(&encode(&image.into(), ImageFormat::Png), &square(8)).unwrap();
        let rgb = photo.pixels.as_rgb();
        assert_eq!(rgb[..3], [255, 255, 255]);
        assert_eq!(rgb[21..24], [127, 177, 227]);
    }

    #[test]
    fn sixteen_bits_are_rounded_to_eight() {
        let image = image::ImageBuffer::from_pixel(4, 4, image::Luma([0x80ffu16]));
        let photo = decode(&encode(&image.into(), ImageFormat::Png), &square(4)).unwrap();
        assert_eq!(photo.pixels.as_rgb(), [128; 48]);
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused_before_decoding() {
        let mut png = encode(&DynamicImage::new_rgb8(1, 1), ImageFormat::Png).bytes;
        png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let checksum = crc32(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&checksum);
        let error = decode(&from_bytes(png).unwrap(), &square(4)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "too large: 65535 x 65535 pixels are over the limit of 500 megapixels"
        );
    }

    #[test]
    fn every_cut_of_every_format_is_refused_and_none_panics() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_fn(40, 30, |x, y| {
            image::Rgb([(x * 6) as u8, (y * 8) as u8, (x * y) as u8])
        }));
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp] {
            let whole = encode(&image, format).bytes;
            let mut refused = 0;
            let cuts: Vec<usize> = (20..whole.len() * 9 / 10).step_by(11).collect();
            for &end in &cuts {
                let cut = from_bytes(whole[..end].to_vec());
                refused += usize::from(cut.and_then(|p| decode(&p, &square(8))).is_err());
            }
            assert_eq!(refused, cuts.len(), "{format:?}");
        }
    }

    /// CRC-32 as PNG has it (ISO 3309), bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            })
        })
    }
}
