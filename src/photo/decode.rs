//! Bytes → the upright square the network sees, whatever the bytes do.

use std::io::{Cursor, Read, Seek};
use std::sync::Arc;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::budget::Budget;
use super::format::{Decoder, Format};
use super::guard::quietly;
use super::read::{Content, PhotoBytes};
use super::region::{self, Region};
use super::resize::Source;
use super::wanted::Wanted;
use super::{
    DECODER_VERSION, Unreadable, colour, facts, heif, ico, image_rs, jp2, jpeg, jxl, psd, raw,
    read, resize, tiff, tone,
};
use crate::network::{Filter, Pixels, Preprocessing};
use crate::record::PhotoFacts;

/// How exactly pixels are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecodeMode {
    /// Large JPEGs are decoded to a smaller size, never below four times the one the network asks for, but
    /// for those with much clipped grain: of 500 photos made for the purpose the cosine with the reference
    /// was 0.9991 at least and 0.9999 in the mean (`benches/RESULTS.md`).
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
    /// The most bytes of memory that one picture may take: its file, and what decoding allocates. JPEG, JPEG 2000, PNG,
    /// TIFF, GIF, BMP, PPM, PSD, QOI, TGA, OpenEXR, HDR, WebP with loss and HEIC in tiles are decoded in little, whatever their size;
    /// others, and progressive JPEG that is long and narrow, whole.
    pub max_bytes: u64,
    /// Shared by all pictures that are decoded at once.
    pub budget: Arc<Budget>,
    /// The part of the upright picture that is looked at, `None` for all of it. It is cut out before
    /// anything is made smaller, so every pixel is decoded, whatever `mode` says.
    pub region: Option<Region>,
}

impl DecodeOptions {
    /// The default of [`DecodeOptions::max_megapixels`].
    pub const MAX_MEGAPIXELS: u32 = 500;

    /// The default of [`DecodeOptions::max_bytes`].
    pub const MAX_BYTES: u64 = 2_000_000_000;

    /// The default size of [`DecodeOptions::budget`], in bytes: two photos of 40 megapixels at full size.
    pub const BUDGET: u64 = 256 << 20;

    /// A number for these limits and this version of the decoders, which is no version: what was left out for its size
    /// is to be looked at again with others.
    pub fn limits_mark(&self) -> u32 {
        const NO_VERSION: u32 = 1 << 31;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&DECODER_VERSION.to_le_bytes());
        hasher.update(&self.max_megapixels.to_le_bytes());
        hasher.update(&self.max_bytes.to_le_bytes());
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        u32::from_le_bytes([a, b, c, d]) | NO_VERSION
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            mode: DecodeMode::default(),
            max_megapixels: Self::MAX_MEGAPIXELS,
            max_bytes: Self::MAX_BYTES,
            budget: Arc::new(Budget::new(Self::BUDGET)),
            region: None,
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

/// What a decoder gives: the pixels as they are stored, perhaps made smaller.
pub(super) struct Raster {
    pub(super) image: DynamicImage,
    /// Width and height of the whole picture, as stored.
    pub(super) size: (u32, u32),
    /// How many pixels of `image` lie along one of the whole picture, at most 1.
    pub(super) scale: f64,
    /// Left and top of `image`, in pixels of its own: of some pictures only a part is decoded, and what some decoders make
    /// smaller lies between the pixels.
    pub(super) corner: (f64, f64),
    /// Whether its rows have been resized to the square's already.
    pub(super) is_narrow: bool,
    pub(super) metadata: Metadata,
    /// What makes it upright, where the format says so outside of EXIF.
    pub(super) orientation: Option<Orientation>,
}

impl Raster {
    /// All of a picture, at its size.
    pub(super) fn whole(
        image: DynamicImage,
        size: (u32, u32),
        metadata: Metadata,
        orientation: Option<Orientation>,
    ) -> Self {
        let (scale, corner, is_narrow) = (1.0, (0.0, 0.0), false);
        Self { image, size, scale, corner, is_narrow, metadata, orientation }
    }

