//! Camera RAW files, by the preview that the camera laid into them.
//!
//! RAW data is not developed: that is a matter of taste, would have to follow every new camera, and the
//! preview is how the photographer's camera showed the photo. It is a JPEG, in most cameras of the last
//! ten years of full size.

mod tiff;

use image::metadata::Orientation;

use self::tiff::Tiff;
use super::decode::Raster;
use super::wanted::Wanted;
use super::{Unreadable, boxes, jpeg};

/// What is looked at of a JPEG to learn its size: it may carry metadata, and a thumbnail in that.
const JPEG_HEAD: usize = 1 << 20;

/// How many JPEG beginnings are tried at most: sensor data holds one by chance every 16 MB.
const MAX_BEGINNINGS: usize = 64;

/// A preview with fewer pixels than this is only a thumbnail: the whole file is searched then, as some
/// makers keep the larger one where only their own programs know.
const THUMBNAIL: u64 = 400 * 300;

/// How much of the file is taken for its metadata, in bytes.
const MAX_FACTS: usize = 64 << 20;

/// Canon's box with the preview, and the one with metadata.
const CR3_PREVIEW: &[u8; 16] = b"\xea\xf4\x2b\x5e\x1c\x98\x4b\x88\xb9\xfb\xb7\xdc\x40\x6e\x4d\x16";
const CR3_METADATA: &[u8; 16] = b"\x85\xc0\xb6\x87\x82\x0f\x11\xe0\x81\x11\xf4\xce\x46\x2b\x6a\x48";

/// Whether the first bytes are those of a RAW file. Those that are TIFF inside have no magic of their own.
pub(super) fn is_raw(head: &[u8]) -> bool {
    let magics: [&[u8]; 8] = [
        b"FUJIFILMCCD-RAW",
        b"IIRO",
        b"IIRS",
        b"MMOR",
        b"IIU\0",
        b"II\x1a\0\0\0HEAPCCDR",
        b"\0MRM",
        b"FOVb",
    ];
    magics.iter().any(|magic| head.starts_with(magic))
}

/// Whether a TIFF file is a DNG, whatever its name.
pub(super) fn is_dng(bytes: &[u8]) -> bool {
    Tiff::new(bytes).and_then(|tiff| tiff.main_directory()).is_some_and(|main| main.is_dng)
}

/// Decodes the preview with the most pixels. The size is the preview's. Where it does not say how it is
/// turned upright, the RAW file does.
///
/// # Errors
/// [`Unreadable`] when there is none, or it is truncated, damaged or too large.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let reason = "it holds no JPEG preview".to_owned();
    let preview = preview(bytes).ok_or(Unreadable::Variant { format: "camera RAW", reason })?;
    let mut raster = jpeg::decode(preview, wanted)?;
    let whole = facts(bytes);
    let orientation =
        |exif: &Option<Vec<u8>>| exif.as_deref().and_then(Orientation::from_exif_chunk);
    raster.orientation = orientation(&raster.metadata.exif).or_else(|| orientation(&whole));
    // The RAW file knows more than its preview.
    raster.metadata.exif = whole.or(raster.metadata.exif);
    Ok(raster)
}

/// The JPEG with the most pixels.
fn preview(bytes: &[u8]) -> Option<&[u8]> {
    let mut found = if bytes.starts_with(b"FUJIFILMCCD-RAW") {
        raf(bytes)
    } else if bytes.get(4..8) == Some(b"ftyp") {
        cr3(bytes)
    } else {
        in_tiff(bytes)
    };
    let pixels = |jpeg: &&[u8]| {
        let size = jpeg::size(&jpeg[..jpeg.len().min(JPEG_HEAD)]);
        size.map_or(0, |(width, height)| u64::from(width) * u64::from(height))
    };
    if found.iter().map(pixels).max().unwrap_or(0) < THUMBNAIL {
        found.extend(beginnings(bytes));
    }
    // The first of equals.
    found.reverse();
    found.into_iter().filter(|jpeg| pixels(jpeg) > 0).max_by_key(pixels)
}

/// Fujifilm: offset and length of the preview stand in the header.
fn raf(bytes: &[u8]) -> Vec<&[u8]> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    number(84).zip(number(88)).and_then(|place| part(bytes, place)).into_iter().collect()
}

