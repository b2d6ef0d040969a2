//! Windows icons: which of their pictures, and that picture by the `image` crate.
//!
//! Its own icon decoder takes the picture with the most bits a pixel, however small, wants PNGs to be
//! RGBA, and trusts sizes in the directory more than those of the pictures. So the picture is chosen
//! here: a PNG is decoded as one, a bitmap in an icon of its own.

use image::ImageFormat;

use super::Unreadable;
use super::decode::Raster;
use super::format::Format;
use super::image_rs;
use super::wanted::Wanted;

const ENTRY: usize = 16;
const HEADER: usize = 6;

/// What a BITMAPINFOHEADER takes at least.
const BITMAP_HEADER: usize = 40;

/// Decodes the largest picture; of equals the one with the most bits a pixel, the first of those.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let picture = largest(bytes).ok_or(Unreadable::Truncated { format: "ICO" })?;
    if picture.starts_with(b"\x89PNG") {
        return image_rs::decode(picture, Format::Png, ImageFormat::Png, wanted);
    }
    let icon = alone(picture).ok_or(Unreadable::Truncated { format: "ICO" })?;
    image_rs::decode(&icon, Format::Ico, ImageFormat::Ico, wanted)
}

/// The bytes of the picture that is taken, as far as they are there.
fn largest(bytes: &[u8]) -> Option<&[u8]> {
    let count = usize::from(u16::from_le_bytes(*bytes.get(4..)?.first_chunk()?));
    let (entries, _) = bytes.get(HEADER..)?.as_chunks::<ENTRY>();
    // 0 means 256.
    let side = |value: u8| if value == 0 { 256 } else { u32::from(value) };
    let rank = |entry: &&[u8; ENTRY]| {
        (side(entry[0]) * side(entry[1]), u16::from_le_bytes([entry[6], entry[7]]))
    };
    let entries = &entries[..count.min(entries.len())];
    // The last of equals, so from the end.
    let entry = entries.iter().rev().max_by_key(rank)?;
    let number = |at: usize| Some(u32::from_le_bytes(*entry.get(at..)?.first_chunk()?) as usize);
    let (length, offset) = (number(8)?, number(12)?);
    let rest = bytes.get(offset..)?;
    Some(&rest[..length.min(rest.len())])
}

