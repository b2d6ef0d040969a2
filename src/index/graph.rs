//! The frozen graph: fixed-degree rows of neighbours in one flat file.
//!
//! ```text
//! header   16 u32: magic, version, count, degree of the base layer, degree above, entry, layers above, 0 …
//! base     count × degree links, neighbours of point i, ends with NONE where there are fewer
//! above    for each layer, lowest first: n u32, then n point numbers ascending, then n × degree links
//! ```
//!
//! All little-endian; a link is a point's number in three bytes, of more than 16 million points in four.
//! [`Graph::parse`] checks every size, and every read checks its bound, so that a damaged file gives fewer
//! neighbours and nothing worse.

use super::codes::prefetch;

const MAGIC: u32 = u32::from_le_bytes(*b"lkng");
const VERSION: u32 = 3;
/// One cache line, so that the rows of a usual degree begin at one, too.
const HEADER: usize = 16 * 4;

/// Fills a row that has fewer neighbours than places; as much of it as a link has.
const NONE: u32 = u32::MAX;

/// Bytes of a link to one of so many points.
const fn link_bytes(count: usize) -> usize {
    if count < 0xff_ffff { 3 } else { 4 }
}

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
        let link_bytes = link_bytes(self.base.len());
        let mut bytes = Vec::with_capacity(HEADER + self.base.len() * base_degree * link_bytes);
        let put = |bytes: &mut Vec<u8>, number: u32| bytes.extend(number.to_le_bytes());
        numbers.into_iter().chain([0; HEADER / 4 - 7]).for_each(|number| put(&mut bytes, number));
        let put_links = |bytes: &mut Vec<u8>, row: &[u32], degree: usize| {
            let padding = std::iter::repeat_n(&NONE, degree - row.len());
            for link in row.iter().chain(padding) {
                bytes.extend(&link.to_le_bytes()[..link_bytes]);
            }
        };
        for row in &self.base {
            put_links(&mut bytes, row, base_degree);
        }
        for layer in &self.above {
            put(&mut bytes, layer.len() as u32);
            layer.iter().for_each(|(point, _)| put(&mut bytes, *point));
            layer.iter().for_each(|(_, row)| put_links(&mut bytes, row, above_degree));
        }
        bytes
    }
}

/// Where things lie in a graph file that was looked over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    count: usize,
    link_bytes: usize,
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
        let link_bytes = link_bytes(count);
        let size = |rows: usize, row_bytes: Option<usize>| {
            row_bytes
                .and_then(|bytes| bytes.checked_mul(rows))
                .ok_or_else(|| "has impossible sizes".to_owned())
        };
        let mut at = HEADER + size(count, base_degree.checked_mul(link_bytes))?;
        let above_bytes = above_degree.checked_mul(link_bytes).and_then(|row| row.checked_add(4));
        let mut above = Vec::new();
        for _ in 0..layers {
            let points = number(at)? as usize;
            above.push((at + 4, points));
            at = at
                .checked_add(4)
                .and_then(|at| at.checked_add(size(points, above_bytes).ok()?))
                .filter(|end| *end <= bytes.len())
                .ok_or_else(|| "ends early".to_owned())?;
        }
        if at != bytes.len() {
            return Err(format!("has {} bytes, expected {at}", bytes.len()));
        }
        Ok(Self { count, link_bytes, base_degree, above_degree, entry, above })
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
        let row_bytes = self.base_degree * self.link_bytes;
        self.row(bytes, HEADER + point as usize * row_bytes, row_bytes)
    }

    /// How many neighbours a point has in the base layer, at most.
    pub(super) fn base_degree(&self) -> usize {
        self.base_degree
    }

    /// Asks for the neighbours of a point in the base layer, which will be read soon.
    #[inline(always)]
    pub(super) fn prefetch(&self, bytes: &[u8], point: u32) {
        let row_bytes = self.base_degree * self.link_bytes;
        let at = HEADER + point as usize * row_bytes;
        for line in (at..at + row_bytes).step_by(64) {
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
        let row_bytes = self.above_degree * self.link_bytes;
        let start = at + points * 4 + slot * row_bytes;
        self.row(bytes, start, if found { row_bytes } else { 0 })
    }

    #[inline(always)]
    fn row<'a>(
        &self,
        bytes: &'a [u8],
        at: usize,
        row_bytes: usize,
    ) -> impl Iterator<Item = u32> + 'a {
        let count = self.count;
        let row = bytes.get(at..at + row_bytes).unwrap_or_default();
        // One of them is empty: known before the loop, not asked at every link.
        let (threes, fours) = if self.link_bytes == 3 { (row, &[][..]) } else { (&[][..], row) };
        let threes =
            threes.as_chunks().0.iter().map(|[a, b, c]| u32::from_le_bytes([*a, *b, *c, 0]));
        let links = threes.chain(fours.as_chunks().0.iter().map(|link| u32::from_le_bytes(*link)));
        links.take_while(move |link| (*link as usize) < count)
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
