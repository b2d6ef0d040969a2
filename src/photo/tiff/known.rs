//! A copy of a file in which the first page is of a kind that the `tiff` crate decodes.

use std::borrow::Cow;

use tiff::decoder::ChunkType;
use tiff::tags::{ByteOrder, Tag};

use super::{Decoder, Meaning, Page, reason};
use crate::photo::Unreadable;

impl Page {
    /// The file as the decoder knows it: bits in the usual order, grey instead of palettes and Lab, and sides that tiles
    /// fill where they are compressed by LZW. It reads those at an edge by rows, and takes some of them for cut off where
    /// a row ends in the middle of what a code stands for.
    pub(super) fn as_known<'a>(
        &self,
        bytes: &'a [u8],
        decoder: &mut Decoder<'_>,
    ) -> Result<Cow<'a, [u8]>, Unreadable> {
        let mut known = Cow::Borrowed(bytes);
        if self.bits_reversed {
            let (offsets, lengths) = match decoder.get_chunk_type() {
                ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
                ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
            };
            let mut numbers = |tag| decoder.get_tag_u64_vec(tag).map_err(reason);
            let (offsets, lengths) = (numbers(offsets)?, numbers(lengths)?);
            // Those that overlap would be turned twice, and take their time.
            if lengths.iter().fold(0, |sum: u64, one| sum.saturating_add(*one)) > bytes.len() as u64
            {
                return Err(Unreadable::damaged("its strips overlap"));
            }
            for (offset, length) in offsets.into_iter().zip(lengths) {
                let end = offset.saturating_add(length).min(bytes.len() as u64) as usize;
                let strip = known.to_mut().get_mut(offset as usize..end).unwrap_or_default();
                strip.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
        }
        if matches!(self.meaning, Meaning::Palette(_) | Meaning::Lab { .. }) {
            let grey = 1;
            put(known.to_mut(), decoder, PHOTOMETRIC, grey)
                .ok_or_else(|| Unreadable::damaged("its tags are cut off"))?;
        }
        if self.is_lzw && decoder.get_chunk_type() == ChunkType::Tile {
            let tile = decoder.chunk_dimensions();
            for (tag, side, of_tile) in
                [(WIDTH, self.size.0, tile.0), (HEIGHT, self.size.1, tile.1)]
            {
                if let Some(side) = side.checked_next_multiple_of(of_tile.max(1)) {
                    // Where it has no room, the file is tried as it is.
                    let _ = put(known.to_mut(), decoder, tag, side);
                }
            }
        }
        Ok(known)
    }
}

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const PHOTOMETRIC: u16 = 262;

/// Writes a number where the page that is being read has another; `None` where there is none, or no room.
fn put(bytes: &mut [u8], decoder: &mut Decoder<'_>, tag: u16, number: u32) -> Option<()> {
    let (kind, at) = value_at(bytes, decoder, tag)?;
    let is_little = decoder.byte_order() == ByteOrder::LittleEndian;
    match kind {
        SHORT => {
            let number = u16::try_from(number).ok()?;
            let number = if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
            bytes.get_mut(at..at + 2)?.copy_from_slice(&number);
        }
        LONG => {
            let number = if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
            bytes.get_mut(at..at + 4)?.copy_from_slice(&number);
        }
        _ => return None,
    }
    Some(())
}

/// Types of numbers.
const SHORT: u16 = 3;
const LONG: u16 = 4;

/// The type and the place of a tag's value that lies in the directory of the page that is being read.
fn value_at(bytes: &[u8], decoder: &mut Decoder<'_>, tag: u16) -> Option<(u16, usize)> {
    let (order, directory) = (decoder.byte_order(), decoder.ifd_pointer()?);
    let u16_of = |bytes: [u8; 2]| match order {
        ByteOrder::LittleEndian => u16::from_le_bytes(bytes),
        ByteOrder::BigEndian => u16::from_be_bytes(bytes),
    };
    let number = |at: usize| Some(u16_of(*bytes.get(at..)?.first_chunk()?));
    // 43 is BigTIFF: a count of 8 bytes and entries of 20, elsewhere of 2 and 12.
    let (first, step) = if number(2)? == 43 { (8, 20) } else { (2, 12) };
    let directory = usize::try_from(directory.0).ok()?;
    let entries = (directory.checked_add(first)?..bytes.len()).step_by(step).take(1 << 16);
    let entry = entries.into_iter().find(|at| number(*at) == Some(tag))?;
    Some((number(entry + 2)?, entry + step - if step == 20 { 8 } else { 4 }))
}
