//! Files made on the spot: their pages have four pixels, unless it is said.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use super::{Metadata, Page, decode_by_rows, open, stream};
use crate::photo::decode::tests::{square, wanted};
use crate::photo::stream::tests::in_blocks;
use crate::photo::{DecodeOptions, Unreadable, from_bytes};

const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES: u16 = 277;
const STRIP_LENGTHS: u16 = 279;
const PLANES: u16 = 284;
const COLOUR_MAP: u16 = 320;
const TILE_OFFSETS: u16 = 324;
const TILE_LENGTHS: u16 = 325;
const EXTRA: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;

/// A little-endian file of `side` x `side` pixels; its strips, or with a `TileWidth` its tiles, are `data`.
fn file(side: u16, tags: &[(u16, &[u16])], data: &[&[u8]], is_big: bool) -> Vec<u8> {
    let (offset_width, start) = if is_big { (8, 16) } else { (4, 8) };
    let number = |value: usize| value.to_le_bytes()[..offset_width].to_vec();
    let mut body: Vec<u8> = Vec::new();
    let offsets: Vec<usize> = data
        .iter()
        .map(|chunk| {
            body.extend(*chunk);
            start + body.len() - chunk.len()
        })
        .collect();
    let is_tiled = tags.iter().any(|(tag, _)| *tag == 322);
    let (at, lengths) =
        if is_tiled { (TILE_OFFSETS, TILE_LENGTHS) } else { (STRIP_OFFSETS, STRIP_LENGTHS) };
    // SHORT is 3, LONG is 4.
    let mut entries: Vec<(u16, u16, Vec<u8>)> = [(256, side), (257, side)]
        .iter()
        .map(|(tag, value)| (*tag, 3, value.to_le_bytes().to_vec()))
        .collect();
    for (tag, values) in tags {
        entries.push((*tag, 3, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }
    let longs = |values: &mut dyn Iterator<Item = usize>| -> Vec<u8> {
        values.flat_map(|value| (value as u32).to_le_bytes()).collect()
    };
    entries.push((at, 4, longs(&mut offsets.iter().copied())));
    entries.push((lengths, 4, longs(&mut data.iter().map(|chunk| chunk.len()))));
    entries.sort();
    let mut directory = Vec::new();
    for (tag, kind, value) in &entries {
        directory.extend(tag.to_le_bytes());
        directory.extend(kind.to_le_bytes());
        directory.extend(number(value.len() / if *kind == 3 { 2 } else { 4 }));
        if value.len() <= offset_width {
            directory.extend(value);
            directory.extend(vec![0; offset_width - value.len()]);
        } else {
            directory.extend(number(start + body.len()));
            body.extend(value);
        }
    }
    let head: &[u8] = if is_big { b"II+\0\x08\0\0\0" } else { b"II*\0" };
    let count = number(entries.len());
    let count = if is_big { &count[..] } else { &count[..2] };
    [head, &number(start + body.len()), &body, count, &directory, &number(0)].concat()
}

/// The pixels, of 2 x 2 unless a `side` is given.
fn decoded_of(side: u16, bytes: Vec<u8>) -> Result<Vec<u8>, Unreadable> {
    let photo = from_bytes(bytes).unwrap();
    assert_eq!(photo.format, crate::photo::Format::Tiff);
    let photo = crate::photo::decode(&photo, &square(side.into()), &DecodeOptions::default())?;
    Ok(photo.pixels.as_rgb().to_vec())
}

fn decoded(tags: &[(u16, &[u16])], data: &[&[u8]]) -> Result<Vec<u8>, Unreadable> {
    decoded_of(2, file(2, tags, data, false))
}

/// Four pixels of grey.
fn grey(values: [u8; 4]) -> Vec<u8> {
    values.into_iter().flat_map(|value| [value; 3]).collect()
}

#[test]
fn grey_of_few_bits_spans_all_of_eight() {
    let of = |tags: &[(u16, &[u16])], rows: &[u8]| decoded(tags, &[rows]).unwrap();
    let two = [0b0001_0000, 0b1011_0000];
    assert_eq!(of(&[(BITS, &[2]), (PHOTOMETRIC, &[1])], &two), grey([0, 85, 170, 255]));
    assert_eq!(of(&[(BITS, &[2]), (PHOTOMETRIC, &[0])], &two), grey([255, 170, 85, 0]));
    assert_eq!(of(&[(BITS, &[4]), (PHOTOMETRIC, &[1])], &[0x0f, 0x36]), grey([0, 255, 51, 102]));
}

#[test]
fn bits_in_reverse_are_turned() {
    let tags: &[(u16, &[u16])] = &[(BITS, &[4]), (PHOTOMETRIC, &[1]), (FILL_ORDER, &[2])];
    let rows = [0x0fu8.reverse_bits(), 0x36u8.reverse_bits()];
    assert_eq!(decoded(tags, &[&rows]).unwrap(), grey([0, 255, 51, 102]));
}

#[test]
fn palettes_are_looked_up() {
    let map: Vec<u16> = [[0u16, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]].concat();
    let expected = [3, 13, 23, 0, 10, 20, 1, 11, 21, 2, 12, 22];
    for scale in [1, 256, 257] {
        let map: Vec<u16> = map.iter().map(|value| value * scale).collect();
        let tags: &[(u16, &[u16])] = &[(BITS, &[2]), (PHOTOMETRIC, &[3]), (COLOUR_MAP, &map)];
        assert_eq!(decoded(tags, &[&[0b1100_0000, 0b0110_0000]]).unwrap(), expected);
        // An index that the palette does not have.
        let tags: &[(u16, &[u16])] = &[(BITS, &[8]), (PHOTOMETRIC, &[3]), (COLOUR_MAP, &map)];
        assert_eq!(decoded(tags, &[&[9, 0, 1, 2]]).unwrap()[..6], [0, 0, 0, 0, 10, 20]);
    }
}

#[test]
fn alpha_is_divided_out_where_colours_were_multiplied_by_it() {
    let pixels = [100, 50, 0, 128].repeat(4);
    let of = |extra: u16| {
        let tags: &[(u16, &[u16])] =
            &[(BITS, &[8; 4]), (PHOTOMETRIC, &[2]), (SAMPLES, &[4]), (EXTRA, &[extra])];
        decoded(tags, &[&pixels]).unwrap()[..3].to_vec()
    };
    assert_eq!(of(1), [227, 177, 127], "associated");
    assert_eq!(of(2), [177, 152, 127], "straight");
    assert_eq!(of(0), [100, 50, 0], "no alpha at all");
}

#[test]
fn lab_becomes_srgb() {
    let tags: &[(u16, &[u16])] = &[(BITS, &[8; 3]), (PHOTOMETRIC, &[8]), (SAMPLES, &[3])];
    // White, black, and sRGB's red and green, by CIE 15 under D50.
    let pixels = [255, 0, 0, 0, 0, 0, 138, 81, 70, 224, (-79i8) as u8, 81];
    let rgb = decoded(tags, &[&pixels]).unwrap();
    let expected = [255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0];
    let apart = rgb.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max();
    // Rounding to 8 bits before: green's red is 10 off.
    assert!(apart <= Some(10), "{rgb:?}");
}

#[test]
fn inks_and_alpha_behind_them() {
    let tags: &[(u16, &[u16])] =
        &[(BITS, &[8; 5]), (PHOTOMETRIC, &[5]), (SAMPLES, &[5]), (EXTRA, &[2])];
    let pixels = [[255, 0, 0, 0, 255], [0, 0, 0, 255, 255], [0; 5], [0, 0, 0, 255, 0]].concat();
    let expected = [0, 255, 255, 0, 0, 0, 255, 255, 255, 255, 255, 255];
    assert_eq!(decoded(tags, &[&pixels]).unwrap(), expected);
}

#[test]
fn few_bits_and_inks_are_averaged_by_rows_as_a_whole() {
    const SIDE: u16 = 24;
    let side = usize::from(SIDE);
    let bits: Vec<u8> = (0..side * side / 8).map(|n| (n * 37) as u8).collect();
    let nibbles: Vec<u8> = (0..side * side / 2).map(|n| (n * 11) as u8).collect();
    let inks = |columns: usize, rows: usize| -> Vec<u8> {
        let ink = |n: usize| [n / columns * 8, n % columns * 7, 90, n / columns * 2];
        (0..columns * rows).flat_map(|n| ink(n).map(|ink| ink as u8)).collect()
    };
    let (strip, tile) = (inks(side, side), inks(32, 32));
    let size: &[(u16, &[u16])] = &[(322, &[32]), (323, &[32])];
    let cmyk: &[(u16, &[u16])] = &[(BITS, &[8; 4]), (PHOTOMETRIC, &[5]), (SAMPLES, &[4])];
    type Case<'a> = (Vec<(u16, &'a [u16])>, Vec<&'a [u8]>, u8);
    let cases: [Case<'_>; 5] = [
        (vec![(BITS, &[1]), (PHOTOMETRIC, &[0])], vec![&bits], 0),
        (vec![(BITS, &[1]), (PHOTOMETRIC, &[1]), (278, &[16])], vec![&bits[..48], &bits[48..]], 0),
        (vec![(BITS, &[4]), (PHOTOMETRIC, &[1])], vec![&nibbles], 0),
        // Inks are averaged before they become colours.
        (cmyk.to_vec(), vec![&strip], 2),
        ([size, cmyk].concat(), vec![&tile], 2),
    ];
    for (tags, data, most) in cases {
        let bytes = file(SIDE, &tags, &data, false);
        let whole = super::decode(&bytes, &wanted(2)).unwrap().image;
        let page = Page::read(&mut open(&bytes, 1 << 20).unwrap(), (24, 24)).unwrap();
        let small = stream::tiff(Cursor::new(&bytes), false, &wanted(2)).unwrap();
        let small = page.small(small, Metadata::default(), None);
        assert_eq!((small.size, small.image.width()), ((24, 24), 8));
        let expected = in_blocks(&whole, &wanted(2));
        let apart = small.image.as_bytes().iter().zip(expected.as_bytes());
        let apart = apart.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(most), "{tags:?}: {apart:?}");
        let cut = &bytes[..30];
        assert!(stream::tiff(Cursor::new(cut), false, &wanted(2)).is_none());
    }
}

