//! The frozen graph: fixed-degree rows of neighbours in one flat file.
//!
//! ```text
//! header   16 u32: magic, version, count, degree of the base layer, degree above, entry, layers above, 0 …
//! base     count × degree u32, neighbours of point i, ends with NONE where there are fewer
//! above    for each layer, lowest first: n u32, then n point numbers ascending, then n × degree u32
//! ```
//!
//! All little-endian. [`Graph::parse`] checks every size, and every read checks its bound, so that a
//! damaged file gives fewer neighbours and nothing worse.

use super::codes::prefetch;

const MAGIC: u32 = u32::from_le_bytes(*b"lkng");
const VERSION: u32 = 2;
/// One cache line, so that the rows of a usual degree begin at one, too.
const HEADER: usize = 16 * 4;

/// Fills a row that has fewer neighbours than places.
const NONE: u32 = u32::MAX;

/// A graph as it is built: neighbours by layer.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The neighbours of each point in the base layer, nearest first.
    pub(super) base: Vec<Vec<u32>>,
    /// For each layer above, lowest first: the points that reach it, ascending, and their neighbours.
    pub(super) above: Vec<Vec<(u32, Vec<u32>)>>,
    /// Where a search begins: a point of the highest layer.
    pub(super) entry: u32,
}

impl Lists {
    /// The file's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let widest = |rows: &mut dyn Iterator<Item = usize>| rows.max().unwrap_or(0);
        let base_degree = widest(&mut self.base.iter().map(Vec::len));
        let above_degree = widest(&mut self.above.iter().flatten().map(|(_, row)| row.len()));
        let numbers = [
            MAGIC,
            VERSION,
            self.base.len() as u32,
            base_degree as u32,
            above_degree as u32,
            self.entry,
            self.above.len() as u32,
        ];
        let mut bytes = Vec::with_capacity(HEADER + self.base.len() * base_degree * 4);
        let mut put = |number: u32| bytes.extend(number.to_le_bytes());
        numbers.into_iter().chain([0; HEADER / 4 - 7]).for_each(&mut put);
        let padded = |row: &[u32], degree| {
            let padding = std::iter::repeat_n(NONE, degree - row.len());
            row.iter().copied().chain(padding).collect::<Vec<u32>>()
        };
        for row in &self.base {
            padded(row, base_degree).into_iter().for_each(&mut put);
        }
        for layer in &self.above {
            put(layer.len() as u32);
            layer.iter().for_each(|(point, _)| put(*point));
            for (_, row) in layer {
                padded(row, above_degree).into_iter().for_each(&mut put);
            }
        }
        bytes
    }
}

/// Where things lie in a graph file that was looked over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    count: usize,
    base_degree: usize,
    above_degree: usize,
    entry: u32,
    /// For each layer above, lowest first: the first byte of its point numbers, and how many.
    above: Vec<(usize, usize)>,
}

