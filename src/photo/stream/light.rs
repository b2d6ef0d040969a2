//! Linear light is averaged as it is, before it is mapped to what a screen shows; of OpenEXR pixel after pixel.

use std::io::{BufRead, Seek};

use exr::meta::header::Header;
use exr::prelude::{ReadChannels, ReadLayers, Text, Vec2, read};
use image::{DynamicImage, ImageBuffer, Rgb32FImage};

use super::{Grid, Small};
use crate::photo::tone::BRIGHTEST;
use crate::photo::wanted::Wanted;

/// Decodes an OpenEXR's first layer with colours, block by block of the file, to floats with premultiplied alpha; `None`
/// where that does not work, the picture is not of that size, or it saves nothing.
pub(in crate::photo) fn exr<R: BufRead + Seek>(
    reader: R,
    size: (u32, u32),
    wanted: &Wanted<'_>,
) -> Option<Small> {
    let sums = Sums::new(size, wanted)?;
    let _permit = wanted.room_for(sums.bytes()).ok()?;
    let reader = exr::block::read(reader, false).ok()?;
    let has = |header: &Header, name: &str| {
        header.channels.find_index_of_channel(&Text::from(name)).is_some()
    };
    let is_shown =
        |header: &&Header| !header.deep && ["R", "G", "B"].iter().all(|c| has(header, c));
    let header = reader.headers().iter().find(is_shown)?;
    let has_alpha = has(header, "A");
    // What is shown, of which only a part may have pixels.
    let window = header.shared_attributes.display_window;
    let offset = header.own_attributes.layer_position - window.position;
    if window.size != Vec2(size.0 as usize, size.1 as usize) {
        return None;
    }
    let add = move |sums: &mut Sums, at: Vec2<usize>, (r, g, b, a): (f32, f32, f32, f32)| {
        let place = |at: usize, offset: i32| at.checked_add_signed(offset as isize);
        if let (Some(x), Some(y)) = (place(at.x(), offset.x()), place(at.y(), offset.y())) {
            sums.add(x, y, [r, g, b, a]);
        }
    };
    let image = read()
        .no_deep_data()
        .largest_resolution_level()
        .rgba_channels(move |_, _| sums.filled(), add)
        .first_valid_layer()
        .all_attributes()
        .from_chunks(reader)
        .ok()?;
    image.layer_data.channel_data.pixels.averages(has_alpha)
}

/// Makes a picture of floats smaller that was decoded whole; `None` where that saves nothing.
pub(super) fn whole(image: &Rgb32FImage, wanted: &Wanted<'_>) -> Option<Small> {
    let mut sums = Sums::new(image.dimensions(), wanted)?.filled();
    for (x, y, image::Rgb([r, g, b])) in image.enumerate_pixels() {
        sums.add(x as usize, y as usize, [*r, *g, *b, 1.0]);
    }
    sums.averages(false)
}

/// What all blocks of a picture add up to: red, green, blue, alpha.
#[derive(Clone)]
pub(super) struct Sums {
    grid: Grid,
    rows: usize,
    sums: Vec<[f32; 4]>,
}

impl Sums {
    /// Without room for them yet.
    pub(super) fn new(size: (u32, u32), wanted: &Wanted<'_>) -> Option<Self> {
        let grid = Grid::new(size, 4, wanted)?;
        Some(Self { grid, rows: size.1 as usize, sums: Vec::new() })
    }

    fn count(&self) -> usize {
        self.grid.width * self.rows.div_ceil(self.grid.side)
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.count() * size_of::<[f32; 4]>()) as u64
    }

    pub(super) fn filled(&self) -> Self {
        Self { sums: vec![[0.0; 4]; self.count()], ..self.clone() }
    }

    /// Of what lies outside nothing is taken.
    #[inline(always)]
    pub(super) fn add(&mut self, x: usize, y: usize, [r, g, b, alpha]: [f32; 4]) {
        let Grid { side, width, columns, .. } = self.grid;
        if x >= columns || y >= self.rows {
            return;
        }
        let light = |value: f32| if value.is_nan() { 0.0 } else { value.clamp(0.0, BRIGHTEST) };
        let alpha = if alpha.is_nan() { 1.0 } else { alpha.clamp(0.0, 1.0) };
        let sums = &mut self.sums[y / side * width + x / side];
        let rgba = [light(r), light(g), light(b), alpha];
        sums.iter_mut().zip(rgba).for_each(|(sum, value)| *sum += value);
    }

    pub(super) fn averages(mut self, has_alpha: bool) -> Option<Small> {
        let Grid { side, width, columns, .. } = self.grid;
        for (number, sums) in self.sums.iter_mut().enumerate() {
            let (left, top) = (number % width * side, number / width * side);
            let pixels = side.min(columns - left) * side.min(self.rows - top);
            sums.iter_mut().for_each(|sum| *sum /= pixels as f32);
            if !has_alpha {
                sums[3] = 1.0;
            }
        }
        let (across, down) = (width as u32, (self.sums.len() / width) as u32);
        let light = ImageBuffer::from_raw(across, down, self.sums.into_flattened())?;
        Some((1.0 / side as f64, DynamicImage::ImageRgba32F(light)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, Rgba32FImage};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::encoded;

    #[test]
    fn blocks_are_the_average_of_their_light() {
        let light = |x: u32, y: u32| [0, 1, 2].map(|c| ((x * 7 + y * 3 + c) % 50) as f32 / 9.0);
        let rgb = Rgb32FImage::from_fn(31, 25, |x, y| image::Rgb(light(x, y)));
        let rgba = Rgba32FImage::from_fn(31, 25, |x, y| {
            let [r, g, b] = light(x, y);
            image::Rgba([r, g, b, if x < 9 { 0.0 } else { 0.5 }])
        });
        for picture in [DynamicImage::ImageRgb32F(rgb), DynamicImage::ImageRgba32F(rgba)] {
            let bytes = encoded(&picture, ImageFormat::OpenExr);
            let expected = picture.to_rgba32f();
            let (scale, small) = exr(Cursor::new(&bytes), (31, 25), &wanted(2)).unwrap();
            assert!((scale - 1.0 / 3.0).abs() < 1e-12);
            if let DynamicImage::ImageRgb32F(light) = &picture {
                assert_eq!(whole(light, &wanted(2)).unwrap().1, small);
            }
            let small = small.into_rgba32f();
            assert_eq!(small.dimensions(), (11, 9));
            for (x, y, found) in small.enumerate_pixels() {
                let inside: Vec<[f32; 4]> = (y * 3..(y * 3 + 3).min(25))
                    .flat_map(|y| (x * 3..(x * 3 + 3).min(31)).map(move |x| (x, y)))
                    .map(|(x, y)| expected.get_pixel(x, y).0)
                    .collect();
                for channel in 0..4 {
                    let sum: f32 = inside.iter().map(|pixel| pixel[channel]).sum();
                    let apart = found.0[channel] - sum / inside.len() as f32;
                    assert!(apart.abs() < 1e-5, "{x}, {y}: {found:?}");
                }
            }
            assert!(exr(Cursor::new(&bytes), (25, 31), &wanted(2)).is_none(), "it says otherwise");
            assert!(exr(Cursor::new(&bytes[..bytes.len() / 2]), (31, 25), &wanted(2)).is_none());
        }
    }
}
