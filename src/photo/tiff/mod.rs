//! TIFF, by the `tiff` crate asked directly: `image` decodes fewer kinds, and passes over bits that are
//! stored in reverse and colours that were multiplied by alpha.
//!
//! The crate knows no palettes and no CIE Lab. Their samples are numbers like grey ones, so the page is
//! called grey in a copy (`known.rs`), and what the numbers mean is seen to here (`meaning.rs`).

mod known;
mod meaning;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind, Read, Seek};

use image::metadata::Orientation;
use tiff::TiffError;
use tiff::decoder::{ChunkType, DecodingResult, Limits};
use tiff::tags::Tag;

use self::meaning::{Alpha, Meaning};
use super::decode::{Metadata, Raster};
use super::image_rs::{END_TEXTS, WHOLE};
use super::read::from_start;
use super::resize::eight_bits;
use super::wanted::Wanted;
use super::{Unreadable, stream};

/// The largest file whose facts are read, in bytes: that takes a copy of it.
const MAX_FACTS: usize = 64 << 20;

const FORMAT: &str = "TIFF";

const XMP: Tag = Tag::Unknown(700);

/// `Compression`.
const LZW: u16 = 5;
const JPEG: u16 = 7;

/// What GDAL writes there is where nothing was measured: a number as text.
const NO_DATA: Tag = Tag::Unknown(42_113);

/// CMYK and alpha; of more, a satellite knows the meaning.
const MAX_CHANNELS: usize = 5;

type Decoder<'a> = tiff::decoder::Decoder<Cursor<&'a [u8]>>;
type FromFile<'a> = tiff::decoder::Decoder<BufReader<&'a File>>;

struct Page {
    size: (u32, u32),
    /// Bits a sample.
    bits: u8,
    planes_apart: bool,
    bits_reversed: bool,
    is_lzw: bool,
    meaning: Meaning,
    alpha: Option<Alpha>,
    is_float: bool,
    /// Which numbers are black and white, of floating ones.
    range: (f32, f32),
    /// Which number stands where nothing was measured.
    no_data: Option<f32>,
}

/// Decodes the first page, or of what is very large every few pixels' average.
///
/// # Errors
/// [`Unreadable`] when it is truncated, damaged, too large, or of a rare kind.
pub(super) fn decode(bytes: &[u8], wanted: &Wanted<'_>) -> Result<Raster, Unreadable> {
    let mut decoder = open(bytes, wanted.max_bytes)?;
    let size = decoder.dimensions().map_err(reason)?;
    wanted.check_size(size)?;
    let mut page = Page::read(&mut decoder, size)?;
    let mut block = |tag| decoder.get_tag_u8_vec(tag).ok();
    let mut metadata = Metadata {
        // The file is such a structure itself.
        exif: (bytes.len() <= MAX_FACTS).then(|| bytes.to_vec()),
        xmp: block(XMP),
        icc: block(Tag::IccProfile),
    };
    let orientation = decoder.find_tag_unsigned(Tag::Orientation).ok().flatten();
    let orientation = orientation.and_then(Orientation::from_exif);
    let known = page.as_known(bytes, &mut decoder)?;
    let mut decoder = open(&known, wanted.max_bytes)?;
    let channels = usize::from(decoder.colortype().map_err(reason)?.num_samples());
    if channels < page.meaning.samples() {
        return Err(Unreadable::damaged("it has too few samples a pixel"));
    }
    if channels > MAX_CHANNELS {
        return Err(rare(format!("{channels} samples a pixel")));
    }
    let pixels = u64::from(size.0) * u64::from(size.1);
    let total = pixels * channels as u64 * u64::from(page.bits).div_ceil(8);
    if total > WHOLE
        && page.is_plain()
        && let Some(small) = stream::tiff(Cursor::new(bytes), page.alpha.is_some(), wanted)
    {
        return Ok(page.small(small, metadata, orientation));
    }
    // The samples as they come and in 8 bits, and the 8-bit RGB that is made of them.
    let _permit = wanted.room_for(total + pixels * (channels as u64 + 3))?;
    if page.is_float && page.meaning == Meaning::Grey {
        page.range = range(&mut decoder, &page, channels)?;
    }
    let samples = samples(&mut decoder, &page, channels)?;
    let image = page.picture(&samples, channels, &mut metadata);
    Ok(Raster::whole(image, size, metadata, orientation))
}

