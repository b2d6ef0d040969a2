//! The folder that TensorBoard's Embedding Projector reads, also the one at <https://projector.tensorflow.org>:
//! vectors and metadata as tab-separated text, thumbnails in one square picture, and what says so.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::sink::Sink;
use super::vectors::{Digest, Shape, Vector, invalid};
use super::{Thumbnails, Writer};
use crate::error::{Error, Result};
use crate::record::ExportRow;

/// The projector lays out no more points.
pub const MOST_POINTS: u64 = 100_000;

/// The most pixels along a side of the sprite that the projector, and the WebGL below it, take.
const SPRITE: u32 = 8_192;

/// The side of a thumbnail, where as many fit.
const THUMBNAIL: u32 = 64;

/// What is shown of a photo that cannot be decoded any more.
const GREY: u8 = 0x80;

const COLUMNS: [&str; 13] = [
    "path",
    "folder",
    "id",
    "content_hash",
    "width",
    "height",
    "format",
    "taken_at",
    "camera",
    "lens",
    "latitude_longitude",
    "rating",
    "keywords",
];
const ID: usize = 2;

pub(super) struct Projector<'a> {
    vectors: Sink,
    metadata: Sink,
    sprite: Sink,
    config: Sink,
    thumbnails: Thumbnails<'a>,
    /// Rows of the sprite as they are finished: it is encoded when all are there.
    pixels: File,
    /// Thumbnails along a side.
    side: u32,
    /// Pixels along a side of a thumbnail.
    thumbnail: u32,
    strips: u32,
    waiting: Vec<PathBuf>,
    line: String,
}

impl<'a> Projector<'a> {
    pub(super) fn create(folder: &Path, shape: &Shape, thumbnails: Thumbnails<'a>) -> Result<Self> {
        let mut metadata = Sink::create(&folder.join("metadata.tsv"))?;
        writeln!(metadata, "{}", COLUMNS.join("\t")).map_err(|source| metadata.failed(source))?;
        let (side, thumbnail) = sprite(shape.rows);
        let mut config = Sink::create(&folder.join("projector_config.pbtxt"))?;
        write!(
            config,
            "embeddings {{
  tensor_name: \"likeness\"
  tensor_path: \"vectors.tsv\"
  metadata_path: \"metadata.tsv\"
  sprite {{
    image_path: \"sprite.png\"
    single_image_dim: {thumbnail}
    single_image_dim: {thumbnail}
  }}
}}
"
        )
        .map_err(|source| config.failed(source))?;
        let sprite = Sink::create(&folder.join("sprite.png"))?;
        let pixels = tempfile::tempfile_in(folder).map_err(|source| sprite.failed(source))?;
        Ok(Self {
            vectors: Sink::create(&folder.join("vectors.tsv"))?,
            metadata,
            sprite,
            config,
            thumbnails,
            pixels,
            side,
            thumbnail,
            strips: 0,
            waiting: Vec::new(),
            line: String::new(),
        })
    }

    /// Draws the thumbnails that wait as one row of the sprite.
    fn draw(&mut self) -> Result<()> {
        let (thumbnail, row_bytes) = (self.thumbnail as usize, 3 * self.pixels_along() as usize);
        let mut strip = vec![GREY; row_bytes * thumbnail];
        let drawn = (self.thumbnails)(&self.waiting, self.thumbnail);
        for (at, pixels) in drawn.iter().enumerate() {
            let Some(pixels) = pixels else { continue };
            for (row, line) in pixels.as_rgb().chunks_exact(3 * thumbnail).enumerate() {
                let from = row * row_bytes + 3 * at * thumbnail;
                strip[from..from + line.len()].copy_from_slice(line);
            }
        }
        self.waiting.clear();
        self.strips += 1;
        self.pixels.write_all(&strip).map_err(|source| self.sprite.failed(source))
    }

    fn pixels_along(&self) -> u32 {
        self.side * self.thumbnail
    }

    fn encode(&mut self) -> io::Result<()> {
        let (along, rows) = (self.pixels_along(), self.strips * self.thumbnail);
        let mut encoder = png::Encoder::new(&mut self.sprite, along, along);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        let mut stream = writer.stream_writer()?;
        self.pixels.seek(SeekFrom::Start(0))?;
        io::copy(&mut self.pixels, &mut stream)?;
        // Square, whether or not the last rows hold photos.
        let empty = vec![0xff; 3 * along as usize];
        (rows..along).try_for_each(|_| stream.write_all(&empty))?;
        stream.finish()?;
        writer.finish()?;
        Ok(())
    }
}

