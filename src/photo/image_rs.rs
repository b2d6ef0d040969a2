//! What the `image` crate decodes: most formats that are no JPEG.

use std::fs::File;
use std::io::{BufRead, Cursor, Seek};

use image::codecs::hdr::HdrDecoder;
use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::decode::{Metadata, Raster};
use super::format::Format;
use super::read::from_start;
use super::wanted::Wanted;
use super::{Unreadable, stream};

/// What takes more bytes than this decoded whole is decoded by rows where that works: 64 million are 21
/// megapixels of PNG.
pub(super) const WHOLE: u64 = 64_000_000;

/// The most that a PNG's compressed texts and profiles may grow to, in bytes: an 815 KB file was seen
/// to take 404 MB.
const MAX_PNG_METADATA: u64 = 64 << 20;

/// Decodes every pixel, or of what is very large every few pixels' average.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    as_format: ImageFormat,
    wanted: &Wanted<'_>,
) -> Result<Raster, Unreadable> {
    let mut decoder = decoder(Cursor::new(bytes), as_format, wanted.max_bytes)
        .map_err(|error| reason(format, &error))?;
    let size = decoder.dimensions();
    wanted.check_size(size)?;
    let metadata = metadata(&mut *decoder);
    // Of EXIF, as the prefix above kept `image` from seeing it.
    let orientation = None;
    let by_rows = || match format {
        Format::Gif => Ok(stream::gif(bytes, wanted)),
        Format::WebP => {
            let lossless = || stream::lossless(bytes, size, wanted);
            Ok(stream::webp(bytes, size, wanted).or_else(lossless))
        }
        _ => by_rows(Cursor::new(bytes), format, size, wanted),
    };
    let is_large = decoder.total_bytes() > WHOLE;
    if is_large && let Some((scale, image)) = by_rows()? {
        return Ok(Raster { scale, ..Raster::whole(image, size, metadata, orientation) });
    }
    // Besides what comes out WebP's decoder holds it in RGB. OpenEXR's holds it twice, and mapping light takes as much;
    // 8-bit RGB is made of the others.
    let pixels = u64::from(size.0) * u64::from(size.1);
    let besides = pixels
        * match format {
            Format::WebP => 3,
            Format::Exr => 20,
            _ if is_large && wanted.block_side(size).is_some() => 0,
            Format::Hdr => 20,
            _ => 3,
        };
    let _permit = wanted.room_for(decoder.total_bytes() + besides)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| reason(format, &error))?;
    if matches!(format, Format::Bmp | Format::Tga) {
        unless_invisible(&mut image);
    }
    let small = if is_large { stream::whole(&image, wanted) } else { None };
    let (scale, image) = small.unwrap_or((1.0, image));
    Ok(Raster { scale, ..Raster::whole(image, size, metadata, orientation) })
}

/// Decodes a large file, holding a few rows of it; `None` where that does not work.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_by_rows(
    file: &File,
    format: Format,
    as_format: ImageFormat,
    wanted: &Wanted<'_>,
) -> Result<Option<Raster>, Unreadable> {
    let opened = decoder(from_start(file)?, as_format, wanted.max_bytes);
    let mut decoder = opened.map_err(|error| reason(format, &error))?;
    let size = decoder.dimensions();
    wanted.check_size(size)?;
    let metadata = metadata(&mut *decoder);
    drop(decoder);
    let small = by_rows(from_start(file)?, format, size, wanted)?;
    let orientation = None;
    Ok(small.map(|(scale, image)| Raster {
        scale,
        ..Raster::whole(image, size, metadata, orientation)
    }))
}

fn by_rows<R: BufRead + Seek>(
    reader: R,
    format: Format,
    size: (u32, u32),
    wanted: &Wanted<'_>,
) -> Result<Option<stream::Small>, Unreadable> {
    match format {
        Format::Png => Ok(stream::png(reader, wanted)),
        Format::Bmp | Format::Pnm => stream::plain(reader, format, size, wanted),
        Format::Qoi => stream::qoi(reader, size, wanted),
        Format::Tga => stream::tga(reader, size, wanted),
        Format::Exr => Ok(stream::exr(reader, size, wanted)),
        Format::Hdr => Ok(stream::hdr(reader, size, wanted)),
        _ => Ok(None),
    }
}