#[test]
fn jpeg_inside_has_its_colours_turned() {
    let image = RgbImage::from_pixel(16, 16, image::Rgb([200, 100, 50]));
    let mut jpeg = Cursor::new(Vec::new());
    image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let tags: &[(u16, &[u16])] =
        &[(BITS, &[8; 3]), (PHOTOMETRIC, &[6]), (SAMPLES, &[3]), (COMPRESSION, &[7])];
    let rgb = decoded_of(16, file(16, tags, &[jpeg.get_ref()], false)).unwrap();
    let apart = rgb[..3].iter().zip([200, 100, 50]).map(|(a, b): (&u8, u8)| a.abs_diff(b)).max();
    assert!(apart <= Some(3), "{:?}", &rgb[..3]);
}

#[test]
fn planes_of_tiles_may_reach_beyond_the_picture() {
    let tile = |value: u8| [value; 16 * 16];
    let (red, green, blue) = (tile(1), tile(2), tile(3));
    let size: &[(u16, &[u16])] = &[(322, &[16]), (323, &[16])];
    let colours: &[(u16, &[u16])] =
        &[(BITS, &[8; 3]), (PHOTOMETRIC, &[2]), (SAMPLES, &[3]), (PLANES, &[2])];
    let rgb = decoded(&[size, colours].concat(), &[&red, &green, &blue]).unwrap();
    assert_eq!(rgb, [1, 2, 3].repeat(4));
}

