//! JPEG 2000, as archives and libraries keep their scans, by hayro-jpeg2000.
//!
//! Such a picture is coded in sizes, each half of the next. Of a large one only as much is decoded as is looked at:
//! of 100 megapixels 1.6, in a twelfth of the time and with a thirtieth of the memory.

mod codestream;

use hayro_jpeg2000::{
    ColorSpace, DecodeError, DecodeSettings, DecoderContext, DecodingError, FormatError, Image,
    MarkerError,
};
use image::{DynamicImage, ImageBuffer};

use self::codestream::{START, Structure};
use super::boxes::boxes;
use super::decode::{Metadata, Raster};
use super::image_rs::WHOLE;
use super::wanted::Wanted;
use super::{DecodeMode, Unreadable, colour};

const FORMAT: &str = "JPEG 2000";

/// What the UUID boxes begin with that hold EXIF and XMP (the latter by ISO 16684-1).
const EXIF: &[u8; 16] = b"JpgTiffExif->JP2";
const XMP: &[u8; 16] = b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";

/// Bytes that a sample takes while it is decoded: of 12 and of 100 megapixels in colour 24 a pixel were seen.
const SAMPLE_BYTES: u64 = 9;

/// Bytes that a code block of the tile that is decoded takes, whatever its size: 150 were seen; and that a tile takes
/// before, of each component.
const BLOCK_BYTES: u64 = 160;
const TILE_BYTES: u64 = 1_000;

/// What would take more bytes than this, as a long panorama, is left with half of the side that others are, as JPEGs are that
/// are coded in passes.
const HEAVY: u64 = 400_000_000;

/// Their numbers have 16 bits.
const MOST_TILES: u64 = 1 << 16;

/// A file of a few bytes can ask for as many blocks as samples. Of 500 megapixels in blocks of 16 x 16 there are 8 million.
const MOST_BLOCKS: u64 = 1 << 26;

/// Whether it is a file of boxes, or what such a file has in one of them.
pub(super) fn is_jp2(head: &[u8]) -> bool {
    head.starts_with(b"\0\0\0\x0cjP  ") || head.starts_with(START)
}

/// Decodes the picture, of a large one a smaller size that it is coded in.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let open = |target_resolution| {
        let settings = DecodeSettings { target_resolution, ..DecodeSettings::default() };
        Image::new(bytes, &settings).map_err(reason)
    };
    let whole = open(None)?;
    let size = (whole.width(), whole.height());
    wanted.check_size(size)?;
    let structure = codestream(bytes).and_then(Structure::read);
    let Some(Structure { is_complete: true, tiles, blocks }) = structure else {
        return Err(Unreadable::Truncated { format: FORMAT });
    };
    if tiles > MOST_TILES || tiles.max(1).saturating_mul(blocks) > MOST_BLOCKS {
        return Err(rare(format!("{tiles} tiles of {blocks} code blocks")));
    }
    let colours = usize::from(whole.color_space().num_channels());
    let channels = colours + usize::from(whole.has_alpha());
    if !matches!((colours, whole.has_alpha()), (1 | 3, _) | (4, false)) {
        return Err(rare(format!("{channels} samples a pixel")));
    }
    let bytes_of = |picture: &Image<'_>| {
        u64::from(picture.width()) * u64::from(picture.height()) * channels as u64
    };
    let is_small = wanted.mode == DecodeMode::Exact && bytes_of(&whole) <= WHOLE;
    let least = wanted.least_side();
    let at_least = |side| open(Some((side, side)));
    let mut picture = if is_small { whole } else { at_least(least)? };
    if !is_small && bytes_of(&picture) * SAMPLE_BYTES > HEAVY {
        picture = at_least(least / 2)?;
    }
    let of_tiles = blocks * BLOCK_BYTES + tiles * channels as u64 * TILE_BYTES;
    let decoded_size = (picture.width(), picture.height());
    let _permit = wanted.room_for(bytes_of(&picture) * SAMPLE_BYTES + of_tiles)?;
    let mut context = DecoderContext::default();
    let samples = picture.decode(&mut context).map_err(reason)?.data_u8();
    drop(context);
    let mut metadata = metadata(bytes);
    let image = coloured(decoded_size, samples, picture.color_space(), &mut metadata)
        .ok_or_else(|| Unreadable::damaged("it has too few samples"))?;
    // A size is half of the next, rounded up, and its pixels lie on every second one of that, not between two.
    let halvings = (f64::from(size.0) / f64::from(decoded_size.0)).log2().round() as i32;
    let scale = 0.5f64.powi(halvings);
    let before = (scale - 1.0) / 2.0;
    Ok(Raster { scale, corner: (before, before), ..Raster::whole(image, size, metadata, None) })
}

