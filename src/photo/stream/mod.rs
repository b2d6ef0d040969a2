//! Giant pictures, row by row: scans and panoramas of hundreds of megapixels.
//!
//! Rows, or rows of tiles, are averaged in blocks as they come, so that what is held is a few rows and the small picture,
//! whatever the file's size; of a WebP its planes or pixels, too, and of an interlaced GIF a byte a pixel. As with JPEG,
//! the small one is never below four times the side that the network asks for. What cannot be read by rows (as rare
//! colours in TIFF) is decoded whole.

mod gif;
mod hdr;
mod light;
mod lossless;
mod plain;
mod planes;
mod png;
mod qoi;
mod tga;
mod tiff;
mod tiles;
mod webp;

use image::{DynamicImage, ImageBuffer};

pub(super) use self::gif::gif;
pub(super) use self::hdr::hdr;
pub(super) use self::light::exr;
pub(super) use self::lossless::lossless;
pub(super) use self::plain::plain;
pub(super) use self::planes::Planes;
pub(super) use self::png::png;
pub(super) use self::qoi::qoi;
pub(super) use self::tga::tga;
pub(super) use self::tiff::{tiff, unpacked};
pub(super) use self::tiles::tiles;
pub(super) use self::webp::webp;
use super::resize::eight_bits;
use super::wanted::Wanted;

/// A picture made smaller: how many of its pixels lie along one of the whole picture, and itself.
pub(super) type Small = (f64, DynamicImage);

/// The same as samples of 8 bits, which need not be colours yet.
pub(super) struct Averages {
    pub(super) scale: f64,
    /// Width and height.
    pub(super) size: (u32, u32),
    pub(super) channels: usize,
    /// Those of a pixel side by side.
    pub(super) samples: Vec<u8>,
}

impl Averages {
    /// Of grey, grey and alpha, RGB, or RGBA.
    fn picture(self) -> Option<Small> {
        let ((width, height), samples) = (self.size, self.samples);
        let image = match self.channels {
            1 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageLuma8),
            2 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageLumaA8),
            3 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgb8),
            _ => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgba8),
        };
        image.map(|image| (self.scale, image))
    }
}

/// Square blocks of pixels, averaged; those at the right and lower edge may hold fewer. What is
/// transparent has no say in the colour.
#[derive(Debug, Clone, Copy)]
struct Grid {
    side: usize,
    channels: usize,
    /// Whether the last channel is alpha.
    has_alpha: bool,
    /// Columns of the whole picture, and blocks across it.
    columns: usize,
    width: usize,
}

impl Grid {
    /// For grey, RGB, and either with alpha; `None` when the picture is too small for blocks of two.
    fn new(size: (u32, u32), channels: usize, wanted: &Wanted<'_>) -> Option<Self> {
        let (side, columns) = (wanted.block_side(size)? as usize, size.0 as usize);
        let has_alpha = matches!(channels, 2 | 4);
        Some(Self { side, channels, has_alpha, columns, width: columns.div_ceil(side) })
    }

    /// How many sums a row of blocks has.
    fn sums(&self) -> usize {
        self.width * self.channels
    }

    /// Adds a row of pixels to the sums of the row of blocks that it lies in.
    fn add(&self, sums: &mut [u64], row: &[u8]) {
        let blocks = row.chunks(self.side * self.channels);
        for (sums, block) in sums.chunks_mut(self.channels).zip(blocks) {
            block.chunks(self.channels).for_each(|pixel| self.add_pixel(sums, pixel));
        }
    }

    /// The same with some pixels of a row, those of the columns `first`, `first + step` and so on.
    fn add_some(&self, sums: &mut [u64], pixels: &[u8], first: usize, step: usize) {
        for (pixel, x) in pixels.chunks(self.channels).zip((first..self.columns).step_by(step)) {
            let block = x / self.side * self.channels;
            self.add_pixel(&mut sums[block..block + self.channels], pixel);
        }
    }

    #[inline(always)]
    fn add_pixel(&self, sums: &mut [u64], pixel: &[u8]) {
        if self.has_alpha
            && let (Some((alpha, colours)), Some((of_alpha, sums))) =
                (pixel.split_last(), sums.split_last_mut())
        {
            let alpha = u64::from(*alpha);
            sums.iter_mut().zip(colours).for_each(|(sum, value)| *sum += u64::from(*value) * alpha);
            *of_alpha += alpha;
        } else {
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
        }
    }