#[test]
fn tiles_of_lzw_may_reach_beyond_the_picture() {
    // Of a tile of 16 x 16: of its pixels number i, where half of its square is odd, is white. By the encoder of TIFF 6.0.
    let tile = b"\x80\x00\x20\x50\x38\x24\x16\x0d\x07\x84\x42\x61\x50\xb8\x64\x36\x1d\x0f\x88\x44\x62\x51\x38\xa4\x56\x2d\x03\x80\x80";
    let tags: &[(u16, &[u16])] =
        &[(BITS, &[8]), (COMPRESSION, &[5]), (PHOTOMETRIC, &[1]), (322, &[16]), (323, &[16])];
    for is_big in [false, true] {
        let pixels = decoded_of(14, file(14, tags, &[tile], is_big)).unwrap();
        let number = |at: usize| 16 * (at / 14) + at % 14;
        let expected = (0..14 * 14).map(|at| if number(at).pow(2) / 2 % 2 == 1 { 255 } else { 0 });
        assert_eq!(pixels, expected.flat_map(|value| [value; 3]).collect::<Vec<u8>>());
    }
}

#[test]
fn planes_are_averaged_as_pixels_are() {
    let side: u16 = 24;
    let pixels: Vec<u8> = (0..24 * 24 * 3u32).map(|i| (i * 7 % 256) as u8).collect();
    let plane = |c: usize| -> Vec<u8> { pixels.iter().skip(c).step_by(3).copied().collect() };
    let planes = [plane(0), plane(1), plane(2)];
    let deep = planes.each_ref().map(|plane| {
        plane.iter().flat_map(|v| (u16::from(*v) * 257).to_le_bytes()).collect::<Vec<u8>>()
    });
    // Two bands, of 16 rows and of 8.
    let in_strips = |planes: &[Vec<u8>; 3], bytes: usize| -> Vec<Vec<u8>> {
        planes.iter().flat_map(|p| p.chunks(16 * 24 * bytes).map(<[u8]>::to_vec)).collect()
    };
    let tile = |plane: &Vec<u8>, left: usize, top: usize| -> Vec<u8> {
        let at = |x: usize, y: usize| plane[y.min(23) * 24 + x.min(23)];
        (0..256).map(|i| at(left + i % 16, top + i / 16)).collect()
    };
    let corners = [(0, 0), (16, 0), (0, 16), (16, 16)];
    let tiles = planes.iter().flat_map(|plane| corners.map(|(x, y)| tile(plane, x, y)));
    let rgb: &[(u16, &[u16])] = &[(PHOTOMETRIC, &[2]), (SAMPLES, &[3]), (PLANES, &[2])];
    let rows: (u16, &[u16]) = (278, &[16]);
    let tiled: &[(u16, &[u16])] = &[(322, &[16]), (323, &[16])];
    let image = RgbImage::from_raw(24, 24, pixels.clone()).unwrap();
    let expected = in_blocks(&image.into(), &wanted(2)).to_rgb8();
    for (tags, bits, data) in [
        (vec![rows], 8, in_strips(&planes, 1)),
        (vec![rows], 16, in_strips(&deep, 2)),
        (tiled.to_vec(), 8, tiles.collect()),
    ] {
        let (bits, data): ([u16; 3], Vec<&[u8]>) =
            ([bits; 3], data.iter().map(Vec::as_slice).collect());
        let tags = [&tags, rgb, &[(BITS, &bits[..])]].concat();
        let bytes = file(side, &tags, &data, false);
        let small = stream::tiff(Cursor::new(&bytes), false, &wanted(2)).unwrap();
        assert_eq!(small.samples, *expected.as_raw(), "{tags:?}");
        let cut = &bytes[..8 + 24 * 24 * 2];
        assert!(stream::tiff(Cursor::new(cut), false, &wanted(2)).is_none());
    }
}

