//! Giant PNG and TIFF files, row by row: scans and panoramas of hundreds of megapixels.
//!
//! Rows are averaged in blocks as they come, so that what is held is a few rows and the small picture,
//! whatever the file's size. As with JPEG, the small one is never below four times the side that the network
//! asks for. What cannot be read by rows (interlaced PNG, planes and rare colours in TIFF) is decoded
//! whole.

use std::io::{BufRead, Read, Seek, SeekFrom};

use image::{DynamicImage, ImageBuffer};
use tiff::ColorType;
use tiff::decoder::{ChunkType, Decoder, DecodingResult};
use tiff::tags::{ByteOrder, Tag};

use super::resize::eight_bits;
use super::wanted::Wanted;

/// A picture made smaller: how many of its pixels lie along one of the whole picture, and itself.
pub(super) type Small = (f64, DynamicImage);

/// Decodes a PNG by rows; `None` where that does not work or saves nothing.
pub(super) fn png<R: BufRead + Seek>(reader: R, wanted: &Wanted<'_>) -> Option<Small> {
    let mut decoder = png::Decoder::new(reader);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().ok()?;
    let info = reader.info();
    let (size, interlaced) = ((info.width, info.height), info.interlaced);
    let channels = reader.output_color_type().0.samples();
    let mut blocks = Blocks::new(size, channels, wanted).filter(|_| !interlaced)?;
    while let Some(row) = reader.next_row().ok()? {
        blocks.add(row.data());
    }
    blocks.finish()
}

