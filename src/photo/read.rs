//! File → bytes and their hash, without ever hanging on something that is no file.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::Unreadable;
use super::format::Format;
use super::sniff::{self, HEAD};
use super::tiff;
use crate::record::ContentHash;

/// A picture's bytes, undecoded.
#[derive(Debug)]
pub struct PhotoBytes {
    pub(super) content: Content,
    pub(super) format: Format,
    hash: ContentHash,
}

/// Where the bytes are until they are decoded.
#[derive(Debug)]
pub(super) enum Content {
    Held(Vec<u8>),
    /// Too many to hold while others are decoded, and of a format that can be decoded by rows.
    OnDisk {
        file: File,
        bytes: u64,
    },
}

/// A file of more bytes than this stays on disk, if it can be decoded by rows, and is read twice: to be hashed and by
/// rows.
const HELD: u64 = 32 << 20;

impl PhotoBytes {
    /// BLAKE3 of all bytes.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }
}

/// Reads a picture after its first bytes have shown that it is one, whole, or to hash it only if it is large and can be
/// decoded by rows: a film of 10 GB costs one small read, and so does a picture of more than `max_bytes` that would have
/// to be held.
///
/// # Errors
/// [`Unreadable`] when it cannot be read, is no regular file, is of no format that is decoded, or larger than
/// that.
pub fn read(path: &Path, max_bytes: u64) -> Result<PhotoBytes, Unreadable> {
    let mut file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unreadable::NotRegular);
    }
    let mut bytes = Vec::with_capacity(HEAD);
    (&mut file).take(HEAD as u64).read_to_end(&mut bytes)?;
    let format = sniff::sniff(&bytes, Some(path))?;
    // Of a DNG the preview is decoded, from all of it.
    let is_dng = || format == Format::Tiff && tiff::is_dng(&file);
    if metadata.len() > HELD && format.has_rows() && !is_dng() {
        return on_disk(file, format);
    }
    if metadata.len() > max_bytes {
        return Err(Unreadable::too_much_memory(metadata.len(), max_bytes));
    }
    file.seek(SeekFrom::Start(bytes.len() as u64))?;
    bytes.reserve_exact(usize::try_from(metadata.len()).unwrap_or(0).saturating_sub(bytes.len()));
    file.read_to_end(&mut bytes)?;
    Ok(taken(bytes, format))
}

/// Takes a picture that is already in memory, as one piped in.
///
/// # Errors
/// [`Unreadable`] when it is of no format that is decoded.
pub fn from_bytes(bytes: Vec<u8>) -> Result<PhotoBytes, Unreadable> {
    let head = &bytes[..bytes.len().min(HEAD)];
    // With no name to claim anything, whatever is no picture is worth a word.
    let format = sniff::sniff(head, Some(Path::new("stdin.jpg")))?;
    Ok(taken(bytes, format))
}

/// Takes a picture that is in memory decoded: 8-bit RGBA, row by row from the top.
///
/// # Errors
/// [`Unreadable`] when it has no pixels, or another number of them than `width` × `height`.
pub fn from_rgba(width: u32, height: u32, rgba: &[u8]) -> Result<PhotoBytes, Unreadable> {
    let bytes = (u64::from(width) * u64::from(height)).saturating_mul(4);
    if bytes == 0 || bytes != rgba.len() as u64 {
        return Err(Unreadable::damaged(format!("{} bytes are no picture", rgba.len())));
    }
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::NoFilter)
        .write_image(rgba, width, height, ExtendedColorType::Rgba8)
        .map_err(Unreadable::damaged)?;
    from_bytes(png)
}

fn taken(bytes: Vec<u8>, format: Format) -> PhotoBytes {
    let format = sniff::refine(format, &bytes);
    let hash = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
    PhotoBytes { content: Content::Held(bytes), format, hash }
}

fn on_disk(mut file: File, format: Format) -> Result<PhotoBytes, Unreadable> {
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&file)?;
    let hash = ContentHash::from_bytes(*hasher.finalize().as_bytes());
    let bytes = hasher.count();
    Ok(PhotoBytes { content: Content::OnDisk { file, bytes }, format, hash })
}

/// A file from its first byte on.
pub(super) fn from_start(file: &File) -> std::io::Result<BufReader<&File>> {
    let mut reader = BufReader::new(file);
    reader.rewind()?;
    Ok(reader)
}

/// Opens without waiting: opening a named pipe would otherwise hang until somebody writes to it.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_named_pipe_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe.jpg");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(matches!(read(&path, 1), Err(Unreadable::NotRegular)));
    }

    #[test]
    fn a_missing_file_gives_the_systems_reason() {
        let error = read(Path::new("/nowhere/photo.jpg"), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot be read: "), "{error}");
    }

    #[test]
    fn pixels_in_memory_are_a_picture_when_their_number_is_right() {
        let photo = from_rgba(2, 1, &[255, 0, 0, 255, 0, 0, 255, 255]).unwrap();
        assert_eq!(photo.format, Format::Png);
        for (width, height) in [(0, 1), (1, 1), (2, 2), (u32::MAX, u32::MAX)] {
            assert!(from_rgba(width, height, &[0; 8]).is_err(), "{width} x {height}");
        }
    }
}
