//! The most common kind of JPEG: Huffman codes in one pass from top to bottom (ITU T.81, annex F).
//!
//! Most photos are, and decoding them is what indexing costs beside the network. libjpeg and zune-jpeg decode
//! every pixel of a picture; here only what the network will see is transformed and coloured. The codes are
//! looked up two at a time, and passed over faster where nothing is seen; eight blocks are transformed at once.
//! At full size the pixels are libjpeg's, bit by bit.

mod block;
mod inverse;
mod lanes;
mod plane;

use std::ops::Range;

use self::block::{Decoder, LANES};
use self::lanes::{Lanes, Portable};
use self::plane::Plane;
use super::bits::Bits;
use super::codes::Tables;
use super::frame::{Component, Frame};
use super::lookup::{Coefficients, Differences};
use super::segments::segments;
use super::{Decoded, picture, rows};
use crate::photo::resize::{Columns, Narrowing, Part};

/// Pictures of fewer pixels a side are left to libjpeg, which takes chroma of a few samples as it is.
const SMALL: usize = 16;

/// The picture at `eighths` / 8 of its size, 1 to 4 or 8, or a part of it that holds `part`. Its rows are resized by
/// `columns`, if it has three components and the processor can. `None` for what is not sequential, not grey or
/// colour, damaged, or rare: then libjpeg decides.
pub(super) fn decode(
    bytes: &[u8],
    is_rgb: bool,
    part: &Part,
    eighths: u8,
    columns: Option<&Columns>,
) -> Option<Decoded> {
    scan(bytes, part, eighths, |scan, coded| scan.decode(coded, is_rgb, columns))
}

/// Hands the only scan, with its coded data, on.
fn scan<T>(
    bytes: &[u8],
    part: &Part,
    eighths: u8,
    then: impl FnOnce(Scan<'_>, &[u8]) -> Option<T>,
) -> Option<T> {
    let mut tables = Tables::default();
    let mut frame = None;
    for segment in segments(bytes) {
        tables.take(&segment)?;
        match segment.kind {
            0xc0 | 0xc1 => frame = Some(Frame::read(segment.content)?),
            0xc2..=0xcf if !matches!(segment.kind, 0xc4 | 0xc8) => return None,
            0xda => {
                let frame = frame?;
                let scan = Scan::new(&frame, &tables, segment.content, part, eighths.into())?;
                return then(scan, segment.rest);
            }
            _ => {}
        }
    }
    None
}

/// A scan that holds all components of a picture.
struct Scan<'a> {
    planes: Vec<Plane<'a>>,
    /// Units of the picture, across.
    across: usize,
    restarts: usize,
    /// The units that are transformed.
    columns: Range<usize>,
    rows: Range<usize>,
    /// Pixels of a unit, across and down.
    unit: (usize, usize),
    /// Width and height of the whole picture, at the size that it is decoded to.
    size: (usize, usize),
}