fn metadata(decoder: &mut dyn ImageDecoder) -> Metadata {
    Metadata {
        exif: decoder.exif_metadata().unwrap_or(None).map(without_jpeg_prefix),
        xmp: decoder.xmp_metadata().unwrap_or(None),
        icc: decoder.icc_profile().unwrap_or(None),
    }
}

/// Programs that know no alpha leave its bits 0 in BMP and TGA: such a picture is meant to be seen.
fn unless_invisible(image: &mut DynamicImage) {
    if let DynamicImage::ImageRgba8(image) = image
        && image.pixels().all(|pixel| pixel.0[3] == 0)
    {
        image.pixels_mut().for_each(|pixel| pixel.0[3] = 255);
    }
}

/// Some programs write the prefix that EXIF has in JPEG into WebP, PNG and JPEG 2000, too.
pub(super) fn without_jpeg_prefix(exif: Vec<u8>) -> Vec<u8> {
    match exif.strip_prefix(b"Exif\0\0") {
        Some(rest) => rest.to_vec(),
        None => exif,
    }
}

fn decoder<'a, R: BufRead + Seek + 'a>(
    reader: R,
    format: ImageFormat,
    max_bytes: u64,
) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_bytes);
    match format {
        ImageFormat::Png => Ok(Box::new(png_decoder(reader, max_bytes)?)),
        // Strict, it would refuse what begins with `#?RGBE`.
        ImageFormat::Hdr => {
            let mut decoder = HdrDecoder::new_nonstrict(reader)?;
            decoder.set_limits(limits)?;
            Ok(Box::new(decoder))
        }
        _ => {
            let mut reader = ImageReader::with_format(reader, format);
            reader.limits(limits);
            Ok(Box::new(reader.into_decoder()?))
        }
    }
}

fn png_decoder<R: BufRead + Seek>(reader: R, max_bytes: u64) -> Result<PngDecoder<R>, ImageError> {
    // The PNG decoder holds the limits it was made with against its metadata only.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_PNG_METADATA);
    let mut decoder = PngDecoder::with_limits(reader, limits.clone())?;
    limits.max_alloc = Some(max_bytes);
    decoder.set_limits(limits)?;
    Ok(decoder)
}

/// Decoders that wrap the end of the file in an error of their own.
pub(super) const END_TEXTS: [&str; 2] = ["unexpected end of file", "failed to fill whole buffer"];