/// Canon since 2018: a box with a preview, and a track whose only picture is a JPEG of full size.
fn cr3(bytes: &[u8]) -> Vec<&[u8]> {
    let previews = boxes::at(bytes, &[b"uuid"])
        .into_iter()
        .filter_map(|content| content.strip_prefix(CR3_PREVIEW))
        // A version and a count, then the box; in that, 16 bytes of sizes.
        .filter_map(|content| content.get(8..))
        .flat_map(|content| boxes::at(content, &[b"PRVW"]))
        .filter_map(|preview| part(preview, (16, preview.len())));
    let tracks = boxes::at(bytes, &[b"moov", b"trak", b"mdia", b"minf", b"stbl"])
        .into_iter()
        .filter_map(|table| {
            let first = |kind: &[u8; 4]| boxes::at(table, &[kind]).first().copied();
            // Version, then the size of all samples, or 0 and the number of sizes that follow.
            let sizes = first(b"stsz")?;
            let size = |at: usize| Some(u32::from_be_bytes(*sizes.get(at..)?.first_chunk()?));
            let size = size(4).filter(|size| *size > 0).or_else(|| size(12))?;
            let offset = match (first(b"co64"), first(b"stco")) {
                (Some(wide), _) => u64::from_be_bytes(*wide.get(8..)?.first_chunk()?),
                (_, Some(narrow)) => u32::from_be_bytes(*narrow.get(8..)?.first_chunk()?).into(),
                _ => return None,
            };
            part(bytes, (usize::try_from(offset).ok()?, size as usize))
        });
    previews.chain(tracks).collect()
}

/// The JPEGs that the directories of a TIFF structure name.
fn in_tiff(bytes: &[u8]) -> Vec<&[u8]> {
    const OLD_JPEG: u32 = 6;
    const JPEG: u32 = 7;
    const COLOUR_FILTER_ARRAY: u32 = 32_803;
    let Some(tiff) = Tiff::new(bytes) else { return Vec::new() };
    let places = tiff.directories().into_iter().flat_map(|directory| {
        let is_jpeg = matches!(directory.compression, Some(OLD_JPEG | JPEG))
            && directory.photometric != Some(COLOUR_FILTER_ARRAY);
        // A picture in several strips is no file by itself.
        let strip = match directory.strips[..] {
            [strip] if is_jpeg => Some(strip),
            _ => None,
        };
        directory.jpeg.into_iter().chain(strip)
    });
    places.filter_map(|place| part(bytes, place)).collect()
}

/// Everything that begins like a JPEG, to the end of the file.
fn beginnings(bytes: &[u8]) -> Vec<&[u8]> {
    let starts = bytes.windows(3).enumerate().filter(|(_, three)| *three == [0xff, 0xd8, 0xff]);
    starts.take(MAX_BEGINNINGS).map(|(at, _)| &bytes[at..]).collect()
}

/// A part of the file that begins like a JPEG. One that is cut off is still a candidate: that it is
/// truncated is the better reason.
fn part(bytes: &[u8], (offset, length): (usize, usize)) -> Option<&[u8]> {
    let rest = bytes.get(offset..)?;
    let part = &rest[..length.min(rest.len())];
    part.starts_with(&[0xff, 0xd8, 0xff]).then_some(part)
}

/// The RAW file's own metadata, as a TIFF structure with the number that readers expect.
fn facts(bytes: &[u8]) -> Option<Vec<u8>> {
    let in_cr3 = || {
        let metadata = boxes::at(bytes, &[b"moov", b"uuid"]);
        let metadata = metadata.iter().find_map(|content| content.strip_prefix(CR3_METADATA))?;
        boxes::at(metadata, &[b"CMT1"]).first().copied()
    };
    let structure = if Tiff::new(bytes).is_some() { bytes } else { in_cr3()? };
    let mut structure = structure[..structure.len().min(MAX_FACTS)].to_vec();
    let magic: &[u8; 4] = if structure.starts_with(b"II") { b"II*\0" } else { b"MM\0*" };
    structure.get_mut(..4)?.copy_from_slice(magic);
    Some(structure)
}

#[cfg(test)]
mod tests;
