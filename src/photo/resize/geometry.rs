//! Which part of a picture ends up in the square, in whose pixels.

use std::ops::Range;

use image::metadata::Orientation;

use super::{Narrowing, Source};

/// The part of the source that ends up in the square, in source pixels; fractions are meant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::photo) struct CropBox {
    pub(in crate::photo) left: f64,
    pub(in crate::photo) top: f64,
    pub(in crate::photo) width: f64,
    pub(in crate::photo) height: f64,
}

impl CropBox {
    /// The same part, in pixels of what is stored of a picture.
    pub(super) fn within(self, source: &Source<'_>) -> Self {
        let Source { scale, corner, stored, .. } = *source;
        let columns =
            Span { start: self.left, length: self.width }.within(scale, corner.0, stored.0);
        let rows = Span { start: self.top, length: self.height }.within(scale, corner.1, stored.1);
        Self { left: columns.start, top: rows.start, width: columns.length, height: rows.length }
    }
}

/// A part of a row or column, in pixels; fractions are meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: f64,
    pub(super) length: f64,
}

impl Span {
    /// The same part of what is stored: `side` pixels from `corner` on, `scale` along one of the whole picture.
    fn within(self, scale: f64, corner: f64, side: u32) -> Self {
        let side = f64::from(side);
        let length = (self.length * scale).min(side);
        // Rounding may leave the far end a hair outside, and what is stored need not begin where the picture does.
        Self { start: (self.start * scale - corner).min(side - length).max(0.0), length }
    }
}

/// Resizes the rows of a picture while it is decoded, as [`super::to_square`] would: so they need not be written to memory
/// and read again.
pub(in crate::photo) struct Columns {
    /// In the whole picture.
    span: Span,
    size: u32,
}

impl Columns {
    /// For a square of `size` of a picture whose shorter side is resized to `resize`, and which `orientation` makes
    /// upright. `None` where columns are resized first.
    pub(in crate::photo) fn new(
        whole: (u32, u32),
        orientation: Orientation,
        (size, resize): (u32, u32),
    ) -> Option<Self> {
        if swaps_sides(orientation) {
            return None;
        }
        let crop = as_stored(central_crop(whole, size, resize), whole, orientation);
        Some(Self { span: Span { start: crop.left, length: crop.width }, size })
    }

    /// Of rows of `width` pixels from `left` on.
    pub(in crate::photo) fn narrowing(&self, left: u32, width: u32) -> Option<Narrowing> {
        Narrowing::new(width as usize, self.span.within(1.0, f64::from(left), width), self.size)
    }
}

/// A part of a picture, in its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::photo) struct Part {
    pub(in crate::photo) columns: Range<u32>,
    pub(in crate::photo) rows: Range<u32>,
}

/// The whole rows (or columns) that a resize of `start..start + length` to `size` looks at, within an
/// image of `side`: first and number. The widest filter reaches two output pixels far.
pub(super) fn reach(start: f64, length: f64, size: u32, side: u32) -> (u32, u32) {
    let margin = 2.0 * (length / f64::from(size)).max(1.0) + 1.0;
    let first = (start - margin).floor().max(0.0) as u32;
    let end = ((start + length + margin).ceil() as u32).min(side);
    (first, end - first)
}

/// Which columns and rows of a picture, as stored, a square of it may need, whichever way is up: the crop lies
/// in the middle, with a filter's reach and a rounded pixel around it.
pub(in crate::photo) fn part_needed((width, height): (u32, u32), size: u32, resize: u32) -> Part {
    let scale = f64::from(width.min(height)) / f64::from(resize);
    let axis = |side: u32| {
        let half = f64::from(side) / 2.0 + (f64::from(size) / 2.0 + 4.0) * scale;
        let end = (half.ceil() as u32 + 1).min(side);
        side - end..end
    };
    Part { columns: axis(width), rows: axis(height) }
}

/// The crop in the upright picture's own pixels.
///
/// torchvision: the longer side becomes `int(resize * long / short)`, the crop starts at
/// `round((side - size) / 2)` with ties to even; one pixel off costs 0.983 of cosine.
pub(super) fn central_crop((width, height): (u32, u32), size: u32, resize: u32) -> CropBox {
    let (resize, size) = (u64::from(resize), f64::from(size));
    let shorter = u64::from(width.min(height));
    let resized = |side: u32| (resize * u64::from(side) / shorter) as f64;
    let axis = |side: u32| {
        let scale = f64::from(side) / resized(side);
        let origin = ((resized(side) - size) / 2.0).round_ties_even();
        (origin * scale, size * scale)
    };
    let ((left, width), (top, height)) = (axis(width), axis(height));
    CropBox { left, top, width, height }
}

/// Where an upright crop lies in the picture as it is stored.
pub(in crate::photo) fn as_stored(
    crop: CropBox,
    (width, height): (u32, u32),
    orientation: Orientation,
) -> CropBox {
    let (width, height) = (f64::from(width), f64::from(height));
    // What the crop leaves on its right and below it, seen upright.
    let crop = if swaps_sides(orientation) {
        CropBox { left: crop.top, top: crop.left, width: crop.height, height: crop.width }
    } else {
        crop
    };
    let (mirror_x, mirror_y) = match orientation {
        Orientation::NoTransforms | Orientation::Rotate90FlipH => (false, false),
        Orientation::FlipHorizontal | Orientation::Rotate270 => (true, false),
        Orientation::FlipVertical | Orientation::Rotate90 => (false, true),
        Orientation::Rotate180 | Orientation::Rotate270FlipH => (true, true),
    };
    let mirrored = |start: f64, length: f64, side: f64, mirror: bool| {
        // Rounding may leave the far end a hair outside.
        let start = if mirror { side - start - length } else { start };
        start.clamp(0.0, (side - length).max(0.0))
    };
    CropBox {
        left: mirrored(crop.left, crop.width, width, mirror_x),
        top: mirrored(crop.top, crop.height, height, mirror_y),
        ..crop
    }
}

/// Width and height of a picture once it is upright, from those as it is stored.
pub(in crate::photo) fn upright(
    (width, height): (u32, u32),
    orientation: Orientation,
) -> (u32, u32) {
    if swaps_sides(orientation) { (height, width) } else { (width, height) }
}

pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_margin_starts_at_the_even_side() {
        // Sides of 64 and 67 leave (67 - 56) / 2 = 5.5, which rounds to 6; 65 leaves 4.5: 4.
        let crop = central_crop((67, 64), 56, 64);
        assert_eq!((crop.left, crop.top), (6.0, 4.0));
        let crop = central_crop((64, 65), 56, 64);
        assert_eq!((crop.left, crop.top), (4.0, 4.0));
    }
}
