//! The grid of tiles that a HEIF picture is put together of: phones and cameras write most of theirs so, and each
//! tile can be decoded alone. libheif before 1.19 tells nothing of it, so the boxes are read here: `meta` and what is
//! in it by ISO/IEC 14496-12, `grid`, `irot` and `imir` by ISO/IEC 23008-12.

use std::collections::HashMap;

use image::metadata::Orientation;

use crate::photo::boxes::boxes;

/// A picture in tiles of one size, of which those at the right and lower edge may reach beyond it.
#[derive(Debug)]
pub(super) struct Grid {
    /// Tiles in a row.
    pub(super) columns: usize,
    /// The items that are the tiles, row by row.
    pub(super) tiles: Vec<u32>,
    /// Width and height of the picture as it is stored.
    pub(super) size: (u32, u32),
    /// What makes it upright.
    pub(super) orientation: Orientation,
    /// The file's bytes with no item marked as hidden: before 1.19 libheif gives no handle of those.
    pub(super) shown: Vec<u8>,
}

impl Grid {
    /// Reads what the primary item of a file is put together of; `None` when it is no grid, or one that is cropped, or
    /// whose colours are told apart from its tiles'.
    pub(super) fn read(file: &[u8]) -> Option<Self> {
        let meta = Meta::of(file)?;
        let primary = meta.primary()?;
        if meta.kind(primary)? != *b"grid" {
            return None;
        }
        let mut fields = Fields(meta.content(primary)?);
        let [_version, flags, rows, columns] = [(); 4].map(|()| fields.next(1));
        let (rows, columns) = (rows? as usize + 1, columns? as usize + 1);
        let bytes = if flags? & 1 == 0 { 2 } else { 4 };
        let size = (fields.next(bytes)? as u32, fields.next(bytes)? as u32);
        let tiles = meta.parts(primary)?;
        let properties = meta.properties()?;
        let colours = properties.colours(primary);
        if tiles.len() != rows * columns
            || tiles.iter().any(|tile| properties.colours(*tile) != colours)
        {
            return None;
        }
        let mut turned = Turned::default();
        for (kind, content) in properties.of(primary) {
            match (&kind, content.first()) {
                (b"irot", Some(turns)) => turned.left(*turns),
                (b"imir", Some(axis)) => turned.mirror(*axis),
                (b"clap" | b"irot" | b"imir", _) => return None,
                _ => (),
            }
        }
        let orientation = turned.orientation()?;
        Some(Self { columns, tiles, size, orientation, shown: meta.shown()? })
    }
}

/// How many pixels a picture that is put together of others takes by its own word, which what is told of it elsewhere may
/// understate; `None` when it is none.
pub(super) fn canvas(file: &[u8]) -> Option<(u32, u32)> {
    let meta = Meta::of(file)?;
    let primary = meta.primary()?;
    let mut fields = Fields(meta.content(primary)?);
    let [_version, flags] = [(); 2].map(|()| fields.next(1));
    // Before the size: rows and columns of a grid, and what fills the ground of an overlay.
    match &meta.kind(primary)? {
        b"grid" => fields.next(2)?,
        b"iovl" => fields.next(8)?,
        _ => return None,
    };
    let bytes = if flags? & 1 == 0 { 2 } else { 4 };
    Some((fields.next(bytes)? as u32, fields.next(bytes)? as u32))
}

/// Mirrored left to right or not, and then turned clockwise by so many quarters.
#[derive(Debug, Default, Clone, Copy)]
struct Turned {
    is_mirrored: bool,
    quarters: u8,
}

impl Turned {
    fn left(&mut self, quarters: u8) {
        self.quarters = (self.quarters + 3 * (quarters & 3)) & 3;
    }

    /// 0 exchanges top and bottom, 1 left and right.
    fn mirror(&mut self, axis: u8) {
        self.is_mirrored = !self.is_mirrored;
        self.quarters = ((axis & 1 ^ 1) * 2 + 4 - self.quarters) & 3;
    }

    fn orientation(self) -> Option<Orientation> {
        let exif = match (self.is_mirrored, self.quarters) {
            (false, quarters) => [1, 6, 3, 8][usize::from(quarters)],
            (true, quarters) => [2, 7, 4, 5][usize::from(quarters)],
        };
        Orientation::from_exif(exif)
    }
}

/// The `meta` box of a file.
struct Meta<'a> {
    file: &'a [u8],
    meta: &'a [u8],
}

impl<'a> Meta<'a> {
    fn of(file: &'a [u8]) -> Option<Self> {
        let meta = boxes(file).find(|found| found.kind == *b"meta")?.content.get(4..)?;
        Some(Self { file, meta })
    }

