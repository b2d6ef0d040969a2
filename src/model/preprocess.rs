//! From pixels to the network's input.

use crate::network::{Channels, InputTensor, Layout, Pixels, Preprocessing};

/// Puts the square crop of one photo behind the images of `tensor`, normalised: `(value * scale - mean) / std` a
/// channel, in the channel order and layout the network was trained with. `pixels` is `[size, size]`,
/// resized and cropped already; they become `3 * size * size` values.
///
/// # Panics
/// When the picture is not `size` × `size` pixels.
pub fn normalise(pixels: &Pixels, preprocessing: &Preprocessing, tensor: &mut InputTensor) {
    let size = preprocessing.size;
    assert_eq!((pixels.width(), pixels.height()), (size, size), "cropped to the network's size");
    // Only 256 values a channel are possible: the formula is worked out for each of them once.
    let levels: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        let (mean, std) = (preprocessing.mean[channel], preprocessing.std[channel]);
        std::array::from_fn(|level| (level as f32 * preprocessing.scale - mean) / std)
    });
    // The place of the network's first, second and third channel in an RGB pixel.
    let places = match preprocessing.channels {
        Channels::Rgb => [0, 1, 2],
        Channels::Bgr => [2, 1, 0],
    };
    let (rgb, _) = pixels.as_rgb().as_chunks::<3>();
    let value =
        |pixel: &[u8; 3], channel: usize| levels[channel][usize::from(pixel[places[channel]])];
    let values = &mut tensor.0;
    values.reserve(rgb.len() * 3);
    match preprocessing.layout {
        Layout::Nchw => {
            (0..3).for_each(|channel| values.extend(rgb.iter().map(|pixel| value(pixel, channel))));
        }
        Layout::Nhwc => {
            let pixel = |pixel| [0, 1, 2].map(|channel| value(pixel, channel));
            values.extend(rgb.iter().flat_map(pixel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Filter;

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
            let mut tensor = InputTensor::default();
            normalise(&pixels(), &p, &mut tensor);
            assert_eq!(tensor.0, expected, "{channels:?} {layout:?}");
            normalise(&Pixels::new(2, 2, vec![0; 12]), &p, &mut tensor);
            assert_eq!(
                (tensor.0.len(), &tensor.0[..12]),
                (24, &expected[..]),
                "one behind the other"
            );
        }
    }
}
