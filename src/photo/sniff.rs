//! What a file is, by its content; the name only decides whether a stranger is worth a word.

use std::path::Path;

use super::format::{self, Format};
use super::{Unreadable, jp2, raw};

/// How many bytes of a file decide what it is.
pub(super) const HEAD: usize = 64;

/// Names that claim a picture besides those of [`format::ALL`]: a file that bears one and is none is
/// worth telling.
const OTHER_PICTURE_NAMES: [&str; 3] = ["jxr", "wdp", "hdp"];

/// The format of a picture that can be decoded, from its first [`HEAD`] bytes (fewer if it is shorter).
pub(super) fn sniff(head: &[u8], path: Option<&Path>) -> Result<Format, Unreadable> {
    let extension = path
        .and_then(|p| p.extension())
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let extension = extension.as_str();
    let claims = |format: &Format| format.extensions().contains(&extension);
    let claims_picture = OTHER_PICTURE_NAMES.contains(&extension) || format::ALL.iter().any(claims);
    if head.is_empty() {
        return Err(if claims_picture { Unreadable::Empty } else { Unreadable::NotAPhoto });
    }
    if let Some(format) = foreign(head) {
        return Err(Unreadable::Unsupported { format });
    }
    match by_content(head) {
        Some(Format::Tiff) if claims(&Format::Raw) => Ok(Format::Raw),
        Some(format) => Ok(format),
        None if claims(&Format::Tga) && is_plausible_tga(head) => Ok(Format::Tga),
        None if claims_picture => Err(Unreadable::Disguised),
        None => Err(Unreadable::NotAPhoto),
    }
}

/// What the whole content says where the first bytes do not: a DNG is a TIFF with a tag of its own.
pub(super) fn refine(format: Format, bytes: &[u8]) -> Format {
    if format == Format::Tiff && raw::is_dng(bytes) { Format::Raw } else { format }
}

