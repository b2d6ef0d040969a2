//! The first frame of a GIF, on the screen that the file states.

use std::io::Read;

use gif::{ColorOutput, DecodeOptions};

use super::{Blocks, Small};
use crate::photo::wanted::Wanted;

/// Decodes a GIF by rows, one that is interlaced from one byte a pixel; `None` where that does not work or saves
/// nothing. What the frame does not cover is transparent, and what lies outside of the screen is cut off.
pub(in crate::photo) fn gif<R: Read>(reader: R, wanted: &Wanted<'_>) -> Option<Small> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let mut decoder = options.read_info(reader).ok()?;
    let screen = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().ok()??;
    let covered = frame.top..frame.top.saturating_add(frame.height);
    let (left, across) = (usize::from(frame.left), usize::from(frame.width));
    let (interlaced, transparent) = (frame.interlaced, frame.transparent);
    let mut blocks = Blocks::new((screen.0.into(), screen.1.into()), 4, wanted)?;
    let colours = colours(decoder.palette().ok()?, transparent);

    let whole = if interlaced { decoder.buffer_size() } else { 0 };
    let _permit = wanted.room_for(whole as u64).ok()?;
    let mut whole = vec![0; whole];
    if interlaced {
        decoder.read_into_buffer(&mut whole).ok()?;
    }
    let mut rows = whole.chunks_exact(across.max(1));
    let mut next = vec![0; across];
    let mut row = vec![0; 4 * usize::from(screen.0)];
    for y in 0..screen.1 {
        row.fill(0);
        if covered.contains(&y) {
            let indices = if interlaced {
                rows.next()?
            } else {
                decoder.fill_buffer(&mut next).ok().filter(|is_full| *is_full)?;
                &next
            };
            let places = row.as_chunks_mut::<4>().0.iter_mut().skip(left);
            places.zip(indices).for_each(|(place, index)| *place = colours[usize::from(*index)]);
        }
        blocks.add(&row);
    }
    blocks.finish()
}

/// What each index shows; one without a colour shows nothing.
fn colours(palette: &[u8], transparent: Option<u8>) -> [[u8; 4]; 256] {
    let mut colours = [[0; 4]; 256];
    for (place, [r, g, b]) in colours.iter_mut().zip(palette.as_chunks::<3>().0) {
        *place = [*r, *g, *b, 255];
    }
    if let Some(index) = transparent {
        colours[usize::from(index)][3] = 0;
    }
    colours
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use gif::{Encoder, Frame};
    use image::{DynamicImage, ImageFormat};

    use super::*;
    use crate::photo::decode::tests::wanted;
    use crate::photo::stream::tests::in_blocks;

    const SCREEN: (u16, u16) = (31, 25);

    /// A frame at some place on the screen, with as many colours as there are, and one transparent.
    fn encoded(place: (u16, u16), size: (u16, u16), interlaced: bool) -> Vec<u8> {
        let palette: Vec<u8> = (0..=255u8).flat_map(|i| [i, 255 - i, i / 2]).collect();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, SCREEN.0, SCREEN.1, &palette).unwrap();
        let pixels: Vec<u8> =
            (0..usize::from(size.0) * usize::from(size.1)).map(|i| (i * 7 % 256) as u8).collect();
        let mut frame = Frame::from_indexed_pixels(size.0, size.1, pixels, Some(7));
        (frame.left, frame.top, frame.interlaced) = (place.0, place.1, interlaced);
        encoder.write_frame(&frame).unwrap();
        drop(encoder);
        bytes
    }

    #[test]
    fn rows_are_those_of_the_whole_wherever_the_frame_lies() {
        let frames = [((0, 0), SCREEN), ((4, 5), (20, 12)), ((16, 10), (31, 25))];
        for (place, size, interlaced) in
            frames.into_iter().flat_map(|(place, size)| [(place, size, false), (place, size, true)])
        {
            let bytes = encoded(place, size, interlaced);
            let (scale, small) = gif(Cursor::new(&bytes), &wanted(2)).unwrap();
            assert!((scale - 1.0 / 3.0).abs() < 1e-12);
            let whole = image::load_from_memory_with_format(&bytes, ImageFormat::Gif).unwrap();
            let expected = in_blocks(&whole, &wanted(2));
            assert_eq!(small, expected, "{size:?} at {place:?}, interlaced: {interlaced}");
            assert!(matches!(small, DynamicImage::ImageRgba8(_)));
        }
    }

    #[test]
    fn what_is_cut_off_is_left_to_the_others() {
        for whole in [false, true].map(|interlaced| encoded((0, 0), SCREEN, interlaced)) {
            for cut in [10, 20, whole.len() / 2, whole.len() - 60] {
                assert!(gif(Cursor::new(&whole[..cut]), &wanted(2)).is_none(), "{cut}");
            }
        }
        // A frame that lies beyond the screen leaves nothing to see.
        let beyond = gif(Cursor::new(encoded((40, 0), (5, 5), false)), &wanted(2)).unwrap().1;
        assert!(beyond.to_rgba8().pixels().all(|pixel| pixel.0[3] == 0));
    }
}
