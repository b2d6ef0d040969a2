//! JPEG XL, by the JPEG XL project's own decoder in Rust.
//!
//! jxl-oxide is as good a decoder, builds in three quarters of the time and goes without unsafe code;
//! this one is what browsers ship, so it is fuzzed and kept up as they are.

use image::DynamicImage;
use jxl::api::{
    AlphaMode, Event, ExtraChannel, JxlAuxBoxType, JxlColorEncoding, JxlColorProfile, JxlColorType,
    JxlDataFormat, JxlDecoder, JxlDecoderOptions, JxlOutputBuffer, JxlPixelFormat, ProfileLevel,
};

use super::Unreadable;
use super::decode::{Metadata, Raster};
use super::wanted::Wanted;

const FORMAT: &str = "JPEG XL";

/// Decodes the first frame, upright. What is stored in XYB comes out in sRGB or the profile that the
/// file names, the rest in its own.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or CMYK.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let mut options = JxlDecoderOptions::default();
    options.alpha_mode = AlphaMode::Unpremultiplied;
    options.max_profile_level = ProfileLevel::Main10;
    // Brotli-compressed metadata stays where it is: nothing would limit what it grows to.
    options.request_aux_boxes = vec![JxlAuxBoxType::EXIF, JxlAuxBoxType::XMP];
    let mut decoder = JxlDecoder::new(options);
    let mut input = bytes;

    until(&mut decoder, &mut input, None, |event| event == Event::BasicInfo)?;
    let info = decoder.basic_info().expect("it was announced");
    let extra_channels = info.extra_channels.len();
    let has_alpha =
        info.extra_channels.iter().any(|channel| channel.ec_type == ExtraChannel::Alpha);
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let size = (side(info.size.0), side(info.size.1));
    wanted.check_size(size)?;
    let profile = decoder.embedded_color_profile().expect("it is part of the basic information");
    if profile.is_cmyk() {
        return Err(Unreadable::Variant { format: FORMAT, reason: "CMYK".to_owned() });
    }
    let color_type = match (profile.channels(), has_alpha) {
        (1, false) => JxlColorType::Grayscale,
        (1, true) => JxlColorType::GrayscaleAlpha,
        (_, false) => JxlColorType::Rgb,
        (_, true) => JxlColorType::Rgba,
    };
    let format = JxlPixelFormat {
        color_type,
        color_data_format: Some(JxlDataFormat::U8 { bit_depth: 8 }),
        extra_channel_format: vec![None; extra_channels],
    };
    decoder.set_pixel_format(format).map_err(Unreadable::damaged)?;

    let pixels = u64::from(size.0) * u64::from(size.1);
    let channels = color_type.samples_per_pixel();
    // What comes out, and what the decoder holds besides: of 100 megapixels it was seen to take 2.3 bytes a pixel at most,
    // in four ways to code them.
    let _permit = wanted.room_for(pixels * (4 + channels as u64))?;
    let row = size.0 as usize * channels;
    let mut out = vec![0; row * size.1 as usize];
    let mut buffers = [JxlOutputBuffer::new(&mut out, size.1 as usize, row)];
    let is_frame = |event| matches!(event, Event::FrameComplete { .. });
    until(&mut decoder, &mut input, Some(&mut buffers), is_frame)?;

    let metadata = Metadata {
        exif: first_box(&decoder, JxlAuxBoxType::EXIF).and_then(super::exif_of_item),
        xmp: first_box(&decoder, JxlAuxBoxType::XMP).map(<[u8]>::to_vec),
        icc: decoder.output_color_profile().and_then(icc),
    };
    let image = match color_type {
        JxlColorType::Grayscale => raw(size, out, DynamicImage::ImageLuma8),
        JxlColorType::GrayscaleAlpha => raw(size, out, DynamicImage::ImageLumaA8),
        JxlColorType::Rgb => raw(size, out, DynamicImage::ImageRgb8),
        _ => raw(size, out, DynamicImage::ImageRgba8),
    };
    let upright = Some(image::metadata::Orientation::NoTransforms);
    Ok(Raster::whole(image, size, metadata, upright))
}

/// Goes on until the event that is waited for.
fn until(
    decoder: &mut JxlDecoder,
    input: &mut &[u8],
    mut buffers: Option<&mut [JxlOutputBuffer<'_>]>,
    awaited: impl Fn(Event) -> bool,
) -> Result<(), Unreadable> {
    loop {
        match decoder.process(input, buffers.as_deref_mut(), None).map_err(Unreadable::damaged)? {
            event if awaited(event) => return Ok(()),
            Event::NeedMoreInput { .. } => return Err(Unreadable::Truncated { format: FORMAT }),
            Event::Complete => return Err(Unreadable::damaged("it has no frame")),
            _ => {}
        }
    }
}

fn first_box(decoder: &JxlDecoder, kind: JxlAuxBoxType) -> Option<&[u8]> {
    let mut plain = decoder.aux_boxes(kind).iter().filter(|found| !found.is_compressed());
    plain.next().map(|found| found.raw_data())
}

/// The profile of what comes out, if it is not sRGB.
fn icc(profile: &JxlColorProfile) -> Option<Vec<u8>> {
    let grey = profile.channels() == 1;
    let srgb = JxlColorProfile::Simple(JxlColorEncoding::srgb(grey));
    if profile.same_color_encoding(&srgb) {
        return None;
    }
    profile.try_as_icc().map(|icc| icc.into_owned())
}

fn raw<P: image::Pixel<Subpixel = u8>>(
    (width, height): (u32, u32),
    pixels: Vec<u8>,
    wrap: impl Fn(image::ImageBuffer<P, Vec<u8>>) -> DynamicImage,
) -> DynamicImage {
    wrap(image::ImageBuffer::from_raw(width, height, pixels).expect("as many as were made"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::photo::decode::tests::{golden, wanted};

    #[test]
    fn every_cut_is_refused() {
        for name in ["colour.jxl", "alpha.jxl"] {
            let whole = golden(name);
            assert!(decode(&whole, &wanted(224)).is_ok());
            for end in (0..whole.len() * 98 / 100).step_by(97) {
                let error = decode(&whole[..end], &wanted(224)).err();
                assert!(matches!(error, Some(Unreadable::Truncated { .. })), "{end}: {error:?}");
            }
        }
    }

    #[test]
    fn grey_and_alpha_stay_what_they_are() {
        let kind = |name| decode(&golden(name), &wanted(224)).unwrap().image.color();
        assert_eq!(kind("grey.jxl"), image::ColorType::L8);
        assert_eq!(kind("alpha.jxl"), image::ColorType::Rgba8);
        assert_eq!(kind("colour.jxl"), image::ColorType::Rgb8);
    }
}