/// Decodes a large file of a common kind, holding a few rows of it; `None` for other kinds.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_by_rows(
    file: &File,
    wanted: &Wanted<'_>,
) -> Result<Option<Raster>, Unreadable> {
    let mut decoder = open_file(file)?;
    let size = decoder.dimensions().map_err(reason)?;
    wanted.check_size(size)?;
    let page = Page::read(&mut decoder, size)?;
    if !page.is_plain() {
        return Ok(None);
    }
    let mut metadata = Metadata {
        exif: None,
        xmp: decoder.get_tag_u8_vec(XMP).ok(),
        icc: decoder.get_tag_u8_vec(Tag::IccProfile).ok(),
    };
    let orientation = decoder.find_tag_unsigned(Tag::Orientation).ok().flatten();
    let orientation = orientation.and_then(Orientation::from_exif);
    drop(decoder);
    let Some(small) = stream::tiff(from_start(file)?, page.alpha.is_some(), wanted) else {
        return Ok(None);
    };
    let mut exif = Vec::new();
    let facts = from_start(file)?.take(MAX_FACTS as u64 + 1).read_to_end(&mut exif)?;
    metadata.exif = (facts <= MAX_FACTS).then_some(exif);
    Ok(Some(page.small(small, metadata, orientation)))
}

/// Whether a file is a DNG, whatever its name.
pub(super) fn is_dng(file: &File) -> bool {
    const DNG_VERSION: Tag = Tag::Unknown(50_706);
    open_file(file)
        .and_then(|mut decoder| decoder.find_tag(DNG_VERSION).map_err(reason))
        .is_ok_and(|version| version.is_some())
}

fn open_file(file: &File) -> Result<FromFile<'_>, Unreadable> {
    tiff::decoder::Decoder::new(from_start(file)?).map_err(reason)
}

fn open(bytes: &[u8], max_bytes: u64) -> Result<Decoder<'_>, Unreadable> {
    let most = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = most;
    limits.intermediate_buffer_size = most;
    limits.ifd_value_size = most;
    let decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(reason)?;
    Ok(decoder.with_limits(limits))
}

impl Page {
    fn read<R: Read + Seek>(
        decoder: &mut tiff::decoder::Decoder<R>,
        size: (u32, u32),
    ) -> Result<Self, Unreadable> {
        const ASSOCIATED: u16 = 1;
        const STRAIGHT: u16 = 2;
        const UNSIGNED: u16 = 1;
        const FLOAT: u16 = 3;
        let mut numbers = |tag, default| -> Result<Vec<u16>, Unreadable> {
            let found = decoder.find_tag_unsigned_vec(tag).map_err(reason)?;
            Ok(found.filter(|found| !found.is_empty()).unwrap_or_else(|| vec![default]))
        };
        let mut number = |tag, default| numbers(tag, default).map(|found| found[0]);
        let bits = number(Tag::BitsPerSample, 1)?;
        let meaning = match number(Tag::PhotometricInterpretation, u16::MAX)? {
            0 | 1 => Meaning::Grey,
            2 => Meaning::Rgb,
            3 => Meaning::Palette(Vec::new()),
            5 => Meaning::Cmyk,
            6 => Meaning::YCbCr,
            8 => Meaning::Lab { is_icc: false },
            9 => Meaning::Lab { is_icc: true },
            other => return Err(rare(format!("photometric interpretation {other}"))),
        };
        let format = number(Tag::SampleFormat, UNSIGNED)?;
        let compression = number(Tag::Compression, 1)?;
        match (&meaning, bits, format) {
            (Meaning::Palette(_), 1..=8, UNSIGNED) | (Meaning::Lab { .. }, 8, UNSIGNED) => {}
            (Meaning::YCbCr, 8, UNSIGNED) if compression == JPEG => {}
            (Meaning::Grey, 1 | 2 | 4 | 8 | 16, UNSIGNED) => {}
            (Meaning::Rgb | Meaning::Cmyk, 8 | 16, UNSIGNED) => {}
            (Meaning::Grey | Meaning::Rgb, 32, UNSIGNED) => {}
            (Meaning::Grey | Meaning::Rgb, 16 | 32 | 64, FLOAT) => {}
            (meaning, bits, format) => {
                let format = match format {
                    UNSIGNED => "unsigned",
                    2 => "signed",
                    FLOAT => "floating",
                    _ => "unknown",
                };
                let name = meaning.name();
                let text = format!("{name} of {bits} {format} bits, compression {compression}");
                return Err(rare(text));
            }
        }
        let alpha = match number(Tag::ExtraSamples, 0)? {
            ASSOCIATED => Some(Alpha::Associated),
            STRAIGHT => Some(Alpha::Straight),
            // Some say nothing of a fourth sample beside RGB, and mean alpha.
            _ if meaning == Meaning::Rgb && number(Tag::SamplesPerPixel, 1)? == 4 => {
                Some(Alpha::Straight)
            }
            _ => None,
        };
        let (planes, order) = (number(Tag::PlanarConfiguration, 1)?, number(Tag::FillOrder, 1)?);
        let meaning = match meaning {
            Meaning::Palette(_) => Meaning::Palette(numbers(Tag::ColorMap, 0)?),
            other => other,
        };
        let no_data = decoder.get_tag_ascii_string(NO_DATA).ok();
        let no_data = no_data.and_then(|text| text.trim_matches(['\0', ' ']).parse().ok());
        Ok(Self {
            size,
            bits: bits as u8,
            planes_apart: planes == 2,
            bits_reversed: order == 2 && compression != JPEG,
            is_lzw: compression == LZW,
            meaning,
            alpha,
            is_float: format == FLOAT,
            range: (0.0, 1.0),
            no_data,
        })
    }
}

