//! Colours as an embedded ICC profile means them → sRGB.

use image::{DynamicImage, ImageBuffer};
use moxcms::{ColorProfile, DataColorSpace, Layout, ProfileText, TransformOptions};

/// Turns an 8-bit picture with this profile into sRGB.
///
/// Intent and white point adaptation as in lcms's default: perceptual. A profile that is damaged, or of
/// another kind than the pixels, is passed over, as every viewer does.
pub(super) fn to_srgb(image: DynamicImage, profile: &[u8]) -> DynamicImage {
    let Ok(profile) = ColorProfile::new_from_slice(profile) else { return image };
    if is_srgb(&profile) {
        return image;
    }
    turned(&image, &profile).unwrap_or(image)
}

fn turned(image: &DynamicImage, profile: &ColorProfile) -> Option<DynamicImage> {
    let (from, to) = match image {
        DynamicImage::ImageRgb8(_) => (Layout::Rgb, Layout::Rgb),
        DynamicImage::ImageRgba8(_) => (Layout::Rgba, Layout::Rgba),
        DynamicImage::ImageLuma8(_) => (Layout::Gray, Layout::Rgb),
        DynamicImage::ImageLumaA8(_) => (Layout::GrayAlpha, Layout::Rgba),
        _ => return None,
    };
    let wanted = if image.color().has_color() { DataColorSpace::Rgb } else { DataColorSpace::Gray };
    if profile.color_space != wanted {
        return None;
    }
    let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
    let transform = profile.create_transform_8bit(from, &srgb, to, options).ok()?;
    let (width, height) = (image.width(), image.height());
    let channels = if image.color().has_alpha() { 4 } else { 3 };
    let mut pixels = vec![0; width as usize * height as usize * channels];
    transform.transform(image.as_bytes(), &mut pixels).ok()?;
    match channels {
        4 => ImageBuffer::from_raw(width, height, pixels).map(DynamicImage::ImageRgba8),
        _ => ImageBuffer::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    }
}

/// 8-bit CMYK (0 is no ink, 4 bytes a pixel) → sRGB, through the profile when there is one for it: what the most ink
/// gives is black then, as no paper's black is.
///
/// Without one: `(255 - ink) * (255 - black) / 255`, as Pillow does.
pub(super) fn cmyk_to_rgb(cmyk: &[u8], profile: Option<&[u8]>) -> Vec<u8> {
    let through_profile = || {
        let profile = ColorProfile::new_from_slice(profile?).ok()?;
        let is_cmyk = profile.color_space == DataColorSpace::Cmyk;
        let srgb = ColorProfile::new_srgb();
        let options = TransformOptions::default();
        // Four inks travel as four channels.
        let transform = is_cmyk
            .then(|| profile.create_transform_8bit(Layout::Rgba, &srgb, Layout::Rgb, options))?
            .ok()?;
        let mut rgb = vec![0; cmyk.len() / 4 * 3];
        transform.transform(cmyk, &mut rgb).ok()?;
        let mut black = [0; 3];
        transform.transform(&[255; 4], &mut black).ok()?;
        let without = without_black(black);
        rgb.iter_mut().for_each(|value| *value = without[usize::from(*value)]);
        Some(rgb)
    };
    through_profile().unwrap_or_else(|| {
        let (pixels, _) = cmyk.as_chunks::<4>();
        let mix = |ink: u8, black: u8| {
            let product = u32::from(255 - ink) * u32::from(255 - black);
            ((product + 127) / 255) as u8
        };
        pixels.iter().flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| mix(ink, k))).collect()
    })
}

/// What becomes of each sample when `black` becomes black: light is scaled so that white stays white, by Adobe's black point
/// compensation (ISO 18619). As lcms has it, black is grey, and no brighter than an L of 50.
fn without_black(black: [u8; 3]) -> [u8; 256] {
    const BRIGHTEST: f32 = 0.184_187;
    let light: [f32; 256] = std::array::from_fn(|value| to_light(value as f32 / 255.0));
    let [red, green, blue] = black.map(|value| light[usize::from(value)]);
    let least = (0.2126 * red + 0.7152 * green + 0.0722 * blue).min(BRIGHTEST);
    light.map(|light| (from_light((light - least) / (1.0 - least)) * 255.0).round() as u8)
}

/// The curve of sRGB (IEC 61966-2-1), from 0 to 1.
fn to_light(curved: f32) -> f32 {
    if curved <= 0.040_45 { curved / 12.92 } else { ((curved + 0.055) / 1.055).powf(2.4) }
}

