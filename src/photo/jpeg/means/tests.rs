use super::*;
use crate::photo::decode::tests::wanted;
use crate::photo::wanted::Wanted;
use crate::random::split_mix;

/// Smooth shapes in colour with some noise.
fn picture(width: usize, height: usize) -> Vec<u8> {
    let mut state = 5;
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let wave = |rate: f32| ((x as f32 * rate).sin() + (y as f32 * rate * 0.7).cos()) * 60.0;
            let noise = (split_mix(&mut state) % 16) as f32;
            rgb.extend([wave(0.02), wave(0.013), wave(0.031)].map(|v| (v + 120.0 + noise) as u8));
        }
    }
    rgb
}

fn encoded(width: usize, height: usize, chroma: (u8, u8), grey: bool) -> Vec<u8> {
    let mut rgb = picture(width, height);
    let space =
        if grey { mozjpeg::ColorSpace::JCS_GRAYSCALE } else { mozjpeg::ColorSpace::JCS_RGB };
    if grey {
        rgb = rgb.chunks_exact(3).map(|pixel| pixel[1]).collect();
    }
    let mut encoder = mozjpeg::Compress::new(space);
    encoder.set_size(width, height);
    encoder.set_quality(85.0);
    if !grey {
        encoder.set_chroma_sampling_pixel_sizes(chroma, chroma);
    }
    encoder.set_progressive_mode();
    let mut started = encoder.start_compress(Vec::new()).unwrap();
    started.write_scanlines(&rgb).unwrap();
    started.finish().unwrap()
}

#[test]
fn each_pixel_is_the_mean_of_64() {
    let channels = |grey: bool| if grey { 1 } else { 3 };
    // Sizes that fill no unit, too; chroma whole, halved across, halved both ways; and grey.
    for (width, height) in [(512, 384), (509, 387), (8, 8), (17, 700)] {
        for (chroma, grey) in [((1, 1), false), ((2, 1), false), ((2, 2), false), ((1, 1), true)] {
            let bytes = encoded(width, height, chroma, grey);
            let ours = eighth(&bytes, false).unwrap();
            let all = Wanted { whole: true, ..wanted(8) };
            let whole = super::super::decode(&bytes, &all).unwrap().image;
            assert_eq!(ours.color(), whole.color());
            let row = width.div_ceil(8) * channels(grey);
            let (ours, whole) = (ours.into_bytes(), whole.into_bytes());
            assert_eq!(ours.len(), row * height.div_ceil(8));
            let (mut most, mut sum, mut count) = (0f32, 0f32, 0f32);
            // What fills up the last blocks is no part of the picture.
            for (y, x) in (0..height / 8).flat_map(|y| (0..width / 8).map(move |x| (y, x))) {
                for channel in 0..channels(grey) {
                    let at = |dy: usize, dx: usize| {
                        ((8 * y + dy) * width + 8 * x + dx) * channels(grey) + channel
                    };
                    let inside = (0..64).map(|i| u32::from(whole[at(i / 8, i % 8)])).sum::<u32>();
                    let apart = f32::from(ours[y * row + x * channels(grey) + channel])
                        - inside as f32 / 64.0;
                    (most, sum, count) = (most.max(apart.abs()), sum + apart.abs(), count + 1.0);
                }
            }
            // Chroma of half the size is interpolated.
            let limits = if chroma == (1, 1) { (2.5, 0.6) } else { (14.0, 1.5) };
            let mean = sum / count.max(1.0);
            let said = format!("{width} x {height}, {chroma:?}, {grey}: {most}, {mean}");
            assert!(most <= limits.0 && mean <= limits.1, "{said}");
        }
    }
}

#[test]
fn restarts_and_passes_over_single_bits_are_read() {
    let bytes = include_bytes!("../../../../tests/reference/golden/restarts.jpg");
    let space = mozjpeg::ColorSpace::JCS_RGB;
    let (_, theirs) = super::super::turbo(bytes, 1, u32::MAX, space).unwrap();
    let ours = eighth(bytes, false).unwrap().into_bytes();
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().zip(&theirs).all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn what_is_cut_off_or_not_progressive_is_left_to_libjpeg() {
    let bytes = encoded(512, 384, (2, 2), false);
    let passes = segments(&bytes).filter(|segment| segment.kind == 0xda).count();
    assert!(passes > 3, "{passes} passes");
    let second = segments(&bytes).filter(|segment| segment.kind == 0xda).nth(1).unwrap();
    let behind_first = bytes.len() - second.rest.len();
    assert!(eighth(&bytes[..behind_first / 2], false).is_none());
    assert!(eighth(&bytes[..20], false).is_none());
    let mut encoder = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    encoder.set_fastest_defaults();
    encoder.set_size(64, 64);
    let mut started = encoder.start_compress(Vec::new()).unwrap();
    started.write_scanlines(&picture(64, 64)).unwrap();
    assert!(eighth(&started.finish().unwrap(), false).is_none());
}

proptest::proptest! {
    #[test]
    fn damage_is_no_danger(at in 0usize..4_000, byte: u8) {
        let mut bytes = encoded(96, 80, (2, 2), false);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = eighth(&bytes, false);
    }
}
