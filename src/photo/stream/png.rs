//! PNG by rows, also where they come in seven passes.

use std::borrow::Cow;
use std::io::{BufRead, Seek};

use png::{BitDepth, Decoder, Reader, Transformations};

use super::{Blocks, Grid, Small, narrow};
use crate::photo::wanted::Wanted;

/// The passes of an interlaced PNG (Adam7; ISO/IEC 15948, clause 8.2): the first column and row of each, and how far
/// it is to the next.
const PASSES: [[usize; 4]; 7] = [
    [0, 0, 8, 8],
    [4, 0, 8, 8],
    [0, 4, 4, 8],
    [2, 0, 4, 4],
    [0, 2, 2, 4],
    [1, 0, 2, 2],
    [0, 1, 1, 2],
];

/// Decodes a PNG by rows; `None` where that does not work or saves nothing.
pub(in crate::photo) fn png<R: BufRead + Seek>(reader: R, wanted: &Wanted<'_>) -> Option<Small> {
    let mut decoder = Decoder::new(reader);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().ok()?;
    let info = reader.info();
    let (size, interlaced) = ((info.width, info.height), info.interlaced);
    let (colours, depth) = reader.output_color_type();
    let grid = Grid::new(size, colours.samples(), wanted)?;
    if interlaced {
        return in_passes(reader, depth, size.1 as usize, grid, wanted);
    }
    let mut blocks = Blocks::of(grid);
    while let Some(row) = reader.next_row().ok()? {
        blocks.add(&eight_bits(row.data(), depth));
    }
    blocks.finish()
}

/// Each pass goes over the whole picture, so all blocks are filled at once.
fn in_passes<R: BufRead + Seek>(
    mut reader: Reader<R>,
    depth: BitDepth,
    height: usize,
    grid: Grid,
    wanted: &Wanted<'_>,
) -> Option<Small> {
    let (row_of_blocks, side) = (grid.sums(), grid.side);
    let count = row_of_blocks * height.div_ceil(side);
    let _permit = wanted.room_for((count * size_of::<u64>()) as u64).ok()?;
    let mut sums = vec![0; count];
    for [left, top, across, down] in PASSES {
        if left >= grid.columns {
            continue;
        }
        for y in (top..height).step_by(down) {
            let row = reader.next_interlaced_row().ok()??;
            let sums = &mut sums[y / side * row_of_blocks..][..row_of_blocks];
            grid.add_some(sums, &eight_bits(row.data(), depth), left, across);
        }
    }
    let mut done = Vec::with_capacity(count);
    for (sums, top) in sums.chunks_mut(row_of_blocks).zip((0..height).step_by(side)) {
        grid.close(sums, side.min(height - top), &mut done);
    }
    grid.averages(done).picture()
}

fn eight_bits(row: &[u8], depth: BitDepth) -> Cow<'_, [u8]> {
    match depth {
        BitDepth::Sixteen => narrow(row, u16::from_be_bytes).into(),
        _ => row.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat};
    use png::{ColorType, Encoder};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::{encoded, in_blocks, picture};

    /// As `png` reads what Pillow, ImageMagick and others write with interlacing: the encoder has none, so passes are
    /// laid together here.
    fn interlaced(picture: &DynamicImage) -> Vec<u8> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let pixel_bytes = usize::from(picture.color().bytes_per_pixel());
        let mut filtered = Vec::new();
        for [left, top, across, down] in PASSES {
            for y in (top..height).step_by(down) {
                // No filter.
                filtered.extend((left < width).then_some(0));
                for x in (left..width).step_by(across) {
                    let at = (y * width + x) * pixel_bytes;
                    filtered.extend(&picture.as_bytes()[at..at + pixel_bytes]);
                }
            }
        }
        let mut bytes = Vec::new();
        let mut info = png::Info::with_size(width as u32, height as u32);
        info.interlaced = true;
        info.color_type = match picture.color().channel_count() {
            1 => ColorType::Grayscale,
            3 => ColorType::Rgb,
            _ => ColorType::Rgba,
        };
        let mut writer = Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
        writer.write_chunk(png::chunk::IDAT, &zlib(&filtered)).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// Bytes as they are, in blocks of a zlib stream (RFC 1950 and 1951).
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0x78, 0x01];
        let mut blocks = bytes.chunks(60_000).peekable();
        while let Some(block) = blocks.next() {
            let length = block.len() as u16;
            out.push(u8::from(blocks.peek().is_none()));
            out.extend(length.to_le_bytes());
            out.extend((!length).to_le_bytes());
            out.extend(block);
        }
        let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        out.extend((b << 16 | a).to_be_bytes());
        out
    }

    #[test]
    fn passes_make_the_same_blocks_as_rows() {
        let rgba = picture();
        let cases = [rgba.to_luma8().into(), rgba.to_rgb8().into(), rgba];
        for picture in cases {
            for width in [31, 9, 4] {
                let picture = picture.crop_imm(0, 0, width, 25);
                let bytes = interlaced(&picture);
                let whole = image::load_from_memory_with_format(&bytes, ImageFormat::Png).unwrap();
                assert_eq!(whole, picture, "what the test writes is a PNG");
                let wanted = wanted(1);
                let Some((_, small)) = png(Cursor::new(&bytes), &wanted) else {
                    assert!(width < 8, "blocks of one save nothing");
                    continue;
                };
                assert_eq!(small, in_blocks(&picture, &wanted), "{width}");
                for cut in [bytes.len() / 3, bytes.len() - 30] {
                    assert!(png(Cursor::new(&bytes[..cut]), &wanted).is_none(), "{width} {cut}");
                }
            }
        }
    }

    #[test]
    fn sixteen_bits_are_rounded() {
        let grey = image::ImageBuffer::from_pixel(9, 9, image::Luma([200u16]));
        let bytes = encoded(&DynamicImage::ImageLuma16(grey), ImageFormat::Png);
        let (_, small) = png(Cursor::new(&bytes), &wanted(1)).unwrap();
        assert!(small.to_luma8().iter().all(|value| *value == 1), "{small:?}");
    }
}