fn from_light(light: f32) -> f32 {
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

/// CIE Lab of 8 bits under D50, as pictures have it (L from 0 to 100 in 255 steps, a and b 128 more than
/// they are) → sRGB, by CIE 15 and IEC 61966-2-1; the matrix turns D50 into sRGB's white by Bradford.
pub(super) fn lab_to_rgb([l, a, b]: [u8; 3]) -> [u8; 3] {
    let y = (f32::from(l) * 100.0 / 255.0 + 16.0) / 116.0;
    let (x, z) = (y + (f32::from(a) - 128.0) / 500.0, y - (f32::from(b) - 128.0) / 200.0);
    let light = |t: f32| if t > 6.0 / 29.0 { t.powi(3) } else { (t - 4.0 / 29.0) * 108.0 / 841.0 };
    let (x, y, z) = (0.96422 * light(x), light(y), 0.82521 * light(z));
    [
        3.133_856 * x - 1.616_867 * y - 0.490_615 * z,
        -0.978_768 * x + 1.916_142 * y + 0.033_454 * z,
        0.071_945 * x - 0.228_991 * y + 1.405_243 * z,
    ]
    // Casting clamps.
    .map(|light| (from_light(light) * 255.0).round() as u8)
}

/// Most profiles in photos only say what is meant anyway; their text is cheaper to read than a
/// transform to make.
fn is_srgb(profile: &ColorProfile) -> bool {
    let named = |text: &str| text.starts_with("sRGB");
    profile.color_space == DataColorSpace::Rgb
        && match &profile.description {
            Some(ProfileText::PlainString(text)) => named(text),
            Some(ProfileText::Localizable(texts)) => texts.iter().any(|text| named(&text.value)),
            Some(ProfileText::Description(text)) => named(&text.ascii_string),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(rgb: [u8; 3]) -> DynamicImage {
        image::RgbImage::from_pixel(1, 1, image::Rgb(rgb)).into()
    }

    #[test]
    fn display_p3_becomes_srgb() {
        let profile = ColorProfile::new_display_p3().encode().unwrap();
        // By the primaries of SMPTE EG 432-1 and IEC 61966-2-1 and the latter's curve, rounded.
        let known = [
            ([128, 128, 128], [128, 128, 128]),
            ([200, 100, 50], [215, 93, 31]),
            ([90, 120, 150], [81, 121, 153]),
        ];
        for (p3, srgb) in known {
            let rgb = to_srgb(pixel(p3), &profile).into_bytes();
            let apart = rgb.iter().zip(srgb).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            assert!(apart <= 1, "{p3:?} became {rgb:?}, expected {srgb:?}");
        }
    }

    #[test]
    fn a_profile_that_does_not_fit_changes_nothing() {
        let grey = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
        for profile in [&b"no profile"[..], &grey] {
            assert_eq!(to_srgb(pixel([10, 100, 200]), profile), pixel([10, 100, 200]));
        }
        let linear = DynamicImage::ImageLuma8(ImageBuffer::from_pixel(1, 1, image::Luma([55])));
        let rgb = to_srgb(linear, &grey).into_bytes();
        assert!(rgb[0] > 100, "linear grey is brighter than its number: {rgb:?}");
    }

    #[test]
    fn black_becomes_black_and_white_stays_white() {
        let none: Vec<u8> = (0..=255).collect();
        assert_eq!(without_black([0; 3]).as_slice(), none);
        let dark = without_black([40, 36, 35]);
        assert!(dark.is_sorted() && dark[30] == 0 && dark[255] == 255, "{dark:?}");
        // (0.2159 - 0.0185) / (1 - 0.0185) of the light, 0.0185 being that of 37.
        assert_eq!(without_black([37; 3])[128], 124);
        assert_eq!(without_black([255; 3]), without_black([119; 3]), "no paper is that black");
    }

    #[test]
    fn lab_reaches_the_corners_of_srgb() {
        // By CIE 15 under D50, rounded to 8 bits: white, black, red, blue.
        let known = [
            ([255, 128, 128], [255, 255, 255]),
            ([0, 128, 128], [0, 0, 0]),
            ([138, 209, 198], [255, 0, 0]),
            ([75, 196, 16], [0, 0, 255]),
        ];
        for (lab, srgb) in known {
            let rgb = lab_to_rgb(lab);
            let apart = rgb.iter().zip(srgb).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            assert!(apart <= 6, "{lab:?} became {rgb:?}, expected {srgb:?}");
        }
    }

    #[test]
    fn inks_without_a_profile_are_subtracted() {
        let cmyk = [0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255, 128, 0, 0, 128];
        assert_eq!(cmyk_to_rgb(&cmyk, None), [255, 255, 255, 0, 255, 255, 0, 0, 0, 63, 127, 127]);
    }
}
