//! The file: what stands before the pixels, and the rows of its channels.

use std::io::{Read, Seek, SeekFrom};

use super::{FORMAT, Mode, damaged, rare};
use crate::photo::Unreadable;
use crate::photo::decode::Metadata;

/// Channels that a file may have, by the specification.
const MAX_CHANNELS: usize = 56;

/// Image resources beyond so many bytes are left unread.
const MAX_RESOURCES: u64 = 64 << 20;

const PALETTE: usize = 3 * 256;

/// What stands before the pixels.
pub(super) struct Header {
    pub(super) is_large: bool,
    pub(super) channels: usize,
    pub(super) size: (u32, u32),
    /// Bits a sample: 1, 8, 16, or 32 for linear light in floats.
    pub(super) depth: u16,
    pub(super) mode: Mode,
    palette: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) is_packed: bool,
}

impl Header {
    /// Reads up to the pixels, and leaves the file there.
    pub(super) fn read(file: &mut (impl Read + Seek)) -> Result<Self, Unreadable> {
        let fixed: [u8; 26] = bytes(file)?;
        let u16_at = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
        let is_large = u16_at(4) == 2;
        let mode = match u16_at(24) {
            0 => Mode::Bitmap,
            1 | 8 => Mode::Grey,
            2 => Mode::Indexed,
            3 => Mode::Rgb,
            4 => Mode::Cmyk,
            7 => return Err(rare("multichannel".to_owned())),
            9 => return Err(rare("Lab".to_owned())),
            other => return Err(damaged(format!("there is no colour mode {other}"))),
        };
        let channels = usize::from(u16_at(12));
        if !(mode.channels()..=MAX_CHANNELS).contains(&channels) {
            return Err(damaged(format!("{mode:?} in {channels} channels")));
        }
        let length = u32_of(file)?;
        let palette = section(file, length, PALETTE as u64)?;
        let length = u32_of(file)?;
        let metadata = metadata(&section(file, length, MAX_RESOURCES)?);
        let layers = if is_large { u64::from_be_bytes(bytes(file)?) } else { u32_of(file)? };
        section(file, layers, 0)?;
        let is_packed = match bytes(file)? {
            [0, 0] => false,
            [0, 1] => true,
            _ => return Err(rare("its flattened picture is compressed by ZIP".to_owned())),
        };
        let (size, depth) = ((u32_at(18), u32_at(14)), u16_at(22));
        Ok(Self { is_large, channels, size, depth, mode, palette, metadata, is_packed })
    }

    /// The reds, greens and blues that an indexed picture has 256 of; what others have there is of no use.
    ///
    /// # Errors
    /// [`Unreadable::Damaged`] when there are fewer.
    pub(super) fn palette(&self) -> Result<Option<&[u8; PALETTE]>, Unreadable> {
        if self.mode != Mode::Indexed {
            return Ok(None);
        }
        match self.palette.first_chunk() {
            None => Err(damaged("its palette is incomplete".to_owned())),
            palette => Ok(palette),
        }
    }

    /// Bytes that a row of a channel takes.
    pub(super) fn row(&self) -> usize {
        (self.size.0 as usize * usize::from(self.depth)).div_ceil(8)
    }
}

/// The image resources that others than Photoshop understand.
fn metadata(mut resources: &[u8]) -> Metadata {
    let mut found = Metadata::default();
    while let Some(([b'8', b'B', b'I', b'M', i0, i1, name], rest)) = resources.split_first_chunk() {
        // The name and the content are each padded to an even length.
        let after_name = usize::from(*name) + usize::from(name % 2 == 0);
        let Some(rest) = rest.get(after_name..) else { break };
        let Some((length, rest)) = rest.split_first_chunk() else { break };
        let length = u32::from_be_bytes(*length) as usize;
        let Some(content) = rest.get(..length) else { break };
        match u16::from_be_bytes([*i0, *i1]) {
            1039 => found.icc = Some(content.to_vec()),
            1058 => found.exif = Some(content.to_vec()),
            1060 => found.xmp = Some(content.to_vec()),
            _ => {}
        }
        resources = rest.get(length + length % 2..).unwrap_or_default();
    }
    found
}

/// Calls `each` with the rows of the channels that are shown: channel after channel, from the top.
pub(super) fn rows(
    header: &Header,
    file: &mut impl Read,
    mut each: impl FnMut(usize, usize, &[u8]),
) -> Result<(), Unreadable> {
    let (row, height) = (header.row(), header.size.1 as usize);
    let width_of_length = if header.is_large { 4 } else { 2 };
    let mut lengths = Vec::new();
    if header.is_packed {
        let of_lengths = header.channels * height * width_of_length;
        fill(file, of_lengths as u64, &mut lengths)?;
    }
    let mut lengths = lengths.chunks_exact(width_of_length);
    let (mut packed, mut unpacked) = (Vec::new(), Vec::with_capacity(row));
    for channel in 0..header.mode.channels() {
        for y in 0..height {
            let length = match lengths.next() {
                Some(length) => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
                None => row as u64,
            };
            fill(file, length, &mut packed)?;
            if header.is_packed {
                unpack(&packed, row, &mut unpacked)?;
                each(channel, y, &unpacked);
            } else {
                each(channel, y, &packed);
            }
        }
    }
    Ok(())
}

/// PackBits, as TIFF has it: a length and as many bytes, or a negative length and one byte to repeat.
fn unpack(mut packed: &[u8], row: usize, unpacked: &mut Vec<u8>) -> Result<(), Unreadable> {
    let mut take = |length: usize| {
        let (taken, rest) = packed.split_at_checked(length).ok_or_else(truncated)?;
        packed = rest;
        Ok::<_, Unreadable>(taken)
    };
    unpacked.clear();
    while unpacked.len() < row {
        let length = take(1)?[0];
        match length {
            0..=127 => unpacked.extend_from_slice(take(usize::from(length) + 1)?),
            128 => {}
            129..=255 => {
                let byte = take(1)?[0];
                unpacked.resize(unpacked.len() + 257 - usize::from(length), byte);
            }
        }
    }
    if unpacked.len() > row {
        return Err(damaged("a row is longer than the picture is wide".to_owned()));
    }
    Ok(())
}

/// The next `length` bytes, or what comes first of more than `most`; the file stands behind all of them.
fn section(file: &mut (impl Read + Seek), length: u64, most: u64) -> Result<Vec<u8>, Unreadable> {
    let mut first = Vec::new();
    fill(file, length.min(most), &mut first)?;
    let rest = i64::try_from(length - first.len() as u64).map_err(|_| truncated())?;
    // Also beyond the file's end, which the next bytes will show.
    file.seek(SeekFrom::Current(rest))?;
    Ok(first)
}

/// Reads so many bytes in place of what `into` holds, and takes no more memory than there are.
fn fill(file: &mut impl Read, length: u64, into: &mut Vec<u8>) -> Result<(), Unreadable> {
    into.clear();
    let read = file.by_ref().take(length).read_to_end(into)?;
    if (read as u64) < length { Err(truncated()) } else { Ok(()) }
}

fn bytes<const N: usize>(file: &mut impl Read) -> Result<[u8; N], Unreadable> {
    let mut bytes = [0; N];
    let read = file.read_exact(&mut bytes).map_err(|error| Unreadable::cut(error, FORMAT));
    read.map(|()| bytes)
}

fn u32_of(file: &mut impl Read) -> Result<u64, Unreadable> {
    Ok(u32::from_be_bytes(bytes(file)?).into())
}

pub(super) fn truncated() -> Unreadable {
    Unreadable::Truncated { format: FORMAT }
}
