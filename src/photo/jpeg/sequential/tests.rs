use image::DynamicImage;
use image::metadata::Orientation;

use super::*;
use crate::photo::jpeg::segments::Header;
use crate::photo::jpeg::turbo;
use crate::photo::resize::{Source, part_needed, to_square};
use crate::random::split_mix;

/// Smooth shapes in colour, edges, and some noise. `chroma` is how many pixels a sample of it stands for, across
/// and down; 0 for grey.
fn encoded((width, height): (usize, usize), chroma: (u8, u8), quality: f32) -> Vec<u8> {
    let is_grey = chroma.0 == 0;
    let (space, channels) = match is_grey {
        true => (mozjpeg::ColorSpace::JCS_GRAYSCALE, 1),
        false => (mozjpeg::ColorSpace::JCS_RGB, 3),
    };
    let mut state = 5;
    let mut pixels = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let edge = if (x / 13 + y / 17) % 2 == 0 { 40.0 } else { 0.0 };
        for rate in &[0.09, 0.06, 0.13][..channels] {
            let wave = ((x as f32 * rate).sin() + (y as f32 * rate * 0.7).cos()) * 50.0;
            pixels.push((wave + 110.0 + edge + (split_mix(&mut state) % 24) as f32) as u8);
        }
    }
    let mut encoder = mozjpeg::Compress::new(space);
    encoder.set_fastest_defaults();
    encoder.set_size(width, height);
    encoder.set_quality(quality);
    if !is_grey {
        encoder.set_chroma_sampling_pixel_sizes(chroma, chroma);
    }
    let mut started = encoder.start_compress(Vec::new()).unwrap();
    started.write_scanlines(&pixels).unwrap();
    started.finish().unwrap()
}

/// Whole rows, and their corner.
fn decode(
    bytes: &[u8],
    is_rgb: bool,
    part: &Part,
    eighths: u8,
) -> Option<(DynamicImage, (u32, u32))> {
    let Decoded { image, corner, is_narrow } = super::decode(bytes, is_rgb, part, eighths, None)?;
    assert!(!is_narrow);
    Some((image, corner))
}

fn all((width, height): (usize, usize)) -> Part {
    Part { columns: 0..width as u32, rows: 0..height as u32 }
}

fn libjpeg(bytes: &[u8], eighths: u8) -> ((u32, u32), Vec<u8>) {
    let space = match Header::read(bytes).unwrap().components {
        1 => mozjpeg::ColorSpace::JCS_GRAYSCALE,
        _ => mozjpeg::ColorSpace::JCS_RGB,
    };
    turbo(bytes, eighths, u32::MAX, space).unwrap()
}

const CHROMA: [(u8, u8); 5] = [(1, 1), (2, 1), (1, 2), (2, 2), (0, 0)];

#[test]
fn pixels_are_those_of_libjpeg() {
    // Sizes that fill no unit, one unit, and many.
    for sides in [(257, 131), (16, 16), (17, 90), (320, 240), (431, 18)] {
        for (chroma, quality) in CHROMA.into_iter().flat_map(|c| [(c, 60.0), (c, 97.0)]) {
            let bytes = encoded(sides, chroma, quality);
            for eighths in [1, 2, 3, 4, 8] {
                let (image, corner) = decode(&bytes, false, &all(sides), eighths).unwrap();
                let (size, theirs) = libjpeg(&bytes, eighths);
                assert_eq!((image.width(), image.height(), corner), (size.0, size.1, (0, 0)));
                // Of chroma that is halved one way only, libjpeg doubles the samples there; these are between.
                if eighths == 1 && matches!(chroma, (2, 1) | (1, 2)) {
                    continue;
                }
                let apart = image.as_bytes().iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b));
                // At smaller sizes, samples are within 1, and colours made of three of them within 3.
                let (most, limit) = (apart.max().unwrap(), if eighths == 8 { 0 } else { 3 });
                assert!(most <= limit, "{sides:?}, chroma {chroma:?}, {eighths}/8: {most}");
            }
        }
    }
}

#[test]
fn a_part_has_the_pixels_of_the_whole() {
    let sides = (403, 301);
    let part = Part { columns: 90..250, rows: 120..200 };
    for chroma in CHROMA {
        let bytes = encoded(sides, chroma, 90.0);
        for eighths in [1, 2, 3, 4, 8] {
            let (whole, _) = decode(&bytes, false, &all(sides), eighths).unwrap();
            let (image, (left, top)) = decode(&bytes, false, &part, eighths).unwrap();
            assert!(image.width() < whole.width() && image.height() < whole.height());
            let scaled = |side: u32| side * u32::from(eighths) / 8;
            let (start, end) = (scaled(part.columns.start), scaled(part.columns.end));
            let (upper, lower) = (scaled(part.rows.start), scaled(part.rows.end));
            assert!(left <= start && left + image.width() >= end, "{eighths}");
            assert!(top <= upper && top + image.height() >= lower, "{eighths}");
            let (w, h) = (end - start, lower - upper);
            let ours = image.crop_imm(start - left, upper - top, w, h);
            assert_eq!(ours, whole.crop_imm(start, upper, w, h), "{chroma:?}, {eighths}/8");
        }
    }
}

