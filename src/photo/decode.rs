//! Bytes → the upright square the network sees, whatever the bytes do.

use std::io::Cursor;
use std::sync::Arc;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use super::budget::Budget;
use super::format::Format;
use super::guard::quietly;
use super::read::PhotoBytes;
use super::resize::Source;
use super::{Unreadable, colour, facts, jpeg, resize, stream};
use crate::network::{Pixels, Preprocessing};
use crate::record::PhotoFacts;

/// The most a decoder may allocate for one picture, in bytes.
const MAX_ALLOCATION: u64 = 2 << 30;

/// What takes more bytes than this decoded whole is decoded by rows where that works: 64 million are 21
/// megapixels of PNG.
const WHOLE: u64 = 64_000_000;

/// The most that a PNG's compressed texts and profiles may grow to, in bytes: an 815 KB file was seen
/// to take 404 MB.
const MAX_PNG_METADATA: u64 = 64 << 20;

/// The largest TIFF file whose facts are read, in bytes: that takes a copy of it.
const MAX_TIFF_FACTS: usize = 64 << 20;

/// How many times the shorter side after resizing a picture must have at least when it is decoded to a
/// smaller size: from 2 up the embeddings stay within 0.9995 of cosine.
const FAST_MARGIN: u32 = 2;

/// How exactly pixels are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecodeMode {
    /// Large JPEGs are decoded to a smaller size, never below twice the one the network asks for:
    /// embeddings differ by less than 0.001 of cosine, and a 12 megapixel photo takes half the time.
    #[default]
    Fast,
    /// Every pixel, as libjpeg-turbo gives it.
    Exact,
}

/// What decoding may cost.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Whether large JPEGs may be decoded to a smaller size.
    pub mode: DecodeMode,
    /// The largest picture that is decoded, in millions of pixels; read from the header, before
    /// anything is allocated.
    pub max_megapixels: u32,
    /// Shared by all pictures that are decoded at once.
    pub budget: Arc<Budget>,
}

impl DecodeOptions {
    /// The default of [`DecodeOptions::max_megapixels`].
    pub const MAX_MEGAPIXELS: u32 = 500;

    /// The default size of [`DecodeOptions::budget`], in bytes: two photos of 40 megapixels at full size.
    pub const BUDGET: u64 = 256 << 20;
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            mode: DecodeMode::default(),
            max_megapixels: Self::MAX_MEGAPIXELS,
            budget: Arc::new(Budget::new(Self::BUDGET)),
        }
    }
}

/// What decoding gives.
#[derive(Debug)]
pub struct Photo {
    /// The upright central square, as the preprocessing asks: `size` × `size`.
    pub pixels: Pixels,
    /// What is known of the whole picture.
    pub facts: PhotoFacts,
}

/// What a decoder must know.
pub(super) struct Wanted<'a> {
    pub(super) mode: DecodeMode,
    pub(super) budget: &'a Budget,
    max_megapixels: u32,
    /// The shorter side that the network asks for, in pixels.
    shorter_side: u32,
}

/// What a decoder gives: the pixels as they are stored, perhaps made smaller.
pub(super) struct Raster {
    pub(super) image: DynamicImage,
    /// Width and height of the whole picture, as stored.
    pub(super) size: (u32, u32),
    /// How many pixels of `image` lie along one of the whole picture, at most 1.
    pub(super) scale: f64,
    pub(super) metadata: Metadata,
    /// What makes it upright, where the format says so outside of EXIF.
    pub(super) orientation: Option<Orientation>,
}

/// What stands beside the pixels, undecoded.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// The TIFF structure.
    pub(super) exif: Option<Vec<u8>>,
    /// The XML packet.
    pub(super) xmp: Option<Vec<u8>>,
    /// The colour profile the pixels are in.
    pub(super) icc: Option<Vec<u8>>,
}

