//! Linear light without an upper end → 8-bit sRGB.

use image::{DynamicImage, Rgba, Rgba32FImage, RgbaImage};

/// The largest half float: what is infinite is a light, too.
pub(super) const BRIGHTEST: f32 = 65_504.0;

/// What the average comes to: middle grey of photography.
const KEY: f32 = 0.18;

/// Maps linear floats with the primaries of sRGB to 8 bits, by the global operator of Reinhard, Stark,
/// Shirley and Ferwerda, "Photographic tone reproduction for digital images" (2002), equations 1, 2 and
/// 4, with the largest luminance as the smallest white. Pixels without light do not count towards the
/// average. Alpha is taken to be premultiplied, as OpenEXR has it, and comes out straight.
pub(super) fn map(image: DynamicImage) -> DynamicImage {
    let has_alpha = image.color().has_alpha();
    let mut image = image.into_rgba32f();
    for Rgba([r, g, b, alpha]) in image.pixels_mut() {
        *alpha = if alpha.is_nan() { 1.0 } else { alpha.clamp(0.0, 1.0) };
        let scale = if *alpha > 0.0 { 1.0 / *alpha } else { 1.0 };
        for value in [r, g, b] {
            *value = if value.is_nan() { 0.0 } else { (*value * scale).clamp(0.0, BRIGHTEST) };
        }
    }
    let exposure = KEY / log_average(&image).unwrap_or(KEY);
    let white = image.pixels().map(luminance).fold(0.0, f32::max) * exposure;
    let curve = curve();
    let (width, height) = image.dimensions();
    let mapped = image.pixels().flat_map(|&Rgba([r, g, b, alpha])| {
        let light = luminance(&Rgba([r, g, b, alpha])) * exposure;
        let factor =
            exposure * (1.0 + light / (white * white).max(f32::MIN_POSITIVE)) / (1.0 + light);
        let eight_bits = |value: f32| curve[(value * factor * CURVE_TOP).min(CURVE_TOP) as usize];
        [eight_bits(r), eight_bits(g), eight_bits(b), (alpha * 255.0 + 0.5) as u8]
    });
    let mapped = RgbaImage::from_raw(width, height, mapped.collect()).expect("4 bytes a pixel");
    let mapped = DynamicImage::ImageRgba8(mapped);
    if has_alpha { mapped } else { DynamicImage::ImageRgb8(mapped.into_rgb8()) }
}

/// Rec. 709.
fn luminance(&Rgba([r, g, b, _]): &Rgba<f32>) -> f32 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn log_average(image: &Rgba32FImage) -> Option<f32> {
    let lit = image.pixels().filter(|pixel| pixel.0[3] > 0.0).map(luminance).filter(|l| *l > 0.0);
    let (count, sum) = lit.fold((0u64, 0.0), |(n, sum), l| (n + 1, sum + f64::from(l.ln())));
    (count > 0).then(|| (sum / count as f64).exp() as f32)
}

/// Steps of the table below; the steepest part of the curve rises by 0.8 of 255 a step.
const CURVE_TOP: f32 = 4095.0;

/// Linear light in steps of 1 / [`CURVE_TOP`] → sRGB (IEC 61966-2-1) in 8 bits.
fn curve() -> Vec<u8> {
    let steps = (0..=CURVE_TOP as u16).map(|step| f32::from(step) / CURVE_TOP);
    steps
        .map(|light| {
            let value = if light <= 0.003_130_8 {
                light * 12.92
            } else {
                1.055 * light.powf(1.0 / 2.4) - 0.055
            };
            (value * 255.0 + 0.5) as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use image::{Rgb, Rgb32FImage};

    use super::*;

    #[test]
    fn middle_grey_stays_in_the_middle_whatever_the_exposure() {
        for exposure in [0.001, 1.0, 5_000.0] {
            let mut image = Rgb32FImage::from_pixel(64, 1, Rgb([exposure; 3]));
            image.put_pixel(0, 0, Rgb([exposure * 100.0; 3]));
            let mapped = map(DynamicImage::ImageRgb32F(image)).into_rgb8();
            // 0.18 / 1.18, a little less for the light, through the sRGB curve.
            assert!(
                (105..=109).contains(&mapped.get_pixel(9, 0).0[0]),
                "{:?}",
                mapped.get_pixel(9, 0)
            );
            assert_eq!(mapped.get_pixel(0, 0).0, [255; 3]);
        }
    }

    #[test]
    fn what_is_no_number_is_no_danger() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, f32::MIN_POSITIVE];
        let image = Rgba32FImage::from_fn(6, 6, |x, y| {
            Rgba([odd[x as usize], odd[y as usize], 0.5, odd[(x + y) as usize % 6]])
        });
        map(DynamicImage::ImageRgba32F(image));
        map(DynamicImage::ImageRgb32F(Rgb32FImage::new(2, 2)));
    }

    #[test]
    fn premultiplied_colours_come_out_straight() {
        let image = Rgba32FImage::from_fn(2, 1, |x, _| {
            if x == 0 { Rgba([0.4, 0.2, 0.1, 1.0]) } else { Rgba([0.1, 0.05, 0.025, 0.25]) }
        });
        let mapped = map(DynamicImage::ImageRgba32F(image)).into_rgba8();
        let (whole, quarter) = (mapped.get_pixel(0, 0).0, mapped.get_pixel(1, 0).0);
        assert_eq!(whole[..3], quarter[..3]);
        assert_eq!((whole[3], quarter[3]), (255, 64));
    }
}
