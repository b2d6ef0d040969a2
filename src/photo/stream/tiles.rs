//! A picture that is put together of tiles, each of which is decoded alone.

use super::{Blocks, Small};
use crate::photo::wanted::Wanted;

/// Bytes a pixel of the tiles, 8-bit RGB.
const CHANNELS: usize = 3;

/// Bytes a pixel that decoding a tile takes, at most: the codec's planes, what is made of them, and the copy of those.
const DECODING: u64 = 12;

/// Makes a picture of `size` smaller, whose `count` tiles lie in rows of so many `columns` and reach beyond it at most
/// at its right and lower edge. `tile` gives the size of one, by its place, and its rows one after the other; all are
/// of one size. `None` where it gives none, the tiles do not cover the picture, or that saves nothing.
pub(in crate::photo) fn tiles(
    size: (u32, u32),
    columns: usize,
    count: usize,
    tile: impl Fn(usize) -> Option<((u32, u32), Vec<u8>)>,
    wanted: &Wanted<'_>,
) -> Option<Small> {
    let mut blocks = Blocks::new(size, CHANNELS, wanted)?;
    let rows = count.checked_div(columns).filter(|rows| *rows > 0 && rows * columns == count)?;
    // As large as tiles must be to cover it.
    let across = u64::from(size.0).div_ceil(columns as u64);
    let down = u64::from(size.1).div_ceil(rows as u64);
    let bytes = (CHANNELS as u64 * u64::from(size.0) + DECODING * across) * down;
    let _permit = wanted.room_for(bytes).ok()?;
    let (width, height) = (size.0 as usize, size.1 as usize);
    let mut first_size = None;
    let mut row = Vec::with_capacity(CHANNELS * width);
    let mut done = 0;
    for places in (0..count).collect::<Vec<_>>().chunks(columns) {
        let mut side_by_side = Vec::with_capacity(columns);
        for place in places {
            let (size, pixels) = tile(*place)?;
            let sound = pixels.len() == CHANNELS * size.0 as usize * size.1 as usize;
            if !sound || *first_size.get_or_insert(size) != size {
                return None;
            }
            side_by_side.push(pixels);
        }
        let (across, down) = first_size?;
        if columns * (across as usize) < width {
            return None;
        }
        for y in 0..(down as usize).min(height - done) {
            row.clear();
            for pixels in &side_by_side {
                let line = CHANNELS * across as usize;
                row.extend_from_slice(&pixels[y * line..(y + 1) * line]);
            }
            row.truncate(CHANNELS * width);
            blocks.add(&row);
        }
        done = height.min(done + down as usize);
    }
    blocks.finish().filter(|_| done == height)
}
