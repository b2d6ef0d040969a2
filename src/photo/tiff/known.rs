//! A copy of a file in which the first page is of a kind that the `tiff` crate decodes.

use std::borrow::Cow;

use tiff::decoder::ChunkType;
use tiff::tags::{ByteOrder, Tag};

use super::{Decoder, Meaning, Page, reason};
use crate::photo::Unreadable;

impl Page {
    /// The file as the decoder knows it: bits in the usual order, and grey instead of palettes and Lab.
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
            let at = photometric_at(bytes, decoder)
                .ok_or_else(|| Unreadable::damaged("its tags are cut off"))?;
            let grey: u16 = 1;
            let grey = match decoder.byte_order() {
                ByteOrder::LittleEndian => grey.to_le_bytes(),
                ByteOrder::BigEndian => grey.to_be_bytes(),
            };
            known.to_mut()[at..at + 2].copy_from_slice(&grey);
        }
        Ok(known)
    }
}

/// Where the first page says what its samples mean.
fn photometric_at(bytes: &[u8], decoder: &mut Decoder<'_>) -> Option<usize> {
    const PHOTOMETRIC: u16 = 262;
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
    let entry = entries.into_iter().find(|at| number(*at) == Some(PHOTOMETRIC))?;
    let value = entry + step - if step == 20 { 8 } else { 4 };
    bytes.get(value..value + 2).map(|_| value)
}
