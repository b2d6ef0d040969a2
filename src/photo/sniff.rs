//! What a file is, by its content; the name only decides whether a stranger is worth a word.

use std::path::Path;

use super::Unreadable;
use super::format::{self, Format};

/// How many bytes of a file decide what it is.
pub(super) const HEAD: usize = 64;

/// Names that claim a picture: a file that bears one and is none is worth telling.
const PICTURE_NAMES: [&str; 40] = [
    "3fr", "apng", "arw", "avif", "bmp", "cr2", "cr3", "dib", "dng", "erf", "exr", "gif", "hdr",
    "heic", "heif", "hif", "jfif", "jp2", "jpe", "jpeg", "jpg", "jxl", "kdc", "mef", "mrw", "nef",
    "nrw", "orf", "pef", "png", "psb", "psd", "raf", "rw2", "srw", "tga", "tif", "tiff", "webp",
    "x3f",
];

/// Camera RAW formats that are TIFF files inside: the first picture in them is a thumbnail, so
/// decoding them as TIFF would index 160 × 120 pixels without a word.
const TIFF_RAWS: [&str; 12] =
    ["3fr", "arw", "cr2", "dng", "erf", "iiq", "kdc", "mef", "nef", "nrw", "pef", "srw"];

/// The format of a picture that can be decoded, from its first [`HEAD`] bytes (fewer if it is shorter).
pub(super) fn sniff(head: &[u8], path: Option<&Path>) -> Result<Format, Unreadable> {
    let extension = path
        .and_then(|p| p.extension())
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let claims_picture = PICTURE_NAMES.contains(&extension.as_str());
    if head.is_empty() {
        return Err(if claims_picture { Unreadable::Empty } else { Unreadable::NotAPhoto });
    }
    if let Some(format) = foreign(head) {
        return Err(Unreadable::Unsupported { format });
    }
    let known = image::guess_format(head).ok();
    match format::ALL.into_iter().find(|format| Some(format.of_image_crate()) == known) {
        Some(Format::Tiff) if TIFF_RAWS.contains(&extension.as_str()) => {
            Err(Unreadable::Unsupported { format: "camera RAW" })
        }
        Some(format) => Ok(format),
        None if claims_picture => Err(Unreadable::Disguised),
        None => Err(Unreadable::NotAPhoto),
    }
}

/// Picture formats that are recognised so that the reason can name them.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let brand = (head.len() >= 12 && &head[4..8] == b"ftyp").then(|| &head[8..12]);
    if let Some(brand) = brand {
        return match brand {
            b"avif" | b"avis" => Some("AVIF"),
            b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1" => {
                Some("HEIC")
            }
            b"crx " => Some("camera RAW"),
            b"jxl " => Some("JPEG XL"),
            _ => None,
        };
    }
    let starts = |magic: &[u8]| head.starts_with(magic);
    if starts(b"II+\0") || starts(b"MM\0+") {
        Some("BigTIFF")
    } else if starts(b"\xff\x0a") || starts(b"\0\0\0\x0cJXL ") {
        Some("JPEG XL")
    } else if starts(b"\0\0\0\x0cjP  ") || starts(b"\xff\x4f\xff\x51") {
        Some("JPEG 2000")
    } else if starts(b"8BPS") {
        Some("Photoshop PSD")
    } else if starts(b"FUJIFILMCCD-RAW") || starts(b"IIRO") || starts(b"IIU\0") || starts(b"FOVb") {
        Some("camera RAW")
    } else if starts(b"v/1\x01") {
        Some("OpenEXR")
    } else if starts(b"#?RADIANCE") || starts(b"#?RGBE") {
        Some("Radiance HDR")
    } else if starts(b"qoif") {
        Some("QOI")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_decides_and_not_the_name() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        assert!(matches!(sniff(png, Some(Path::new("a.jpg"))), Ok(Format::Png)));
        assert!(matches!(sniff(png, Some(Path::new("notes.txt"))), Ok(Format::Png)));
    }

    #[test]
    fn a_stranger_is_worth_a_word_only_when_its_name_claims_a_picture() {
        let text = b"dear diary";
        assert!(matches!(sniff(text, Some(Path::new("a.txt"))), Err(Unreadable::NotAPhoto)));
        assert!(matches!(sniff(text, Some(Path::new("a.JPG"))), Err(Unreadable::Disguised)));
        assert!(matches!(sniff(b"", Some(Path::new("a.jpg"))), Err(Unreadable::Empty)));
    }

    #[test]
    fn what_is_not_decoded_is_named() {
        let named = |head: &[u8], name: &str| match sniff(head, Some(Path::new(name))) {
            Err(Unreadable::Unsupported { format }) => format,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(b"\0\0\0\x18ftypheic\0\0\0\0", "a.heic"), "HEIC");
        assert_eq!(named(b"\0\0\0\x18ftypavif\0\0\0\0", "a"), "AVIF");
        assert_eq!(named(b"II*\0\x08\0\0\0", "a.NEF"), "camera RAW");
    }
}
