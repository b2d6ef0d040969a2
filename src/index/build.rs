//! Embeddings → a published generation.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use memmap2::Mmap;

use super::codes::{self, Codes};
use super::generation::{self, CODES, Draft, GRAPH, IDS, Index};
use super::graph::Lists;
use super::link::link;
use super::{Params, Unusable};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::record::{ImageId, ModelFingerprint};

/// What an index is made of.
pub struct Contents<'a> {
    /// The model of the embeddings.
    pub fingerprint: ModelFingerprint,
    /// Their width.
    pub width: usize,
    /// Gives every embedding once, one at a time, with its place in time, to the function it is handed.
    pub embeddings: &'a EachEmbedding<'a>,
}

/// See [`Contents::embeddings`].
pub type EachEmbedding<'a> =
    dyn Fn(&mut dyn FnMut(i64, ImageId, Embedding) -> Result<()>) -> Result<()> + 'a;

/// Builds an index in `folder` and publishes it; the one that was there serves until then.
///
/// Insertion runs on all of rayon's threads, and levels are drawn at random, so two builds of the same
/// embeddings give different graphs of the same quality.
///
/// # Errors
/// [`Error::Io`], [`Error::Cancelled`], [`Error::IndexUnreadable`] when what was written cannot be read
/// back, and whatever `contents` gives.
pub fn build(
    folder: &Path,
    contents: &Contents<'_>,
    params: Params,
    watch: &Watch<'_>,
) -> Result<Index> {
    let draft = Draft::begin(folder)?;
    let written = write_codes(&draft, contents, watch)?;
    let codes_path = draft.path(CODES);
    let graph = if written.count == 0 {
        Lists::default()
    } else {
        let file = File::open(&codes_path).map_err(Error::io("open", &codes_path))?;
        // SAFETY: the draft folder is ours alone, and the file is complete.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", &codes_path))?;
        let codes = Codes { bytes: &map, row_bytes: codes::row_bytes(contents.width) };
        link(codes, written.count, params, watch)?
    };
    draft.write(GRAPH, &graph.to_bytes())?;
    let Contents { fingerprint, width, .. } = *contents;
    draft.publish(generation::manifest(
        fingerprint,
        width,
        written.count,
        written.last_sequence,
        params,
    ))?;
    generation::open(folder, fingerprint, width).map_err(|reason: Unusable| {
        Error::IndexUnreadable { folder: folder.to_path_buf(), source: Box::new(reason) }
    })
}

struct Written {
    count: usize,
    last_sequence: i64,
}

/// Writes codes and ids in a stream: only one vector is in memory at a time.
fn write_codes(draft: &Draft, contents: &Contents<'_>, watch: &Watch<'_>) -> Result<Written> {
    let (codes_path, ids_path) = (draft.path(CODES), draft.path(IDS));
    let create =
        |path: &Path| File::create(path).map(BufWriter::new).map_err(Error::io("create", path));
    let (mut codes, mut ids) = (create(&codes_path)?, create(&ids_path)?);
    let mut written = Written { count: 0, last_sequence: 0 };
    (contents.embeddings)(&mut |sequence, id, embedding| {
        watch.check()?;
        let row: Vec<u8> = codes::encode(&embedding).into_iter().map(i8::cast_unsigned).collect();
        codes.write_all(&row).map_err(Error::io("write", &codes_path))?;
        ids.write_all(&id.0.to_le_bytes()).map_err(Error::io("write", &ids_path))?;
        written.count += 1;
        written.last_sequence = written.last_sequence.max(sequence);
        Ok(())
    })?;
    for (file, path) in [(codes, &codes_path), (ids, &ids_path)] {
        let file = file.into_inner().map_err(|e| Error::io("write", path)(e.into_error()))?;
        file.sync_all().map_err(Error::io("write", path))?;
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
