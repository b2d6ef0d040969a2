use std::io::Cursor;

use super::*;
use crate::photo::decode::tests::wanted;
use crate::photo::stream::tests::in_blocks;

fn decode(bytes: &[u8]) -> Result<Raster, Unreadable> {
    super::decode(Cursor::new(bytes), bytes.len() as u64, &wanted(224))
}

/// A file of 3 × 2 pixels.
fn file(version: u16, mode: u16, depth: u16, planes: &[&[u8]], packed: bool) -> Vec<u8> {
    file_of((3, 2), version, mode, depth, planes, packed)
}

/// A file from its planes, by rows of up to 128 bytes; each is packed as bytes that are not repeated, but for the first
/// two, where `packed`.
fn file_of(
    (width, height): (u16, u16),
    version: u16,
    mode: u16,
    depth: u16,
    planes: &[&[u8]],
    packed: bool,
) -> Vec<u8> {
    let mut bytes = b"8BPS".to_vec();
    let channels = planes.len() as u16;
    for number in [version, 0, 0, 0, channels, 0, height, 0, width, depth, mode] {
        bytes.extend(number.to_be_bytes());
    }
    let palette: Vec<u8> = if mode == 2 { (0..768u32).map(|n| n as u8).collect() } else { vec![] };
    bytes.extend((palette.len() as u32).to_be_bytes());
    bytes.extend(&palette);
    let resources = b"8BIM\x04\x24\0\0\0\0\0\x03<x>\0";
    bytes.extend((resources.len() as u32).to_be_bytes());
    bytes.extend(resources);
    bytes.extend(vec![0; if version == 2 { 8 } else { 4 }]);
    bytes.extend(u16::from(packed).to_be_bytes());
    let rows: Vec<&[u8]> =
        planes.iter().flat_map(|plane| plane.chunks(plane.len() / usize::from(height))).collect();
    if !packed {
        return [bytes, rows.concat()].concat();
    }
    let pack = |row: &&[u8]| match row {
        [a, b, rest @ ..] if a == b && !rest.is_empty() => {
            [&[255, *a, 128, rest.len() as u8 - 1], rest].concat()
        }
        row => [&[row.len() as u8 - 1], *row].concat(),
    };
    let rows: Vec<Vec<u8>> = rows.iter().map(pack).collect();
    for row in &rows {
        match version {
            2 => bytes.extend((row.len() as u32).to_be_bytes()),
            _ => bytes.extend((row.len() as u16).to_be_bytes()),
        }
    }
    [bytes, rows.concat()].concat()
}

fn decoded(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let raster = decode(bytes)?;
    assert_eq!((raster.size, raster.metadata.xmp.as_deref()), ((3, 2), Some(&b"<x>"[..])));
    Ok(raster.image.into_bytes())
}

const RED: &[u8] = &[9, 9, 1, 2, 3, 4];
const GREEN: &[u8] = &[10, 20, 30, 40, 50, 60];
const BLUE: &[u8] = &[7, 7, 7, 200, 201, 202];
const ALPHA: &[u8] = &[0; 6];

#[test]
fn planes_come_side_by_side_packed_or_not() {
    let expected = [9, 10, 7, 9, 20, 7, 1, 30, 7, 2, 40, 200, 3, 50, 201, 4, 60, 202];
    for (version, packed) in [(1, false), (1, true), (2, false), (2, true)] {
        let whole = file(version, 3, 8, &[RED, GREEN, BLUE, ALPHA], packed);
        assert_eq!(decoded(&whole).unwrap(), expected, "{version} {packed}");
        // What is shown stands before the alpha channel.
        let shown = whole.len() - 12;
        for end in 4..shown {
            assert!(decoded(&whole[..end]).is_err(), "cut to {end} of {}", whole.len());
        }
    }
}

