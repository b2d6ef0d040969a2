//! The first page of a TIFF, by strips or tiles.

use std::io::{Read, Seek, SeekFrom};

use tiff::ColorType;
use tiff::decoder::{ChunkType, Decoder, DecodingResult};
use tiff::tags::{ByteOrder, Tag};

use super::{Averages, Blocks, Grid, narrow};
use crate::photo::resize::eight_bits;
use crate::photo::wanted::Wanted;

/// Decodes the first page of a TIFF by strips or tiles: grey or RGB, either with alpha, or inks; `None` where that does
/// not work or saves nothing. `has_alpha` tells whether a second or fourth sample beside colours is alpha.
pub(in crate::photo) fn tiff<R: Read + Seek>(
    reader: R,
    has_alpha: bool,
    wanted: &Wanted<'_>,
) -> Option<Averages> {
    let mut decoder = Decoder::new(reader).ok()?;
    let size = decoder.dimensions().ok()?;
    let (channels, bits) = match decoder.colortype().ok()? {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8 | 16)) => (1, bits),
        ColorType::GrayA(bits @ (8 | 16)) => (2, bits),
        ColorType::RGB(bits @ (8 | 16)) => (3, bits),
        ColorType::RGBA(bits @ (8 | 16)) | ColorType::CMYK(bits @ (8 | 16)) => (4, bits),
        _ => return None,
    };
    // A pixel's samples lie side by side, or each in a plane of its own.
    let planes = match decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).ok()? {
        None | Some(1) => 1,
        Some(2) => channels,
        _ => return None,
    };
    let samples = channels / planes;
    let mut blocks = Blocks::of(Grid { has_alpha, ..Grid::new(size, channels, wanted)? });
    let mut rows = Rows { planes: vec![Vec::new(); planes], pixels: Vec::new() };
    if let Some(strips) = bare_strips(&mut decoder, planes) {
        let row_bytes = size.0 as usize * samples * strips.bytes_a_sample;
        let mut line = vec![0; row_bytes];
        let reader = decoder.inner();
        for y in 0..size.1 as usize {
            let (strip, below) = (y / strips.rows, y % strips.rows);
            for (plane, row) in rows.planes.iter_mut().enumerate() {
                if planes > 1 || below == 0 {
                    let start = *strips.offsets.get(plane * strips.a_plane + strip)?;
                    reader.seek(SeekFrom::Start(start + (below * row_bytes) as u64)).ok()?;
                }
                reader.read_exact(&mut line).ok()?;
                match (strips.bytes_a_sample, strips.order) {
                    (1, _) => row.clone_from(&line),
                    (_, ByteOrder::LittleEndian) => *row = narrow(&line, u16::from_le_bytes),
                    (_, ByteOrder::BigEndian) => *row = narrow(&line, u16::from_be_bytes),
                }
            }
            blocks.add(rows.together());
        }
        return Some(blocks.averages());
    }
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let across = match decoder.get_chunk_type() {
        ChunkType::Strip => 1,
        ChunkType::Tile => size.0.div_ceil(chunk_width),
    };
    let down = size.1.div_ceil(chunk_height);
    // All chunks of a band are held at once.
    let row = u64::from(chunk_width.min(size.0)) * u64::from(across);
    let of_pixel = (channels * usize::from(bits).div_ceil(8)) as u64;
    let band = row.saturating_mul(chunk_height.min(size.1).into()).saturating_mul(of_pixel);
    let _permit = wanted.room_for(band).ok()?;
    for band in 0..down {
        let height = chunk_height.min(size.1 - band * chunk_height) as usize;
        let mut read = |plane: u32| -> Option<Vec<Chunk>> {
            let first = (plane * down + band) * across;
            let numbers = first..first + across;
            numbers.map(|number| Chunk::read(&mut decoder, number, samples, bits)).collect()
        };
        let chunks: Vec<Vec<Chunk>> = (0..planes as u32).map(&mut read).collect::<Option<_>>()?;
        for y in 0..height {
            for (row, chunks) in rows.planes.iter_mut().zip(&chunks) {
                row.clear();
                chunks.iter().try_for_each(|chunk| chunk.extend(y, row))?;
                if row.len() != size.0 as usize * samples {
                    return None;
                }
            }
            blocks.add(rows.together());
        }
    }
    Some(blocks.averages())
}