#[test]
fn bigtiff_is_tiff_with_longer_offsets() {
    let tags: &[(u16, &[u16])] = &[(BITS, &[8]), (PHOTOMETRIC, &[1])];
    let pixels: &[u8] = &[1, 2, 3, 4];
    assert_eq!(decoded_of(2, file(2, tags, &[pixels], true)).unwrap(), grey([1, 2, 3, 4]));
    let map = [0, 7, 0, 8, 0, 9];
    let tags: &[(u16, &[u16])] = &[(BITS, &[1]), (PHOTOMETRIC, &[3]), (COLOUR_MAP, &map)];
    let rgb = decoded_of(2, file(2, tags, &[&[0x80, 0x40]], true)).unwrap();
    assert_eq!(rgb, [7, 8, 9, 0, 0, 0, 0, 0, 0, 7, 8, 9]);
}

#[test]
fn what_is_not_decoded_is_named() {
    let reason = |tags: &[(u16, &[u16])]| decoded(tags, &[&[0; 64]]).unwrap_err().to_string();
    let rare = "a kind of TIFF that is not decoded by this version: ";
    let twelve: &[(u16, &[u16])] = &[(BITS, &[12]), (PHOTOMETRIC, &[1])];
    assert_eq!(reason(twelve), format!("{rare}grey of 12 unsigned bits, compression 1"));
    let signed: &[(u16, &[u16])] = &[(BITS, &[8]), (PHOTOMETRIC, &[1]), (339, &[2])];
    assert_eq!(reason(signed), format!("{rare}grey of 8 signed bits, compression 1"));
    let strange: &[(u16, &[u16])] = &[(BITS, &[8]), (PHOTOMETRIC, &[4])];
    assert_eq!(reason(strange), format!("{rare}photometric interpretation 4"));
    let few: &[(u16, &[u16])] = &[(BITS, &[8]), (PHOTOMETRIC, &[8]), (SAMPLES, &[1])];
    assert_eq!(reason(few), "damaged: it has too few samples a pixel");
}

