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
use super::boxes::{self, boxes};
use super::decode::{Metadata, Raster};
use super::image_rs::{WHOLE, without_jpeg_prefix};
use super::wanted::Wanted;
use super::{DecodeMode, Unreadable, colour};

const FORMAT: &str = "JPEG 2000";

/// What the UUID boxes begin with that hold EXIF, also Adobe's, and XMP (the latter by ISO 16684-1).
const EXIF: &[u8; 16] = b"JpgTiffExif->JP2";
const EXIF_OF_ADOBE: &[u8; 16] =
    b"\x05\x37\xcd\xab\x9d\x0c\x44\x31\xa7\x2a\xfa\x56\x1f\x2a\x11\x3e";
const XMP: &[u8; 16] = b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";

/// Bytes that a sample takes while it is decoded: of 12 and of 100 megapixels in colour 24 a pixel were seen.
const SAMPLE_BYTES: u64 = 9;

/// Bytes that a code block of the tile that is decoded takes, whatever its size, and each layer of it: 205 were seen with
/// one layer and 950 with 32. And what a tile takes before, of each component.
const BLOCK_BYTES: u64 = 200;
const LAYER_BYTES: u64 = 24;
const TILE_BYTES: u64 = 1_000;

/// The decoder takes no more.
const MOST_LAYERS: u64 = 32;

/// What would take more bytes than this, as a long panorama, is left with half of the side that others are, as JPEGs are that
/// are coded in passes.
const HEAVY: u64 = 400_000_000;

/// Their numbers have 16 bits.
const MOST_TILES: u64 = 1 << 16;

/// A file of a few bytes can ask for as many blocks as samples. Of 500 megapixels in blocks of 16 x 16 there are 8 million.
const MOST_BLOCKS: u64 = 1 << 26;

/// Nodes of the trees over them: 3.5 ns each were seen.
const MOST_NODES: u64 = 1 << 32;

/// Whether it is a file of boxes, or what such a file has in one of them.
pub(super) fn is_jp2(head: &[u8]) -> bool {
    head.starts_with(b"\0\0\0\x0cjP  ") || head.starts_with(START)
}

/// Decodes the picture, of a large one a smaller size that it is coded in.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let shown = to_first(bytes);
    let structure = codestream(shown).and_then(Structure::read);
    if let Some(Structure { layers, .. }) = structure
        && layers > MOST_LAYERS
    {
        return Err(rare(format!("{layers} layers")));
    }
    let open = |target_resolution| {
        let settings = DecodeSettings { target_resolution, ..DecodeSettings::default() };
        Image::new(shown, &settings).map_err(reason)
    };
    let whole = open(None)?;
    let size = (whole.width(), whole.height());
    wanted.check_size(size)?;
    let Some(structure @ Structure { is_complete: true, tiles, blocks, layers, .. }) = structure
    else {
        return Err(Unreadable::Truncated { format: FORMAT });
    };
    let of_all = |of_a_tile: u64| tiles.max(1).saturating_mul(of_a_tile);
    if tiles > MOST_TILES || of_all(blocks) > MOST_BLOCKS || of_all(structure.nodes) > MOST_NODES {
        return Err(rare(format!("{tiles} tiles of {blocks} code blocks")));
    }
    let colours = usize::from(whole.color_space().num_channels());
    let channels = colours + usize::from(whole.has_alpha());
    if !matches!((colours, whole.has_alpha()), (1 | 3, _) | (4, false)) {
        return Err(rare(format!("{channels} samples a pixel")));
    }
    // All components are decoded, whether or not a palette or the colours name them.
    let held = match palette(shown) {
        None => structure.components.max(channels as u64),
        Some(samples) if samples > channels => {
            return Err(rare(format!("a palette of {samples} samples a pixel")));
        }
        Some(_) => structure.components + channels as u64,
    };
    let bytes_of =
        |picture: &Image<'_>| u64::from(picture.width()) * u64::from(picture.height()) * held;
    let is_small = wanted.mode == DecodeMode::Exact && bytes_of(&whole) <= WHOLE;
    let least = wanted.least_side();
    let at_least = |side| open(Some((side, side)));
    let mut picture = if is_small { whole } else { at_least(least)? };
    if !is_small && bytes_of(&picture) * SAMPLE_BYTES > HEAVY {
        picture = at_least(least / 2)?;
    }
    let of_tiles = blocks * (BLOCK_BYTES + layers * LAYER_BYTES) + tiles * held * TILE_BYTES;
    let decoded_size = (picture.width(), picture.height());
    let _permit = wanted.room_for(bytes_of(&picture) * SAMPLE_BYTES + of_tiles)?;
    let mut context = DecoderContext::default();
    let samples = picture.decode(&mut context).map_err(reason)?.data_u8();
    drop(context);
    let mut metadata = metadata(bytes);
    let image = coloured(decoded_size, samples, color_space(shown, &picture), &mut metadata)
        .ok_or_else(|| Unreadable::damaged("it has too few samples"))?;
    // A size is half of the next, rounded up, and its pixels lie on every second one of that, not between two.
    let halvings = (f64::from(size.0) / f64::from(decoded_size.0)).log2().round() as u32;
    let scale = 0.5f64.powi(halvings as i32);
    // The first is the first on the grid of that size, with which the picture need not begin.
    let corner = structure.origin.map(|origin| {
        let outside = origin.next_multiple_of(1 << halvings) - origin;
        (scale - 1.0) / 2.0 + outside as f64 * scale
    });
    Ok(Raster { scale, corner: corner.into(), ..Raster::whole(image, size, metadata, None) })
}

