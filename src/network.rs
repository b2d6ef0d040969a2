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
}

/// Images as the network takes them, one behind the other: `3 * size * size` values each, in the layout of its
/// [`Preprocessing`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InputTensor(pub Vec<f32>);

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
    /// The name of the graph's output tensor: `[batch, width]`, or `[batch, width, 1, 1]`.
    pub output: String,
    /// The number of features an image gets.
    pub width: usize,
    /// What happens to pixels first.
    pub preprocessing: Preprocessing,
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
            output: "features".into(),
            width,
            preprocessing: preprocessing(224, 256),
        }
    }
}
