//! A part of a picture, cut out before anything is made smaller.

use std::str::FromStr;

use image::RgbImage;
use image::metadata::Orientation;

use super::Unreadable;
use super::resize::{self, CropBox};

/// A rectangle of the upright picture: all that is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// From the left edge.
    pub left: Length,
    /// From the upper edge.
    pub top: Length,
    /// Its width.
    pub width: Length,
    /// Its height.
    pub height: Length,
}

/// A length along one side of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// In pixels of the upright picture.
    Pixels(u32),
    /// In hundredths of the side, from 0 to 100; rounded to pixels.
    Percent(f64),
}

impl Length {
    fn pixels(self, side: u32) -> u32 {
        match self {
            Length::Pixels(pixels) => pixels,
            Length::Percent(percent) => (f64::from(side) * percent / 100.0).round() as u32,
        }
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let length = match text.strip_suffix('%') {
            Some(percent) => {
                let inside = |percent: &f64| (0.0..=100.0).contains(percent);
                percent.trim().parse().ok().filter(inside).map(Length::Percent)
            }
            None => text.parse().ok().map(Length::Pixels),
        };
        length.ok_or_else(|| format!("`{text}` is neither pixels, as 200, nor a share, as 25%"))
    }
}

impl FromStr for Region {
    type Err = String;

    /// Reads `x,y,width,height`, each in pixels or with a `%`: `25%,0,50%,300`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').collect();
        let [left, top, width, height] = parts[..] else {
            return Err(
                "expected x,y,width,height, as 100,50,400,300 or 25%,25%,50%,50%".to_owned()
            );
        };
        let [left, top] = [left.parse()?, top.parse()?];
        Ok(Self { left, top, width: width.parse()?, height: height.parse()? })
    }
}

/// Cuts the region out of a picture as it is stored, whose upright form `orientation` makes.
///
/// # Errors
/// [`Unreadable::Region`] when the region is empty or reaches over the picture's edge.
pub(super) fn cut(
    picture: &RgbImage,
    orientation: Orientation,
    region: &Region,
) -> Result<RgbImage, Unreadable> {
    let (width, height) = resize::upright(picture.dimensions(), orientation);
    let (left, top) = (region.left.pixels(width), region.top.pixels(height));
    let right = u64::from(left) + u64::from(region.width.pixels(width));
    let bottom = u64::from(top) + u64::from(region.height.pixels(height));
    // Two shares that were both rounded up may be one pixel over.
    let by_shares = |a, b| matches!((a, b), (Length::Percent(_), Length::Percent(_)));
    let end = |end: u64, side: u32, shares: bool| match u64::from(side) {
        side if end == side + 1 && shares => side,
        _ => end,
    };
    let right = end(right, width, by_shares(region.left, region.width));
    let bottom = end(bottom, height, by_shares(region.top, region.height));
    let empty = right <= u64::from(left) || bottom <= u64::from(top);
    if empty || right > u64::from(width) || bottom > u64::from(height) {
        return Err(Unreadable::Region { width, height });
    }
    let upright = CropBox {
        left: f64::from(left),
        top: f64::from(top),
        width: (right - u64::from(left)) as f64,
        height: (bottom - u64::from(top)) as f64,
    };
    // Whole pixels stay whole.
    let CropBox { left, top, width, height } =
        resize::as_stored(upright, picture.dimensions(), orientation);
    let part =
        image::imageops::crop_imm(picture, left as u32, top as u32, width as u32, height as u32);
    Ok(part.to_image())
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb};

    use super::*;

    fn region(text: &str) -> Region {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_same_part_is_cut_whichever_way_the_picture_is_stored() {
        let upright = RgbImage::from_fn(40, 30, |x, y| Rgb([x as u8, y as u8, 7]));
        let expected = image::imageops::crop_imm(&upright, 10, 6, 20, 9).to_image();
        for text in ["10,6,20,9", "25%,20%,50%,30%", "25%, 6, 50%, 30%"] {
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif).unwrap();
                let inverse = match orientation {
                    Orientation::Rotate90 => Orientation::Rotate270,
                    Orientation::Rotate270 => Orientation::Rotate90,
                    other => other,
                };
                let mut stored = DynamicImage::ImageRgb8(upright.clone());
                stored.apply_orientation(inverse);
                let part = cut(&stored.into_rgb8(), orientation, &region(text)).unwrap();
                let mut part = DynamicImage::ImageRgb8(part);
                part.apply_orientation(orientation);
                assert_eq!(part.into_rgb8(), expected, "{text} {orientation:?}");
            }
        }
    }

    #[test]
    fn what_lies_outside_is_refused_with_the_pictures_size() {
        let picture = RgbImage::new(41, 30);
        let cut = |text: &str| cut(&picture, Orientation::Rotate90, &region(text));
        assert_eq!(cut("0,0,30,41").unwrap().dimensions(), (41, 30));
        assert!(cut("0,50%,100%,50%").is_ok(), "20.5 is rounded up twice");
        for text in ["0,0,31,41", "30,0,1,1", "0,0,0,5", "4294967295,0,4294967295,1", "0,0,1%,1%"] {
            let reason = cut(text).unwrap_err().to_string();
            assert!(reason.contains("30 x 41 pixels"), "{text}: {reason}");
        }
        for text in ["1,2,3", "1,2,3,x", "101%,0,1,1", "-1,0,1,1", "nan%,0,1,1"] {
            assert!(text.parse::<Region>().is_err(), "{text}");
        }
    }
}
