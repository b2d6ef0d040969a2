//! File → upright sRGB pixels. The only room that knows image formats.
//!
//! Two steps, because a photo whose content is already known need not be decoded: [`read`] gives the
//! bytes and their hash, [`decode`] the pixels the network asked for. Every failure is an
//! [`Unreadable`] with a reason, never a panic and never an error that ends the run.

mod boxes;
mod budget;
mod colour;
mod decode;
mod facts;
mod format;
mod guard;
mod heif;
mod ico;
mod image_rs;
mod jp2;
mod jpeg;
mod jxl;
mod psd;
mod raw;
mod read;
mod region;
mod resize;
mod sniff;
mod stream;
mod support;
#[cfg(test)]
mod tests;
mod tiff;
mod tone;
mod wanted;

pub use budget::Budget;
pub use decode::{DecodeMode, DecodeOptions, Photo, decode};
pub use format::Format;
pub use read::{PhotoBytes, from_bytes, from_rgba, read};
pub use region::{Length, Region};
pub use support::{FormatSupport, formats};

/// The version of the decoders: a file that an older version left out is looked at again.
pub const DECODER_VERSION: u32 = 9;

/// Why a file gives no pixels. Its text is the reason a person reads: lower case, no full stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// The content is no picture and the name does not claim one: not worth a word.
    #[error("not a picture")]
    NotAPhoto,
    /// The name claims a picture, the content is none.
    #[error("the content is not a picture, whatever the name says")]
    Disguised,
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// A picture of a format that this version does not decode.
    #[error("{format} is not decoded by this version")]
    Unsupported {
        /// The format's usual name.
        format: &'static str,
    },
    /// A library of the system's decodes this format, and it is not there, or lacks the codec.
    #[error("{format} needs {needs}: {remedy}")]
    NeedsLibrary {
        /// The format's usual name.
        format: &'static str,
        /// What is missing.
        needs: String,
        /// How it is installed.
        remedy: &'static str,
    },
    /// The file ends before the picture does.
    #[error("truncated: the {format} data ends before the picture does")]
    Truncated {
        /// The format's usual name.
        format: &'static str,
    },
    /// A rare kind of a format that is decoded otherwise.
    #[error("a kind of {format} that is not decoded by this version: {reason}")]
    Variant {
        /// The format's usual name.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The decoder could not make sense of the bytes.
    #[error("damaged: {reason}")]
    Damaged {
        /// What the decoder said.
        reason: String,
    },
    /// More pixels than are safe to decode.
    #[error(
        "too large: {width} x {height} pixels are over the limit of {max_megapixels} megapixels"
    )]
    TooLarge {
        /// Width in pixels, as the header has it.
        width: u32,
        /// Height in pixels, as the header has it.
        height: u32,
        /// The limit.
        max_megapixels: u32,
    },
    /// More memory than one picture may take.
    #[error(
        "too large: to read and decode it takes {megabytes} MB of memory, over the limit of {max_megabytes} MB (--max-memory)"
    )]
    TooMuchMemory {
        /// What it takes, file and pixels together.
        megabytes: u64,
        /// The limit.
        max_megabytes: u64,
    },
    /// The part that was asked for is empty, or not all in the picture.
    #[error(
        "the crop is empty or reaches over the edge of the picture, which is {width} x {height} pixels"
    )]
    Region {
        /// Width in pixels, upright.
        width: u32,
        /// Height in pixels, upright.
        height: u32,
    },
    /// Not a regular file when it was opened.
    #[error("not a regular file")]
    NotRegular,
    /// The operating system would not give the bytes.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

impl Unreadable {
    /// More memory, in bytes, than is allowed.
    fn too_much_memory(bytes: u64, max_bytes: u64) -> Self {
        Unreadable::TooMuchMemory {
            megabytes: bytes.div_ceil(1_000_000),
            max_megabytes: max_bytes / 1_000_000,
        }
    }

    /// Why bytes could not be read that a picture of this format goes on with.
    fn cut(error: std::io::Error, format: &'static str) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Unreadable::Truncated { format },
            _ => error.into(),
        }
    }

    /// What a decoder said of damage, in one line and without a full stop.
    fn damaged(reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string().trim_end_matches('.').replace('\n', " ");
        Unreadable::Damaged { reason }
    }
}

/// The TIFF structure of an EXIF item in a HEIF or JPEG XL file, which begins with its own offset.
fn exif_of_item(item: &[u8]) -> Option<Vec<u8>> {
    let (offset, rest) = item.split_first_chunk::<4>()?;
    let offset = usize::try_from(u32::from_be_bytes(*offset)).ok()?;
    rest.get(offset..).map(<[u8]>::to_vec)
}