/// What the colours are of; `None` where four samples are taken for inks without a word: these are colours and alpha.
fn color_space<'a>(shown: &[u8], picture: &'a Image<'_>) -> Option<&'a ColorSpace> {
    let space = picture.color_space();
    // By number, or by a profile.
    let is_said = |method: &u8| matches!(method, 1 | 2);
    let spaces = boxes::at(shown, &[b"jp2h", b"colr"]);
    let is_guess = !spaces.first().and_then(|space| space.first()).is_some_and(is_said);
    (space.num_channels() != 4 || !is_guess).then_some(space)
}

/// What the samples mean: inks and CIE Lab become sRGB, a profile goes with the others.
fn coloured(
    (width, height): (u32, u32),
    samples: Vec<u8>,
    space: Option<&ColorSpace>,
    metadata: &mut Metadata,
) -> Option<DynamicImage> {
    /// Where a profile says what it is of (ICC.1, 7.2).
    const OF_LAB: (usize, &[u8]) = (16, b"Lab ");
    let profile = match space {
        Some(ColorSpace::Icc { profile, .. }) => Some(profile.as_slice()),
        _ => None,
    };
    let pixels = width as usize * height as usize;
    let rgb = |samples| ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgb8);
    match (space.map_or(0, ColorSpace::num_channels), samples.len() / pixels.max(1)) {
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
    let exif = uuid(EXIF).or_else(|| uuid(EXIF_OF_ADOBE)).map(without_jpeg_prefix);
    Metadata { exif, xmp: uuid(XMP), icc: None }
}

/// The box of the codestream, or all where it is by itself.
fn codestream(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.starts_with(START) {
        true => Some(bytes),
        false => first_box(bytes),
    }
}

/// What the box of the first codestream holds.
fn first_box(bytes: &[u8]) -> Option<&[u8]> {
    boxes(bytes).find(|found| &found.kind == b"jp2c").map(|found| found.content)
}

/// The file to the end of its first codestream: of several the decoder would show the last.
fn to_first(bytes: &[u8]) -> &[u8] {
    let first = if bytes.starts_with(START) { None } else { first_box(bytes) };
    let end = first.map(|first| first.as_ptr_range().end.addr() - bytes.as_ptr().addr());
    &bytes[..end.unwrap_or(bytes.len())]
}

