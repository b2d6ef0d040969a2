//! Whether a JPEG is all there.
//!
//! The decoder paints what is missing grey and calls it well. A file that lost its second half would
//! be indexed as a different picture, so the end is looked for here first.

use zune_core::bytestream::ZCursor;
use zune_core::options::DecoderOptions;

/// Whether the end-of-image marker is there, behind the last scan.
///
/// Walks the markers by their lengths (ITU T.81, annex B), so that the end marker of an embedded
/// thumbnail does not count, and whatever a camera appends after the real one does not matter.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    let mut at = 0;
    while let Some(found) = next_marker(bytes, at) {
        at = found + 2;
        match bytes[found + 1] {
            END => return true,
            // Markers without a length: start, restarts, TEM.
            START | 0xd0..=0xd7 | 0x01 => {}
            // Behind a scan header comes coded data: `next_marker` passes over its stuffed zeros, and
            // the next real marker ends it.
            _ => {
                let Some(length) = bytes.get(at..at + 2) else { return false };
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
    false
}

/// The position of the next 0xFF that begins a marker: not stuffing (FF 00), not fill (FF FF).
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let offset =
        rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
    Some(from + offset)
}

/// Whether a JPEG without an end marker still has all its coded data, as some cameras and tools write
/// them. Decodes it once more, strictly; such files are rare.
pub(super) fn is_complete_without_end(bytes: &[u8]) -> bool {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> Vec<u8> {
        // Noise, so that the coded data is long and full of stuffed bytes.
        let mut state = 1u32;
        let noise = image::RgbImage::from_fn(64, 48, |_, _| {
            image::Rgb([(); 3].map(|()| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            }))
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        noise.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn the_end_is_found_whatever_follows_it() {
        let mut bytes = encoded();
        assert!(has_end(&bytes));
        bytes.extend(b"trailer of some camera");
        assert!(has_end(&bytes));
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = encoded();
        for end in (0..bytes.len() - 1).step_by(7) {
            assert!(!has_end(&bytes[..end]), "cut to {end} of {}", bytes.len());
        }
    }

    #[test]
    fn a_missing_end_marker_alone_loses_nothing() {
        let bytes = encoded();
        assert!(is_complete_without_end(&bytes[..bytes.len() - 2]));
        for part in [3, 5, 9] {
            let cut = bytes.len() * part / 10;
            assert!(!is_complete_without_end(&bytes[..cut]), "cut to {cut} of {}", bytes.len());
        }
    }
}
