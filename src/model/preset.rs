//! What happens to pixels, by the names of those who train networks so.

use serde::Deserialize;

use super::import::IMAGENET;
use crate::network::{Channels, Preprocessing};

/// A usual order of channels and range of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// RGB in [0, 1], less ImageNet's mean, by its deviation: torchvision, timm, MXNet.
    Imagenet,
    /// BGR in [0, 255], less ImageNet's mean: Caffe, Caffe2, and Keras's ResNets of the first version.
    CaffeBgr,
    /// RGB in [-1, 1]: TensorFlow's and Keras's Inception, MobileNet, ResNet v2.
    TfMinusOneToOne,
    /// What the ONNX Model Zoo's ResNets v2 take: as [`Preset::Imagenet`].
    ZooV2,
    /// RGB in [0, 1].
    #[serde(rename = "raw-0-1")]
    Raw01,
    /// RGB in [0, 255], for networks that normalise by themselves.
    #[serde(rename = "raw-0-255")]
    Raw0255,
}

impl Preset {
    /// All, as they are written.
    pub const NAMES: [&str; 6] =
        ["imagenet", "caffe-bgr", "tf-minus-one-to-one", "zoo-v2", "raw-0-1", "raw-0-255"];

    /// Sets channels, scale, mean and deviation; sizes, filter and layout stay.
    pub(super) fn apply(self, to: &mut Preprocessing) {
        let plain = ([0.0; 3], [1.0; 3]);
        let (channels, scale, (mean, std)) = match self {
            Preset::Imagenet | Preset::ZooV2 => {
                (IMAGENET.channels, IMAGENET.scale, (IMAGENET.mean, IMAGENET.std))
            }
            Preset::CaffeBgr => (Channels::Bgr, 1.0, ([103.939, 116.779, 123.68], [1.0; 3])),
            Preset::TfMinusOneToOne => (Channels::Rgb, 1.0 / 127.5, ([1.0; 3], [1.0; 3])),
            Preset::Raw01 => (Channels::Rgb, 1.0 / 255.0, plain),
            Preset::Raw0255 => (Channels::Rgb, 1.0, plain),
        };
        *to = Preprocessing { channels, scale, mean, std, ..to.clone() };
    }
}

/// What a file says of the pixels it takes (the image category of ONNX's metadata).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) channels: Option<Channels>,
    pub(super) range: Option<Preset>,
}

impl Stated {
    /// Of the file's metadata, keys and values.
    pub(super) fn of<'a>(metadata: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut stated = Self::default();
        for (key, value) in metadata {
            match (key, value) {
                ("Image.BitmapPixelFormat", "Rgb8") => stated.channels = Some(Channels::Rgb),
                ("Image.BitmapPixelFormat", "Bgr8") => stated.channels = Some(Channels::Bgr),
                ("Image.NominalPixelRange", "NominalRange_0_255") => {
                    stated.range = Some(Preset::Raw0255);
                }
                ("Image.NominalPixelRange", "Normalized_0_1") => stated.range = Some(Preset::Raw01),
                ("Image.NominalPixelRange", "Normalized_1_1") => {
                    stated.range = Some(Preset::TfMinusOneToOne);
                }
                _ => {}
            }
        }
        stated
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;
    use crate::network::sample;

    #[test]
    fn every_name_is_a_preset() {
        for name in Preset::NAMES {
            let name: StrDeserializer<'_, Error> = name.into_deserializer();
            Preset::deserialize(name).unwrap();
        }
    }

    #[test]
    fn a_preset_says_what_becomes_of_black_and_white() {
        for (preset, black, white) in [
            (Preset::Imagenet, -2.1179, 2.2489),
            (Preset::CaffeBgr, -103.939, 151.061),
            (Preset::TfMinusOneToOne, -1.0, 1.0),
            (Preset::Raw01, 0.0, 1.0),
            (Preset::Raw0255, 0.0, 255.0),
        ] {
            let mut to = sample::preprocessing(224, 256);
            preset.apply(&mut to);
            let first = |value: f32| (value * to.scale - to.mean[0]) / to.std[0];
            assert!((first(0.0) - black).abs() < 1e-3, "{preset:?}: {}", first(0.0));
            assert!((first(255.0) - white).abs() < 1e-3, "{preset:?}: {}", first(255.0));
            assert_eq!((to.size, to.resize), (224, 256));
        }
    }

    #[test]
    fn metadata_of_the_image_category_is_understood() {
        let said = [
            ("author", "somebody"),
            ("Image.BitmapPixelFormat", "Bgr8"),
            ("Image.NominalPixelRange", "Normalized_1_1"),
        ];
        let stated = Stated::of(said.into_iter());
        let (channels, range) = (Some(Channels::Bgr), Some(Preset::TfMinusOneToOne));
        assert_eq!(stated, Stated { channels, range });
    }
}
