use image::{DynamicImage, ImageFormat, RgbImage};

use super::*;
use crate::photo::decode::tests::{square, wanted};
use crate::photo::{DecodeOptions, Photo, read};

const CFA: u32 = 32_803;

/// A JPEG whose left half is of a colour and whose right half is white, so that turning shows.
fn jpeg_of(width: u32, height: u32, left: [u8; 3]) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, _| {
        image::Rgb(if x < width / 2 { left } else { [255; 3] })
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// Writes TIFF structures of either byte order.
struct Writer {
    bytes: Vec<u8>,
    little_endian: bool,
}

impl Writer {
    fn new(magic: &[u8; 4]) -> Self {
        let little_endian = magic.starts_with(b"II");
        let mut writer = Self { bytes: magic.to_vec(), little_endian };
        writer.u32(0);
        writer
    }

    fn u16(&mut self, value: u16) {
        let bytes = if self.little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
        self.bytes.extend(bytes);
    }

    fn u32(&mut self, value: u32) {
        let bytes = if self.little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
        self.bytes.extend(bytes);
    }

    fn data(&mut self, data: &[u8]) -> u32 {
        let at = self.bytes.len();
        self.bytes.extend(data);
        at as u32
    }

    /// A directory of tags with one 32-bit number each (16 bits for the orientation).
    fn directory(&mut self, entries: &[(u16, u32)], next: u32) -> u32 {
        let at = self.bytes.len() as u32;
        self.u16(entries.len() as u16);
        for &(tag, value) in entries {
            self.u16(tag);
            if tag == 0x0112 {
                self.u16(3);
                self.u32(1);
                self.u16(value as u16);
                self.u16(0);
            } else {
                self.u16(4);
                self.u32(1);
                self.u32(value);
            }
        }
        self.u32(next);
        at
    }

    fn finish(mut self, first: u32) -> Vec<u8> {
        let first = if self.little_endian { first.to_le_bytes() } else { first.to_be_bytes() };
        self.bytes[4..8].copy_from_slice(&first);
        self.bytes
    }
}

/// A thumbnail in the main directory, the preview in a sub-directory, sensor data in another.
fn nef(magic: &[u8; 4], orientation: u32) -> Vec<u8> {
    let mut file = Writer::new(magic);
    let (small, large) = (jpeg_of(16, 12, [0, 255, 0]), jpeg_of(64, 48, [0, 0, 255]));
    let (small_at, large_at) = (file.data(&small), file.data(&large));
    let sensor = file.directory(&[(0x0103, 7), (0x0106, CFA), (0x0111, 8), (0x0117, 99)], 0);
    let preview = file.directory(&[(0x0201, large_at), (0x0202, large.len() as u32)], sensor);
    let main = file.directory(
        &[
            (0x0103, 6),
            (0x0111, small_at),
            (0x0112, orientation),
            (0x0117, small.len() as u32),
            (0x014a, preview),
        ],
        0,
    );
    file.finish(main)
}

fn decoded(bytes: &[u8], name: &str) -> Result<Photo, Unreadable> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    crate::photo::decode(
        &read(&path, DecodeOptions::MAX_BYTES)?,
        &square(8),
        &DecodeOptions::default(),
    )
}

/// Whether the first pixel is blue, and the last white.
#[track_caller]
fn shows_the_preview(photo: &Photo, size: (u32, u32)) {
    assert_eq!(
        (photo.facts.width, photo.facts.height, photo.facts.format),
        (size.0, size.1, "raw")
    );
    let rgb = photo.pixels.as_rgb();
    assert!(rgb[0] < 60 && rgb[2] > 200, "blue: {:?}", &rgb[..3]);
    assert!(rgb[189] > 240 && rgb[190] > 240, "white: {:?}", &rgb[189..]);
}

#[test]
fn the_largest_preview_is_taken_in_both_byte_orders() {
    for magic in [b"II*\0", b"MM\0*", b"IIRO", b"IIU\0"] {
        let name = if magic[3] == b'O' || magic[2] == b'U' { "photo" } else { "photo.NEF" };
        shows_the_preview(&decoded(&nef(magic, 1), name).unwrap(), (64, 48));
    }
}

#[test]
fn the_raw_files_orientation_turns_a_preview_without_one() {
    let photo = decoded(&nef(b"MM\0*", 6), "photo.nef").unwrap();
    // A quarter turn clockwise: what was left is above.
    shows_the_preview(&photo, (48, 64));
    assert!(photo.pixels.as_rgb()[23] > 200, "blue at the right end of the first row, too");
}

#[test]
fn a_dng_is_one_whatever_its_name() {
    let mut file = Writer::new(b"II*\0");
    let jpeg = jpeg_of(64, 48, [0, 0, 255]);
    let at = file.data(&jpeg);
    let length = jpeg.len() as u32;
    let main = file.directory(&[(0x0103, 7), (0x0111, at), (0x0117, length), (0xc612, 0x0104)], 0);
    shows_the_preview(&decoded(&file.finish(main), "scan.tif").unwrap(), (64, 48));
}