/// Where a strip or tile lies.
struct Chunk {
    plane: usize,
    left: usize,
    top: usize,
    /// Pixels of a row, and samples of each.
    columns: usize,
    together: usize,
}

impl Chunk {
    /// Which of its pixel's samples the one at a place is.
    fn sample(&self, at: usize) -> usize {
        self.plane + at % self.together
    }

    /// Its rows of pixels within the picture, each with the place of its first pixel; `samples` are all it has.
    fn rows<'a, T>(
        &self,
        samples: &'a [T],
        (width, height): (u32, u32),
    ) -> impl Iterator<Item = (usize, &'a [T])> {
        let row = (self.columns * self.together).max(1);
        let within = self.columns.min((width as usize).saturating_sub(self.left)) * self.together;
        let first = (self.top * width as usize) + self.left;
        samples
            .chunks_exact(row)
            .take((height as usize).saturating_sub(self.top))
            .enumerate()
            .map(move |(y, line)| (first + y * width as usize, &line[..within]))
    }
}

/// Reads one strip or tile after the other. They are put together here: the crate's own way panics on planes of tiles
/// that reach beyond the picture.
fn each_chunk(
    decoder: &mut Decoder<'_>,
    page: &Page,
    channels: usize,
    mut take: impl FnMut(&Chunk, DecodingResult) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let across = match decoder.get_chunk_type() {
        ChunkType::Strip => 1,
        ChunkType::Tile => page.size.0.div_ceil(chunk_width),
    };
    let (planes, together) = if page.planes_apart { (channels, 1) } else { (1, channels) };
    let down = page.size.1.div_ceil(chunk_height);
    for plane in 0..planes {
        for (row, column) in (0..down).flat_map(|row| (0..across).map(move |column| (row, column)))
        {
            let chunk = (plane as u32 * down + row) * across + column;
            let read = decoder.read_chunk(chunk).map_err(reason)?;
            let columns = decoder.chunk_data_dimensions(chunk).0 as usize;
            let left = column as usize * chunk_width as usize;
            let top = row as usize * chunk_height as usize;
            take(&Chunk { plane, left, top, columns, together }, read)?;
        }
    }
    Ok(())
}

/// All samples in 8 bits, those of a pixel side by side.
fn samples(decoder: &mut Decoder<'_>, page: &Page, channels: usize) -> Result<Vec<u8>, Unreadable> {
    let mut samples = vec![0; page.size.0 as usize * page.size.1 as usize * channels];
    each_chunk(decoder, page, channels, |chunk, read| {
        let eight_bits = page.eight_bits(read, chunk)?;
        for (first, line) in chunk.rows(&eight_bits, page.size) {
            let pixels = samples[first * channels..].chunks_exact_mut(channels);
            for (pixel, part) in pixels.zip(line.chunks_exact(chunk.together)) {
                pixel[chunk.plane..chunk.plane + chunk.together].copy_from_slice(part);
            }
        }
        Ok(())
    })?;
    Ok(samples)
}

