//! Rows of codes: what is searched instead of the vectors.

use std::ops::Range;

use super::kernel::{BLOCK, Kernel, Rows};

/// Lines of a row that are asked for. The processor goes on by itself after some.
const PREFETCHED: usize = 8;

/// Columns of the most variance, that may be compared before the others: two lines, which come together.
const HEAD: usize = 2 * BLOCK;

/// Bytes of a row for codes of `width` components: whole blocks of the kernels.
pub(super) const fn row_bytes(width: usize) -> usize {
    width.next_multiple_of(BLOCK)
}

/// Rows of codes, one a point: 7 bits a component, see [`super::coder`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    kernel: Kernel,
}

impl<'a> Codes<'a> {
    /// Looks at `bytes` as rows of `row_bytes`, whole blocks each.
    pub(super) fn new(bytes: &'a [u8], row_bytes: usize) -> Self {
        debug_assert!(row_bytes > 0 && row_bytes.is_multiple_of(BLOCK));
        Self { bytes, row_bytes, kernel: Kernel::best() }
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The size of a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The row of a point.
    pub(super) fn row(&self, point: u32) -> &'a [u8] {
        let at = point as usize * self.row_bytes;
        &self.bytes[at..at + self.row_bytes]
    }

    /// The squared L2 distance of a row to each of `points`, in their order.
    pub(super) fn distances(&self, query: &[u8], points: &[u32], out: &mut Vec<u32>) {
        assert_eq!(query.len(), self.row_bytes, "a query has the rows' width");
        out.resize(points.len(), 0);
        self.kernel.distances(query, self.rows(0), points, out);
    }

    /// Whether rows are so wide that it pays to compare their first columns before the others.
    pub(super) fn have_heads(&self) -> bool {
        self.row_bytes >= 2 * HEAD
    }

    /// As [`Codes::distances`], by the first columns alone.
    pub(super) fn head_distances(&self, query: &[u8], points: &[u32], out: &mut Vec<u32>) {
        out.resize(points.len(), 0);
        self.kernel.distances(&query[..HEAD], self.rows(0), points, out);
    }

    /// As [`Codes::distances`], of those points that are no farther than `farthest` by their first columns. The
    /// others are taken out of `points`.
    pub(super) fn distances_of_near(
        &self,
        query: &[u8],
        farthest: u32,
        points: &mut Vec<u32>,
        out: &mut Vec<u32>,
    ) {
        self.head_distances(query, points, out);
        // Without a branch, which would be guessed wrong every other time.
        let mut near = 0;
        for at in 0..points.len() {
            let is_near = out[at] <= farthest;
            (points[near], out[near]) = (points[at], out[at]);
            near += usize::from(is_near);
        }
        points.truncate(near);
        points.iter().for_each(|point| self.prefetch_columns(*point, HEAD..self.row_bytes));
        out.resize(2 * near, 0);
        let (heads, tails) = out.split_at_mut(near);
        self.kernel.distances(&query[HEAD..], self.rows(HEAD), points, tails);
        heads.iter_mut().zip(tails).for_each(|(head, tail)| *head += *tail);
        out.truncate(near);
    }

    /// The squared L2 distance of two points.
    pub(super) fn between(&self, a: u32, b: u32) -> u32 {
        let mut out = [0];
        self.kernel.distances(self.row(a), self.rows(0), &[b], &mut out);
        out[0]
    }

    /// Asks for a row that will be read soon.
    #[inline(always)]
    pub(super) fn prefetch(&self, point: u32) {
        self.prefetch_columns(point, 0..self.row_bytes.min(PREFETCHED * BLOCK));
    }

    /// Asks for its first columns.
    #[inline(always)]
    pub(super) fn prefetch_head(&self, point: u32) {
        self.prefetch_columns(point, 0..HEAD);
    }

    #[inline(always)]
    fn prefetch_columns(&self, point: u32, columns: Range<usize>) {
        let at = point as usize * self.row_bytes;
        if at + self.row_bytes <= self.bytes.len() {
            for line in (at + columns.start..at + columns.end).step_by(BLOCK) {
                prefetch(&self.bytes[line]);
            }
        }
    }

    /// All rows, from some column on.
    fn rows(&self, column: usize) -> Rows<'a> {
        Rows { bytes: &self.bytes[column.min(self.bytes.len())..], stride: self.row_bytes }
    }
}

/// Asks for the cache line of a value; nothing where there is no such instruction.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has it, and it never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// A point and how far it is, in one number: smaller is nearer, ties by the lower point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near(u64);

impl Near {
    /// No point, farther than all.
    pub(super) const FARTHEST: Self = Self(u64::MAX);

    #[inline(always)]
    pub(super) fn new(distance: u32, point: u32) -> Self {
        Self(u64::from(distance) << 32 | u64::from(point))
    }

    #[inline(always)]
    pub(super) fn distance(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(super) fn point(self) -> u32 {
        self.0 as u32
    }
}

/// The nearest of some, at most `most`, best first.
pub(super) fn best_first(mut found: Vec<Near>, most: usize) -> Vec<Near> {
    if most < found.len() {
        found.select_nth_unstable(most);
        found.truncate(most);
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::synthetic::Random;

    #[test]
    fn those_near_by_their_first_columns_are_compared_whole() {
        let mut random = Random(9);
        let row = row_bytes(300);
        let bytes: Vec<u8> = (0..50 * row).map(|_| (random.next() % 128) as u8).collect();
        let codes = Codes::new(&bytes, row);
        assert!(codes.have_heads() && !Codes::new(&bytes, 192).have_heads());
        let query = codes.row(7);
        let points: Vec<u32> = (0..50).rev().collect();
        let (mut whole, mut heads) = (Vec::new(), Vec::new());
        codes.distances(query, &points, &mut whole);
        codes.head_distances(query, &points, &mut heads);
        let mut sorted = heads.clone();
        sorted.sort_unstable();
        for farthest in [0, sorted[20], u32::MAX] {
            let expected: Vec<(u32, u32)> = (points.iter().zip(&whole).zip(&heads))
                .filter(|(_, head)| **head <= farthest)
                .map(|((point, whole), _)| (*point, *whole))
                .collect();
            assert_eq!(expected.len(), sorted.partition_point(|head| *head <= farthest));
            let (mut near, mut distances) = (points.clone(), Vec::new());
            codes.distances_of_near(query, farthest, &mut near, &mut distances);
            assert_eq!(near.into_iter().zip(distances).collect::<Vec<_>>(), expected);
        }
    }
}
