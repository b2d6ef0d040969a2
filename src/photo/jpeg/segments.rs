//! A JPEG's markers and what they carry (ITU T.81, annex B), without decoding anything.

use crate::photo::decode::Metadata;

/// A marker with its content: `FF kind`, then `content` with the length it states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) kind: u8,
    /// Behind the two bytes of the length; empty for markers without one.
    pub(super) content: &'a [u8],
    /// All that stands behind it.
    pub(super) rest: &'a [u8],
}

pub(super) const END: u8 = 0xd9;
const START: u8 = 0xd8;
pub(super) const START_OF_SCAN: u8 = 0xda;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
const APP14: u8 = 0xee;

/// The segments of a JPEG, in their order. Coded data is passed over. Ends where the bytes do, or where
/// a segment is cut off.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let found = next_marker(bytes, at)?;
        let kind = bytes[found + 1];
        at = found + 2;
        // Markers without a length: start, end, restarts, TEM.
        if matches!(kind, START | END | 0xd0..=0xd7 | 0x01) {
            return Some(Segment { kind, content: &[], rest: &bytes[at..] });
        }
        let length = bytes.get(at..at + 2)?;
        let end = at + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
        let content = bytes.get(at + 2..end)?;
        // Behind a scan header comes coded data: `next_marker` passes over its stuffed zeros, and the
        // next real marker ends it.
        at = end;
        Some(Segment { kind, content, rest: &bytes[end..] })
    })
}

/// The position of the next 0xFF that begins a marker: not stuffing (FF 00), not fill (FF FF).
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    // The coded data is nearly all of a file: looking at it byte by byte took a tenth of decoding.
    memchr::memchr_iter(0xff, rest)
        .find(|&at| rest.get(at + 1).is_some_and(|next| !matches!(next, 0 | 0xff)))
        .map(|at| from + at)
}

/// The frame of JPEG-LS (ISO 14495-1), which shares no more than its markers.
const LS: u8 = 0xf7;

/// How the pixels are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Huffman, in one pass from top to bottom.
    Sequential,
    /// Huffman, in passes that each make the whole picture finer.
    Progressive,
    /// Arithmetic coding, sequential or progressive.
    Arithmetic,
    /// Lossless, hierarchical or JPEG-LS: rare, and not what `JPEG` usually means.
    Other,
}

/// What stands before the pixels.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 is grey, 3 is colour, 4 is CMYK.
    pub(super) components: u8,
    /// Bits a sample.
    pub(super) precision: u8,
    pub(super) coding: Coding,
    /// The first scan holds all components, side by side.
    pub(super) interleaved: bool,
    /// The three components are red, green and blue, not JFIF's YCbCr.
    pub(super) is_rgb: bool,
    /// EXIF without `Exif\0\0`; the colour profile is put together from its chunks.
    pub(super) metadata: Metadata,
}

impl Header {
    /// Reads up to the first scan; `None` when no frame is described before it.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut frame = None;
        let (mut exif, mut xmp, mut in_first_scan) = (None, None, None);
        let (mut has_jfif, mut adobe) = (false, None);
        let mut icc: Vec<(u8, &[u8])> = Vec::new();
        for Segment { kind, content, .. } in segments(bytes) {
            match kind {
                START_OF_SCAN => {
                    in_first_scan = content.first().copied();
                    break;
                }
                END => break,
                0xc0..=0xcf | LS if !matches!(kind, 0xc4 | 0xc8 | 0xcc) => {
                    frame = frame.or(Some((kind, content)));
                }
                APP0 => has_jfif |= content.starts_with(b"JFIF\0"),
                APP14 if content.starts_with(b"Adobe") => adobe = content.get(11).copied(),
                APP1 => {
                    exif = exif.or(content.strip_prefix(b"Exif\0\0"));
                    xmp = xmp.or(content.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0"));
                }
                APP2 => {
                    let chunk = content.strip_prefix(b"ICC_PROFILE\0");
                    // Its number from 1, how many there are, then the bytes.
                    if let Some([number, _, bytes @ ..]) = chunk {
                        icc.push((*number, bytes));
                    }
                }
                _ => {}
            }
        }
        let (kind, content) = frame?;
        let &[precision, h1, h0, w1, w0, components, ref parts @ ..] = content else {
            return None;
        };
        icc.sort_by_key(|(number, _)| *number);
        let icc: Vec<u8> = icc.into_iter().flat_map(|(_, bytes)| bytes).copied().collect();
        Some(Self {
            width: u16::from_be_bytes([w1, w0]).into(),
            height: u16::from_be_bytes([h1, h0]).into(),
            components,
            precision,
            interleaved: in_first_scan == Some(components),
            coding: match kind {
                0xc0 | 0xc1 => Coding::Sequential,
                0xc2 => Coding::Progressive,
                0xc9 | 0xca => Coding::Arithmetic,
                _ => Coding::Other,
            },
            // As libjpeg decides.
            is_rgb: match (has_jfif, adobe) {
                (true, _) => false,
                (false, Some(transform)) => transform == 0,
                (false, None) => parts.iter().step_by(3).take(3).eq(b"RGB"),
            },
            metadata: Metadata {
                exif: exif.map(<[u8]>::to_vec),
                xmp: xmp.map(<[u8]>::to_vec),
                icc: (!icc.is_empty()).then_some(icc),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&[0xff, kind], &length[..], content].concat()
    }

    #[test]
    fn the_header_tells_size_coding_and_metadata() {
        let bytes = [
            vec![0xff, 0xd8],
            segment(APP2, b"ICC_PROFILE\0\x02\x02file"),
            segment(APP1, b"Exif\0\0II*\0"),
            segment(APP2, b"ICC_PROFILE\0\x01\x02pro"),
            segment(APP1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
            segment(0xc4, b"a table"),
            segment(0xc2, &[8, 0x01, 0x00, 0x02, 0x80, 3, 1, 0x22, 0]),
            segment(START_OF_SCAN, &[1, 1, 0]),
            // Coded data may look like anything, and this is no frame of this picture.
            segment(0xc0, &[8, 0, 1, 0, 1, 1]),
        ]
        .concat();
        let header = Header::read(&bytes).unwrap();
        assert_eq!((header.width, header.height, header.components), (640, 256, 3));
        assert_eq!(header.coding, Coding::Progressive);
        let Metadata { exif, xmp, icc } = header.metadata;
        assert_eq!(icc.as_deref(), Some(&b"profile"[..]));
        assert_eq!(exif.as_deref(), Some(&b"II*\0"[..]));
        assert_eq!(xmp.as_deref(), Some(&b"<x/>"[..]));
        assert!(Header::read(&bytes[..60]).is_none());
    }
}
