//! A progressive JPEG at an eighth of its size, of the means of its blocks (ITU T.81, annex G).
//!
//! libjpeg keeps all coefficients of such a picture until its last pass, 3 bytes a pixel. At an eighth of the
//! size only the first of each 64 counts, which is coded in passes of its own: the others are passed over, and
//! a picture of 400 megapixels takes 40 MB instead of 1,200, and a fraction of the time. Where libjpeg would
//! take three more coefficients of chroma that is stored at half the size, chroma is interpolated.

use image::{DynamicImage, GrayImage, RgbImage};

use super::segments::{END, Segment, segments};

/// The picture at an eighth of its width and height, rounded up; `None` for what is not progressive, not grey
/// or colour, cut off, or not understood: then libjpeg decides.
pub(super) fn eighth(bytes: &[u8]) -> Option<DynamicImage> {
    let mut reader = Reader::default();
    for segment in segments(bytes) {
        if segment.kind == END {
            break;
        }
        reader.take(segment)?;
    }
    reader.picture()
}

/// Bytes that [`eighth`] takes at most: coefficients, planes and pixels.
pub(super) fn memory(width: u32, height: u32) -> u64 {
    let blocks = u64::from(width.div_ceil(8) + 4) * u64::from(height.div_ceil(8) + 4);
    3 * (2 + 1 + 1) * blocks
}

/// What the segments said so far.
#[derive(Default)]
struct Reader {
    /// The divisor of the first coefficient, a table.
    divisors: [Option<u16>; 4],
    /// Of the first coefficient.
    codes: [Option<Box<Codes>>; 4],
    /// Units between restarts; 0 for none.
    restarts: usize,
    frame: Option<Frame>,
    has_jfif: bool,
    /// What Adobe's marker says of the colours: 0 for none turned.
    adobe: Option<u8>,
}

struct Frame {
    width: usize,
    height: usize,
    /// The most samples of any component, across and down.
    most: (usize, usize),
    /// Units of the picture, across and down, when all components come side by side.
    units: (usize, usize),
    components: Vec<Component>,
}

struct Component {
    id: u8,
    /// Blocks of a unit, across and down.
    blocks: (usize, usize),
    table: usize,
    /// Latched at the first pass.
    divisor: Option<u16>,
    /// The first coefficients, `units * blocks`, row by row.
    means: Vec<i16>,
}

impl Reader {
    fn take(&mut self, Segment { kind, content, rest }: Segment<'_>) -> Option<()> {
        match kind {
            0xc2 => self.frame = Some(Frame::read(content)?),
            0xc4 => self.take_codes(content)?,
            0xda => self.take_scan(content, rest)?,
            0xdb => self.take_divisors(content)?,
            0xdd => self.restarts = u16::from_be_bytes(content.try_into().ok()?).into(),
            0xe0 => self.has_jfif |= content.starts_with(b"JFIF\0"),
            0xee if content.starts_with(b"Adobe") => self.adobe = content.get(11).copied(),
            0xc0..=0xcf if kind != 0xc8 => return None,
            _ => {}
        }
        Some(())
    }

    fn take_divisors(&mut self, mut content: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = content {
            let wide = kind >> 4 != 0;
            let (table, behind) = rest.split_at_checked(if wide { 128 } else { 64 })?;
            let first =
                if wide { u16::from_be_bytes([table[0], table[1]]) } else { table[0].into() };
            *self.divisors.get_mut(usize::from(kind & 15))? = Some(first);
            content = behind;
        }
        Some(())
    }

    fn take_codes(&mut self, mut content: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = content {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let symbols = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, behind) = rest.split_at_checked(symbols)?;
            // Class 1 is of the other coefficients.
            if kind >> 4 == 0 {
                let codes = Codes::new(counts, symbols)?;
                *self.codes.get_mut(usize::from(kind & 15))? = Some(Box::new(codes));
            }
            content = behind;
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
        let frame = self.frame.as_mut()?;
        let mut parts = Vec::new();
        for selector in selectors.chunks_exact(2) {
            let index = frame.components.iter().position(|part| part.id == selector[0])?;
            let divisor = self.divisors[frame.components[index].table];
            let component = &mut frame.components[index];
            component.divisor = component.divisor.or(divisor);
            // Later passes hold single bits, and need no codes.
            let codes = self.codes.get(usize::from(selector[1] >> 4))?.as_deref();
            parts.push((index, if high == 0 { Some(codes?) } else { None }));
        }
        frame.decode(&parts, coded, self.restarts, low)
    }