#[test]
fn rows_that_are_resized_as_they_come_make_the_same_square() {
    let preprocessing = crate::network::sample::preprocessing(56, 64);
    for sides in [(403, 301), (160, 233), (64, 65)] {
        let (width, height) = (sides.0 as u32, sides.1 as u32);
        let part = part_needed((width, height), 56, 64);
        for (chroma, exif) in
            CHROMA.into_iter().flat_map(|chroma| (1..=8).map(move |e| (chroma, e)))
        {
            let bytes = encoded(sides, chroma, 90.0);
            let orientation = Orientation::from_exif(exif).unwrap();
            let columns = Columns::new((width, height), orientation, (56, 64));
            assert_eq!(columns.is_none(), exif > 4, "columns come first where sides are swapped");
            let square = |columns: Option<&Columns>| {
                let decoded = super::decode(&bytes, false, &part, 8, columns).unwrap();
                let Decoded { image, corner, is_narrow } = decoded;
                let rgb = image.into_rgb8();
                let (stored, whole) = (rgb.dimensions(), (width, height));
                assert_eq!(stored.0 == 56, is_narrow, "{sides:?}");
                let corner = (f64::from(corner.0), f64::from(corner.1));
                let source = Source { rgb: &rgb, stored, corner, whole, scale: 1.0, is_narrow };
                to_square(&source, orientation, &preprocessing)
            };
            assert!(square(columns.as_ref()) == square(None), "{sides:?}, {chroma:?}, {exif}");
        }
    }
}

#[test]
fn restarts_are_read() {
    let bytes = include_bytes!("../../../../tests/reference/golden/restarts-422.jpg");
    let restarts = bytes.windows(2).filter(|pair| matches!(pair, [0xff, 0xd0..=0xd7])).count();
    assert!(restarts > 100, "{restarts}");
    let (image, _) = decode(bytes, false, &all((301, 200)), 8).unwrap();
    assert!(image.as_bytes() == libjpeg(bytes, 8).1);
    // A lost marker is noticed.
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xd3]).unwrap();
    let without = [&bytes[..at], &bytes[at + 2..]].concat();
    assert!(decode(&without, false, &all((301, 200)), 8).is_none());
}

#[test]
fn what_is_rare_or_cut_off_is_left_to_libjpeg() {
    let sides = (320, 240);
    let bytes = encoded(sides, (2, 2), 90.0);
    assert!(decode(&bytes, false, &all(sides), 8).is_some());
    for end in (0..bytes.len() * 9 / 10).step_by(97) {
        assert!(decode(&bytes[..end], false, &all(sides), 8).is_none(), "cut at {end}");
    }
    let narrow = encoded((320, 15), (2, 2), 90.0);
    assert!(decode(&narrow, false, &all((320, 15)), 8).is_none());
    let progressive = include_bytes!("../../../../tests/reference/golden/progressive.jpg");
    assert!(decode(progressive, false, &all((301, 200)), 8).is_none());
    let inks = include_bytes!("../../../../tests/reference/golden/cmyk.jpg");
    assert!(decode(inks, false, &all((200, 150)), 8).is_none());
}

#[test]
fn slower_ways_give_the_same_pixels() {
    type Way = fn(&mut Scan<'_>, &[u8], &mut Rows) -> Option<()>;
    let portable: Way = |scan, coded, rows| scan.run_by::<Portable>(coded, false, rows);
    #[cfg(target_arch = "x86_64")]
    fn avx2() -> Option<Way> {
        #[target_feature(enable = "avx2")]
        fn run(scan: &mut Scan<'_>, coded: &[u8], rows: &mut Rows) -> Option<()> {
            scan.run_by::<lanes::Avx2>(coded, false, rows)
        }
        // SAFETY: the processor has them.
        let way: Way = |scan, coded, rows| unsafe { run(scan, coded, rows) };
        is_x86_feature_detected!("avx2").then_some(way)
    }
    #[cfg(not(target_arch = "x86_64"))]
    fn avx2() -> Option<Way> {
        None
    }
    // Of 33 blocks in a row the last one stands in a group alone.
    let sides = (257, 131);
    let bytes = encoded(sides, (2, 2), 90.0);
    for eighths in [3, 8] {
        let (fast, _) = decode(&bytes, false, &all(sides), eighths).unwrap();
        for way in std::iter::once(portable).chain(avx2()) {
            let row = vec![0; fast.width() as usize * 3];
            let mut rows = Rows { row, narrowing: None, pixels: Vec::new() };
            scan(&bytes, &all(sides), eighths, |mut scan, coded| way(&mut scan, coded, &mut rows))
                .unwrap();
            assert!(fast.as_bytes() == rows.pixels, "{eighths}/8");
        }
    }
}

proptest::proptest! {
    #[test]
    fn damage_is_no_danger(places in proptest::collection::vec((0usize..8_000, proptest::num::u8::ANY), 1..5)) {
        let sides = (96, 80);
        let mut bytes = encoded(sides, (2, 2), 80.0);
        let length = bytes.len();
        for (at, byte) in places {
            bytes[at % length] = byte;
        }
        for eighths in [3, 8] {
            let _ = decode(&bytes, false, &all(sides), eighths);
        }
    }
}