fn by_content(head: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| head.starts_with(magic);
    match head {
        [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
        _ if starts(b"\x89PNG\r\n\x1a\n") => Some(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
        _ if starts(b"GIF87a") || starts(b"GIF89a") => Some(Format::Gif),
        // The latter two are BigTIFF.
        [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => Some(Format::Tiff),
        _ if starts(b"BM") => Some(Format::Bmp),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => by_brands(head),
        _ if starts(b"\xff\x0a") || starts(b"\0\0\0\x0cJXL ") => Some(Format::Jxl),
        _ if jp2::is_jp2(head) => Some(Format::Jp2),
        _ if raw::is_raw(head) => Some(Format::Raw),
        _ if starts(b"8BPS\0\x01") || starts(b"8BPS\0\x02") => Some(Format::Psd),
        _ if starts(b"v/1\x01") => Some(Format::Exr),
        _ if starts(b"#?RADIANCE") || starts(b"#?RGBE") => Some(Format::Hdr),
        _ if starts(b"qoif") => Some(Format::Qoi),
        // Two bytes are little: words may begin so, numbers seldom do.
        [b'P', b'1'..=b'6', b' ' | b'\t' | b'\r' | b'\n', next, ..]
            if next.is_ascii_digit() || next.is_ascii_whitespace() || *next == b'#' =>
        {
            Some(Format::Pnm)
        }
        _ if starts(b"P7\n") => Some(Format::Pnm),
        _ if is_plausible_ico(head) => Some(Format::Ico),
        _ => None,
    }
}

/// The major brand of an ISO base media file, then the compatible ones as far as they are seen.
fn by_brands(head: &[u8]) -> Option<Format> {
    let length = u32::from_be_bytes(*head.first_chunk()?);
    let end = usize::try_from(length).unwrap_or(usize::MAX).min(head.len());
    let (brands, _) = head.get(8..end)?.as_chunks::<4>();
    let named = |brand: &[u8; 4]| match brand {
        b"avif" | b"avis" => Some(Format::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some(Format::Heic),
        b"crx " => Some(Format::Raw),
        b"jxl " => Some(Format::Jxl),
        _ => None,
    };
    let (major, compatible) = brands.split_first()?;
    // After the major brand comes its version; brands may follow that say more than `mif1`, a HEIF
    // with any codec.
    named(major).or_else(|| match major {
        b"mif1" | b"mif2" | b"msf1" | b"miaf" | b"1pic" | b"avci" | b"j2ki" | b"jpeg" => {
            Some(compatible.iter().skip(1).find_map(named).unwrap_or(Format::Heic))
        }
        _ => None,
    })
}

/// Whether the fields of a TGA header (Truevision, 2.0) are such as occur together; it has no magic.
fn is_plausible_tga(head: &[u8]) -> bool {
    let Some(&[_, map, kind, m0, m1, n0, n1, map_bits, _, _, _, _, w0, w1, h0, h1, bits, flags]) =
        head.first_chunk()
    else {
        return false;
    };
    let map_is_sound = match map {
        0 => [m0, m1, n0, n1] == [0; 4],
        1 => matches!(map_bits, 15 | 16 | 24 | 32),
        _ => false,
    };
    let kind_is_sound = match kind {
        1 | 9 => map == 1 && matches!(bits, 8 | 16),
        2 | 10 => matches!(bits, 15 | 16 | 24 | 32),
        3 | 11 => matches!(bits, 8 | 16),
        _ => false,
    };
    map_is_sound && kind_is_sound && [w0, w1] != [0, 0] && [h0, h1] != [0, 0] && flags & 0xc0 == 0
}

/// Whether an icon's directory follows its four bytes of magic, which many another file begins with.
fn is_plausible_ico(head: &[u8]) -> bool {
    let Some(&[0, 0, 1, 0, count @ .., _, _, _, 0, _, _, _, _, _, _, _, _]) =
        head.first_chunk::<18>()
    else {
        return false;
    };
    let Some(&[o0, o1, o2, o3]) = head.get(18..22) else { return false };
    let count = u64::from(u16::from_le_bytes(count));
    let first = u64::from(u32::from_le_bytes([o0, o1, o2, o3]));
    (1..1000).contains(&count) && first >= 6 + 16 * count
}

/// Picture formats that are recognised so that the reason can name them.
fn foreign(head: &[u8]) -> Option<&'static str> {
    head.starts_with(b"II\xbc\x01").then_some("JPEG XR")
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
        let error = sniff(b"II\xbc\x01\x20\0\0\0", Some(Path::new("a"))).unwrap_err();
        assert_eq!(error.to_string(), "JPEG XR is not decoded by this version");
    }

    #[test]
    fn brands_tell_what_an_iso_file_holds() {
        let kind = |head: &[u8]| sniff(head, Some(Path::new("a"))).ok();
        assert_eq!(kind(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), Some(Format::Heic));
        assert_eq!(kind(b"\0\0\0\x18ftypmif1\0\0\0\0miafheic"), Some(Format::Heic));
        assert_eq!(kind(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"), Some(Format::Avif));
        assert_eq!(kind(b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom"), Some(Format::Raw));
        assert_eq!(kind(b"\0\0\0\x14ftypmp42\0\0\0\0avif"), None, "a film");
    }

    #[test]
    fn raw_files_that_are_tiff_inside_are_told_by_their_names() {
        let tiff = b"II*\0\x08\0\0\0";
        let kind = |name: &str| sniff(tiff, Some(Path::new(name))).unwrap();
        assert_eq!(kind("a.NEF"), Format::Raw);
        assert_eq!(kind("a.tif"), Format::Tiff);
        for big in [b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"] {
            assert_eq!(sniff(big, Some(Path::new("a"))).unwrap(), Format::Tiff, "BigTIFF");
        }
    }

    #[test]
    fn weak_magic_asks_for_a_plausible_header() {
        let kind = |head: &[u8], name: &str| sniff(head, Some(Path::new(name))).ok();
        let tga = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 64, 0, 24, 0x20];
        assert_eq!(kind(&tga, "a.TGA"), Some(Format::Tga));
        assert_eq!(kind(&tga, "a.bin"), None);
        assert_eq!(kind(&[tga.as_slice(); 2].concat()[2..], "a.tga"), None);
        let mut ico = [0u8; 22];
        ico[2..7].copy_from_slice(&[1, 0, 1, 0, 16]);
        assert_eq!(kind(&ico, "a"), None, "the picture would lie inside the directory");
        ico[18] = 22;
        assert_eq!(kind(&ico, "a"), Some(Format::Ico));
        assert_eq!(kind(b"P6\n3 2\n255\n", "a"), Some(Format::Pnm));
        assert_eq!(kind(b"P5 is where the red ones park", "a"), None);
    }
}