    /// The content of a box within.
    fn inner(&self, kind: &[u8; 4]) -> Option<&'a [u8]> {
        boxes(self.meta).find(|found| found.kind == *kind).map(|found| found.content)
    }

    fn primary(&self) -> Option<u32> {
        let mut fields = Fields(self.inner(b"pitm")?);
        let version = fields.version()?;
        fields.item(version > 0)
    }

    /// What is told of each item.
    fn entries(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let mut fields = Fields(self.inner(b"iinf")?);
        let version = fields.version()?;
        fields.item(version > 0)?;
        let entries = boxes(fields.0).filter(|entry| entry.kind == *b"infe");
        Some(entries.map(|entry| entry.content))
    }

    /// What kind of item it is.
    fn kind(&self, item: u32) -> Option<[u8; 4]> {
        self.entries()?.find_map(|entry| {
            let mut fields = Fields(entry);
            let version = fields.version()?;
            let found = fields.item(version > 2)?;
            fields.next(2)?;
            let kind = *fields.0.first_chunk()?;
            (version >= 2 && found == item).then_some(kind)
        })
    }

    /// See [`Grid::shown`].
    fn shown(&self) -> Option<Vec<u8>> {
        let mut shown = self.file.to_vec();
        for entry in self.entries()? {
            // A byte of version, three of flags.
            let at = entry.as_ptr().addr() - self.file.as_ptr().addr();
            *shown.get_mut(at + 3)? &= !1;
        }
        Some(shown)
    }

    /// The items that an item is derived from, in order.
    fn parts(&self, item: u32) -> Option<Vec<u32>> {
        let mut fields = Fields(self.inner(b"iref")?);
        let wide = fields.version()? > 0;
        boxes(fields.0).filter(|reference| reference.kind == *b"dimg").find_map(|reference| {
            let mut fields = Fields(reference.content);
            let from = fields.item(wide)?;
            let count = fields.next(2)?;
            let parts = (0..count).map(|_| fields.item(wide)).collect::<Option<_>>()?;
            (from == item).then_some(parts)
        })
    }

    /// The bytes of an item that lies in one piece, in the file or in the box itself.
    fn content(&self, item: u32) -> Option<&'a [u8]> {
        let mut fields = Fields(self.inner(b"iloc")?);
        let version = fields.version()?;
        let sizes = fields.next(2)?;
        let [offset_bytes, length_bytes, base_bytes, index_bytes] =
            [12, 8, 4, 0].map(|shift| (sizes >> shift & 15) as usize);
        let index_bytes = if version > 0 { index_bytes } else { 0 };
        for _ in 0..fields.item(version > 1)? {
            let found = fields.item(version > 1)?;
            let place = if version > 0 { fields.next(2)? & 15 } else { 0 };
            let source = fields.next(2)?;
            let base = fields.next(base_bytes)?;
            let extents = fields.next(2)?;
            for _ in 0..extents {
                fields.next(index_bytes)?;
                let (offset, length) = (fields.next(offset_bytes)?, fields.next(length_bytes)?);
                if found == item {
                    let within = match place {
                        0 => self.file,
                        1 => self.inner(b"idat")?,
                        _ => return None,
                    };
                    let start = usize::try_from(base.checked_add(offset)?).ok()?;
                    let end = start.checked_add(usize::try_from(length).ok()?)?;
                    return within.get(start..end).filter(|_| extents == 1 && source == 0);
                }
            }
        }
        None
    }

    fn properties(&self) -> Option<Properties<'a>> {
        let mut properties = Properties { all: Vec::new(), of: HashMap::new() };
        for inner in boxes(self.inner(b"iprp")?) {
            match &inner.kind {
                b"ipco" => properties.all.extend(boxes(inner.content).map(|p| (p.kind, p.content))),
                b"ipma" => properties.associate(inner.content)?,
                _ => (),
            }
        }
        Some(properties)
    }
}

/// The properties of items.
struct Properties<'a> {
    all: Vec<([u8; 4], &'a [u8])>,
    /// Which of them an item has, counted from 1.
    of: HashMap<u32, Vec<usize>>,
}

impl<'a> Properties<'a> {
    /// Reads a box of associations.
    fn associate(&mut self, ipma: &[u8]) -> Option<()> {
        let mut fields = Fields(ipma);
        let head = fields.next(4)?;
        let (version, wide) = (head >> 24, head & 1 == 1);
        for _ in 0..fields.next(4)? {
            let item = fields.item(version > 0)?;
            let count = fields.next(1)?;
            let mut index = || {
                let (bytes, bits) = if wide { (2, 0x7fff) } else { (1, 0x7f) };
                fields.next(bytes).map(|index| (index & bits) as usize)
            };
            let indices: Vec<usize> = (0..count).map(|_| index()).collect::<Option<_>>()?;
            self.of.entry(item).or_default().extend(indices);
        }
        Some(())
    }