impl<'a> Scan<'a> {
    fn new(
        frame: &Frame,
        tables: &'a Tables,
        header: &[u8],
        part: &Part,
        eighths: usize,
    ) -> Option<Self> {
        let count = frame.components.len();
        let selectors = header.strip_prefix(&[count as u8])?.strip_suffix(&[0, 63, 0])?;
        if selectors.len() != 2 * count || frame.width.min(frame.height) < SMALL {
            return None;
        }
        // A component alone comes block by block, whatever it states.
        let alone = [Component { blocks: (1, 1), ..frame.components[0] }];
        let (components, most, units) = match count {
            1 => (&alone[..], (1, 1), (frame.width.div_ceil(8), frame.height.div_ceil(8))),
            _ => (&frame.components[..], frame.most, frame.units),
        };
        let columns = around(&part.columns, 8 * most.0, units.0);
        let rows = around(&part.rows, 8 * most.1, units.1);
        // Both kinds of chroma have the same tables, as a rule.
        let mut made: Vec<(u8, Decoder<'a>)> = Vec::new();
        let planes =
            components.iter().zip(selectors.chunks_exact(2)).map(|(component, selector)| {
                let table = |place: u8| usize::from(place & 15);
                let first = tables.first.get(table(selector[1] >> 4))?.as_ref()?;
                let others = tables.others.get(table(selector[1]))?.as_ref()?;
                let divisors = tables.divisors[component.table].as_ref()?;
                let is_meant = component.id == selector[0];
                let sampling = Sampling::new(component.blocks, most, eighths)?;
                let decoder = match made.iter().find(|(tables, _)| *tables == selector[1]) {
                    Some((_, decoder)) => decoder.clone(),
                    None => Decoder::new(Differences::new(first), Coefficients::new(others)),
                };
                made.push((selector[1], decoder.clone()));
                let whole = (
                    (frame.width * component.blocks.0 * sampling.side).div_ceil(8 * most.0),
                    (frame.height * component.blocks.1 * sampling.side).div_ceil(8 * most.1),
                );
                is_meant.then(|| Plane::new(decoder, divisors, sampling, whole, &columns))
            });
        Some(Self {
            planes: planes.collect::<Option<_>>()?,
            across: units.0,
            restarts: tables.restarts,
            columns,
            rows,
            unit: (most.0 * eighths, most.1 * eighths),
            size: ((frame.width * eighths).div_ceil(8), (frame.height * eighths).div_ceil(8)),
        })
    }

    fn decode(mut self, coded: &[u8], is_rgb: bool, columns: Option<&Columns>) -> Option<Decoded> {
        let corner = (self.columns.start * self.unit.0, self.rows.start * self.unit.1);
        let far = (self.columns.end * self.unit.0, self.rows.end * self.unit.1);
        let width = far.0.min(self.size.0) - corner.0;
        let height = far.1.min(self.size.1) - corner.1;
        let corner = (corner.0 as u32, corner.1 as u32);
        let narrowing = columns
            .filter(|_| self.planes.len() == 3)
            .and_then(|columns| columns.narrowing(corner.0, width as u32));
        let row = vec![0; width * self.planes.len()];
        let row_bytes = narrowing.as_ref().map_or(row.len(), Narrowing::row_bytes);
        let is_narrow = narrowing.is_some();
        let mut to = Rows { row, narrowing, pixels: Vec::with_capacity(row_bytes * height) };
        self.run(coded, is_rgb, &mut to)?;
        let width = row_bytes / self.planes.len();
        let image = picture((width as u32, height as u32), to.pixels).ok()?;
        Some(Decoded { image, corner, is_narrow })
    }

    /// Makes the pixels, with the instructions that the processor has.
    fn run(&mut self, coded: &[u8], is_rgb: bool, to: &mut Rows) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2,avx512f,avx512bw")]
            fn run(scan: &mut Scan<'_>, coded: &[u8], is_rgb: bool, to: &mut Rows) -> Option<()> {
                scan.run_by::<lanes::Avx512>(coded, is_rgb, to)
            }
            // SAFETY: the processor has them.
            return unsafe { run(self, coded, is_rgb, to) };
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2")]
            fn run(scan: &mut Scan<'_>, coded: &[u8], is_rgb: bool, to: &mut Rows) -> Option<()> {
                scan.run_by::<lanes::Avx2>(coded, is_rgb, to)
            }
            // SAFETY: the processor has them.
            return unsafe { run(self, coded, is_rgb, to) };
        }
        self.run_by::<Portable>(coded, is_rgb, to)
    }

    #[inline(always)]
    fn run_by<L: Lanes>(&mut self, coded: &[u8], is_rgb: bool, to: &mut Rows) -> Option<()> {
        let mut bits = Bits::new(coded);
        let mut units = 0;
        let mut done = self.rows.start * self.unit.1;
        for row in 0..self.rows.end {
            for column in 0..self.across {
                if self.restarts > 0 && units > 0 && units % self.restarts == 0 {
                    bits.restart()?;
                    self.planes.iter_mut().for_each(|plane| plane.restart());
                }
                units += 1;
                let is_wanted = row >= self.rows.start && self.columns.contains(&column);
                for plane in &mut self.planes {
                    if is_wanted {
                        let at = column - self.columns.start;
                        plane.take::<L>(&mut bits, row, at, column + 1 == self.columns.end)?;
                    } else {
                        plane.pass_over(&mut bits)?;
                    }
                }
            }
            if bits.has_overrun() {
                return None;
            }
            if row >= self.rows.start {
                let is_last = row + 1 == self.rows.end;
                let ready = (row + 1) * self.unit.1;
                // The last row wants chroma from below it.
                let ready = if is_last { ready.min(self.size.1) } else { ready - 1 };
                for y in done..ready {
                    self.colour(y, is_rgb, to);
                }
                done = ready;
            }
        }
        Some(())
    }

    /// Makes the next row of pixels.
    #[inline(always)]
    fn colour(&mut self, y: usize, is_rgb: bool, to: &mut Rows) {
        let rows = self.rows.clone();
        let pixels = &mut to.row[..];
        match &mut self.planes[..] {
            [a, b, c] => {
                let parts = [a.row(y, &rows), b.row(y, &rows), c.row(y, &rows)];
                rows::to_pixels(parts, is_rgb, pixels);
            }
            planes => {
                for plane in planes {
                    let row = plane.row(y, &rows);
                    let length = pixels.len().min(row.len());
                    pixels[..length].copy_from_slice(&row[..length]);
                }
            }
        }
        to.push();
    }
}

/// How the samples of a component lie among the pixels.
#[derive(Clone, Copy)]
struct Sampling {
    /// Blocks of a unit, across and down.
    blocks: (usize, usize),
    /// Samples of a block, a side.
    side: usize,
    /// Pixels of a sample, across and down: 1 or 2.
    pixels: (usize, usize),
}

impl Sampling {
    fn new(blocks: (usize, usize), most: (usize, usize), eighths: usize) -> Option<Self> {
        let ratio = |own: usize, most: usize| most.is_multiple_of(own).then_some(most / own);
        let pixels = (ratio(blocks.0, most.0)?, ratio(blocks.1, most.1)?);
        if pixels.0 > 2 || pixels.1 > 2 || !LANES.is_multiple_of(blocks.0) {
            return None;
        }
        // What lies at half the size is transformed to twice as many samples, as libjpeg does.
        Some(match pixels {
            (2, 2) if eighths < 8 => Self { blocks, side: 2 * eighths, pixels: (1, 1) },
            _ => Self { blocks, side: eighths, pixels },
        })
    }
}

/// The units that a part lies in, and one more on either side, as chroma is taken from there.
fn around(part: &Range<u32>, unit: usize, units: usize) -> Range<usize> {
    let (start, end) = (part.start as usize / unit, (part.end as usize).div_ceil(unit));
    start.saturating_sub(1)..(end + 1).min(units)
}

/// The rows of a picture, from the top.
struct Rows {
    /// One as it was decoded.
    row: Vec<u8>,
    narrowing: Option<Narrowing>,
    pixels: Vec<u8>,
}

impl Rows {
    fn push(&mut self) {
        match &self.narrowing {
            Some(narrowing) => narrowing.push(&self.row, &mut self.pixels),
            None => self.pixels.extend_from_slice(&self.row),
        }
    }
}

#[cfg(test)]
mod tests;