#[test]
fn no_flipped_byte_panics() {
    let map: Vec<u16> = (0..12).collect();
    let palette: &[(u16, &[u16])] = &[(BITS, &[2]), (PHOTOMETRIC, &[3]), (COLOUR_MAP, &map)];
    let reverse: &[(u16, &[u16])] = &[(BITS, &[4]), (PHOTOMETRIC, &[1]), (FILL_ORDER, &[2])];
    for tags in [palette, reverse] {
        for is_big in [false, true] {
            let whole = file(2, tags, &[&[0x12, 0x34]], is_big);
            for at in 8..whole.len() {
                for bits in [0x01, 0x80, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= bits;
                    let said = from_bytes(bytes).and_then(|photo| {
                        crate::photo::decode(&photo, &square(2), &DecodeOptions::default())
                    });
                    let gave_up = said.err().is_some_and(|e| e.to_string().contains("gave up"));
                    assert!(!gave_up, "byte {at} of {tags:?}, by {bits:#x}");
                }
            }
        }
    }
}

#[test]
fn numbers_that_are_no_light_span_from_the_least_to_the_greatest() {
    use tiff::encoder::{TiffEncoder, TiffValue, colortype};

    fn decoded<C: colortype::ColorType>(numbers: &[C::Inner]) -> Vec<u8>
    where
        [C::Inner]: TiffValue,
    {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        encoder.write_image::<C>(2, 2, numbers).unwrap();
        decoded_of(2, bytes.into_inner()).unwrap()
    }
    let light = grey([0, 51, 102, 255]);
    assert_eq!(decoded::<colortype::Gray32Float>(&[0.0, 0.2, 0.4, 1.0]), light);
    assert_eq!(decoded::<colortype::Gray64Float>(&[0.0, 0.2, 0.4, 1.0]), light);
    // Heights below and above the sea; where there is no height, there is none to be seen.
    let heights = decoded::<colortype::Gray32Float>(&[-100.0, 0.0, f32::NAN, 400.0]);
    assert_eq!(heights, grey([0, 51, 0, 255]));
    let flat = decoded::<colortype::Gray32Float>(&[7.0; 4]);
    assert_eq!(flat, grey([255; 4]));
    let colours = decoded::<colortype::RGB64Float>(&[0.2; 12]);
    assert_eq!(colours, grey([51; 4]));
    let whole = |share: f64| (share * f64::from(u32::MAX)) as u32;
    let deep = [whole(0.0), whole(0.2), whole(0.4), whole(1.0)];
    assert_eq!(decoded::<colortype::Gray32>(&deep), light);
}