/// A row of the picture.
struct Rows {
    /// What each plane has of it.
    planes: Vec<Vec<u8>>,
    /// Room for the pixels that several planes make.
    pixels: Vec<u8>,
}

impl Rows {
    /// Its pixels' samples side by side.
    fn together(&mut self) -> &[u8] {
        let [first, others @ ..] = self.planes.as_slice() else { return &[] };
        if others.is_empty() {
            return first;
        }
        self.pixels.clear();
        for (x, sample) in first.iter().enumerate() {
            self.pixels.push(*sample);
            self.pixels.extend(others.iter().map(|plane| plane[x]));
        }
        &self.pixels
    }
}

/// A strip or tile as it is decoded.
struct Chunk {
    samples: DecodingResult,
    /// Samples of a row, and the bits of each.
    row: usize,
    bits: u8,
}

impl Chunk {
    fn read<R: Read + Seek>(
        decoder: &mut Decoder<R>,
        number: u32,
        channels: usize,
        bits: u8,
    ) -> Option<Self> {
        let samples = decoder.read_chunk(number).ok()?;
        let row = decoder.chunk_data_dimensions(number).0 as usize * channels;
        Some(Self { samples, row, bits })
    }

    /// Appends a row in 8 bits.
    fn extend(&self, y: usize, out: &mut Vec<u8>) -> Option<()> {
        let row_of = |length: usize| y * length..(y + 1) * length;
        match &self.samples {
            DecodingResult::U8(samples) if self.bits == 8 => {
                out.extend(samples.get(row_of(self.row))?);
            }
            DecodingResult::U8(packed) => {
                let line = packed.get(row_of((self.row * usize::from(self.bits)).div_ceil(8)))?;
                let most = (1u8 << self.bits) - 1;
                out.extend(unpacked(line, self.row, self.bits).map(|sample| sample * (255 / most)));
            }
            DecodingResult::U16(samples) => {
                out.extend(samples.get(row_of(self.row))?.iter().copied().map(eight_bits));
            }
            _ => return None,
        }
        Some(())
    }
}

/// The first `count` samples of a row that has `bits` of each, fewer than 8; a sample may lie across two bytes.
pub(in crate::photo) fn unpacked(line: &[u8], count: usize, bits: u8) -> impl Iterator<Item = u8> {
    let (bits, most) = (usize::from(bits), (1u16 << bits) - 1);
    (0..count).map(move |x| {
        let two = [line[x * bits / 8], *line.get(x * bits / 8 + 1).unwrap_or(&0)];
        (u16::from_be_bytes(two) >> (16 - bits - x * bits % 8) & most) as u8
    })
}

/// Rows of samples as they are, one after the other.
struct Strips {
    bytes_a_sample: usize,
    order: ByteOrder,
    /// Of all planes, and how many each has.
    offsets: Vec<u64>,
    a_plane: usize,
    /// Rows in each but the last.
    rows: usize,
}

/// Where the rows of a page lie that is not compressed. Many programs write such a page as one strip, which the
/// decoder would take whole.
fn bare_strips<R: Read + Seek>(decoder: &mut Decoder<R>, planes: usize) -> Option<Strips> {
    const UNCOMPRESSED: u16 = 1;
    const MIN_IS_BLACK: u16 = 1;
    const RGB: u16 = 2;
    const INKS: u16 = 5;
    let mut number = |tag| {
        let numbers = decoder.find_tag_unsigned_vec::<u16>(tag).ok().flatten();
        numbers.and_then(|numbers| numbers.first().copied())
    };
    let is_bare = number(Tag::Compression).is_none_or(|way| way == UNCOMPRESSED)
        && matches!(number(Tag::PhotometricInterpretation), Some(MIN_IS_BLACK | RGB | INKS));
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
    let a_plane = offsets.len() / planes;
    (rows > 0).then_some(Strips { bytes_a_sample, order, offsets, a_plane, rows })
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
            assert_eq!(bare_strips(&mut decoder, 1).unwrap().offsets.len(), strips);
            let small = super::tiff(Cursor::new(bytes), false, &wanted(2)).unwrap().picture();
            let (_, small) = small.unwrap();
            let first: u32 =
                [0, 3, 6, 72, 75, 78, 144, 147, 150].map(|at| samples[at].into()).iter().sum();
            assert_eq!(u32::from(small.to_rgb8().get_pixel(0, 0).0[0]), (first + 4) / 9);
        }
        assert!(super::tiff(Cursor::new(&cut), false, &wanted(2)).is_none());
    }
}
