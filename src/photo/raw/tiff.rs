//! The directories of a TIFF structure (TIFF 6.0, section 2), as camera RAW files are built of them.
//!
//! Only what leads to previews is read; offsets are checked, and each directory is entered once.

/// A structure within a file: offsets count from its beginning.
#[derive(Clone, Copy)]
pub(super) struct Tiff<'a> {
    bytes: &'a [u8],
    little_endian: bool,
}

/// One entry of a directory.
#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    /// Bytes that a value takes.
    width: usize,
    count: usize,
    /// Where its values lie.
    at: usize,
}

/// The tags of one directory that lead to a preview, or say that it is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) compression: Option<u32>,
    /// How the pixels are meant; 32803 is a sensor's colour filter array.
    pub(super) photometric: Option<u32>,
    pub(super) strips: Vec<(usize, usize)>,
    /// `JPEGInterchangeFormat`, or Panasonic's `JpgFromRaw`: offset and length.
    pub(super) jpeg: Option<(usize, usize)>,
    /// `DNGVersion` is there.
    pub(super) is_dng: bool,
}

/// A file has a handful of directories; a hostile one, any number.
const MAX_DIRECTORIES: usize = 64;
const MAX_ENTRIES: usize = 1_024;
const MAX_VALUES: usize = 4_096;

const COMPRESSION: u16 = 0x0103;
const PHOTOMETRIC: u16 = 0x0106;
const STRIP_OFFSETS: u16 = 0x0111;
const STRIP_LENGTHS: u16 = 0x0117;
const SUB_DIRECTORIES: u16 = 0x014a;
const JPEG_OFFSET: u16 = 0x0201;
const JPEG_LENGTH: u16 = 0x0202;
const PANASONIC_JPEG: u16 = 0x002e;
const EXIF_DIRECTORY: u16 = 0x8769;
const DNG_VERSION: u16 = 0xc612;

impl<'a> Tiff<'a> {
    /// Reads the header. Its number is 42, and for cameras that want no TIFF reader to open their files
    /// another: Olympus has `RO` or `RS`, Panasonic `U\0`.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let little_endian = match bytes.first_chunk()? {
            b"II*\0" | b"IIRO" | b"IIRS" | b"IIU\0" => true,
            b"MM\0*" | b"MMOR" => false,
            _ => return None,
        };
        Some(Self { bytes, little_endian })
    }

    /// The first directory.
    pub(super) fn main_directory(&self) -> Option<Directory> {
        Some(self.directory(self.u32_at(4)?)?.0)
    }

    /// All directories: the chain, their sub-directories, and EXIF's; in the order they are come upon.
    pub(super) fn directories(&self) -> Vec<Directory> {
        let mut found = Vec::new();
        let mut entered = Vec::new();
        let mut waiting: Vec<usize> = self.u32_at(4).into_iter().collect();
        while let Some(at) = waiting.pop() {
            if at == 0 || entered.contains(&at) || entered.len() == MAX_DIRECTORIES {
                continue;
            }
            entered.push(at);
            let Some((directory, others)) = self.directory(at) else { continue };
            found.push(directory);
            waiting.extend(others.into_iter().rev());
        }
        found
    }

    /// A directory, and where others that it names begin.
    fn directory(&self, at: usize) -> Option<(Directory, Vec<usize>)> {
        let count = usize::from(self.u16_at(at)?);
        let first = at.checked_add(2)?;
        let entries: Vec<Entry> =
            (0..count.min(MAX_ENTRIES)).map_while(|n| self.entry(first + n * 12)).collect();
        let values = |tag: u16| -> Vec<usize> {
            let entry = entries.iter().find(|entry| entry.tag == tag);
            entry.map_or_else(Vec::new, |entry| self.values(*entry))
        };
        let value = |tag: u16| values(tag).first().copied();
        let number = |tag: u16| value(tag).and_then(|value| u32::try_from(value).ok());
        let panasonic = entries.iter().find(|entry| entry.tag == PANASONIC_JPEG);
        let directory = Directory {
            compression: number(COMPRESSION),
            photometric: number(PHOTOMETRIC),
            strips: values(STRIP_OFFSETS).into_iter().zip(values(STRIP_LENGTHS)).collect(),
            jpeg: value(JPEG_OFFSET)
                .zip(value(JPEG_LENGTH))
                .or_else(|| panasonic.map(|entry| (entry.at, entry.count * entry.width))),
            is_dng: entries.iter().any(|entry| entry.tag == DNG_VERSION),
        };
        let mut others = values(SUB_DIRECTORIES);
        others.extend(value(EXIF_DIRECTORY));
        others.extend(self.u32_at(first + count * 12));
        Some((directory, others))
    }

    fn entry(&self, at: usize) -> Option<Entry> {
        let (tag, kind) = (self.u16_at(at)?, self.u16_at(at.checked_add(2)?)?);
        let count = self.u32_at(at + 4)?;
        // Bytes, text and bytes of unknown meaning; 16, 32, 64 bits; the rest is of no interest here.
        let width = match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 => 8,
            _ => return Some(Entry { tag, width: 0, count: 0, at }),
        };
        let is_inline = count.checked_mul(width)? <= 4;
        let at = if is_inline { at + 8 } else { self.u32_at(at + 8)? };
        Some(Entry { tag, width, count, at })
    }

    /// The numbers of an entry of 16 or 32 bits, as far as they lie within the file.
    fn values(&self, entry: Entry) -> Vec<usize> {
        let numbers = 0..entry.count.min(MAX_VALUES);
        let read = |n: usize| {
            let at = entry.at.checked_add(n * entry.width)?;
            match entry.width {
                2 => self.u16_at(at).map(usize::from),
                4 => self.u32_at(at),
                _ => None,
            }
        };
        numbers.map_while(read).collect()
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32_at(&self, at: usize) -> Option<usize> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        let number =
            if self.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        usize::try_from(number).ok()
    }
}