#[test]
fn every_mode_becomes_grey_or_rgb() {
    assert_eq!(decoded(&file(1, 1, 8, &[GREEN], true)).unwrap(), GREEN);
    let sixteen = [0, 0, 0x80, 0x80, 0xff, 0xff, 1, 1, 2, 2, 3, 3];
    assert_eq!(decoded(&file(1, 8, 16, &[&sixteen], true)).unwrap(), [0, 128, 255, 1, 2, 3]);
    let bits = [0b0101_0000, 0b1110_0000];
    assert_eq!(decoded(&file(1, 0, 1, &[&bits], false)).unwrap(), [255, 0, 255, 0, 0, 0]);
    let indexed = decoded(&file(1, 2, 8, &[GREEN], false)).unwrap();
    assert_eq!(indexed[..6], [10, 10, 10, 20, 20, 20]);
    let cmyk = decoded(&file(1, 4, 8, &[&[255; 6], &[0; 6], &[255; 6], &[255; 6]], true)).unwrap();
    assert_eq!(cmyk[..3], [255, 0, 255], "all of the second ink, magenta");
    let floats: Vec<u8> = [0.1f32; 6].iter().flat_map(|light| light.to_be_bytes()).collect();
    let light = decoded(&file(1, 1, 32, &[&floats], false)).unwrap();
    assert!(light.len() == 18 && light[0] > 90, "{light:?}");
}

#[test]
fn what_is_not_decoded_is_named() {
    let lab = decoded(&file(1, 9, 8, &[RED, GREEN, BLUE], false)).unwrap_err();
    let expected = "a kind of PSD that is not decoded by this version: Lab";
    assert_eq!(lab.to_string(), expected);
    let mut huge = file(1, 3, 8, &[RED, GREEN, BLUE], true);
    huge[14..22].copy_from_slice(&[0, 0, 0x03, 0xe8, 0, 0, 0x03, 0xe8]);
    let error = decoded(&huge).unwrap_err();
    assert!(matches!(error, Unreadable::Truncated { .. }), "{error}");
}

#[test]
fn no_flipped_byte_panics() {
    for whole in [file(1, 3, 8, &[RED, GREEN, BLUE], true), file(2, 2, 8, &[RED], true)] {
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut flipped = whole.clone();
                flipped[at] ^= flip;
                let _ = decode(&flipped);
            }
        }
    }
}

#[test]
fn rows_are_those_of_the_whole() {
    const SIZE: (u16, u16) = (31, 25);
    let count = usize::from(SIZE.0) * usize::from(SIZE.1);
    let plane = |step: usize| -> Vec<u8> { (0..count).map(|n| (n * step / 9) as u8).collect() };
    let (a, b, c) = (plane(1), plane(3), plane(7));
    let deep: Vec<u8> = a.iter().flat_map(|v| [*v, *v]).collect();
    let cases: [(u16, u16, &[&[u8]]); 5] = [
        (1, 8, &[&a]),
        (1, 16, &[&deep]),
        (2, 8, &[&b]),
        (3, 8, &[&a, &b, &c]),
        (4, 8, &[&a, &b, &c, &a]),
    ];
    for (mode, depth, planes) in cases {
        for packed in [false, true] {
            let bytes = file_of(SIZE, 1, mode, depth, planes, packed);
            let mut file = Cursor::new(&bytes);
            let header = Header::read(&mut file).unwrap();
            let start = file.position();
            let expected = in_blocks(&whole(&header, &mut file).unwrap(), &wanted(2));
            file.set_position(start);
            let (scale, small) = by_rows(&header, &mut file, &wanted(2)).unwrap().unwrap();
            assert!((scale - 1.0 / 3.0).abs() < 1e-12);
            let apart = small.as_bytes().iter().zip(expected.as_bytes());
            let apart = apart.map(|(a, b)| a.abs_diff(*b)).max();
            // Inks are averaged before they become colours.
            let most = if mode == 4 { 3 } else { 0 };
            assert!(apart <= Some(most), "{mode} {depth} {packed}: {apart:?}");
            let mut cut = Cursor::new(&bytes[..bytes.len() - 40]);
            let header = Header::read(&mut cut).unwrap();
            assert!(by_rows(&header, &mut cut, &wanted(2)).is_err());
        }
    }
    let small = file_of((12, 9), 1, 1, 8, &[&a[..108]], false);
    let mut small = Cursor::new(&small);
    let header = Header::read(&mut small).unwrap();
    assert!(
        by_rows(&header, &mut small, &wanted(2)).unwrap().is_none(),
        "blocks of one save nothing"
    );
}
