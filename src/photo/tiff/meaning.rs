//! What the samples of a page mean, and the picture that they make.

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};

use super::Page;
use crate::photo::colour;
use crate::photo::decode::{Metadata, Raster};
use crate::photo::stream::Averages;

/// What the first samples of a pixel mean (TIFF 6.0, `PhotometricInterpretation`).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Grey,
    Rgb,
    Cmyk,
    YCbCr,
    /// L, then a and b: signed, or, in ICC's way, 128 more.
    Lab {
        is_icc: bool,
    },
    /// As many reds, then greens, then blues, of 16 bits each.
    Palette(Vec<u16>),
}

/// What the first of `ExtraSamples` is, where it is alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpha {
    /// Colours were multiplied by it.
    Associated,
    Straight,
}

impl Page {
    /// The same of the averages of its samples.
    pub(super) fn small(
        self,
        averages: Averages,
        mut metadata: Metadata,
        orientation: Option<Orientation>,
    ) -> Raster {
        let Averages { scale, size, channels, samples } = averages;
        let image = Page { size, ..self }.picture(&samples, channels, &mut metadata);
        Raster { scale, ..Raster::whole(image, self.size, metadata, orientation) }
    }

    /// The picture that interleaved samples of 8 bits make. What was stored as inks or Lab is in sRGB, and takes its
    /// profile away.
    pub(super) fn picture(
        &self,
        samples: &[u8],
        channels: usize,
        metadata: &mut Metadata,
    ) -> DynamicImage {
        let is_done = matches!(self.meaning, Meaning::Cmyk | Meaning::Lab { .. });
        let icc = metadata.icc.take_if(|_| is_done);
        let pixels = || samples.chunks_exact(channels);
        let colours: Vec<u8> = match &self.meaning {
            Meaning::Grey => pixels().map(|pixel| pixel[0]).collect(),
            Meaning::Rgb => pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
            Meaning::Cmyk => {
                let inks: Vec<u8> = pixels().flat_map(|pixel| &pixel[..4]).copied().collect();
                colour::cmyk_to_rgb(&inks, icc.as_deref())
            }
            Meaning::YCbCr => {
                pixels().flat_map(|pixel| ycbcr_to_rgb([pixel[0], pixel[1], pixel[2]])).collect()
            }
            Meaning::Lab { is_icc } => {
                let middle = |value: u8| if *is_icc { value } else { value ^ 0x80 };
                let rgb = |p: &[u8]| colour::lab_to_rgb([p[0], middle(p[1]), middle(p[2])]);
                pixels().flat_map(rgb).collect()
            }
            Meaning::Palette(map) => {
                let (count, narrow) = (map.len() / 3, map.iter().any(|value| *value > 255));
                let part =
                    |n: usize| map.get(n).map_or(0, |v| if narrow { v >> 8 } else { *v } as u8);
                let rgb = |n: usize| [part(n), part(count + n), part(2 * count + n)];
                // An index beyond the palette is black, and no colour of the next third.
                let rgb = |n: usize| if n < count { rgb(n) } else { [0; 3] };
                pixels().flat_map(|pixel| rgb(pixel[0].into())).collect()
            }
        };
        let count = if self.meaning == Meaning::Grey { 1 } else { 3 };
        let before = self.meaning.samples();
        let Some(alpha) = self.alpha.filter(|_| channels > before) else {
            return picture(self.size, colours, count);
        };
        let mut with_alpha = Vec::with_capacity(samples.len() / channels * (count + 1));
        for (colour, pixel) in colours.chunks_exact(count).zip(pixels()) {
            let opacity = pixel[before];
            let straight = |value: u8| match (alpha, opacity) {
                (Alpha::Straight, _) | (Alpha::Associated, 0) => value,
                _ => ((u32::from(value) * 255 + u32::from(opacity) / 2) / u32::from(opacity))
                    .min(255) as u8,
            };
            with_alpha.extend(colour.iter().map(|value| straight(*value)));
            with_alpha.push(opacity);
        }
        picture(self.size, with_alpha, count + 1)
    }
}

impl Meaning {
    pub(super) fn samples(&self) -> usize {
        match self {
            Meaning::Grey | Meaning::Palette(_) => 1,
            Meaning::Rgb | Meaning::YCbCr | Meaning::Lab { .. } => 3,
            Meaning::Cmyk => 4,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Meaning::Grey => "grey",
            Meaning::Rgb => "RGB",
            Meaning::Cmyk => "CMYK",
            Meaning::YCbCr => "YCbCr",
            Meaning::Lab { .. } => "Lab",
            Meaning::Palette(_) => "palette",
        }
    }
}

fn picture((width, height): (u32, u32), samples: Vec<u8>, channels: usize) -> DynamicImage {
    let picture = match channels {
        1 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageLuma8),
        2 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageLumaA8),
        3 => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgb8),
        _ => ImageBuffer::from_raw(width, height, samples).map(DynamicImage::ImageRgba8),
    };
    picture.expect("as many samples as pixels need")
}

/// As JFIF has it, all of 8 bits.
fn ycbcr_to_rgb([y, blue, red]: [u8; 3]) -> [u8; 3] {
    let [y, blue, red] = [f32::from(y), f32::from(blue) - 128.0, f32::from(red) - 128.0];
    let rgb = [1.402 * red, -0.344_136 * blue - 0.714_136 * red, 1.772 * blue];
    // Casting clamps.
    rgb.map(|apart| (y + apart).round() as u8)
}
