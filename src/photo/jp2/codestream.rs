//! What a codestream's markers tell of it (ISO/IEC 15444-1, Annex A), before any of it is decoded.
//!
//! The decoder makes what it can of a file that was cut, as any number of bytes of JPEG 2000 are some picture; and it
//! holds all code blocks that the markers promise, of which a few bytes may promise thousands of millions.

/// Start of the codestream, and of its size.
pub(super) const START: &[u8] = b"\xff\x4f\xff\x51";

/// Markers: coding style, that of a component, start of a part of a tile, start of its data, end of all.
const STYLE: [u8; 2] = [0xff, 0x52];
const STYLE_OF_COMPONENT: [u8; 2] = [0xff, 0x53];
const PART: [u8; 2] = [0xff, 0x90];
const DATA: [u8; 2] = [0xff, 0x93];
const END: [u8; 2] = [0xff, 0xd9];

/// Components beyond which a component's number takes two bytes.
const MANY: u64 = 257;

/// The parts of a codestream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Structure {
    /// Whether all parts of tiles are there that it tells of, and its end.
    pub(super) is_complete: bool,
    pub(super) tiles: u64,
    /// Where the picture begins on the grid that sizes are halved on: left and top.
    pub(super) origin: [u64; 2],
    /// Code blocks of all components of a tile in all sizes, at most.
    pub(super) blocks: u64,
    /// Nodes of the trees over these, as the decoder goes through them: over squares whose side is a power of two.
    pub(super) nodes: u64,
    /// Of a tile, those that no palette and no colour names included.
    pub(super) components: u64,
    /// The most layers that any style names.
    pub(super) layers: u64,
}

impl Structure {
    /// Reads the markers; `None` where they make no sense.
    pub(super) fn read(codestream: &[u8]) -> Option<Self> {
        let mut rest = codestream.strip_prefix(&START[..2])?;
        let size = Size::read(segment(rest)?)?;
        let Size { tiles, components, origin, .. } = size;
        let (blocks, nodes, layers) = (0, 0, 1);
        let mut structure =
            Self { is_complete: false, tiles, origin, blocks, nodes, components, layers };
        while let Some((marker, after)) = rest.split_first_chunk::<2>() {
            if *marker == END {
                structure.is_complete = true;
                break;
            }
            let length = if is_bare(*marker) {
                2
            } else if *marker == PART {
                // Index (2), length from the marker on (4), and two bytes more.
                let length = u32::from_be_bytes(*after.get(4..)?.first_chunk()?) as usize;
                // 0: to the end, whatever is behind that.
                let length = if length > 0 { length } else { memchr::memmem::rfind(rest, &END)? };
                let part = rest.get(..length).unwrap_or(rest);
                structure.take_styles(part, &size);
                length.max(2)
            } else {
                structure.take_style(*marker, segment(rest)?, &size);
                2 + usize::from(u16::from_be_bytes(*after.first_chunk()?))
            };
            let Some(behind) = rest.get(length..) else { break };
            rest = behind;
        }
        Some(structure)
    }

    /// A tile may have styles of its own, in the header of its first part.
    fn take_styles(&mut self, part: &[u8], size: &Size) {
        let mut rest = part;
        while let Some((marker, after)) = rest.split_first_chunk::<2>()
            && *marker != DATA
        {
            if is_bare(*marker) {
                rest = after;
                continue;
            }
            let (Some(content), Some(length)) = (segment(rest), after.first_chunk()) else { break };
            self.take_style(*marker, content, size);
            rest = rest.get(2 + usize::from(u16::from_be_bytes(*length))..).unwrap_or_default();
        }
    }

