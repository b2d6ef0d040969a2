//! Full-size pixels → the square the network sees.

mod across;
mod geometry;

use std::borrow::Cow;

use fast_image_resize::images::{Image, ImageRef, TypedImage};
use fast_image_resize::pixels::{InnerPixel, U16x3};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;

pub(super) use self::across::Narrowing;
pub(super) use self::geometry::{Columns, CropBox, Part, as_stored, part_needed, upright};
use self::geometry::{Span, central_crop, reach, swaps_sides};
use crate::network::{Filter, Preprocessing};

/// Pixels as a decoder gave them.
pub(super) struct Source<'a> {
    /// `[height, width, 3]`.
    pub(super) rgb: &'a [u8],
    /// Width and height of `rgb`.
    pub(super) stored: (u32, u32),
    /// Left and top of `rgb` in the picture that it is a part of, in its own pixels; fractions are meant.
    pub(super) corner: (f64, f64),
    /// Width and height of the picture before the decoder made it smaller.
    pub(super) whole: (u32, u32),
    /// How many pixels of `rgb` lie along one of the whole picture. At most the whole size times this,
    /// rounded up, is stored: the last pixel may stand for less.
    pub(super) scale: f64,
    /// Whether a row has been resized to the square's already, see [`Columns`].
    pub(super) is_narrow: bool,
}

/// Resizes the shorter side to `resize` (antialiased), crops the central `size` × `size`, upright.
/// Returns `[size, size, 3]`.
///
/// Only the cropped part of the source is touched: its neighbourhood weights are those of a resize of
/// the whole picture, so the result is what Pillow's `resize` followed by torchvision's `CenterCrop`
/// gives, for a fraction of the work and at any aspect ratio. `orientation` is what makes the source
/// upright.
pub(super) fn to_square(
    source: &Source<'_>,
    orientation: Orientation,
    preprocessing: &Preprocessing,
) -> Vec<u8> {
    let size = preprocessing.size;
    let whole = source.whole;
    let upright_crop = central_crop(upright(whole, orientation), size, preprocessing.resize);
    let crop = as_stored(upright_crop, whole, orientation);
    let crop = crop.within(source);

    let filter = match preprocessing.filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
    };
    let square = match source.scale < 1.0 {
        true => in_one_go(source, crop, size, filter),
        false => as_pillow(source, crop, size, filter, swaps_sides(orientation)),
    };
    let square = image::RgbImage::from_raw(size, size, square).expect("3 bytes a pixel");
    let mut square = image::DynamicImage::ImageRgb8(square);
    square.apply_orientation(orientation);
    square.into_rgb8().into_raw()
}

/// Pillow rounds to 8 bits between its two passes, rows first. fast_image_resize would begin with the
/// columns, which puts every seventh pixel off by one: enough to cost 0.001 of cosine. So each pass is
/// asked for by itself, in the upright picture's order.
fn as_pillow(
    source: &Source<'_>,
    crop: CropBox,
    size: u32,
    filter: FilterType,
    columns_first: bool,
) -> Vec<u8> {
    let (width, height) = source.stored;
    if columns_first {
        let (start, length) = reach(crop.left, crop.width, size, width);
        let (left, cols) = (f64::from(start), f64::from(length));
        let crop_of_columns = CropBox { left, width: cols, ..crop };
        let columns_done = pass(source.rgb, source.stored, crop_of_columns, (length, size), filter);
        let span = Span { start: crop.left - left, length: crop.width };
        across(&columns_done, length, span, size, filter)
    } else {
        let (start, length) = reach(crop.top, crop.height, size, height);
        let row_bytes = 3 * width as usize;
        let rows = &source.rgb[row_bytes * start as usize..][..row_bytes * length as usize];
        let span = Span { start: crop.left, length: crop.width };
        let rows_done = match source.is_narrow {
            true => Cow::Borrowed(rows),
            false => Cow::Owned(across(rows, width, span, size, filter)),
        };
        let (top, width) = (crop.top - f64::from(start), f64::from(size));
        let rest = CropBox { left: 0.0, top, width, ..crop };
        pass(&rows_done, (size, length), rest, (size, size), filter)
    }
}

/// Resizes a part of each row of `width` pixels to `size` pixels.
fn across(rgb: &[u8], width: u32, span: Span, size: u32, filter: FilterType) -> Vec<u8> {
    if filter == FilterType::Bilinear
        && let Some(narrowing) = Narrowing::new(width as usize, span, size)
    {
        return narrowing.all(rgb, width as usize);
    }
    let height = (rgb.len() / (3 * width as usize)) as u32;
    let crop =
        CropBox { left: span.start, top: 0.0, width: span.length, height: f64::from(height) };
    pass(rgb, (width, height), crop, (size, height), filter)
}

