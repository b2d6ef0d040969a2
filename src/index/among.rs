//! Searching among some of the images: those that pass a filter.

use super::Unusable;
use super::calibrate::scaled;
use super::open::{Depth, Index, SCAN_RERANK, SCAN_UP_TO, Search, worth_a_scan};
use crate::embedding::Embedding;
use crate::record::{Hit, ImageId};

/// As many images that pass are compared by their vectors, all of them: exact, in a fifth of a millisecond.
const DIRECT_UP_TO: usize = 256;

/// Candidates that a search of the graph orders by their vectors with a filter, at least. What it was calibrated
/// by are the nearest of all; those that pass may lie far from the query, and there distances differ less.
pub(super) const RERANK: usize = 40;

/// Some of the images of one index, see [`Index::among`].
#[derive(Debug, Clone)]
pub struct Among {
    /// A bit for each point of the index.
    bits: Vec<u64>,
    /// Those of them that are set, ascending.
    points: Vec<u32>,
}

impl Among {
    /// How many images.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub(super) fn points(&self) -> &[u32] {
        &self.points
    }

    #[inline(always)]
    pub(super) fn holds(&self, point: u32) -> bool {
        let word = self.bits.get(point as usize / 64).copied().unwrap_or(0);
        word >> (point % 64) & 1 == 1
    }
}

impl Index {
    /// Those of its images that pass a filter. Looks at each once; what comes of it is good for any number
    /// of searches of this index.
    pub fn among(&self, passes: impl Fn(ImageId) -> bool) -> Among {
        let mut bits = vec![0; self.len().div_ceil(64)];
        let mut points = Vec::new();
        for point in 0..self.len() as u32 {
            if passes(self.id(point)) {
                bits[point as usize / 64] |= 1 << (point % 64);
                points.push(point);
            }
        }
        Among { bits, points }
    }

    /// As [`Index::search`] among some of its images: never fewer than `k` when there are so many.
    ///
    /// # Errors
    /// As [`Index::search`].
    ///
    /// # Panics
    /// As [`Index::search`]; when `among` is of a larger index.
    pub fn search_among(
        &self,
        query: &Embedding,
        k: usize,
        how: Search,
        among: &Among,
    ) -> Result<Vec<Hit>, Unusable> {
        let depth = self.depth_among(k, how, among);
        self.search_all(&[query], k, depth, Some(among)).map(|mut answers| answers.remove(0))
    }

    /// How deep a search for the `k` nearest among some images looks. Few are compared by their vectors;
    /// of more, the codes are scanned, unless the graph comes upon enough of them for less. That it does
    /// not know where they lie: when it has cost as much as the scan would, the scan follows.
    pub fn depth_among(&self, k: usize, how: Search, among: &Among) -> Depth {
        let rerank = SCAN_RERANK.0.max(k.saturating_mul(SCAN_RERANK.1));
        if among.len() <= rerank.max(DIRECT_UP_TO) {
            return Depth { beam: None, rerank: among.len() };
        }
        let scanned = Depth { beam: None, rerank };
        let Depth { beam: Some(beam), rerank } = self.depth(k, how) else { return scanned };
        // Of those that lie around the query, as many pass as of all.
        let distances = scaled(self.calibration().distances, k);
        let distances = distances.saturating_mul(self.len()) / among.len();
        let few = how == Search::Auto && among.len() <= SCAN_UP_TO;
        if few || distances > worth_a_scan(among.len()) {
            return scanned;
        }
        Depth { beam: Some(beam), rerank: rerank.max(RERANK) }
    }
}

#[cfg(test)]
mod tests;