/// Decodes the first page of a TIFF by strips or tiles; `None` where that does not work or saves nothing.
pub(super) fn tiff<R: Read + Seek>(reader: R, wanted: &Wanted<'_>) -> Option<Small> {
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

fn narrow(row: &[u8], number: fn([u8; 2]) -> u16) -> Vec<u8> {
    row.as_chunks::<2>().0.iter().map(|bytes| eight_bits(number(*bytes))).collect()
}

/// Square blocks of pixels, averaged; those at the right and lower edge may hold fewer. What is
/// transparent has no say in the colour.
struct Blocks {
    side: usize,
    channels: usize,
    /// Columns of the whole picture, and blocks across it.
    columns: usize,
    width: usize,
    /// Rows in the blocks that are being filled.
    rows: usize,
    sums: Vec<u64>,
    done: Vec<u8>,
}

impl Blocks {
    /// `None` when the picture is too small for blocks of two.
    fn new((width, height): (u32, u32), channels: usize, wanted: &Wanted<'_>) -> Option<Self> {
        let side = (width.min(height) / wanted.least_side()) as usize;
        let columns = width as usize;
        (side >= 2).then(|| {
            let width = columns.div_ceil(side);
            let (sums, done) = (vec![0; width * channels], Vec::new());
            Self { side, channels, columns, width, rows: 0, sums, done }
        })
    }

    fn has_alpha(&self) -> bool {
        matches!(self.channels, 2 | 4)
    }

    fn add(&mut self, row: &[u8]) {
        let (channels, has_alpha) = (self.channels, self.has_alpha());
        let blocks = row.chunks(self.side * channels);
        for (sums, block) in self.sums.chunks_mut(channels).zip(blocks) {
            for pixel in block.chunks(channels) {
                if has_alpha && let Some((alpha, colours)) = pixel.split_last() {
                    let alpha = u64::from(*alpha);
                    for (sum, value) in sums.iter_mut().zip(colours) {
                        *sum += u64::from(*value) * alpha;
                    }
                    sums[channels - 1] += alpha;
                } else {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += u64::from(*value);
                    }
                }
            }
        }
        self.rows += 1;
        if self.rows == self.side {
            self.close();
        }
    }

    fn close(&mut self) {
        let has_alpha = self.has_alpha();
        for (number, sums) in self.sums.chunks_mut(self.channels).enumerate() {
            let columns = self.side.min(self.columns - number * self.side);
            let pixels = (columns * self.rows) as u64;
            let last = sums.len() - 1;
            let weight = if has_alpha { sums[last].max(1) } else { pixels };
            for (channel, sum) in sums.iter_mut().enumerate() {
                let parts = if has_alpha && channel == last { pixels } else { weight };
                self.done.push(((*sum + parts / 2) / parts) as u8);
                *sum = 0;
            }
        }
        self.rows = 0;
    }

    fn finish(mut self) -> Option<Small> {
        if self.rows > 0 {
            self.close();
        }
        let (width, scale) = (self.width as u32, 1.0 / self.side as f64);
        let height = (self.done.len() / (self.width * self.channels)) as u32;
        let image = match self.channels {
            1 => ImageBuffer::from_raw(width, height, self.done).map(DynamicImage::ImageLuma8),
            2 => ImageBuffer::from_raw(width, height, self.done).map(DynamicImage::ImageLumaA8),
            3 => ImageBuffer::from_raw(width, height, self.done).map(DynamicImage::ImageRgb8),
            _ => ImageBuffer::from_raw(width, height, self.done).map(DynamicImage::ImageRgba8),
        };
        image.map(|image| (scale, image))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, Rgba, RgbaImage};
    use tiff::encoder::{TiffEncoder, TiffValue, colortype};

    use super::*;
    use crate::photo::decode::tests::wanted;

    /// In blocks of three, with edges that do not fill theirs.
    fn picture() -> DynamicImage {
        DynamicImage::ImageRgba8(RgbaImage::from_fn(31, 25, |x, y| {
            let alpha = if (x / 3 + y / 3) % 2 == 0 { 255 } else { (x * 8) as u8 };
            Rgba([(x * 8) as u8, (y * 10) as u8, (x * y % 251) as u8, alpha])
        }))
    }

    fn small_png(bytes: &[u8], wanted: &Wanted<'_>) -> Option<Small> {
        super::png(Cursor::new(bytes), wanted)
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// The average of a block, the plain way.
    fn block(picture: &DynamicImage, left: u32, top: u32) -> Vec<u8> {
        let picture = picture.to_rgba8();
        let (right, below) = ((left + 3).min(31), (top + 3).min(25));
        let inside: Vec<[f64; 4]> = (top..below)
            .flat_map(|y| (left..right).map(move |x| (x, y)))
            .map(|(x, y)| picture.get_pixel(x, y).0.map(f64::from))
            .collect();
        let alpha: f64 = inside.iter().map(|p| p[3]).sum();
        let colour = |c: usize| inside.iter().map(|p| p[c] * p[3]).sum::<f64>() / alpha;
        let mean = [colour(0), colour(1), colour(2), alpha / inside.len() as f64];
        mean.map(|value| value.round() as u8).to_vec()
    }

    #[test]
    fn rows_and_strips_are_averaged_in_blocks() {
        // The network asks for 2, so 8 must remain of 25.
        let wanted = wanted(2);
        let picture = picture();
        let (png, tiff) =
            (encoded(&picture, ImageFormat::Png), encoded(&picture, ImageFormat::Tiff));
        for small in [small_png(&png, &wanted), super::tiff(Cursor::new(&tiff), &wanted)] {
            let (scale, small) = small.unwrap();
            assert!((scale - 1.0 / 3.0).abs() < 1e-12);
            assert_eq!((small.width(), small.height()), (11, 9));
            let small = small.to_rgba8();
            for (x, y) in [(0, 0), (5, 4), (10, 3), (4, 8), (10, 8)] {
                let expected = block(&picture, x * 3, y * 3);
                let apart = small.get_pixel(x, y).0.iter().zip(&expected);
                let apart = apart.map(|(a, b)| a.abs_diff(*b)).max();
                assert!(apart <= Some(1), "{x}, {y}: {:?}, {expected:?}", small.get_pixel(x, y));
            }
        }
    }

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

    #[test]
    fn what_is_cut_off_or_small_is_left_to_the_others() {
        let bytes = encoded(&picture(), ImageFormat::Png);
        assert!(small_png(&bytes[..bytes.len() / 2], &wanted(2)).is_none());
        assert!(small_png(&bytes, &wanted(4)).is_none(), "blocks of one save nothing");
    }
}
