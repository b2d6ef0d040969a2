//! Colours as an embedded ICC profile means them → sRGB.

use moxcms::{ColorProfile, DataColorSpace, Layout, ProfileText, TransformOptions};

/// Turns 8-bit RGB pixels of a picture with this profile into sRGB, in place. `grey` says that the
/// picture was stored in grey, so that a profile of grey is the right kind.
///
/// Intent and white point adaptation as in lcms's default: perceptual. A profile that is damaged, or of
/// another kind than the pixels, is passed over, as every viewer does. The transform is made on the
/// small square that the network sees: profiles of photos are smooth, so that it hardly matters whether
/// colours are turned before or after the picture is made smaller, and it is a hundred times less work.
pub(super) fn to_srgb(rgb: &mut [u8], profile: &[u8], grey: bool) {
    let Ok(profile) = ColorProfile::new_from_slice(profile) else { return };
    if is_srgb(&profile) {
        return;
    }
    let srgb = ColorProfile::new_srgb();
    let (layout, source) = match (profile.color_space, grey) {
        (DataColorSpace::Rgb, _) => (Layout::Rgb, rgb.to_vec()),
        (DataColorSpace::Gray, true) => (Layout::Gray, rgb.iter().step_by(3).copied().collect()),
        _ => return,
    };
    let options = TransformOptions::default();
    let Ok(transform) = profile.create_transform_8bit(layout, &srgb, Layout::Rgb, options) else {
        return;
    };
    let before = rgb.to_vec();
    if transform.transform(&source, rgb).is_err() {
        rgb.copy_from_slice(&before);
    }
}

/// 8-bit CMYK (0 is no ink, 4 bytes a pixel) → sRGB, through the profile when there is one for it.
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
            let mut rgb = p3.to_vec();
            to_srgb(&mut rgb, &profile, false);
            let apart = rgb.iter().zip(srgb).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            assert!(apart <= 1, "{p3:?} became {rgb:?}, expected {srgb:?}");
        }
    }

    #[test]
    fn a_profile_that_does_not_fit_changes_nothing() {
        let grey = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
        for profile in [&b"no profile"[..], &grey] {
            let mut rgb = vec![10, 100, 200];
            to_srgb(&mut rgb, profile, false);
            assert_eq!(rgb, [10, 100, 200]);
        }
        let mut rgb = vec![55, 55, 55];
        to_srgb(&mut rgb, &grey, true);
        assert!(rgb[0] > 100, "linear grey is brighter than its number: {rgb:?}");
    }

    #[test]
    fn inks_without_a_profile_are_subtracted() {
        let cmyk = [0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255, 128, 0, 0, 128];
        assert_eq!(cmyk_to_rgb(&cmyk, None), [255, 255, 255, 0, 255, 255, 0, 0, 0, 63, 127, 127]);
    }
}