/// An icon with this bitmap alone, and the size that the bitmap says.
fn alone(bitmap: &[u8]) -> Option<Vec<u8>> {
    let header = bitmap.first_chunk::<BITMAP_HEADER>()?;
    let number = |at: usize| i32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
    // The height counts the mask, too.
    let (width, height) = (number(4), number(8) / 2);
    let mut bitmap = bitmap.to_vec();
    // 32 bits a pixel, not compressed.
    if (header[14], number(16)) == (32, 0) {
        let first = usize::try_from(number(0)).ok()?.min(bitmap.len());
        let pixels = usize::try_from(i64::from(width) * i64::from(height) * 4).ok()?;
        let end = first.saturating_add(pixels).min(bitmap.len());
        let (colours, _) = bitmap[first..end].as_chunks_mut::<4>();
        if colours.iter().any(|bgra| bgra[3] != 0) {
            // Beside alpha Windows does not look at the mask, which may be cut off or contradict it.
            bitmap.truncate(end);
        } else {
            colours.iter_mut().for_each(|bgra| bgra[3] = 255);
        }
    }
    // Of 256 the lowest byte is 0, as an entry has it.
    let mut icon = vec![0, 0, 1, 0, 1, 0, width as u8, height as u8, 0, 0, 0, 0, 0, 0];
    icon.extend(u32::try_from(bitmap.len()).ok()?.to_le_bytes());
    icon.extend(((HEADER + ENTRY) as u32).to_le_bytes());
    icon.extend(bitmap);
    Some(icon)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, Luma, Rgb, Rgba};

    use super::*;
    use crate::photo::decode::tests::square;
    use crate::photo::{DecodeOptions, from_bytes};

    fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// 32 bits a pixel without a mask; top pixel last, as bitmaps have it.
    fn bitmap(width: i32, height: i32, bgra: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![40, 0, 0, 0];
        bytes.extend(width.to_le_bytes().into_iter().chain((height * 2).to_le_bytes()));
        bytes.extend([1, 0, 32, 0]);
        bytes.resize(BITMAP_HEADER, 0);
        bytes.extend(bgra.repeat((width * height) as usize));
        bytes
    }

    /// Pictures with the side and the bits that the directory is to say.
    fn icon(pictures: &[(u8, u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0, pictures.len() as u8, 0];
        let mut offset = HEADER + ENTRY * pictures.len();
        for (side, bits, picture) in pictures {
            bytes.extend([*side, *side, 0, 0, 1, 0]);
            bytes.extend(bits.to_le_bytes());
            bytes.extend((picture.len() as u32).to_le_bytes());
            bytes.extend((offset as u32).to_le_bytes());
            offset += picture.len();
        }
        pictures.iter().for_each(|(_, _, picture)| bytes.extend(picture));
        bytes
    }

    fn first_pixel(icon: Vec<u8>) -> [u8; 3] {
        let photo = from_bytes(icon).unwrap();
        let photo = crate::photo::decode(&photo, &square(4), &DecodeOptions::default()).unwrap();
        *photo.pixels.as_rgb().first_chunk().unwrap()
    }

    #[test]
    fn a_png_inside_may_have_any_colours() {
        let grey = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(8, 8, Luma([90])));
        let rgb = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(8, 8, Rgb([1, 2, 3])));
        for (image, expected) in [(grey, [90; 3]), (rgb, [1, 2, 3])] {
            let png = encoded(image, ImageFormat::Png);
            assert_eq!(first_pixel(icon(&[(8, 32, png)])), expected);
        }
    }

    #[test]
    fn the_largest_picture_counts_and_not_the_deepest() {
        let small = bitmap(4, 4, [1, 1, 1, 255]);
        let large = image::RgbaImage::from_pixel(8, 8, Rgba([7, 8, 9, 255]));
        let large = encoded(DynamicImage::ImageRgba8(large), ImageFormat::Png);
        let pictures = [(4, 32, small), (8, 8, large.clone()), (8, 4, large)];
        assert_eq!(first_pixel(icon(&pictures)), [7, 8, 9]);
    }

    #[test]
    fn a_bitmap_knows_its_size_better_than_the_directory() {
        assert_eq!(first_pixel(icon(&[(9, 4_000, bitmap(4, 4, [30, 20, 10, 255]))])), [10, 20, 30]);
    }

    #[test]
    fn a_mask_counts_only_where_there_is_no_alpha() {
        let masked = |alpha| [bitmap(4, 4, [30, 20, 10, alpha]), vec![0xff; 4 * 4]].concat();
        assert_eq!(first_pixel(icon(&[(4, 32, masked(255))])), [10, 20, 30]);
        assert_eq!(first_pixel(icon(&[(4, 32, masked(0))])), [255; 3]);
        let unmasked = [bitmap(4, 4, [30, 20, 10, 0]), vec![0; 4 * 4]].concat();
        assert_eq!(first_pixel(icon(&[(4, 32, unmasked)])), [10, 20, 30]);
        let half_a_mask = [bitmap(4, 4, [30, 20, 10, 255]), vec![0; 2 * 4]].concat();
        assert_eq!(first_pixel(icon(&[(4, 32, half_a_mask)])), [10, 20, 30]);
    }

    #[test]
    fn cuts_are_refused_and_none_panics() {
        let whole = icon(&[(4, 32, bitmap(4, 4, [30, 20, 10, 255]))]);
        for end in 22..whole.len() {
            let cut = from_bytes(whole[..end].to_vec()).unwrap();
            let error = crate::photo::decode(&cut, &square(4), &DecodeOptions::default());
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("truncated: the ICO"), "cut to {end}: {error}");
        }
    }
}