    /// Of linear light what a screen shows.
    fn tone_mapped(self) -> Self {
        Self { image: tone::map(self.image), ..self }
    }
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

impl Metadata {
    /// What makes the picture upright. One whose EXIF cannot be read is shown as it is stored, as every viewer does.
    pub(super) fn orientation(&self) -> Orientation {
        let by_exif = self.exif.as_deref().and_then(Orientation::from_exif_chunk);
        let by_xmp = || self.xmp.as_deref().and_then(facts::orientation_of_xmp);
        by_exif.or_else(by_xmp).unwrap_or(Orientation::NoTransforms)
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
        max_bytes: options.max_bytes,
        file_bytes: 0,
        shorter_side: preprocessing.resize,
        square: preprocessing.size,
        whole: options.region.is_some(),
        may_narrow: preprocessing.filter == Filter::Bilinear
            && matches!(photo.format.decoder(), Decoder::Jpeg),
    };
    let Raster { image, size, scale, corner, is_narrow, metadata, orientation } =
        raster(photo, &wanted)?;
    let orientation = orientation.unwrap_or_else(|| metadata.orientation());
    let image = eight_bits(image);
    let image = match &metadata.icc {
        Some(profile) => colour::to_srgb(image, profile),
        None => image,
    };
    let rgb = over_white(image);
    let (rgb, looked_at) = match &options.region {
        Some(region) => {
            let part = region::cut(&rgb, orientation, region)?;
            let dimensions = part.dimensions();
            (part, dimensions)
        }
        None => (rgb, size),
    };
    let stored = rgb.dimensions();
    let source = Source { rgb: &rgb, stored, corner, whole: looked_at, scale, is_narrow };
    let square = resize::to_square(&source, orientation, preprocessing);
    let pixels = Pixels::new(preprocessing.size, preprocessing.size, square);
    let (width, height) = resize::upright(size, orientation);
    let (format, details) = (photo.format.name(), facts::details(&metadata));
    Ok(Photo { pixels, facts: PhotoFacts { width, height, format, details } })
}

/// Hands the bytes to the decoder of their format.
fn raster(photo: &PhotoBytes, wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let (file, bytes) = match &photo.content {
        Content::Held(bytes) => return raster_of(bytes, photo.format, &wanted.beside(bytes)),
        Content::OnDisk { file, bytes } => (file, *bytes),
    };
    let by_rows = match photo.format.decoder() {
        // In no other way.
        Decoder::Psd => return psd::decode(read::from_start(file)?, bytes, wanted),
        Decoder::ImageCrate(kind) => image_rs::decode_by_rows(file, photo.format, kind, wanted)?,
        Decoder::LinearLight(kind) => {
            image_rs::decode_by_rows(file, photo.format, kind, wanted)?.map(Raster::tone_mapped)
        }
        _ => tiff::decode_by_rows(file, wanted)?,
    };
    if let Some(raster) = by_rows {
        return Ok(raster);
    }
    // Nothing else is decoded meanwhile: what this takes is held against its own limit only.
    let _all = wanted.room_for_all(bytes)?;
    let mut held = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    let mut file = file;
    file.rewind()?;
    file.read_to_end(&mut held)?;
    let alone = Budget::new(u64::MAX);
    raster_of(&held, photo.format, &Wanted { budget: &alone, ..wanted.beside(&held) })
}

/// The same, from memory.
fn raster_of(bytes: &[u8], format: Format, wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    match format.decoder() {
        Decoder::Jpeg => jpeg::decode(bytes, wanted),
        Decoder::ImageCrate(kind) => image_rs::decode(bytes, format, kind, wanted),
        Decoder::LinearLight(kind) => {
            image_rs::decode(bytes, format, kind, wanted).map(Raster::tone_mapped)
        }
        Decoder::Ico => ico::decode(bytes, wanted),
        Decoder::Jxl => jxl::decode(bytes, wanted),
        Decoder::Jp2 => jp2::decode(bytes, wanted),
        Decoder::Libheif => heif::decode(bytes, format, wanted),
        Decoder::Psd => psd::decode(Cursor::new(bytes), bytes.len() as u64, wanted),
        Decoder::Tiff => tiff::decode(bytes, wanted),
        Decoder::RawPreview => raw::decode(bytes, wanted),
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
    use crate::random::split_mix;

    /// The whole of a square picture, without a margin.
    pub(in crate::photo) fn square(size: u32) -> Preprocessing {
        crate::network::sample::preprocessing(size, size)
    }

    /// What a network that asks for a shorter side of `side` pixels wants.
    pub(in crate::photo) fn wanted(side: u32) -> Wanted<'static> {
        static BUDGET: std::sync::LazyLock<Budget> =
            std::sync::LazyLock::new(|| Budget::new(1 << 20));
        let (mode, budget) = (DecodeMode::Fast, &*BUDGET);
        let (max_megapixels, shorter_side, square) = (1, side, side);
        let max_bytes = DecodeOptions::MAX_BYTES;
        Wanted {
            mode,
            budget,
            max_megapixels,
            max_bytes,
            file_bytes: 0,
            shorter_side,
            square,
            whole: false,
            may_narrow: false,
        }
    }

    /// A picture that the reference has decoded, too.
    pub(in crate::photo) fn golden(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/golden/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    fn decode_default(photo: &PhotoBytes, size: u32) -> Result<Photo, Unreadable> {
        decode(photo, &square(size), &DecodeOptions::default())
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn encode(image: &DynamicImage, format: ImageFormat) -> PhotoBytes {
        from_bytes(encoded(image, format)).unwrap()
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
        let mut png = encoded(&DynamicImage::new_rgb8(1, 1), ImageFormat::Png);
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
            let whole = encoded(&image, format);
            let mut refused = 0;
            let cuts: Vec<usize> = (20..whole.len() * 9 / 10).step_by(11).collect();
            for &end in &cuts {
                let cut = from_bytes(whole[..end].to_vec());
                refused += usize::from(cut.and_then(|p| decode_default(&p, 8)).is_err());
            }
            assert_eq!(refused, cuts.len(), "{format:?}");
        }
    }

    #[test]
    fn a_large_file_is_decoded_from_disk_like_one_in_memory() {
        let side = 3_400;
        let mut noise = 1;
        // Noise does not compress: 34 MB each.
        let image = RgbImage::from_fn(side, side, |x, y| {
            let noise = split_mix(&mut noise).to_le_bytes();
            image::Rgb([noise[0] / 2 + (x / 30) as u8, noise[1], noise[2] / 2 + (y / 30) as u8])
        });
        let deep = deep(2_500);
        let words: Vec<u8> = deep.iter().flat_map(|value| value.to_be_bytes()).collect();
        let planes: Vec<u8> =
            (0..3).flat_map(|c| image.iter().skip(c).step_by(3)).copied().collect();
        let psd = b"8BPS\0\x01\0\0\0\0\0\0\0\x03\0\0\x0d\x48\0\0\x0d\x48\0\x08\0\x03";
        let (small, deep) = (DynamicImage::from(image), DynamicImage::from(deep));
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            ("a.png", encoded(&small, ImageFormat::Png)),
            ("b.tif", encoded(&small, ImageFormat::Tiff)),
            ("c.tif", encoded(&deep, ImageFormat::Tiff)),
            ("d.bmp", encoded(&small, ImageFormat::Bmp)),
            ("e.ppm", [b"P6 2500 2500 65535\n", words.as_slice()].concat()),
            ("f.psd", [psd, [0; 14].as_slice(), &planes].concat()),
        ];
        for (name, bytes) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let on_disk = crate::photo::read(&path, u64::MAX).unwrap();
            assert!(matches!(on_disk.content, Content::OnDisk { .. }), "{name}");
            let held = from_bytes(bytes).unwrap();
            assert_eq!(on_disk.hash(), held.hash(), "{name}");
            // Little memory is what reading by rows is for.
            let options = DecodeOptions { max_bytes: 1 << 20, ..DecodeOptions::default() };
            let by_rows = decode(&on_disk, &square(64), &options).unwrap();
            let whole = decode(&held, &square(64), &DecodeOptions::default()).unwrap();
            let apart = by_rows.pixels.as_rgb().iter().zip(whole.pixels.as_rgb());
            assert!(apart.map(|(a, b)| a.abs_diff(*b)).max() <= Some(2), "{name}");
            assert_eq!(by_rows.facts, whole.facts, "{name}");
        }
    }

    #[test]
    fn what_takes_more_memory_than_allowed_is_refused() {
        let photo = encode(&DynamicImage::new_rgb8(400, 300), ImageFormat::Bmp);
        let options = DecodeOptions { max_bytes: 900_000, ..DecodeOptions::default() };
        let error = decode(&photo, &square(8), &options).unwrap_err();
        assert_eq!(
            error.to_string(),
            "too large: to read and decode it takes 2 MB of memory, over the limit of 0 MB (--max-memory)"
        );
    }

    /// 16 bits a channel.
    fn deep(side: u32) -> image::ImageBuffer<image::Rgb<u16>, Vec<u16>> {
        image::ImageBuffer::from_fn(side, side, |x, y| {
            image::Rgb([(x * 20) as u16, (y * 20) as u16, ((x + y) * 10) as u16])
        })
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