/// Thumbnails along a side of the sprite, and pixels along a side of a thumbnail.
fn sprite(rows: u64) -> (u32, u32) {
    let side = (1u32..).find(|side| u64::from(*side) * u64::from(*side) >= rows);
    let side = side.expect("the limit on points is far below");
    (side, THUMBNAIL.min(SPRITE / side).max(1))
}

impl Writer for Projector<'_> {
    fn write(&mut self, row: &ExportRow, vector: Vector<'_>) -> Result<()> {
        use std::fmt::Write as _;
        self.line.clear();
        for value in vector.values {
            // Writing into a String does not fail.
            let _ = write!(self.line, "{value}\t");
        }
        self.line.pop();
        self.line.push('\n');
        let written = self.vectors.write_all(self.line.as_bytes());
        written.map_err(|source| self.vectors.failed(source))?;

        let details = &row.details;
        let path = row.path.to_string_lossy();
        let folder = row.path.parent().and_then(Path::file_name).unwrap_or_default();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let place = details.latitude.zip(details.longitude);
        let fields: [String; COLUMNS.len()] = [
            path.into_owned(),
            folder.to_string_lossy().into_owned(),
            row.id.to_string(),
            row.content_hash.to_string(),
            row.width.to_string(),
            row.height.to_string(),
            row.format.clone(),
            text(&details.taken_at),
            text(&details.camera),
            text(&details.lens),
            place.map(|(north, east)| format!("{north}, {east}")).unwrap_or_default(),
            details.rating.map(|stars| stars.to_string()).unwrap_or_default(),
            details.keywords.join(", "),
        ];
        // The format knows no quoting.
        let fields = fields.map(|field| field.replace(['\t', '\n', '\r'], " "));
        writeln!(self.metadata, "{}", fields.join("\t"))
            .map_err(|source| self.metadata.failed(source))?;

        self.waiting.push(row.path.clone());
        if self.waiting.len() == self.side as usize { self.draw() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Sink>> {
        if !self.waiting.is_empty() {
            self.draw()?;
        }
        self.encode().map_err(|source| self.sprite.failed(source))?;
        Ok(vec![self.vectors, self.metadata, self.sprite, self.config])
    }
}

pub(super) fn read_back(
    [vectors, metadata, picture]: [&Path; 3],
    shape: &Shape,
    digest: &mut Digest,
) -> io::Result<()> {
    let (mut values, mut scratch) = (Vec::new(), Vec::new());
    for line in BufReader::with_capacity(1 << 18, File::open(vectors)?).lines() {
        values.clear();
        for field in line?.split('\t') {
            values.push(field.parse::<f32>().map_err(invalid)?);
        }
        if values.len() != shape.width {
            return Err(invalid(format!("a vector of {} components", values.len())));
        }
        digest.values(&values, &mut scratch);
    }
    for line in BufReader::new(File::open(metadata)?).lines().skip(1) {
        let line = line?;
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != COLUMNS.len() {
            return Err(invalid(format!("metadata of {} columns", fields.len())));
        }
        digest.id(fields[ID].parse().map_err(invalid)?);
    }
    let mut reader = png::Decoder::new(BufReader::new(File::open(picture)?)).read_info()?;
    let along = {
        let (side, thumbnail) = sprite(shape.rows);
        side * thumbnail
    };
    if reader.info().size() != (along, along) {
        return Err(invalid("a sprite of another size"));
    }
    while reader.next_row()?.is_some() {}
    Ok(())
}

/// That an export holds more points than the projector takes.
pub(super) fn too_many(points: u64) -> Error {
    Error::ExportUnsuited {
        what: format!("the Embedding Projector takes {MOST_POINTS} points, and these are {points}"),
        remedy: "choose fewer photos with `--where` or `--since`".into(),
    }
}