impl Graph {
    /// Looks a file over.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub(super) fn parse(bytes: &[u8], count: usize) -> Result<Self, String> {
        let number = |at: usize| read(bytes, at).ok_or_else(|| "ends early".to_owned());
        if number(0)? != MAGIC || number(4)? != VERSION {
            return Err("is no graph of this version".to_owned());
        }
        let [points, base_degree, above_degree, entry, layers] =
            [number(8)?, number(12)?, number(16)?, number(20)?, number(24)?];
        if points as usize != count {
            return Err(format!("has {points} points, expected {count}"));
        }
        if count > 0 && entry as usize >= count {
            return Err("begins at a point that is not there".to_owned());
        }
        let (base_degree, above_degree) = (base_degree as usize, above_degree as usize);
        let size = |rows: usize, degree: usize| {
            rows.checked_mul(degree)
                .and_then(|n| n.checked_mul(4))
                .ok_or_else(|| "has impossible sizes".to_owned())
        };
        let mut at = HEADER + size(count, base_degree)?;
        let mut above = Vec::new();
        for _ in 0..layers {
            let points = number(at)? as usize;
            above.push((at + 4, points));
            at = at
                .checked_add(4 + size(points, above_degree + 1)?)
                .filter(|end| *end <= bytes.len())
                .ok_or_else(|| "ends early".to_owned())?;
        }
        if at != bytes.len() {
            return Err(format!("has {} bytes, expected {at}", bytes.len()));
        }
        Ok(Self { count, base_degree, above_degree, entry, above })
    }

    /// Where a search begins.
    pub(super) fn entry(&self) -> u32 {
        self.entry
    }

    /// The layers above the base, highest first.
    pub(super) fn layers_down(&self) -> impl Iterator<Item = usize> {
        (0..self.above.len()).rev()
    }

    /// The neighbours of a point in the base layer.
    #[inline(always)]
    pub(super) fn base<'a>(&self, bytes: &'a [u8], point: u32) -> impl Iterator<Item = u32> + 'a {
        self.row(bytes, HEADER + point as usize * self.base_degree * 4, self.base_degree)
    }

    /// Asks for the neighbours of a point in the base layer, which will be read soon.
    #[inline(always)]
    pub(super) fn prefetch(&self, bytes: &[u8], point: u32) {
        let at = HEADER + point as usize * self.base_degree * 4;
        for line in (at..at + self.base_degree * 4).step_by(64) {
            if let Some(byte) = bytes.get(line) {
                prefetch(byte);
            }
        }
    }

    /// The neighbours of a point in a layer above; none if it does not reach it.
    pub(super) fn above<'a>(
        &self,
        bytes: &'a [u8],
        layer: usize,
        point: u32,
    ) -> impl Iterator<Item = u32> + 'a {
        let (at, points) = self.above[layer];
        let slot = partition_point(points, |i| read(bytes, at + i * 4).is_some_and(|p| p < point));
        let found = slot < points && read(bytes, at + slot * 4) == Some(point);
        let degree = if found { self.above_degree } else { 0 };
        self.row(bytes, at + (points + slot * self.above_degree) * 4, degree)
    }

    #[inline(always)]
    fn row<'a>(&self, bytes: &'a [u8], at: usize, degree: usize) -> impl Iterator<Item = u32> + 'a {
        let count = self.count;
        let row = bytes.get(at..at + degree * 4).unwrap_or_default();
        let (numbers, _) = row.as_chunks::<4>();
        numbers.iter().map(|n| u32::from_le_bytes(*n)).take_while(move |n| (*n as usize) < count)
    }
}

fn read(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(number.try_into().expect("four bytes")))
}

/// The first of `0..n` for which `before` is false, given that it is true only for a beginning.
fn partition_point(n: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lists() -> Lists {
        Lists {
            base: vec![vec![1], vec![0, 2], vec![1], vec![4], vec![3], vec![]],
            above: vec![vec![(0, vec![2]), (2, vec![0])], vec![(2, vec![])]],
            entry: 2,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = lists().to_bytes();
        let graph = Graph::parse(&bytes, 6).unwrap();
        assert_eq!(graph.base(&bytes, 1).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(graph.base(&bytes, 5).count(), 0);
        assert_eq!(graph.layers_down().collect::<Vec<_>>(), [1, 0]);
        assert_eq!(graph.above(&bytes, 0, 2).collect::<Vec<_>>(), [0]);
        assert_eq!(graph.above(&bytes, 0, 1).count(), 0);
        assert_eq!(graph.entry(), 2);
    }

    proptest! {
        #[test]
        fn a_damaged_file_gives_an_error_or_points_that_are_there(
            at in 0usize..200, value in any::<u8>(), cut in 0usize..200,
        ) {
            let mut bytes = lists().to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= value;
            bytes.truncate(bytes.len() - cut.saturating_sub(150));
            if let Ok(graph) = Graph::parse(&bytes, 6) {
                for point in 0..6 {
                    prop_assert!(graph.base(&bytes, point).all(|p| p < 6));
                    for layer in graph.layers_down() {
                        prop_assert!(graph.above(&bytes, layer, point).all(|p| p < 6));
                    }
                }
            }
        }
    }
}
