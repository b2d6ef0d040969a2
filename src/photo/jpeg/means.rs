//! A progressive JPEG at an eighth of its size, of the means of its blocks (ITU T.81, annex G).
//!
//! libjpeg keeps all coefficients of such a picture until its last pass, 3 bytes a pixel. At an eighth of the
//! size only the first of each 64 counts, which is coded in passes of its own: the others are passed over, and
//! a picture of 400 megapixels takes 40 MB instead of 1,200, and a fraction of the time. Where libjpeg would
//! take three more coefficients of chroma that is stored at half the size, chroma is interpolated.

use image::DynamicImage;

use super::bits::Bits;
use super::codes::Tables;
use super::frame::{Component, Frame};
use super::lookup::Differences;
use super::segments::{END, Segment, segments};
use super::{picture, rows};

/// The picture at an eighth of its width and height, rounded up; `None` for what is not progressive, not grey
/// or colour, cut off, or not understood: then libjpeg decides. `is_rgb` tells whether its components are
/// red, green and blue already.
pub(super) fn eighth(bytes: &[u8], is_rgb: bool) -> Option<DynamicImage> {
    let mut reader = Reader::default();
    for segment in segments(bytes) {
        if segment.kind == END {
            break;
        }
        reader.take(&segment)?;
    }
    reader.picture?.image(is_rgb)
}

/// Bytes that [`eighth`] takes at most: coefficients, planes and pixels.
pub(super) fn memory(width: u32, height: u32) -> u64 {
    let blocks = u64::from(width.div_ceil(8) + 4) * u64::from(height.div_ceil(8) + 4);
    3 * (2 + 1 + 1) * blocks
}

/// What the segments said so far.
#[derive(Default)]
struct Reader {
    tables: Tables,
    picture: Option<Picture>,
}

struct Picture {
    frame: Frame,
    /// Of each component.
    means: Vec<Means>,
}

struct Means {
    /// Latched at the first pass.
    divisor: Option<u16>,
    /// The first coefficients, `units * blocks`, row by row.
    values: Vec<i16>,
}

impl Reader {
    fn take(&mut self, segment: &Segment<'_>) -> Option<()> {
        self.tables.take(segment)?;
        match segment.kind {
            0xc2 => self.picture = Some(Picture::new(Frame::read(segment.content)?)),
            0xda => self.take_scan(segment.content, segment.rest)?,
            0xc0..=0xcf if !matches!(segment.kind, 0xc4 | 0xc8) => return None,
            _ => {}
        }
        Some(())
    }

    fn take_scan(&mut self, content: &[u8], coded: &[u8]) -> Option<()> {
        let (count, rest) = content.split_first()?;
        let (selectors, rest) = rest.split_at_checked(2 * usize::from(*count))?;
        let [first, _, bits, ..] = *rest else { return None };
        if first != 0 {
            return Some(());
        }
        let (high, low) = (bits >> 4, bits & 15);
        let Picture { frame, means } = self.picture.as_mut()?;
        let mut parts = Vec::new();
        for selector in selectors.chunks_exact(2) {
            let index = frame.components.iter().position(|part| part.id == selector[0])?;
            let divisors = &self.tables.divisors[frame.components[index].table];
            let divisor = divisors.as_ref().map(|divisors| divisors[0]);
            means[index].divisor = means[index].divisor.or(divisor);
            // Later passes hold single bits, and need no codes.
            let code = || self.tables.first.get(usize::from(selector[1] >> 4))?.as_ref();
            let differences = if high == 0 { Some(Differences::new(code()?)) } else { None };
            parts.push((index, differences));
        }
        self.picture.as_mut()?.decode(&parts, coded, self.tables.restarts, low)
    }
}

impl Picture {
    fn new(frame: Frame) -> Self {
        let blocks =
            |part: &Component| frame.units.0 * part.blocks.0 * frame.units.1 * part.blocks.1;
        let means = |part| Means { divisor: None, values: vec![0; blocks(part)] };
        Self { means: frame.components.iter().map(means).collect(), frame }
    }

