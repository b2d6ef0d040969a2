//! Colours that a file names by number (ITU-T H.273) → an ICC profile.

use moxcms::{ColorProfile, ToneReprCurve};

/// Steps of a curve.
const STEPS: usize = 1_024;

/// The brightness of white paper in a picture for HDR screens (ITU-R BT.2408), in cd/m².
const WHITE: f64 = 203.0;

/// A profile that turns these colours into those of an ordinary screen; `None` when they are sRGB's
/// already, unknown, or rare.
///
/// Transfers for ordinary screens (BT.709, sRGB, BT.2020) all count as sRGB's, as in browsers.
pub(super) fn profile(primaries: i32, transfer: i32) -> Option<Vec<u8>> {
    let srgb = ColorProfile::new_srgb();
    let curve = match transfer {
        4 => Some(ToneReprCurve::Parametric(vec![2.2])),
        8 => Some(ToneReprCurve::Parametric(vec![1.0])),
        16 => Some(table(|code| pq(code) / WHITE)),
        // 0.75 stands for white paper.
        18 => Some(table(|code| hlg(code) / hlg(0.75))),
        _ => None,
    };
    let mut profile = match primaries {
        9 => ColorProfile::new_bt2020(),
        12 => ColorProfile::new_display_p3(),
        // 1 is BT.709 and sRGB. 2 says nothing; the others differ little, and are of old television.
        _ if curve.is_some() => srgb.clone(),
        _ => return None,
    };
    // Its name would say what it no longer is, or its numbers outrank the curves.
    (profile.description, profile.cicp) = (None, None);
    let curve = curve.or(srgb.red_trc);
    profile.red_trc = curve.clone();
    profile.green_trc = curve.clone();
    profile.blue_trc = curve;
    profile.encode().ok()
}

/// Light where 1 is white paper. Its lower half stays; above, what is brighter than paper is bent to
/// below the screen's white.
fn table(light: impl Fn(f64) -> f64) -> ToneReprCurve {
    let step = |n: usize| {
        let light = light(n as f64 / (STEPS - 1) as f64);
        if light <= 0.5 { light } else { 1.0 - 0.5 * (-(light - 0.5) / 0.5).exp() }
    };
    ToneReprCurve::Lut((0..STEPS).map(|n| (step(n) * 65_535.0).round() as u16).collect())
}

/// A code of SMPTE ST 2084 → cd/m².
fn pq(code: f64) -> f64 {
    let (m1, m2) = (2_610.0 / 16_384.0, 2_523.0 / 4_096.0 * 128.0);
    let (c1, c2, c3) = (3_424.0 / 4_096.0, 2_413.0 / 4_096.0 * 32.0, 2_392.0 / 4_096.0 * 32.0);
    let power = code.powf(1.0 / m2);
    10_000.0 * ((power - c1).max(0.0) / (c2 - c3 * power)).powf(1.0 / m1)
}

/// A code of hybrid log-gamma (ITU-R BT.2100) → light of the scene, 0 to 1.
fn hlg(code: f64) -> f64 {
    let (a, b, c) = (0.178_832_77, 0.284_668_92, 0.559_910_73);
    if code <= 0.5 { code * code / 3.0 } else { (((code - c) / a).exp() + b) / 12.0 }
}

#[cfg(test)]
mod tests {
    use image::DynamicImage;

    use super::*;
    use crate::photo::colour;

    fn shown(rgb: [u8; 3], primaries: i32, transfer: i32) -> Vec<u8> {
        let pixel = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(1, 1, image::Rgb(rgb)));
        let profile = profile(primaries, transfer).unwrap();
        colour::to_srgb(pixel, &profile).into_bytes()
    }

    #[test]
    fn ordinary_colours_need_no_profile() {
        for (primaries, transfer) in [(1, 13), (1, 1), (2, 2), (6, 6), (1, 14)] {
            assert_eq!(profile(primaries, transfer), None);
        }
    }

    #[test]
    fn white_paper_is_near_white_on_every_screen() {
        // 203 cd/m² has the code 0.5807 of PQ and 0.75 of HLG.
        for (code, transfer) in [(149, 16), (192, 18)] {
            let rgb = shown([code; 3], 9, transfer);
            assert!(rgb.iter().all(|value| (225..245).contains(value)), "{transfer}: {rgb:?}");
            let grey = shown([code / 2; 3], 9, transfer);
            assert!(grey.iter().all(|value| (40..190).contains(value)), "{transfer}: {grey:?}");
        }
    }

    #[test]
    fn wide_primaries_keep_their_greys() {
        for primaries in [9, 12] {
            assert!(shown([128; 3], primaries, 13).iter().all(|value| value.abs_diff(128) <= 1));
            let red = shown([200, 100, 50], primaries, 13);
            assert!(red[0] > 205 && red[2] < 45, "further out in sRGB: {red:?}");
        }
    }
}
