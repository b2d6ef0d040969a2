//! What a row of a collection holds, whichever server keeps it.

use serde::Serialize;

use crate::embedding::{Embedding, InvalidVector};
use crate::error::{Error, Result};
use crate::record::ImageId;

/// The longest text of a column in bytes; Milvus's own limit.
pub const MAX_TEXT: usize = 65_535;

/// What is known of an image, without its vector. All but `record` is there to be filtered by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// The absolute path of its first file; what is not UTF-8 in it is replaced.
    pub path: String,
    /// Whether something in `path` was replaced.
    pub path_lossy: bool,
    /// The indexed folder that holds that file.
    pub root: String,
    /// BLAKE3 of the file, hexadecimal.
    pub content_hash: String,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// The format of the content.
    pub format: String,
    /// ISO 8601.
    pub taken_at: Option<String>,
    /// Make and model.
    pub camera: Option<String>,
    /// The lens's model.
    pub lens: Option<String>,
    /// Degrees, north and east positive.
    pub place: Option<(f64, f64)>,
    /// 1 to 5 stars, 0 unrated, -1 rejected.
    pub rating: Option<i8>,
    /// As they are written.
    pub keywords: Vec<String>,
    /// All that an answer shows, as JSON text of at most [`MAX_TEXT`] bytes.
    pub record: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The image.
    pub id: ImageId,
    /// Its unit vector.
    pub embedding: Embedding,
    /// What is known of it.
    pub facts: Facts,
}

/// Refuses rows with vectors of another width than the collection's.
pub(super) fn check_widths(rows: &[Row], width: usize) -> Result<()> {
    let Some(odd) = rows.iter().find(|row| row.embedding.width() != width) else { return Ok(()) };
    let source = InvalidVector::Width { expected: width, found: odd.embedding.width() };
    Err(Error::StoredFeatures { image: odd.id, source })
}
