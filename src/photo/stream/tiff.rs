//! The first page of a TIFF, by strips or tiles.

use std::io::{Read, Seek, SeekFrom};

use tiff::ColorType;
use tiff::decoder::{ChunkType, Decoder, DecodingResult};
use tiff::tags::{ByteOrder, Tag};

use super::{Blocks, Small, narrow};
use crate::photo::resize::eight_bits;
use crate::photo::wanted::Wanted;

/// Decodes the first page of a TIFF by strips or tiles; `None` where that does not work or saves nothing.
pub(in crate::photo) fn tiff<R: Read + Seek>(reader: R, wanted: &Wanted<'_>) -> Option<Small> {
    let mut decoder = Decoder::new(reader).ok()?;
    let size = decoder.dimensions().ok()?;
    let channels = match decoder.colortype().ok()? {
        ColorType::Gray(8 | 16) => 1,
        ColorType::GrayA(8 | 16) => 2,
        ColorType::RGB(8 | 16) => 3,
        ColorType::RGBA(8 | 16) => 4,
        _ => return None,
    };
    let planes = decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).ok()?;
    let mut blocks = Blocks::new(size, channels, wanted).filter(|_| planes.unwrap_or(1) == 1)?;
    if let Some(strips) = bare_strips(&mut decoder) {
        let row_bytes = size.0 as usize * channels * strips.bytes_a_sample;
        let mut row = vec![0; row_bytes];
        let reader = decoder.inner();
        let mut rows = 0..size.1;
        for offset in strips.offsets {
            reader.seek(SeekFrom::Start(offset)).ok()?;
            for _ in rows.by_ref().take(strips.rows) {
                reader.read_exact(&mut row).ok()?;
                match (strips.bytes_a_sample, strips.order) {
                    (1, _) => blocks.add(&row),
                    (_, ByteOrder::LittleEndian) => blocks.add(&narrow(&row, u16::from_le_bytes)),
                    (_, ByteOrder::BigEndian) => blocks.add(&narrow(&row, u16::from_be_bytes)),
                }
            }
        }
        return blocks.finish().filter(|_| rows.is_empty());
    }
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let across = match decoder.get_chunk_type() {
        ChunkType::Strip => 1,
        ChunkType::Tile => size.0.div_ceil(chunk_width),
    };
    let row_bytes = size.0 as usize * channels;
    for band in 0..size.1.div_ceil(chunk_height) {
        let height = chunk_height.min(size.1 - band * chunk_height) as usize;
        let mut rows = vec![0; row_bytes * height];
        for column in 0..across {
            let chunk = band * across + column;
            let samples = match decoder.read_chunk(chunk).ok()? {
                DecodingResult::U8(samples) => samples,
                DecodingResult::U16(samples) => samples.into_iter().map(eight_bits).collect(),
                _ => return None,
            };
            let chunk_bytes = decoder.chunk_data_dimensions(chunk).0 as usize * channels;
            let left = column as usize * chunk_width as usize * channels;
            for (row, piece) in rows.chunks_mut(row_bytes).zip(samples.chunks(chunk_bytes)) {
                row.get_mut(left..left + piece.len())?.copy_from_slice(piece);
            }
        }
        rows.chunks(row_bytes).for_each(|row| blocks.add(row));
    }
    blocks.finish()
}

/// Rows of samples as they are, one after the other.
struct Strips {
    bytes_a_sample: usize,
    order: ByteOrder,
    offsets: Vec<u64>,
    /// Rows in each but the last.
    rows: usize,
}

/// Where the rows of a page lie that is not compressed. Many programs write such a page as one strip, which the
/// decoder would take whole.
fn bare_strips<R: Read + Seek>(decoder: &mut Decoder<R>) -> Option<Strips> {
    const UNCOMPRESSED: u16 = 1;
    const MIN_IS_BLACK: u16 = 1;
    const RGB: u16 = 2;
    let mut number = |tag| {
        let numbers = decoder.find_tag_unsigned_vec::<u16>(tag).ok().flatten();
        numbers.and_then(|numbers| numbers.first().copied())
    };
    let is_bare = number(Tag::Compression).is_none_or(|way| way == UNCOMPRESSED)
        && matches!(number(Tag::PhotometricInterpretation), Some(MIN_IS_BLACK | RGB));
    let bytes_a_sample = match number(Tag::BitsPerSample)? {
        8 => 1,
        16 => 2,
        _ => return None,
    };
    if !is_bare || decoder.get_chunk_type() != ChunkType::Strip {
        return None;
    }
    let offsets = decoder.get_tag_u64_vec(Tag::StripOffsets).ok()?;
    let (order, rows) = (decoder.byte_order(), decoder.chunk_dimensions().1 as usize);
    Some(Strips { bytes_a_sample, order, offsets, rows })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tiff::encoder::{TiffEncoder, TiffValue, colortype};

    use super::*;
    use crate::photo::decode::tests::wanted;

    /// A page of one strip, as many programs write it.
    fn in_one_strip<C: colortype::ColorType>(side: u32, samples: &[C::Inner]) -> Vec<u8>
    where
        [C::Inner]: TiffValue,
    {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        let mut page = encoder.new_image::<C>(side, side).unwrap();
        page.rows_per_strip(side).unwrap();
        page.write_data(samples).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn one_strip_that_is_not_compressed_is_read_by_rows() {
        let side = 24;
        let samples: Vec<u8> = (0..side * side * 3).map(|i| (i * 7 % 256) as u8).collect();
        let deep: Vec<u16> = samples.iter().map(|v| u16::from(*v) * 257).collect();
        let of_eight = in_one_strip::<colortype::RGB8>(side, &samples);
        let of_sixteen = in_one_strip::<colortype::RGB16>(side, &deep);
        let mut cut = of_eight.clone();
        cut.truncate(cut.len() - 100);
        for (bytes, strips) in [(&of_eight, 1), (&of_sixteen, 1)] {
            let mut decoder = Decoder::new(Cursor::new(bytes)).unwrap();
            assert_eq!(bare_strips(&mut decoder).unwrap().offsets.len(), strips);
            let (_, small) = super::tiff(Cursor::new(bytes), &wanted(2)).unwrap();
            let first: u32 =
                [0, 3, 6, 72, 75, 78, 144, 147, 150].map(|at| samples[at].into()).iter().sum();
            assert_eq!(u32::from(small.to_rgb8().get_pixel(0, 0).0[0]), (first + 4) / 9);
        }
        assert!(super::tiff(Cursor::new(&cut), &wanted(2)).is_none());
    }
}