impl Wanted<'_> {
    /// Refuses a picture without pixels and one with more than are allowed.
    pub(super) fn check_size(&self, (width, height): (u32, u32)) -> Result<(), Unreadable> {
        if width == 0 || height == 0 {
            return Err(Unreadable::Damaged { reason: "it has no pixels".to_owned() });
        }
        let max_megapixels = self.max_megapixels;
        if u64::from(width) * u64::from(height) > u64::from(max_megapixels) * 1_000_000 {
            return Err(Unreadable::TooLarge { width, height, max_megapixels });
        }
        Ok(())
    }

    /// The shorter side that must remain of a picture that is made smaller while it is decoded.
    pub(super) fn least_side(&self) -> u32 {
        self.shorter_side * FAST_MARGIN
    }

    /// To how many eighths of its size a picture may be decoded: 1 to 4, or 8 for all of it. Between 4
    /// and 8, what is saved in pixels is lost by transforms of odd sizes.
    pub(super) fn eighths(&self, (width, height): (u32, u32)) -> u8 {
        let (shorter, least) = (u64::from(width.min(height)), u64::from(self.least_side()));
        let suffices = |eighths: &u8| shorter * u64::from(*eighths) >= least * 8;
        match self.mode {
            DecodeMode::Exact => 8,
            DecodeMode::Fast => (1..=4).find(suffices).unwrap_or(8),
        }
    }
}

/// Decodes a picture (the first frame, if it moves), turns its colours into sRGB, lays it over white,
/// turns it upright, and makes the square that `preprocessing` asks for.
///
/// # Errors
/// [`Unreadable`] when the bytes are damaged, truncated or more than can be decoded safely. A decoder
/// that panics counts as damage.
pub fn decode(
    photo: &PhotoBytes,
    preprocessing: &Preprocessing,
    options: &DecodeOptions,
) -> Result<Photo, Unreadable> {
    quietly(|| decode_or_panic(photo, preprocessing, options))
        .unwrap_or_else(|reason| Err(Unreadable::Damaged { reason }))
}

fn decode_or_panic(
    photo: &PhotoBytes,
    preprocessing: &Preprocessing,
    options: &DecodeOptions,
) -> Result<Photo, Unreadable> {
    let wanted = Wanted {
        mode: options.mode,
        budget: &options.budget,
        max_megapixels: options.max_megapixels,
        shorter_side: preprocessing.resize,
    };
    let Raster { image, size, scale, metadata, orientation } = match photo.format {
        Format::Jpeg => jpeg::decode(&photo.bytes, &wanted)?,
        _ => by_image_crate(photo, &wanted)?,
    };
    // A picture whose EXIF cannot be read is shown as it is stored, as every viewer does.
    let by_exif = || metadata.exif.as_deref().and_then(Orientation::from_exif_chunk);
    let orientation = orientation.or_else(by_exif).unwrap_or(Orientation::NoTransforms);
    let image = eight_bits(image);
    let image = match &metadata.icc {
        Some(profile) => colour::to_srgb(image, profile),
        None => image,
    };
    let rgb = over_white(image);
    let source = Source { rgb: &rgb, stored: rgb.dimensions(), whole: size, scale };
    let square = resize::to_square(&source, orientation, preprocessing);
    let pixels = Pixels::new(preprocessing.size, preprocessing.size, square);
    let (width, height) = match orientation.to_exif() {
        5..=8 => (size.1, size.0),
        _ => size,
    };
    let (format, details) = (photo.format.name(), facts::details(&metadata));
    Ok(Photo { pixels, facts: PhotoFacts { width, height, format, details } })
}