/// What the decoder made smaller has other pixels than Pillow's anyway, and rounding between the passes
/// would put them off a second time: by as much again, in cosine. So it is resized in 16 bits.
fn in_one_go(source: &Source<'_>, crop: CropBox, size: u32, filter: FilterType) -> Vec<u8> {
    let (width, height) = source.stored;
    let (left, columns) = reach(crop.left, crop.width, size, width);
    let (top, rows) = reach(crop.top, crop.height, size, height);
    let mut wide = vec![U16x3::new([0; 3]); columns as usize * rows as usize];
    let row_bytes = |columns: u32| 3 * columns as usize;
    let into = U16x3::components_mut(&mut wide).chunks_exact_mut(row_bytes(columns));
    let from = source.rgb.chunks_exact(row_bytes(width)).skip(top as usize);
    for (into, from) in into.zip(from) {
        for (wide, value) in into.iter_mut().zip(&from[row_bytes(left)..]) {
            *wide = u16::from(*value) * 257;
        }
    }
    let wide = TypedImage::from_pixels(columns, rows, wide).expect("as many as were asked for");
    let mut square = TypedImage::<U16x3>::new(size, size);
    let (left, top) = (crop.left - f64::from(left), crop.top - f64::from(top));
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
        left,
        top,
        crop.width,
        crop.height,
    );
    Resizer::new()
        .resize_typed(&wide, &mut square, &options)
        .expect("the crop lies inside the source");
    square.pixels().iter().flat_map(|pixel| pixel.0.map(eight_bits)).collect()
}

/// A sample of 16 bits in 8, rounded.
pub(super) fn eight_bits(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// Resizes a part of an image of `size`, width and height, to `target`.
fn pass(
    rgb: &[u8],
    size: (u32, u32),
    crop: CropBox,
    target: (u32, u32),
    filter: FilterType,
) -> Vec<u8> {
    let source = ImageRef::new(size.0, size.1, rgb, PixelType::U8x3).expect("3 bytes a pixel");
    let mut resized = Image::new(target.0, target.1, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .use_alpha(false)
        .crop(crop.left, crop.top, crop.width, crop.height);
    Resizer::new()
        .resize(&source, &mut resized, &options)
        .expect("the crop lies inside the source, the pixel types agree");
    resized.into_vec()
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb, RgbImage};

    use super::*;
    use crate::network::sample::preprocessing;

    fn whole(rgb: &[u8], size: (u32, u32)) -> Source<'_> {
        Source { rgb, stored: size, corner: (0.0, 0.0), whole: size, scale: 1.0, is_narrow: false }
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, ((x * y) % 251) as u8])
        })
    }

    #[test]
    fn every_orientation_gives_the_same_upright_square() {
        let preprocessing = preprocessing(56, 64);
        for (width, height) in [(301, 200), (200, 301), (97, 97)] {
            let upright = DynamicImage::ImageRgb8(gradient(width, height));
            let expected = to_square(
                &whole(upright.as_rgb8().unwrap(), (width, height)),
                Orientation::NoTransforms,
                &preprocessing,
            );
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif).unwrap();
                // Stored = what becomes upright when the orientation is applied: its inverse.
                let inverse = match orientation {
                    Orientation::Rotate90 => Orientation::Rotate270,
                    Orientation::Rotate270 => Orientation::Rotate90,
                    other => other,
                };
                let mut stored = upright.clone();
                stored.apply_orientation(inverse);
                let size = (stored.width(), stored.height());
                let source = whole(stored.as_rgb8().unwrap(), size);
                let square = to_square(&source, orientation, &preprocessing);
                let worst = square.iter().zip(&expected);
                let worst = worst.map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "{orientation:?} of {width}x{height}: off by {worst:?}");
            }
        }
    }

    #[test]
    fn what_lies_around_the_part_needed_does_not_matter() {
        let preprocessing = preprocessing(56, 72);
        // Whole, and in the way that what was decoded small is resized.
        for (scale, sides) in [1.0, 1.0 - f64::EPSILON].into_iter().flat_map(|scale| {
            [(500, 301), (301, 500), (400, 400), (301, 3_001)].map(|sides| (scale, sides))
        }) {
            let picture = gradient(sides.0, sides.1);
            let Part { columns, rows } = part_needed(sides, 56, 72);
            assert!(rows.start > 0 && rows.end < sides.1 && columns.start > 0, "{sides:?}");
            let (w, h) = (columns.len() as u32, rows.len() as u32);
            let cut =
                image::imageops::crop_imm(&picture, columns.start, rows.start, w, h).to_image();
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif).unwrap();
                let all = Source { scale, ..whole(picture.as_raw(), sides) };
                let corner = (f64::from(columns.start), f64::from(rows.start));
                let part = Source { rgb: cut.as_raw(), stored: (w, h), corner, ..all };
                let [all, part] =
                    [all, part].map(|source| to_square(&source, orientation, &preprocessing));
                assert_eq!(all, part, "{orientation:?} of {sides:?}");
            }
        }
    }

    #[test]
    fn a_sliver_is_resized_without_making_the_whole_strip() {
        let rgb = vec![200; 3 * 60_000];
        let source = whole(&rgb, (60_000, 1));
        let square = to_square(&source, Orientation::NoTransforms, &preprocessing(224, 256));
        assert_eq!(square, vec![200; 3 * 224 * 224]);
    }

    #[test]
    fn a_square_without_a_margin_may_round_past_the_far_end() {
        // 29 / 56 * 56 is a hair more than 29, as it is for some hundred other sides.
        for (width, height) in [(29, 29), (58, 70), (400, 123), (225, 226)] {
            let rgb = vec![200; 3 * width as usize * height as usize];
            let source = whole(&rgb, (width, height));
            for orientation in [Orientation::NoTransforms, Orientation::Rotate90] {
                let square = to_square(&source, orientation, &preprocessing(56, 56));
                assert_eq!(square, vec![200; 3 * 56 * 56], "{width}x{height}");
            }
        }
    }
}