#[test]
fn what_stands_for_nothing_measured_is_no_height() {
    const NO_DATA: u16 = 42_113;
    let of = |numbers: [f32; 4], no_data: &[u16]| {
        let data = numbers.map(f32::to_le_bytes).concat();
        let kinds: &[(u16, &[u16])] = &[(BITS, &[32]), (PHOTOMETRIC, &[1]), (SAMPLE_FORMAT, &[3])];
        let mut bytes = file(2, &[kinds, &[(NO_DATA, no_data)]].concat(), &[&data], false);
        // A text of one byte a letter.
        let tag = [&NO_DATA.to_le_bytes()[..], &3u16.to_le_bytes()].concat();
        let at = memchr::memmem::rfind(&bytes, &tag).unwrap();
        bytes[at + 2] = 2;
        bytes[at + 4] = 2 * no_data.len() as u8;
        decoded_of(2, bytes).unwrap()
    };
    let text = [*b"-9", *b"99", *b"9\0"].map(u16::from_le_bytes);
    assert_eq!(of([100.0, 200.0, -9999.0, 600.0], &text), grey([0, 51, 0, 255]));
    // The least number there is, without a word of it.
    let none = [*b"no", *b"ne", *b"\0\0"].map(u16::from_le_bytes);
    assert_eq!(of([100.0, 200.0, f32::MIN, 600.0], &none), grey([0, 51, 0, 255]));
}

#[test]
fn alpha_beside_heights_is_none() {
    let numbers = [100.0f32, 1.0, 200.0, 1.0, 350.0, 0.0, 600.0, 0.5];
    let tags: &[(u16, &[u16])] = &[
        (BITS, &[32, 32]),
        (PHOTOMETRIC, &[1]),
        (SAMPLES, &[2]),
        (EXTRA, &[2]),
        (SAMPLE_FORMAT, &[3, 3]),
    ];
    let data = numbers.map(f32::to_le_bytes).concat();
    // Over white.
    assert_eq!(decoded(tags, &[&data]).unwrap(), grey([0, 51, 255, 255]));
}

#[test]
fn halves_are_not_taken_for_whole_numbers_of_as_many_bits() {
    let of = |format: u16| {
        let halves = 0x3800u16.to_le_bytes().repeat(24 * 24);
        let tags: &[(u16, &[u16])] =
            &[(BITS, &[16]), (PHOTOMETRIC, &[1]), (SAMPLE_FORMAT, &[format])];
        file(24, tags, &[&halves], false)
    };
    let by_rows = |bytes: &[u8]| {
        let mut on_disk = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut on_disk, bytes).unwrap();
        decode_by_rows(&on_disk, &wanted(2)).unwrap()
    };
    assert!(by_rows(&of(1)).is_some());
    assert!(by_rows(&of(3)).is_none());
    assert_eq!(decoded_of(24, of(3)).unwrap()[..3], [128; 3], "a half");
}