fn by_image_crate(photo: &PhotoBytes, wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let mut decoder = decoder(photo)?;
    let size = decoder.dimensions();
    wanted.check_size(size)?;
    let metadata = Metadata {
        exif: match photo.format {
            // A TIFF file is such a structure itself.
            Format::Tiff if photo.bytes.len() > MAX_TIFF_FACTS => None,
            Format::Tiff => Some(photo.bytes.clone()),
            _ => decoder.exif_metadata().unwrap_or(None),
        },
        xmp: decoder.xmp_metadata().unwrap_or(None),
        icc: decoder.icc_profile().unwrap_or(None),
    };
    let orientation = decoder.orientation().ok();
    if decoder.total_bytes() > WHOLE {
        let small = match photo.format {
            Format::Png => stream::png(&photo.bytes, wanted),
            Format::Tiff => stream::tiff(&photo.bytes, wanted),
            _ => None,
        };
        if let Some((scale, image)) = small {
            return Ok(Raster { image, size, scale, metadata, orientation });
        }
    }
    if decoder.total_bytes() > MAX_ALLOCATION {
        let max_megapixels = wanted.max_megapixels;
        return Err(Unreadable::TooLarge { width: size.0, height: size.1, max_megapixels });
    }
    // What comes out, and the 8-bit RGB that is made of it.
    let rgb = u64::from(size.0) * u64::from(size.1) * 3;
    let _permit = wanted.budget.take(decoder.total_bytes() + rgb);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(photo, &error))?;
    Ok(Raster { image, size, scale: 1.0, metadata, orientation })
}

fn decoder(photo: &PhotoBytes) -> Result<Box<dyn ImageDecoder + '_>, Unreadable> {
    let bytes = Cursor::new(photo.bytes.as_slice());
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOCATION);
    if photo.format == Format::Png {
        // The PNG decoder holds the limits it was made with against its metadata only.
        let mut metadata_limits = Limits::no_limits();
        metadata_limits.max_alloc = Some(MAX_PNG_METADATA);
        let mut decoder =
            PngDecoder::with_limits(bytes, metadata_limits).map_err(|e| damaged(photo, &e))?;
        decoder.set_limits(limits).map_err(|e| damaged(photo, &e))?;
        return Ok(Box::new(decoder));
    }
    let mut reader = ImageReader::with_format(bytes, photo.format.of_image_crate());
    reader.limits(limits);
    Ok(Box::new(reader.into_decoder().map_err(|e| damaged(photo, &e))?))
}

fn damaged(photo: &PhotoBytes, error: &ImageError) -> Unreadable {
    let format = photo.format.usual_name();
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

/// The same picture in 8 bits a channel.
fn eight_bits(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLuma16(_) => image.into_luma8().into(),
        DynamicImage::ImageLumaA16(_) => image.into_luma_alpha8().into(),
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgb32F(_) => image.into_rgb8().into(),
        DynamicImage::ImageRgba16(_) | DynamicImage::ImageRgba32F(_) => image.into_rgba8().into(),
        eight => eight,
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

#[cfg(test)]
pub(super) mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

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

    /// What a network that asks for a shorter side of `side` pixels wants.
    pub(in crate::photo) fn wanted(side: u32) -> Wanted<'static> {
        static BUDGET: std::sync::LazyLock<Budget> =
            std::sync::LazyLock::new(|| Budget::new(1 << 20));
        let (mode, budget) = (DecodeMode::Fast, &*BUDGET);
        Wanted { mode, budget, max_megapixels: 1, shorter_side: side }
    }

    fn decode_default(photo: &PhotoBytes, size: u32) -> Result<Photo, Unreadable> {
        decode(photo, &square(size), &DecodeOptions::default())
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
        let photo = decode_default(&encode(&image.into(), ImageFormat::Png), 8).unwrap();
        let rgb = photo.pixels.as_rgb();
        assert_eq!(rgb[..3], [255, 255, 255]);
        assert_eq!(rgb[21..24], [127, 177, 227]);
    }

    #[test]
    fn sixteen_bits_are_rounded_to_eight() {
        let image = image::ImageBuffer::from_pixel(4, 4, image::Luma([0x80ffu16]));
        let photo = decode_default(&encode(&image.into(), ImageFormat::Png), 4).unwrap();
        assert_eq!(photo.pixels.as_rgb(), [128; 48]);
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused_before_decoding() {
        let mut png = encode(&DynamicImage::new_rgb8(1, 1), ImageFormat::Png).bytes;
        png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let checksum = crc32(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&checksum);
        let error = decode_default(&from_bytes(png).unwrap(), 4).unwrap_err();
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
                refused += usize::from(cut.and_then(|p| decode_default(&p, 8)).is_err());
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
