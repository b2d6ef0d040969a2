//! What a decoder is asked for, and what it may cost.

use image::metadata::Orientation;

use super::budget::{Budget, Permit};
use super::resize::{self, Columns, Part};
use super::{DecodeMode, Unreadable};

/// How many times the shorter side after resizing a picture must have at least when it is decoded to a
/// smaller size. At 4 the cosine with the reference stays above 0.999 in the tests' 30 photos; at 2, which
/// many take for enough, it went down to 0.9978 there.
const FAST_MARGIN: u32 = 4;

/// What a decoder must know.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) mode: DecodeMode,
    pub(super) budget: &'a Budget,
    pub(super) max_megapixels: u32,
    /// What remains beside the file.
    pub(super) max_bytes: u64,
    pub(super) file_bytes: u64,
    /// The shorter side that the network asks for, in pixels.
    pub(super) shorter_side: u32,
    /// The side of the square that is cut out of that.
    pub(super) square: u32,
    /// Whether all pixels are needed, as a part of them will be cut out.
    pub(super) whole: bool,
    /// Whether the decoder may resize rows: bilinear is what the network asks for, and nothing but the file's own
    /// metadata says which way is up.
    pub(super) may_narrow: bool,
}

impl<'a> Wanted<'a> {
    /// The same, with a file held in memory, too.
    pub(super) fn beside(&self, file: &[u8]) -> Self {
        let file_bytes = file.len() as u64;
        Self { file_bytes, max_bytes: self.max_bytes.saturating_sub(file_bytes), ..*self }
    }

    /// Refuses a picture without pixels and one with more than are allowed.
    pub(super) fn check_size(&self, (width, height): (u32, u32)) -> Result<(), Unreadable> {
        if width == 0 || height == 0 {
            return Err(Unreadable::Damaged { reason: "it has no pixels".to_owned() });
        }
        let max_megapixels = self.max_megapixels;
        if u64::from(width) * u64::from(height) > u64::from(max_megapixels) * 1_000_000 {
            return Err(Unreadable::TooLarge { width, height, max_megapixels });
        }
        Ok(())
    }

    /// Waits until so many bytes may be used.
    ///
    /// # Errors
    /// [`Unreadable::TooMuchMemory`] when one picture may never take as many.
    pub(super) fn room_for(&self, bytes: u64) -> Result<Permit<'a>, Unreadable> {
        if bytes > self.max_bytes {
            return Err(Unreadable::too_much_memory(
                self.file_bytes + bytes,
                self.file_bytes + self.max_bytes,
            ));
        }
        Ok(self.budget.take(bytes))
    }

    /// As [`Wanted::room_for`], and keeps all others waiting.
    pub(super) fn room_for_all(&self, bytes: u64) -> Result<Permit<'a>, Unreadable> {
        if bytes > self.max_bytes {
            return Err(Unreadable::too_much_memory(bytes, self.max_bytes));
        }
        Ok(self.budget.take(u64::MAX))
    }

    /// The shorter side that must remain of a picture that is made smaller while it is decoded.
    pub(super) fn least_side(&self) -> u32 {
        if self.whole { u32::MAX } else { self.shorter_side * FAST_MARGIN }
    }

    /// How many pixels along a side are averaged in one of a very large picture; `None` where that would be one.
    pub(super) fn block_side(&self, (width, height): (u32, u32)) -> Option<u32> {
        let side = width.min(height) / self.least_side();
        (side >= 2).then_some(side)
    }

    /// Which part of a picture, as stored, is looked at.
    pub(super) fn part(&self, size: (u32, u32)) -> Part {
        if self.whole {
            return Part { columns: 0..size.0, rows: 0..size.1 };
        }
        resize::part_needed(size, self.square, self.shorter_side)
    }

    /// How rows may be resized while they are decoded, of a picture of that size that `orientation` makes upright.
    pub(super) fn columns(&self, size: (u32, u32), orientation: Orientation) -> Option<Columns> {
        let may = self.may_narrow && !self.whole;
        may.then(|| Columns::new(size, orientation, (self.square, self.shorter_side))).flatten()
    }

    /// To how many eighths of its size a picture may be decoded: 1 to 4, or 8 for all of it. Between 4
    /// and 8, what is saved in pixels is lost by transforms of odd sizes.
    pub(super) fn eighths(&self, (width, height): (u32, u32)) -> u8 {
        let (shorter, least) = (u64::from(width.min(height)), u64::from(self.least_side()));
        let suffices = |eighths: &u8| shorter * u64::from(*eighths) >= least * 8;
        match self.mode {
            DecodeMode::Exact => 8,
            DecodeMode::Fast => (1..=4).find(suffices).unwrap_or(8),
        }
    }
}