/// What the samples mean: inks and CIE Lab become sRGB, a profile goes with the others.
fn coloured(
    (width, height): (u32, u32),
    samples: Vec<u8>,
    space: &ColorSpace,
    metadata: &mut Metadata,
) -> Option<DynamicImage> {
    /// Where a profile says what it is of (ICC.1, 7.2).
    const OF_LAB: (usize, &[u8]) = (16, b"Lab ");
    let profile = match space {
        ColorSpace::Icc { profile, .. } => Some(profile.as_slice()),
        _ => None,
    };
    let pixels = width as usize * height as usize;
    let rgb = |samples| ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgb8);
    match (space.num_channels(), samples.len() / pixels.max(1)) {
        (4, 4) => return rgb(colour::cmyk_to_rgb(&samples, profile)),
        (3, 3)
            if profile
                .and_then(|profile| profile.get(OF_LAB.0..))
                .is_some_and(|what| what.starts_with(OF_LAB.1)) =>
        {
            let lab = samples.as_chunks::<3>().0.iter();
            return rgb(lab.flat_map(|lab| colour::lab_to_rgb(*lab)).collect());
        }
        _ => metadata.icc = profile.map(<[u8]>::to_vec),
    }
    match samples.len() / pixels.max(1) {
        1 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageLuma8),
        2 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageLumaA8),
        3 => rgb(samples),
        4 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgba8),
        _ => None,
    }
}

fn metadata(bytes: &[u8]) -> Metadata {
    let uuid = |id: &[u8; 16]| {
        let uuids = boxes(bytes).filter(|found| &found.kind == b"uuid");
        uuids.filter_map(|found| found.content.strip_prefix(id)).map(<[u8]>::to_vec).next()
    };
    Metadata { exif: uuid(EXIF), xmp: uuid(XMP), icc: None }
}

/// The box of the codestream, or all where it is by itself.
fn codestream(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.starts_with(START) {
        true => Some(bytes),
        false => last_box(bytes),
    }
}

/// What the box of the codestream holds; of several the last, as the decoder has it.
fn last_box(bytes: &[u8]) -> Option<&[u8]> {
    let found = boxes(bytes).filter(|found| &found.kind == b"jp2c").last();
    found.map(|found| found.content)
}

fn reason(error: DecodeError) -> Unreadable {
    match error {
        DecodeError::Format(FormatError::Unsupported)
        | DecodeError::Marker(MarkerError::Unsupported) => rare(error.to_string()),
        DecodeError::Decoding(DecodingError::UnexpectedEof) => {
            Unreadable::Truncated { format: FORMAT }
        }
        _ => Unreadable::damaged(error),
    }
}

fn rare(reason: String) -> Unreadable {
    Unreadable::Variant { format: FORMAT, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::sample;
    use crate::photo::decode::tests::{golden, wanted};
    use crate::photo::{DecodeOptions, from_bytes};

    #[test]
    fn every_cut_is_refused() {
        for name in ["colour.jp2", "alpha.jp2", "tiles.j2k"] {
            let whole = golden(name);
            assert!(decode(&whole, &wanted(224)).is_ok(), "{name}");
            for end in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
                assert!(decode(&whole[..end], &wanted(224)).is_err(), "{name} to {end}");
            }
        }
    }

    #[test]
    fn grey_and_alpha_stay_what_they_are() {
        let kind = |name| decode(&golden(name), &wanted(224)).unwrap().image.color();
        assert_eq!(kind("sixteen.jp2"), image::ColorType::L8);
        assert_eq!(kind("alpha.jp2"), image::ColorType::Rgba8);
        assert_eq!(kind("colour.jp2"), image::ColorType::Rgb8);
    }

    #[test]
    fn of_a_large_one_a_smaller_size_is_decoded() {
        let bytes = golden("colour.jp2");
        let whole = decode(&bytes, &Wanted { mode: DecodeMode::Exact, ..wanted(12) }).unwrap();
        assert_eq!((whole.scale, whole.image.width(), whole.image.height()), (1.0, 301, 200));
        // 4 times 12 is a quarter of 200, nearly.
        let small = decode(&bytes, &wanted(12)).unwrap();
        assert_eq!((small.scale, small.size), (0.25, (301, 200)));
        assert_eq!((small.image.width(), small.image.height()), (76, 50));
        // What the network sees is nearly the same.
        let seen = |mode| {
            let options = DecodeOptions { mode, ..DecodeOptions::default() };
            let photo = from_bytes(bytes.clone()).unwrap();
            crate::photo::decode(&photo, &sample::preprocessing(10, 12), &options).unwrap().pixels
        };
        let (small, whole) = (seen(DecodeMode::Fast), seen(DecodeMode::Exact));
        let apart = small.as_rgb().iter().zip(whole.as_rgb()).map(|(a, b)| a.abs_diff(*b));
        assert!(apart.clone().max() <= Some(3), "{:?}", apart.collect::<Vec<_>>());
        assert_eq!(decode(&bytes, &Wanted { whole: true, ..wanted(12) }).unwrap().scale, 1.0);
    }

    #[test]
    fn exif_and_xmp_lie_in_boxes_of_their_own() {
        let boxed = |id: &[u8], content: &[u8]| {
            let length = (24 + content.len() as u32).to_be_bytes();
            [&length[..], b"uuid", id, content].concat()
        };
        let bytes = [golden("colour.jp2"), boxed(EXIF, b"II*\0"), boxed(XMP, b"<x/>")].concat();
        let metadata = decode(&bytes, &wanted(224)).unwrap().metadata;
        assert_eq!(metadata.exif.as_deref(), Some(&b"II*\0"[..]));
        assert_eq!(metadata.xmp.as_deref(), Some(&b"<x/>"[..]));
    }
}