    /// Appends the averages of a row of blocks that so many rows of pixels were added to, and clears their sums.
    fn close(&self, sums: &mut [u64], rows: usize, done: &mut Vec<u8>) {
        let has_alpha = self.has_alpha;
        for (number, sums) in sums.chunks_mut(self.channels).enumerate() {
            let columns = self.side.min(self.columns - number * self.side);
            let pixels = (columns * rows) as u64;
            let last = sums.len() - 1;
            let weight = if has_alpha { sums[last].max(1) } else { pixels };
            for (channel, sum) in sums.iter_mut().enumerate() {
                let parts = if has_alpha && channel == last { pixels } else { weight };
                done.push(((*sum + parts / 2) / parts) as u8);
                *sum = 0;
            }
        }
    }

    /// The averages of all blocks, in rows.
    fn averages(&self, samples: Vec<u8>) -> Averages {
        let (width, scale) = (self.width as u32, 1.0 / self.side as f64);
        let height = (samples.len() / self.sums()) as u32;
        Averages { scale, size: (width, height), channels: self.channels, samples }
    }
}

/// A picture whose rows come one after the other, from the top.
struct Blocks {
    grid: Grid,
    /// Rows in the blocks that are being filled, and how many fill them.
    rows: usize,
    due: usize,
    sums: Vec<u64>,
    done: Vec<u8>,
}

impl Blocks {
    /// See [`Grid::new`].
    fn new(size: (u32, u32), channels: usize, wanted: &Wanted<'_>) -> Option<Self> {
        Grid::new(size, channels, wanted).map(Self::of)
    }

    fn of(grid: Grid) -> Self {
        Self { grid, rows: 0, due: grid.side, sums: vec![0; grid.sums()], done: Vec::new() }
    }

    /// The same for rows that come from the last of so many on: their blocks are those of the others, from below.
    fn upwards(self, height: u32) -> Self {
        let side = self.grid.side;
        let due = match height as usize % side {
            0 => side,
            rows => rows,
        };
        Self { due, ..self }
    }

    fn add(&mut self, row: &[u8]) {
        self.grid.add(&mut self.sums, row);
        self.rows += 1;
        if self.rows == self.due {
            self.due = self.grid.side;
            self.close();
        }
    }

    fn close(&mut self) {
        self.grid.close(&mut self.sums, self.rows, &mut self.done);
        self.rows = 0;
    }

    fn finish(self) -> Option<Small> {
        self.averages().picture()
    }

    fn averages(mut self) -> Averages {
        if self.rows > 0 {
            self.close();
        }
        self.grid.averages(self.done)
    }
}

/// Makes a picture smaller that was decoded whole; `None` where that saves nothing. Its colours need no room of their
/// own then.
pub(super) fn whole(image: &DynamicImage, wanted: &Wanted<'_>) -> Option<Small> {
    if let DynamicImage::ImageRgb32F(image) = image {
        return light::whole(image, wanted);
    }
    let (size, colour) = ((image.width(), image.height()), image.color());
    let bytes_a_sample = colour.bytes_per_pixel() / colour.channel_count();
    let mut blocks = Blocks::new(size, usize::from(colour.channel_count()), wanted)
        .filter(|_| bytes_a_sample <= 2)?;
    let row_bytes = size.0 as usize * usize::from(colour.bytes_per_pixel());
    for row in image.as_bytes().chunks_exact(row_bytes) {
        match bytes_a_sample {
            1 => blocks.add(row),
            _ => blocks.add(&narrow(row, u16::from_ne_bytes)),
        }
    }
    blocks.finish()
}

/// Samples of 16 bits in 8.
fn narrow(row: &[u8], number: fn([u8; 2]) -> u16) -> Vec<u8> {
    row.as_chunks::<2>().0.iter().map(|bytes| eight_bits(number(*bytes))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;
    use crate::photo::decode::tests::wanted;

    /// In blocks of three, with edges that do not fill theirs.
    pub(super) fn picture() -> DynamicImage {
        DynamicImage::ImageRgba8(RgbaImage::from_fn(31, 25, |x, y| {
            let alpha = if (x / 3 + y / 3) % 2 == 0 { 255 } else { (x * 8) as u8 };
            Rgba([(x * 8) as u8, (y * 10) as u8, (x * y % 251) as u8, alpha])
        }))
    }

    /// A picture that was decoded whole, made smaller as its rows would be.
    pub(in crate::photo) fn in_blocks(image: &DynamicImage, wanted: &Wanted<'_>) -> DynamicImage {
        whole(image, wanted).unwrap().1
    }

    fn small_png(bytes: &[u8], wanted: &Wanted<'_>) -> Option<Small> {
        super::png(Cursor::new(bytes), wanted)
    }

    pub(super) fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
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
        let tiff = super::tiff(Cursor::new(&tiff), true, &wanted).and_then(Averages::picture);
        for small in [small_png(&png, &wanted), tiff] {
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