    fn take_style(&mut self, marker: [u8; 2], content: &[u8], size: &Size) {
        let style = match marker {
            // Scod, and progression, layers and transform of components.
            STYLE => content.split_first().and_then(|(flags, rest)| Some((*flags, rest.get(4..)?))),
            STYLE_OF_COMPONENT => {
                let number = if size.components < MANY { 1 } else { 2 };
                content
                    .get(number..)
                    .and_then(|rest| rest.split_first())
                    .map(|(flags, rest)| (*flags, rest))
            }
            _ => None,
        };
        if marker == STYLE
            && let Some(&[_, _, high, low]) = content.first_chunk()
        {
            self.layers = self.layers.max(u16::from_be_bytes([high, low]).into());
        }
        if let Some((flags, style)) = style {
            let (blocks, nodes) = blocks(flags, style, size).unwrap_or((u64::MAX, u64::MAX));
            (self.blocks, self.nodes) = (self.blocks.max(blocks), self.nodes.max(nodes));
        }
    }
}

/// What is said of all of it.
struct Size {
    /// Width and height of a tile, at most, and where the picture begins.
    tile: [u64; 2],
    origin: [u64; 2],
    components: u64,
    tiles: u64,
}

impl Size {
    fn read(content: &[u8]) -> Option<Self> {
        let (sides, rest) = content.get(2..)?.split_first_chunk::<32>()?;
        let side =
            |at: usize| u64::from(u32::from_be_bytes(std::array::from_fn(|i| sides[4 * at + i])));
        let components = u64::from(u16::from_be_bytes(*rest.first_chunk()?));
        // Far end, beginning, side of a tile, and where tiles begin, across and down.
        let tiles = |axis: usize| {
            Some(side(axis).checked_sub(side(6 + axis))?.div_ceil(side(4 + axis).max(1)))
        };
        let longest =
            |axis: usize| Some(side(axis).checked_sub(side(2 + axis))?.min(side(4 + axis)));
        let (tile, origin) = ([longest(0)?, longest(1)?], [side(2), side(3)]);
        Some(Self { tile, origin, components, tiles: tiles(0)?.checked_mul(tiles(1)?)? })
    }
}

/// How many code blocks a style makes of a tile, and nodes of the trees over them: `style` begins with the number of halvings, width and height
/// of a block by their exponents less two, and ends with those of precincts, where the flags say so.
fn blocks(flags: u8, style: &[u8], size: &Size) -> Option<(u64, u64)> {
    const HAS_PRECINCTS: u8 = 1;
    let &[halvings, width, height, _, _, ref precincts @ ..] = style else { return None };
    let halvings = u32::from(halvings.min(32));
    let (mut blocks, mut nodes) = (0u64, 0u64);
    for level in 0..=halvings {
        let within = match precincts.get(level as usize) {
            // Those of bands are half as wide and high.
            Some(sides) if flags & HAS_PRECINCTS != 0 => [sides & 15, sides >> 4]
                .map(|side| u32::from(side).saturating_sub(u32::from(level > 0))),
            _ => [15, 15],
        };
        let (bands, halved) = match level {
            0 => (1, halvings),
            _ => (3, halvings - level + 1),
        };
        let bands = size.components.checked_mul(bands)?;
        // Blocks and precincts along a side, one more where they do not begin with the band; and blocks of a precinct.
        let along = |axis: usize, block: u8| {
            let side = (size.tile[axis] >> halved) + 1;
            let (precinct, block) = (within[axis], within[axis].min(u32::from(block) + 2));
            let blocks = (side >> block) + 2;
            (blocks, (side >> precinct) + 2, blocks.min(1 << (precinct - block)))
        };
        let ((across, columns, wide), (down, rows, high)) = (along(0, width), along(1, height));
        blocks = blocks.checked_add(across.checked_mul(down)?.checked_mul(bands)?)?;
        let side = wide.max(high).next_power_of_two();
        let trees = columns.checked_mul(rows)?.checked_mul(2 * bands)?;
        nodes = nodes.checked_add(trees.checked_mul(side * side)?)?;
    }
    Some((blocks, nodes))
}

/// Markers that have no segment.
fn is_bare(marker: [u8; 2]) -> bool {
    marker[0] == 0xff && matches!(marker[1], 0x30..=0x3f)
}