/// How many samples of a pixel come out of a palette, by the map from components to those; `None` without one.
fn palette(bytes: &[u8]) -> Option<usize> {
    boxes::at(bytes, &[b"jp2h", b"pclr"]).first()?;
    let maps = boxes::at(bytes, &[b"jp2h", b"cmap"]);
    Some(maps.iter().map(|map| map.len() / 4).max().unwrap_or(0))
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

    fn boxed(kind: &[u8], content: &[u8]) -> Vec<u8> {
        [&(8 + content.len() as u32).to_be_bytes()[..], kind, content].concat()
    }

    /// A picture of 1,000 x 1,000 pixels with nothing in its code blocks, of 64 x 64 samples or of one.
    fn empty(components: u16, layers: u16, of_one: bool) -> Vec<u8> {
        let marked = |marker: u8, content: &[u8]| {
            let length = (content.len() as u16 + 2).to_be_bytes();
            [&[0xff, marker][..], &length, content].concat()
        };
        let sides = [1_000u32, 1_000, 0, 0, 1_000, 1_000, 0, 0].map(u32::to_be_bytes).concat();
        let each = [7, 1, 1].repeat(components.into());
        let size = [&[0, 0][..], &sides, &components.to_be_bytes(), &each].concat();
        let [high, low] = layers.to_be_bytes();
        let style = [1, 0, high, low, 0, 0, 4, 4, 0, 1, if of_one { 0 } else { 0xff }];
        let data = [0; 64];
        let part = [&[0, 0][..], &(14 + data.len() as u32).to_be_bytes(), &[0, 1]].concat();
        let (data, end) = ([&[0xff, 0x93][..], &data].concat(), vec![0xff, 0xd9]);
        let heads = [marked(0x51, &size), marked(0x52, &style), marked(0x5c, &[0x40, 64])].concat();
        [vec![0xff, 0x4f], heads, marked(0x90, &part), data, end].concat()
    }

    #[test]
    fn what_a_few_bytes_ask_for_is_weighed_before() {
        let wanted = Wanted { max_bytes: 500_000_000, ..wanted(224) };
        let refused = |bytes: &[u8]| decode(bytes, &wanted).err().unwrap();
        let reason = refused(&empty(1, 32, true));
        assert!(matches!(reason, Unreadable::TooMuchMemory { .. }), "{reason}");
        assert!(refused(&empty(1, 33, true)).to_string().contains("33 layers"));
        // A palette takes one component of 100, and all are decoded.
        let with_palette = |components, samples: u8| {
            let size = [0, 0, 3, 0xe8, 0, 0, 3, 0xe8, 0, components as u8, 7, 7, 0, 0];
            let colours = [1, 0, 0, 0, 0, 0, 16];
            let map: Vec<u8> = (0..samples).flat_map(|i| [0, 0, 1, i % 3]).collect();
            let palette = [0, 1, 3, 7, 7, 7, 1, 2, 3];
            let parts: [(&[u8], &[u8]); 4] =
                [(b"ihdr", &size), (b"colr", &colours), (b"pclr", &palette), (b"cmap", &map)];
            let head = parts.map(|(kind, content)| boxed(kind, content)).concat();
            let parts: [(&[u8], &[u8]); 4] = [
                (b"jP  ", b"\r\n\x87\n"),
                (b"ftyp", b"jp2 \0\0\0\0jp2 "),
                (b"jp2h", &head),
                (b"jp2c", &empty(components, 1, false)),
            ];
            parts.map(|(kind, content)| boxed(kind, content)).concat()
        };
        let reason = refused(&with_palette(100, 3));
        assert!(matches!(reason, Unreadable::TooMuchMemory { .. }), "{reason}");
        let reason = refused(&with_palette(1, 100)).to_string();
        assert!(reason.contains("a palette of 100 samples a pixel"), "{reason}");
    }

    #[test]
    fn of_several_pictures_the_first_is_shown() {
        let bytes = [golden("colour.jp2"), boxed(b"jp2c", &golden("tiles.j2k"))].concat();
        assert_eq!(decode(&bytes, &wanted(224)).unwrap().size, (301, 200));
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
        let uuid = |id: &[u8], content: &[u8]| boxed(b"uuid", &[id, content].concat());
        let bytes = [golden("colour.jp2"), uuid(EXIF, b"II*\0"), uuid(XMP, b"<x/>")].concat();
        let metadata = decode(&bytes, &wanted(224)).unwrap().metadata;
        assert_eq!(metadata.exif.as_deref(), Some(&b"II*\0"[..]));
        assert_eq!(metadata.xmp.as_deref(), Some(&b"<x/>"[..]));
        // As digiKam and as Photoshop write it.
        for id in [EXIF, EXIF_OF_ADOBE] {
            let bytes = [golden("colour.jp2"), uuid(id, b"Exif\0\0MM\0*")].concat();
            let metadata = decode(&bytes, &wanted(224)).unwrap().metadata;
            assert_eq!(metadata.exif.as_deref(), Some(&b"MM\0*"[..]));
        }
    }
}
