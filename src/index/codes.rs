//! Rows of codes: what is searched instead of the vectors.

use super::kernel::{BLOCK, Kernel};

/// Lines of a row that are asked for. The processor goes on by itself after some.
const PREFETCHED: usize = 8;

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
        self.kernel.distances(query, self.bytes, points, out);
    }

    /// The squared L2 distance of two points.
    pub(super) fn between(&self, a: u32, b: u32) -> u32 {
        let mut out = [0];
        self.kernel.distances(self.row(a), self.bytes, &[b], &mut out);
        out[0]
    }

    /// Asks for a row that will be read soon.
    #[inline(always)]
    pub(super) fn prefetch(&self, point: u32) {
        let at = point as usize * self.row_bytes;
        if at + self.row_bytes <= self.bytes.len() {
            for line in (at..at + self.row_bytes).step_by(BLOCK).take(PREFETCHED) {
                prefetch(&self.bytes[line]);
            }
        }
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
