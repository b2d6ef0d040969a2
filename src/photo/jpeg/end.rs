//! Whether a JPEG is all there.
//!
//! The decoder paints what is missing grey and calls it well. A file that lost its second half would
//! be indexed as a different picture, so the end is looked for here first.

use zune_core::bytestream::ZCursor;
use zune_core::options::DecoderOptions;

use super::segments::{END, START_OF_SCAN, segments};

/// Whether the end-of-image marker is there, behind the last scan.
///
/// Markers are walked by their lengths, so that the end marker of an embedded thumbnail does not count,
/// and whatever a camera appends after the real one does not matter. Most files end with the marker, or with
/// zeros behind it: as coded data holds none, theirs need not be walked.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    segments(&bytes[..end]).any(|segment| match segment.kind {
        END => true,
        START_OF_SCAN => segment.rest.ends_with(&[0xff, END]),
        _ => false,
    })
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
        bytes.extend([0; 5]);
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
