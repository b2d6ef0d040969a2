//! Giant pictures, row by row: scans and panoramas of hundreds of megapixels.
//!
//! Rows, or rows of tiles, are averaged in blocks as they come, so that what is held is a few rows and the small picture,
//! whatever the file's size; of a WebP its planes, too, and of an interlaced GIF a byte a pixel. As with JPEG, the
//! small one is never below four times the side that the network asks for. What cannot be read by rows
//! (interlaced PNG, planes and rare colours in TIFF, WebP without loss or with alpha) is decoded whole.

mod gif;
mod tiff;
mod tiles;
mod webp;

use std::io::{BufRead, Seek};

use image::{DynamicImage, ImageBuffer};

pub(super) use self::gif::gif;
pub(super) use self::tiff::tiff;
pub(super) use self::tiles::tiles;
pub(super) use self::webp::webp;
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
pub(super) mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;
    use crate::photo::decode::tests::wanted;

    /// In blocks of three, with edges that do not fill theirs.
    fn picture() -> DynamicImage {
        DynamicImage::ImageRgba8(RgbaImage::from_fn(31, 25, |x, y| {
            let alpha = if (x / 3 + y / 3) % 2 == 0 { 255 } else { (x * 8) as u8 };
            Rgba([(x * 8) as u8, (y * 10) as u8, (x * y % 251) as u8, alpha])
        }))
    }

    /// A picture that was decoded whole, made smaller as its rows would be.
    pub(in crate::photo) fn in_blocks(whole: &DynamicImage, wanted: &Wanted<'_>) -> DynamicImage {
        let (size, channels) = ((whole.width(), whole.height()), whole.color().channel_count());
        let mut blocks = Blocks::new(size, usize::from(channels), wanted).unwrap();
        let row_bytes = size.0 as usize * usize::from(channels);
        whole.as_bytes().chunks_exact(row_bytes).for_each(|row| blocks.add(row));
        blocks.finish().unwrap().1
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

    #[test]
    fn what_is_cut_off_or_small_is_left_to_the_others() {
        let bytes = encoded(&picture(), ImageFormat::Png);
        assert!(small_png(&bytes[..bytes.len() / 2], &wanted(2)).is_none());
        assert!(small_png(&bytes, &wanted(4)).is_none(), "blocks of one save nothing");
    }
}