fn reason(format: Format, error: &ImageError) -> Unreadable {
    let format = format.usual_name();
    let text = error.to_string();
    let reason = || text.trim_end_matches('.').replace('\n', " ");
    match error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            Unreadable::Truncated { format }
        }
        _ if END_TEXTS.iter().any(|end| text.contains(end)) => Unreadable::Truncated { format },
        ImageError::Unsupported(_) => Unreadable::Variant { format, reason: reason() },
        _ => Unreadable::Damaged { reason: reason() },
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::photo::decode::tests::square;
    use crate::photo::{DecodeOptions, Photo, read};

    /// Writes what was encoded, under a name, as only that tells a TGA; and decodes it.
    fn decoded(bytes: &[u8], extension: &str) -> Result<Photo, Unreadable> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("photo").with_extension(extension);
        std::fs::write(&path, bytes).unwrap();
        crate::photo::decode(
            &read(&path, DecodeOptions::MAX_BYTES)?,
            &square(16),
            &DecodeOptions::default(),
        )
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(16, 16, |x, y| {
            image::Rgb([(x * 15) as u8, (y * 15) as u8, (x * y) as u8])
        })
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn exif_is_read_with_and_without_the_prefix_it_has_in_jpeg() {
        let exif = b"II*\0\x08\0\0\0".to_vec();
        assert_eq!(without_jpeg_prefix([b"Exif\0\0", exif.as_slice()].concat()), exif);
        assert_eq!(without_jpeg_prefix(exif.clone()), exif);
    }

    #[test]
    fn formats_without_loss_give_back_what_went_in() {
        let image = DynamicImage::ImageRgb8(picture());
        for (format, extension) in [
            (ImageFormat::Qoi, "qoi"),
            (ImageFormat::Pnm, "ppm"),
            (ImageFormat::Tga, "tga"),
            (ImageFormat::Bmp, "bmp"),
        ] {
            let photo = decoded(&encoded(&image, format), extension).unwrap();
            assert_eq!(photo.pixels.as_rgb(), picture().as_raw().as_slice(), "{format:?}");
        }
        let with_alpha = DynamicImage::ImageRgba8(image.to_rgba8());
        let photo = decoded(&encoded(&with_alpha, ImageFormat::Ico), "ico").unwrap();
        assert_eq!(photo.pixels.as_rgb(), picture().as_raw().as_slice());
        assert_eq!(photo.facts.format, "ico");
    }

    #[test]
    fn alpha_that_is_zero_everywhere_is_none() {
        let clear = |alpha| {
            image::RgbaImage::from_fn(16, 16, |x, _| {
                image::Rgba([10, 20, 30, if x == 0 { alpha } else { 0 }])
            })
        };
        for (format, extension) in [(ImageFormat::Bmp, "bmp"), (ImageFormat::Tga, "tga")] {
            let last = |alpha| {
                let bytes = encoded(&DynamicImage::ImageRgba8(clear(alpha)), format);
                decoded(&bytes, extension).unwrap().pixels.as_rgb().last_chunk::<3>().copied()
            };
            assert_eq!(last(0), Some([10, 20, 30]), "{format:?}");
            assert_eq!(last(255), Some([255; 3]), "{format:?}");
        }
    }

    #[test]
    fn linear_light_is_mapped_whatever_holds_it() {
        let light = image::Rgb32FImage::from_fn(16, 16, |x, _| {
            image::Rgb([0.5f32.powi(x as i32 / 4) * 40.0; 3])
        });
        let light = DynamicImage::ImageRgb32F(light);
        let mut hdr = encoded(&light, ImageFormat::Hdr);
        let exr = encoded(&light, ImageFormat::OpenExr);
        let (from_hdr, from_exr) = (decoded(&hdr, "hdr").unwrap(), decoded(&exr, "exr").unwrap());
        assert_eq!((from_hdr.facts.format, from_exr.facts.format), ("hdr", "exr"));
        let pixels = from_hdr.pixels.as_rgb().iter().zip(from_exr.pixels.as_rgb());
        assert!(pixels.map(|(a, b)| a.abs_diff(*b)).max() <= Some(1));
        let row = from_exr.pixels.as_rgb();
        assert!(row[0] == 255 && row[45] > 40 && row[45] < 160, "{:?}", &row[..48]);
        // As Radiance's own programs may begin it.
        hdr.splice(..b"#?RADIANCE".len(), *b"#?RGBE");
        assert_eq!(decoded(&hdr, "hdr").unwrap().pixels.as_rgb(), from_hdr.pixels.as_rgb());
    }

    #[test]
    fn cuts_of_formats_without_an_end_are_refused_and_none_panics() {
        let image = DynamicImage::ImageRgb8(picture());
        let light = DynamicImage::ImageRgb32F(image.to_rgb32f());
        for (image, format, extension) in [
            (&image, ImageFormat::Qoi, "qoi"),
            (&image, ImageFormat::Pnm, "ppm"),
            (&image, ImageFormat::Tga, "tga"),
            (&light, ImageFormat::Hdr, "hdr"),
            (&light, ImageFormat::OpenExr, "exr"),
        ] {
            let whole = encoded(image, format);
            for end in (24..whole.len() * 9 / 10).step_by(13) {
                let error = decoded(&whole[..end], extension).unwrap_err();
                assert!(!error.to_string().contains("gave up"), "{format:?} cut to {end}: {error}");
            }
        }
    }
}