    fn picture(self) -> Option<DynamicImage> {
        let frame = self.frame?;
        let (width, height) = (frame.width.div_ceil(8), frame.height.div_ceil(8));
        let is_rgb = match (self.has_jfif, self.adobe) {
            (true, _) => false,
            (false, Some(transform)) => transform == 0,
            (false, None) => frame.components.iter().map(|part| part.id).eq(*b"RGB"),
        };
        let planes: Vec<Vec<u8>> =
            (frame.components.iter()).map(|part| frame.plane(part)).collect::<Option<_>>()?;
        let (w, h) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        match <[Vec<u8>; 3]>::try_from(planes) {
            Ok(planes) => {
                let mut rgb = Vec::with_capacity(3 * width * height);
                for ((a, b), c) in planes[0].iter().zip(&planes[1]).zip(&planes[2]) {
                    rgb.extend(if is_rgb { [*a, *b, *c] } else { jfif_to_rgb(*a, *b, *c) });
                }
                RgbImage::from_raw(w, h, rgb).map(DynamicImage::ImageRgb8)
            }
            Err(mut planes) if planes.len() == 1 => {
                GrayImage::from_raw(w, h, planes.remove(0)).map(DynamicImage::ImageLuma8)
            }
            Err(_) => None,
        }
    }
}

impl Frame {
    fn read(content: &[u8]) -> Option<Self> {
        let &[8, h1, h0, w1, w0, count, ref rest @ ..] = content else { return None };
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (width, height) = (size(w1, w0), size(h1, h0));
        let parts: Vec<_> = rest.chunks_exact(3).take(count.into()).collect();
        let blocks = |part: &[u8]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        let sound = parts
            .iter()
            .map(|part| blocks(part))
            .all(|(h, v)| (1..=4).contains(&h) && (1..=4).contains(&v));
        if !sound
            || !matches!(count, 1 | 3)
            || parts.len() != usize::from(count)
            || width * height == 0
        {
            return None;
        }
        let most = parts
            .iter()
            .map(|part| blocks(part))
            .fold((1, 1), |most, (h, v)| (most.0.max(h), most.1.max(v)));
        let units = (width.div_ceil(8 * most.0), height.div_ceil(8 * most.1));
        let components = parts.iter().map(|part| {
            let blocks = blocks(part);
            let means = vec![0; units.0 * blocks.0 * units.1 * blocks.1];
            Component { id: part[0], blocks, table: usize::from(part[2] & 3), divisor: None, means }
        });
        Some(Self { width, height, most, units, components: components.collect() })
    }

    /// Takes in a pass over some components. `low` is the position of the last bit it gives.
    fn decode(
        &mut self,
        parts: &[(usize, Option<&Codes>)],
        coded: &[u8],
        restarts: usize,
        low: u8,
    ) -> Option<()> {
        let mut bits = Bits::new(coded);
        let mut before = [0i32; 4];
        // A component alone comes by blocks of its own, without those that fill up a unit.
        let (across, down) = match parts {
            [(alone, _)] => self.blocks_of(&self.components[*alone]),
            _ => self.units,
        };
        for unit in 0..across * down {
            if restarts > 0 && unit > 0 && unit % restarts == 0 {
                bits.restart()?;
                before = [0; 4];
            }
            let (x, y) = (unit % across, unit / across);
            for (index, codes) in parts {
                let row = self.units.0 * self.components[*index].blocks.0;
                let component = &mut self.components[*index];
                let (h, v) = if parts.len() == 1 { (1, 1) } else { component.blocks };
                for block in 0..h * v {
                    let at = (y * v + block / h) * row + x * h + block % h;
                    let mean = component.means.get_mut(at)?;
                    match codes {
                        Some(codes) => {
                            let length = codes.read(&mut bits)?;
                            before[*index] += bits.signed(length)?;
                            *mean = (before[*index] << low) as i16;
                        }
                        None => *mean |= (bits.take(1)? as i16) << low,
                    }
                }
            }
        }
        Some(())
    }