/// From the least to the greatest number where not all are light from 0 to 1, but heights, depths or counts.
fn range(
    decoder: &mut Decoder<'_>,
    page: &Page,
    channels: usize,
) -> Result<(f32, f32), Unreadable> {
    let (light, mut range) = (page.range, (f32::INFINITY, f32::NEG_INFINITY));
    each_chunk(decoder, page, channels, |chunk, read| {
        let numbers = floats(read).unwrap_or_default();
        for (_, line) in chunk.rows(&numbers, page.size) {
            for (at, number) in line.iter().enumerate() {
                // What is not a number is no measurement, either, nor what is next to the greatest there is.
                let is_measured = number.abs() < 1e38 && Some(*number) != page.no_data;
                if is_measured && !page.is_alpha(chunk.sample(at)) {
                    range = (range.0.min(*number), range.1.max(*number));
                }
            }
        }
        Ok(())
    })?;
    let is_light = range.0 >= light.0 && range.1 <= light.1;
    Ok(if is_light || range.0 >= range.1 { light } else { range })
}

/// Numbers that are stored as floating ones.
fn floats(read: DecodingResult) -> Option<Vec<f32>> {
    match read {
        DecodingResult::F16(samples) => Some(samples.into_iter().map(f32::from).collect()),
        DecodingResult::F32(samples) => Some(samples),
        DecodingResult::F64(samples) => Some(samples.into_iter().map(|v| v as f32).collect()),
        _ => None,
    }
}

impl Page {
    /// Whether rows of it can be averaged as they are stored: no floats, which look like numbers of as many bits.
    fn is_plain(&self) -> bool {
        matches!(self.meaning, Meaning::Grey | Meaning::Rgb | Meaning::Cmyk)
            && !self.is_float
            && !self.bits_reversed
            && self.alpha != Some(Alpha::Associated)
    }

    /// Whether a pixel's sample of this number is alpha.
    fn is_alpha(&self, sample: usize) -> bool {
        self.alpha.is_some() && sample == self.meaning.samples()
    }

    /// What was read of a chunk in 8 bits; a palette's samples as they are.
    fn eight_bits(&self, read: DecodingResult, chunk: &Chunk) -> Result<Vec<u8>, Unreadable> {
        let row = chunk.columns * chunk.together;
        Ok(match read {
            DecodingResult::U8(samples) if self.bits == 8 => samples,
            DecodingResult::U8(packed) => {
                let is_palette = matches!(self.meaning, Meaning::Palette(_));
                let scale = if is_palette { 1 } else { 255 / ((1 << self.bits) - 1) };
                // Rows begin with a byte.
                let lines = packed.chunks_exact((row * usize::from(self.bits)).div_ceil(8).max(1));
                let samples = lines.flat_map(|line| stream::unpacked(line, row, self.bits));
                samples.map(|sample| sample * scale).collect()
            }
            DecodingResult::U16(samples) => samples.into_iter().map(eight_bits).collect(),
            DecodingResult::U32(samples) => {
                samples.into_iter().map(|v| eight_bits((v >> 16) as u16)).collect()
            }
            other => {
                let unknown = || rare(format!("{} of {} bits", self.meaning.name(), self.bits));
                let byte = |(at, number): (usize, f32)| {
                    let is_alpha = self.is_alpha(chunk.sample(at));
                    let (black, white) = if is_alpha { (0.0, 1.0) } else { self.range };
                    // Casting clamps.
                    ((number - black) / (white - black) * 255.0).round() as u8
                };
                floats(other).ok_or_else(unknown)?.into_iter().enumerate().map(byte).collect()
            }
        })
    }
}

fn reason(error: TiffError) -> Unreadable {
    let text = match &error {
        TiffError::UnsupportedError(what) => return rare(what.to_string()),
        TiffError::FormatError(what) => what.to_string(),
        other => other.to_string(),
    };
    match error {
        TiffError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => {
            Unreadable::Truncated { format: FORMAT }
        }
        _ if END_TEXTS.iter().any(|end| text.contains(end)) => {
            Unreadable::Truncated { format: FORMAT }
        }
        _ => Unreadable::damaged(&text),
    }
}

fn rare(reason: String) -> Unreadable {
    Unreadable::Variant { format: FORMAT, reason }
}