#[test]
fn fujifilms_header_names_the_preview() {
    let jpeg = jpeg_of(64, 48, [0, 0, 255]);
    let mut file = b"FUJIFILMCCD-RAW 0201FF393101X-T10".to_vec();
    file.resize(84, 0);
    file.extend(148u32.to_be_bytes());
    file.extend((jpeg.len() as u32).to_be_bytes());
    file.resize(148, 0);
    file.extend(&jpeg);
    file.extend([0xab; 1000]);
    shows_the_preview(&decoded(&file, "photo.raf").unwrap(), (64, 48));
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes(), kind.as_slice(), content].concat()
}

/// A preview in Canon's own box, and a larger JPEG as the only sample of a track.
fn cr3(orientation: u32) -> Vec<u8> {
    let small = [vec![0; 16], jpeg_of(16, 12, [0, 255, 0])].concat();
    let preview = [CR3_PREVIEW.to_vec(), vec![0; 8], boxed(b"PRVW", &small)].concat();
    let mut metadata = Writer::new(b"II*\0");
    let main = metadata.directory(&[(0x0112, orientation)], 0);
    let metadata = boxed(b"CMT1", &metadata.finish(main));
    let metadata = boxed(b"uuid", &[CR3_METADATA.to_vec(), metadata].concat());
    let jpeg = jpeg_of(64, 48, [0, 0, 255]);
    let movie = |offset: u64| {
        let size = (jpeg.len() as u32).to_be_bytes();
        let sizes = boxed(b"stsz", &[&[0; 8], &1u32.to_be_bytes()[..], &size].concat());
        let offset = offset.to_be_bytes();
        let offsets = boxed(b"co64", &[&[0; 4], &1u32.to_be_bytes()[..], &offset].concat());
        let table = boxed(b"stbl", &[sizes, offsets].concat());
        let track = boxed(b"trak", &boxed(b"mdia", &boxed(b"minf", &table)));
        boxed(b"moov", &[metadata.clone(), track].concat())
    };
    let start = [boxed(b"ftyp", b"crx \0\0\0\x01crx isom"), boxed(b"uuid", &preview)].concat();
    let offset = (start.len() + movie(0).len() + 8) as u64;
    [start, movie(offset), boxed(b"mdat", &jpeg)].concat()
}

#[test]
fn canons_track_is_larger_than_its_preview() {
    shows_the_preview(&decoded(&cr3(1), "photo.cr3").unwrap(), (64, 48));
    shows_the_preview(&decoded(&cr3(6), "photo").unwrap(), (48, 64));
}

#[test]
fn a_preview_that_no_directory_names_is_found() {
    let mut file = Writer::new(b"IIRO");
    let thumbnail = jpeg_of(16, 12, [0, 255, 0]);
    let at = file.data(&thumbnail);
    let main = file.directory(&[(0x0201, at), (0x0202, thumbnail.len() as u32)], 0);
    file.data(&jpeg_of(64, 48, [0, 0, 255]));
    shows_the_preview(&decoded(&file.finish(main), "photo.orf").unwrap(), (64, 48));
}

#[test]
fn a_raw_file_without_a_preview_is_named() {
    let mut file = Writer::new(b"II*\0");
    let main = file.directory(&[(0x0103, 1), (0x0106, CFA), (0x0111, 8), (0x0117, 4)], 0);
    let error = decoded(&file.finish(main), "photo.arw").unwrap_err();
    let expected =
        "a kind of camera RAW that is not decoded by this version: it holds no JPEG preview";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn directories_that_loop_or_lie_outside_end() {
    for target in [8, 9, 0xffff_fff0, u32::MAX] {
        let mut file = Writer::new(b"II*\0");
        let main = file.directory(
            &[
                (0x002e, target),
                (0x014a, target),
                (0x0201, target),
                (0x0202, u32::MAX),
                (0x8769, 8),
            ],
            target,
        );
        assert!(decoded(&file.finish(main), "photo.pef").is_err());
    }
    // A directory that claims as many entries as can be, each of which leads back to it.
    let mut file = Writer::new(b"MM\0*");
    let entries = [(0x014a, 8); 2_000];
    let main = file.directory(&entries, 8);
    assert!(decoded(&file.finish(main), "photo.srw").is_err());
    // Beginnings without an end, each of which could be followed through the whole file.
    let file = [b"FOVb".to_vec(), [0xff, 0xd8].repeat(2_000_000)].concat();
    assert!(decoded(&file, "photo.x3f").is_err());
}

#[test]
fn no_cut_and_no_flipped_byte_panics() {
    for whole in [nef(b"II*\0", 6), nef(b"MM\0*", 6), cr3(6)] {
        assert!(super::decode(&whole, &wanted(224)).is_ok());
        // Without the guard that would call a panic damage.
        for end in (0..whole.len()).step_by(17) {
            let _ = super::decode(&whole[..end], &wanted(224));
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0xff;
            let _ = super::decode(&flipped, &wanted(224));
        }
    }
}
