//! What a feature network wants and gives: the plain values that travel between decoding, the model
//! folder, the runtime and the catalog.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::ModelFingerprint;

/// Upright 8-bit sRGB pixels, alpha laid over white, row by row from the top left, 3 bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Pixels {
    /// Takes `width * height * 3` bytes.
    ///
    /// # Panics
    /// When the number of bytes is another.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Self {
        assert_eq!(rgb.len(), width as usize * height as usize * 3, "3 bytes a pixel");
        Self { width, height, rgb }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes, `[height, width, 3]`.
    pub fn as_rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// How an image is made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle filter whose support grows with the reduction (antialiased), as Pillow's `BILINEAR`
    /// and torchvision's `antialias=True`.
    Bilinear,
    /// Keys' cubic filter (a = -0.5), antialiased likewise, as Pillow's `BICUBIC`.
    Bicubic,
}

/// The order of the colour channels the network was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red (Caffe).
    Bgr,
}

/// The order of the axes of the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Batch, channel, row, column (PyTorch, MXNet, Caffe).
    Nchw,
    /// Batch, row, column, channel (TensorFlow).
    Nhwc,
}

/// What happens to pixels before the network sees them: shorter side to `resize`, central square of
/// `size`, then `(value * scale - mean) / std` a channel. `mean` and `std` follow `channels`' order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Side of the square the network takes, in pixels.
    pub size: u32,
    /// Length of the shorter side before the crop, in pixels; at least `size`.
    pub resize: u32,
    /// How the image is made smaller.
    pub filter: Filter,
    /// The order of the channels.
    pub channels: Channels,
    /// The order of the axes.
    pub layout: Layout,
    /// What an 8-bit value is multiplied by first.
    pub scale: f32,
    /// Subtracted, a channel.
    pub mean: [f32; 3],
    /// Divided by, a channel.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// The axes of one image as the network takes it, without the batch.
    pub fn image_shape(&self) -> [i64; 3] {
        let size = i64::from(self.size);
        match self.layout {
            Layout::Nchw => [3, size, size],
            Layout::Nhwc => [size, size, 3],
        }
    }

    /// How many values one image has.
    pub fn image_len(&self) -> usize {
        3 * self.size as usize * self.size as usize
    }

    /// Normalises the square crop of one photo: `(value * scale - mean) / std` a channel, in the channel order and
    /// layout the network was trained with. `pixels` is `[size, size]`, resized and cropped already; they become
    /// the [`image_len`](Self::image_len) `values`.
    ///
    /// # Panics
    /// When the picture is not `size` × `size` pixels, or there is not that much room.
    pub fn normalise(&self, pixels: &Pixels, values: &mut [f32]) {
        let size = self.size;
        assert_eq!(
            (pixels.width(), pixels.height()),
            (size, size),
            "cropped to the network's size"
        );
        assert_eq!(values.len(), self.image_len(), "room for one image");
        // Only 256 values a channel are possible: the formula is worked out for each of them once.
        let levels: [[f32; 256]; 3] = std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            std::array::from_fn(|level| (level as f32 * self.scale - mean) / std)
        });
        // The place of the network's first, second and third channel in an RGB pixel.
        let places = match self.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        let (rgb, _) = pixels.as_rgb().as_chunks::<3>();
        let value =
            |pixel: &[u8; 3], channel: usize| levels[channel][usize::from(pixel[places[channel]])];
        match self.layout {
            Layout::Nchw => {
                for (channel, plane) in values.chunks_exact_mut(rgb.len()).enumerate() {
                    plane.iter_mut().zip(rgb).for_each(|(v, pixel)| *v = value(pixel, channel));
                }
            }
            Layout::Nhwc => {
                let (values, _) = values.as_chunks_mut::<3>();
                let pixel = |pixel| [0, 1, 2].map(|channel| value(pixel, channel));
                values.iter_mut().zip(rgb).for_each(|(v, rgb)| *v = pixel(rgb));
            }
        }
    }
}

/// What the input tensor of a network holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// [Normalised](Preprocessing::normalise) images: 32-bit floats, in the layout of the [`Preprocessing`].
    Values,
    /// The squares' [`Pixels`]: 8-bit integers, `[batch, size, size, 3]`. The network begins with the rest of the
    /// [`Preprocessing`].
    Pixels,
}

/// A network without classifier, ready to run: what the model room makes and the runtime takes.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureNetwork {
    /// The model's name in the manifest.
    pub name: String,
    /// What decides whether vectors may be compared.
    pub fingerprint: ModelFingerprint,
    /// The ONNX file, classifier removed, verified.
    pub path: PathBuf,
    /// The name of the graph's input tensor.
    pub input: String,
    /// What that tensor holds.
    pub feed: Feed,
    /// The name of the graph's output tensor: `[batch, width]`, or `[batch, width, 1, 1]`.
    pub output: String,
    /// The number of features an image gets.
    pub width: usize,
    /// What happens to pixels first.
    pub preprocessing: Preprocessing,
}

#[cfg(test)]
mod tests {
    use super::*;
    fn preprocessing(channels: Channels, layout: Layout) -> Preprocessing {
        Preprocessing {
            size: 2,
            resize: 2,
            filter: Filter::Bilinear,
            channels,
            layout,
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// Pixels 0 1 2 | 3 4 5 | 6 7 8 | 9 10 11.
    fn pixels() -> Pixels {
        Pixels::new(2, 2, (0..12).collect())
    }

    #[test]
    fn planes_follow_the_layout_and_the_channel_order() {
        type ChannelOf = fn(usize) -> usize;
        let (plane, interleaved): (ChannelOf, ChannelOf) = (|i| i / 4, |i| i % 3);
        let cases = [
            (Channels::Rgb, Layout::Nchw, plane, [0u8, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]),
            (Channels::Bgr, Layout::Nchw, plane, [2, 5, 8, 11, 1, 4, 7, 10, 0, 3, 6, 9]),
            (Channels::Rgb, Layout::Nhwc, interleaved, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
            (Channels::Bgr, Layout::Nhwc, interleaved, [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9]),
        ];
        for (channels, layout, channel_of, levels) in cases {
            let p = preprocessing(channels, layout);
            let expected: Vec<f32> = (0..12)
                .map(|i| {
                    let channel = channel_of(i);
                    (f32::from(levels[i]) * p.scale - p.mean[channel]) / p.std[channel]
                })
                .collect();
            let mut values = vec![f32::NAN; p.image_len()];
            p.normalise(&pixels(), &mut values);
            assert_eq!(values, expected, "{channels:?} {layout:?}");
        }
    }
}

/// What tests of all rooms begin with.
#[cfg(test)]
pub(crate) mod sample {
    use super::*;

    /// Values as they are, in planes of red, green and blue.
    pub(crate) const fn preprocessing(size: u32, resize: u32) -> Preprocessing {
        Preprocessing {
            size,
            resize,
            filter: Filter::Bilinear,
            channels: Channels::Rgb,
            layout: Layout::Nchw,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    /// A network of so many features, which lies nowhere.
    pub(crate) fn network(width: usize) -> FeatureNetwork {
        FeatureNetwork {
            name: "test".into(),
            fingerprint: ModelFingerprint::from_bytes([7; 32]),
            path: "test.onnx".into(),
            input: "input".into(),
            feed: Feed::Values,
            output: "features".into(),
            width,
            preprocessing: preprocessing(224, 256),
        }
    }
}