    /// Takes in a pass over some components. `low` is the position of the last bit it gives.
    fn decode(
        &mut self,
        parts: &[(usize, Option<Differences<'_>>)],
        coded: &[u8],
        restarts: usize,
        low: u8,
    ) -> Option<()> {
        let frame = &self.frame;
        let mut bits = Bits::new(coded);
        let mut before = [0i32; 4];
        // A component alone comes by blocks of its own, without those that fill up a unit.
        let (across, down) = match parts {
            [(alone, _)] => frame.blocks_of(&frame.components[*alone]),
            _ => frame.units,
        };
        for unit in 0..across * down {
            if restarts > 0 && unit > 0 && unit % restarts == 0 {
                bits.restart()?;
                before = [0; 4];
            }
            let (x, y) = (unit % across, unit / across);
            for (index, differences) in parts {
                let component = &frame.components[*index];
                let row = frame.units.0 * component.blocks.0;
                let (h, v) = if parts.len() == 1 { (1, 1) } else { component.blocks };
                for block in 0..h * v {
                    let at = (y * v + block / h) * row + x * h + block % h;
                    let mean = &mut self.means[*index].values[at];
                    if let Some(differences) = differences {
                        before[*index] = before[*index].wrapping_add(differences.read(&mut bits)?);
                        *mean = (before[*index] << low) as i16;
                    } else {
                        bits.fill();
                        *mean |= (bits.take(1) << low) as i16;
                    }
                }
            }
        }
        (!bits.has_overrun()).then_some(())
    }

    fn image(&self, is_rgb: bool) -> Option<DynamicImage> {
        let frame = &self.frame;
        let (width, height) = (frame.width.div_ceil(8), frame.height.div_ceil(8));
        let parts = frame.components.iter().zip(&self.means);
        let planes: Vec<Vec<u8>> =
            parts.map(|(part, means)| self.plane(part, means)).collect::<Option<_>>()?;
        let pixels = match &planes[..] {
            [a, b, c] => {
                let mut rgb = vec![0; 3 * width * height];
                rows::to_pixels([a, b, c], is_rgb, &mut rgb);
                rgb
            }
            // A frame has three components or one.
            _ => planes.concat(),
        };
        picture((width as u32, height as u32), pixels).ok()
    }

    /// A component's values, one for each 8 x 8 pixels of the picture.
    fn plane(&self, component: &Component, means: &Means) -> Option<Vec<u8>> {
        let frame = &self.frame;
        let divisor = i32::from(means.divisor?);
        let row = frame.units.0 * component.blocks.0;
        let (across, down) = frame.blocks_of(component);
        // A block's mean is an eighth of its first coefficient, rounded as libjpeg does.
        let value = |x: usize, y: usize| {
            let mean = i32::from(means.values[y * row + x]) * divisor;
            (((mean + 4) >> 3) + 128).clamp(0, 255) as f32
        };
        let (width, height) = (frame.width.div_ceil(8), frame.height.div_ceil(8));
        let along =
            |length: usize, own: usize, most: usize, blocks: usize| -> Vec<(usize, usize, f32)> {
                let step = own as f32 / most as f32;
                let place =
                    |at: usize| ((at as f32 + 0.5) * step - 0.5).clamp(0.0, (blocks - 1) as f32);
                let split = |place: f32| {
                    (place as usize, (place as usize + 1).min(blocks - 1), place.fract())
                };
                (0..length).map(|at| split(place(at))).collect()
            };
        let columns = along(width, component.blocks.0, frame.most.0, across);
        let rows = along(height, component.blocks.1, frame.most.1, down);
        let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
        let mut plane = Vec::with_capacity(width * height);
        for (top, bottom, down) in rows {
            plane.extend(columns.iter().map(|&(left, right, across)| {
                let upper = mix(value(left, top), value(right, top), across);
                let lower = mix(value(left, bottom), value(right, bottom), across);
                mix(upper, lower, down).round() as u8
            }));
        }
        Some(plane)
    }
}

#[cfg(test)]
mod tests;
