//! Whether a picture that was decoded to a smaller size shows grain that white or black cut off.
//!
//! Noise on a white ground is clipped a pixel at a time when every pixel is decoded, and that makes the
//! ground a little darker; averaged first, it is hardly clipped. Two levels over half of a picture moved
//! embeddings by up to 0.0024 from the reference, more than all else that a smaller size does.

use image::DynamicImage;

/// How near to white or black a pixel lies that noise can have moved from there.
const REACH: u8 = 8;

/// The share of neighbours with grain between them from which on every pixel should be decoded. Of 500
/// photos made for the purpose, the four below a cosine of 0.999 had 0.08 to 0.22.
const SHARE: f64 = 0.07;

/// Of so many rows one is looked at.
const STEP: usize = 4;

/// Whether much of the picture is a ground of white or black with grain on it.
pub(super) fn grain(image: &DynamicImage) -> bool {
    share(image) > SHARE
}

/// The share of neighbours in a row of which one is clipped, and the other nearly.
fn share(image: &DynamicImage) -> f64 {
    let channels = usize::from(image.color().channel_count());
    let row_bytes = image.width() as usize * channels;
    let (mut grain, mut all) = (0, 0);
    for row in image.as_bytes().chunks_exact(row_bytes.max(1)).step_by(STEP) {
        let pairs = row.iter().zip(&row[channels..]);
        grain += pairs.map(|(a, b)| u64::from(is_grain(*a, *b))).sum::<u64>();
        all += row_bytes - channels;
    }
    grain as f64 / f64::max(all as f64, 1.0)
}

/// Without branches, so that many are looked at at once.
fn is_grain(a: u8, b: u8) -> bool {
    let (low, high) = (a.min(b), a.max(b));
    (low == 0) & (high != 0) & (high <= REACH) | (high == 255) & (low != 255) & (low >= 255 - REACH)
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, RgbImage};

    use super::*;
    use crate::random::split_mix;

    /// A ground of `level` with noise of up to 6 each way, clipped, over the left part of a picture whose
    /// rest runs from dark to bright.
    fn picture(level: i32, columns: u32) -> DynamicImage {
        let mut noise = 7;
        DynamicImage::ImageRgb8(RgbImage::from_fn(200, 40, |x, _| {
            let moved = level + (split_mix(&mut noise) % 13) as i32 - 6;
            let ground = moved.clamp(0, 255) as u8;
            image::Rgb(if x < columns { [ground; 3] } else { [x as u8; 3] })
        }))
    }

    #[test]
    fn grain_that_is_cut_off_is_told_from_grain_that_is_not() {
        for level in [0, 255] {
            assert!(grain(&picture(level, 100)), "{level}: half of the picture");
            assert!(!grain(&picture(level, 10)), "{level}: a strip");
        }
        assert!(!grain(&picture(128, 100)));
        assert!(!grain(&picture(247, 100)), "no pixel reaches white");
    }

    #[test]
    fn a_flat_ground_has_no_grain() {
        assert!(!grain(&GrayImage::from_pixel(40, 40, Luma([255])).into()));
        assert!(!grain(&GrayImage::from_fn(40, 40, |x, _| Luma([(x % 2 * 255) as u8])).into()));
        assert!(!grain(&GrayImage::new(1, 1).into()));
    }
}