    /// Blocks of a component, across and down, those that only fill up a unit left out.
    fn blocks_of(&self, component: &Component) -> (usize, usize) {
        let samples = |length: usize, own: usize, most: usize| (length * own).div_ceil(most);
        let (h, v) = component.blocks;
        let across = samples(self.width, h, self.most.0).div_ceil(8);
        (across, samples(self.height, v, self.most.1).div_ceil(8))
    }

    /// A component's values, one for each 8 x 8 pixels of the picture.
    fn plane(&self, component: &Component) -> Option<Vec<u8>> {
        let divisor = i32::from(component.divisor?);
        let row = self.units.0 * component.blocks.0;
        let (across, down) = self.blocks_of(component);
        // A block's mean is an eighth of its first coefficient, rounded as libjpeg does.
        let value = |x: usize, y: usize| {
            let mean = i32::from(component.means[y * row + x]) * divisor;
            (((mean + 4) >> 3) + 128).clamp(0, 255) as f32
        };
        let (width, height) = (self.width.div_ceil(8), self.height.div_ceil(8));
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
        let columns = along(width, component.blocks.0, self.most.0, across);
        let rows = along(height, component.blocks.1, self.most.1, down);
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

/// JFIF's colours, ITU-R BT.601 over the full range.
fn jfif_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round() as u8)
}

/// Huffman codes: by the next 16 bits, symbol and length.
struct Codes(Vec<(u8, u8)>);

impl Codes {
    /// Of the number of codes of 1 to 16 bits, and their symbols in order.
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = vec![(0, 0); 1 << 16];
        let (mut next, mut symbols) = (0usize, symbols.iter());
        for (length, count) in (1u8..).zip(counts) {
            for _ in 0..*count {
                let span = 1 << (16 - length);
                table.get_mut(next..next + span)?.fill((*symbols.next()?, length));
                next += span;
            }
        }
        Some(Self(table))
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let (symbol, length) = self.0[bits.peek16() as usize];
        bits.take(length).filter(|_| length > 0).map(|_| symbol)
    }
}

/// Coded data, bit by bit.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, from the top.
    held: u64,
    count: u8,
}

impl<'a> Bits<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, held: 0, count: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let (byte, behind) = match self.rest {
                [0xff, 0, behind @ ..] => (0xff, behind),
                // A marker: no more bits.
                [0xff, ..] | [] => return,
                [byte, behind @ ..] => (*byte, behind),
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.rest = behind;
        }
    }

    /// The next 16 bits, zeros where there are no more.
    fn peek16(&mut self) -> u64 {
        self.fill();
        self.held >> 48
    }

    /// The next bits; `None` where there are not as many.
    fn take(&mut self, count: u8) -> Option<u64> {
        self.fill();
        if count > self.count {
            return None;
        }
        let taken = if count == 0 { 0 } else { self.held >> (64 - count) };
        self.held = self.held.checked_shl(count.into()).unwrap_or(0);
        self.count -= count;
        Some(taken)
    }

    /// A difference of so many bits (T.81, F.2.2.1).
    fn signed(&mut self, count: u8) -> Option<i32> {
        let value = (count <= 15).then(|| self.take(count)).flatten()? as i32;
        let is_negative = count > 0 && value >> (count - 1) == 0;
        Some(if is_negative { value + 1 - (1 << count) } else { value })
    }

    /// Goes on behind the next restart marker.
    fn restart(&mut self) -> Option<()> {
        (self.held, self.count) = (0, 0);
        let [0xff, 0xd0..=0xd7, behind @ ..] = self.rest else { return None };
        self.rest = behind;
        Some(())
    }
}

#[cfg(test)]
mod tests;