/// What a marker's segment holds, behind its length.
fn segment(from_marker: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(*from_marker.get(2..)?.first_chunk()?);
    from_marker.get(4..2 + usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(marker: [u8; 2], content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&marker[..], &length, content].concat()
    }

    /// 1024 x 512 samples of each of three components, in tiles of a `side`.
    fn size(side: u32) -> Vec<u8> {
        let sides = [1024, 512, 0, 0, side, side, 0, 0].map(u32::to_be_bytes).concat();
        let content = [&[0, 0][..], &sides, &[0, 3], &[7, 1, 1].repeat(3)].concat();
        [&START[..2], &marked([0xff, 0x51], &content)].concat()
    }

    /// Blocks of 64 x 64, precincts as they are given from the smallest size on.
    fn style(precincts: &[u8]) -> Vec<u8> {
        let flags = u8::from(!precincts.is_empty());
        let halvings = precincts.len().saturating_sub(1) as u8;
        let content = [&[flags, 0, 0, 1, 1, halvings, 4, 4, 0, 1], precincts].concat();
        marked(STYLE, &content)
    }

    fn part(header: &[u8], data: &[u8]) -> Vec<u8> {
        let length = (14 + header.len() + data.len()) as u32;
        let start = marked(PART, &[&[0, 0][..], &length.to_be_bytes(), &[0, 1]].concat());
        [&start, header, &DATA, data].concat()
    }

    #[test]
    fn blocks_are_counted_by_the_smallest_of_any_tile() {
        let read = |parts: &[&[u8]]| Structure::read(&parts.concat()).unwrap();
        let plain = read(&[&size(1024), &style(&[]), &part(&[], b"x"), &END]);
        assert!(plain.is_complete);
        assert_eq!((plain.tiles, plain.components, plain.layers), (1, 3, 1));
        // A margin of two at each side, as they need not begin with the tile.
        let with_margin = |across: u64, down: u64| (across + 2) * (down + 2);
        assert_eq!(plain.blocks, 3 * with_margin(16, 8));
        // Of 4 x 4 samples in half of the size, and of 2 x 2 in the three bands of as many.
        let precincts = style(&[0x22, 0x22]);
        let of_tile = read(&[&size(1024), &style(&[]), &part(&precincts, b"x"), &END]);
        let expected = 3 * with_margin(128, 64) + 9 * with_margin(256, 128);
        assert_eq!(of_tile.blocks, expected);
        let bare = [0xff, 0x30];
        let hidden = [
            &size(1024),
            &bare[..],
            &style(&[]),
            &part(&[&bare, &*precincts].concat(), b"x"),
            &END,
        ];
        assert_eq!(read(&hidden).blocks, expected);
        let tiny = read(&[&size(1), &style(&[]), &END]);
        assert_eq!((tiny.tiles, tiny.blocks), (1024 * 512, 3 * with_margin(0, 0)));
    }

    #[test]
    fn trees_over_blocks_in_one_long_row_are_as_wide_as_high() {
        let sides = [1u32, 1_000_000, 0, 0, 1, 1_000_000, 0, 0].map(u32::to_be_bytes).concat();
        let content = [&[0, 0][..], &sides, &[0, 1, 7, 1, 1]].concat();
        let head = [&START[..2], &marked([0xff, 0x51], &content)].concat();
        let nodes = |block: [u8; 2]| {
            let style = [0, 0, 0, 1, 0, 0, block[0], block[1], 0, 1];
            Structure::read(&[&head, &marked(STYLE, &style)[..]].concat()).unwrap().nodes
        };
        // Of 64 x 64 and of 1,024 x 4.
        assert!(nodes([4, 4]) < 1 << 26, "{}", nodes([4, 4]));
        assert!(nodes([8, 0]) > 1 << 32, "{}", nodes([8, 0]));
    }

    #[test]
    fn what_is_cut_is_not_complete() {
        let whole = [size(1024), style(&[]), part(&[], b"data"), END.to_vec()].concat();
        for end in 0..whole.len() {
            let read = Structure::read(&whole[..end]);
            assert!(read.is_none_or(|read| !read.is_complete), "{end}");
        }
        assert!(Structure::read(&whole).unwrap().is_complete);
    }
}
