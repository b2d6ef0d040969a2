//! Small pictures of photos, for exports that show them.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::network::{Channels, Filter, Layout, Pixels, Preprocessing};
use crate::photo::{self, DecodeOptions};

/// The central square of each photo, `side` × `side` pixels, upright; nothing where it cannot be decoded (any
/// more). Photos are decoded on all cores.
pub fn thumbnails(photos: &[PathBuf], side: u32, options: &DecodeOptions) -> Vec<Option<Pixels>> {
    photos.par_iter().map(|path| thumbnail(path, side, options)).collect()
}

fn thumbnail(path: &Path, side: u32, options: &DecodeOptions) -> Option<Pixels> {
    let wanted = Preprocessing {
        size: side,
        resize: side,
        filter: Filter::Bilinear,
        channels: Channels::Rgb,
        layout: Layout::Nhwc,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let photo = photo::read(path, options.max_bytes).ok()?;
    Some(photo::decode(&photo, &wanted, options).ok()?.pixels)
}