    /// Those of an item, in the order in which they apply.
    fn of(&self, item: u32) -> impl Iterator<Item = ([u8; 4], &'a [u8])> {
        let indices = self.of.get(&item).into_iter().flatten();
        indices.filter_map(|index| self.all.get(index.checked_sub(1)?).copied())
    }

    /// How an item's colours are told by numbers.
    fn colours(&self, item: u32) -> Option<&'a [u8]> {
        let colours = self.of(item).filter(|(kind, _)| kind == b"colr").map(|(_, content)| content);
        colours.into_iter().find(|content| content.starts_with(b"nclx"))
    }
}

/// Whole numbers one after the other, most significant byte first.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next number, of up to 8 bytes; of none, 0.
    fn next(&mut self, bytes: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(bytes).filter(|_| bytes <= 8)?;
        self.0 = rest;
        Some(number.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    }

    /// The version at the beginning of a box, whose flags are passed over.
    fn version(&mut self) -> Option<u64> {
        self.next(4).map(|head| head >> 24)
    }

    /// The number of an item, or of items.
    fn item(&mut self, wide: bool) -> Option<u32> {
        self.next(if wide { 4 } else { 2 }).map(|item| item as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILES: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/golden/tiles.heic"));

    #[test]
    fn the_tiles_of_a_picture_are_found() {
        let grid = Grid::read(TILES).unwrap();
        assert_eq!((grid.columns, grid.tiles.len(), grid.size), (4, 12, (250, 170)));
        assert_eq!(grid.orientation, Orientation::Rotate90FlipH);
        assert_eq!(grid.tiles, (2..14).collect::<Vec<u32>>());
        let changed = grid.shown.iter().zip(TILES).filter(|(shown, was)| shown != was);
        assert_eq!(changed.count(), 13, "the tiles and EXIF");
        for end in 0..TILES.len() {
            // Whatever is read of what is cut off, nothing panics.
            let _ = Grid::read(&TILES[..end]);
        }
    }

    #[test]
    fn a_grid_larger_than_its_picture_is_told_to_be_is_measured_by_itself() {
        use crate::photo::Format;
        use crate::photo::heif::{decode, status};
        assert_eq!(canvas(TILES), Some((250, 170)));
        let meta = Meta::of(TILES).unwrap();
        let content = meta.content(meta.primary().unwrap()).unwrap();
        let width = content.as_ptr().addr() - TILES.as_ptr().addr() + 4;
        let mut larger = TILES.to_vec();
        larger[width] = 0x5a;
        assert_eq!(canvas(&larger), Some((0x5a00 + 250, 170)));
        if status(Format::Heic).is_ok() {
            let refused = decode(&larger, Format::Heic, &crate::photo::decode::tests::wanted(8));
            let reason = refused.err().unwrap().to_string();
            assert!(reason.contains("megapixels"), "{reason}");
        }
    }

    #[test]
    fn what_is_no_grid_has_none() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/golden/");
        for name in ["colour.heic", "turned.avif", "420.jpg"] {
            let bytes = std::fs::read(format!("{golden}{name}")).unwrap();
            assert!(Grid::read(&bytes).is_none(), "{name}");
        }
    }

    #[test]
    fn turns_and_mirrorings_follow_one_another() {
        // What a pixel that is right of and above the middle comes to lie at.
        let by_orientation = |orientation: Orientation| match orientation {
            Orientation::NoTransforms => (2, -1),
            Orientation::FlipHorizontal => (-2, -1),
            Orientation::Rotate180 => (-2, 1),
            Orientation::FlipVertical => (2, 1),
            Orientation::Rotate90FlipH => (-1, 2),
            Orientation::Rotate90 => (1, 2),
            Orientation::Rotate270FlipH => (1, -2),
            Orientation::Rotate270 => (-1, -2),
        };
        for steps in 0..4u32.pow(4) {
            let (mut turned, (mut x, mut y)) = (Turned::default(), (2, -1));
            for step in (0..4).map(|place| steps >> (2 * place) & 3) {
                match step {
                    // Anticlockwise, where y grows downwards.
                    0 | 1 => (0..=step).for_each(|_| (x, y) = (y, -x)),
                    2 => y = -y,
                    _ => x = -x,
                }
                match step {
                    0 | 1 => turned.left(step as u8 + 1),
                    axis => turned.mirror(axis as u8 - 2),
                }
            }
            assert_eq!(by_orientation(turned.orientation().unwrap()), (x, y), "{steps:b}");
        }
    }
}
