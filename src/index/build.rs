//! Embeddings → a published generation.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::calibrate::calibrate;
use super::coder::{self, Coder};
use super::codes::{Codes, row_bytes};
use super::generation::Draft;
use super::graph::{Graph, Lists};
use super::link::{Links, link};
use super::manifest::{CODER, CODES, Coding, FINE, FORMAT, GRAPH, IDS, Manifest, ROUGH};
use super::open::{Index, open};
use super::planes;
use super::search::{Scratch, Space};
use super::vectors::Vectors;
use super::{Params, Unusable};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::record::{ImageId, ModelFingerprint};

/// The vectors in single precision, which go away when the index is built.
const FLOATS: &str = "vectors.f32";

/// Vectors turned into codes between two looks at whether to stop.
const CHUNK: usize = 4_096;

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
/// Only one vector is held at a time; the rest lies in the files, mapped. While it is built they take the room of the
/// vectors in single precision, too. The codes of two builds of the
/// same embeddings are the same; the graphs are not, as insertion runs on all of rayon's threads and
/// levels are drawn at random, but of the same quality.
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
    let Contents { fingerprint, width, .. } = *contents;
    let draft = Draft::begin(folder)?;
    let Written { count, last_sequence } = write_vectors(&draft, contents, watch)?;
    let floats = draft.map(FLOATS)?;
    let vectors = Vectors::mapped(&floats, width);

    let coder::Learned { coder, kept } = coder::learn(vectors, params.code_width);
    draft.write(CODER, &coder.to_bytes())?;
    write_codes(&draft, &coder, vectors, watch)?;
    let mapped = draft.map(CODES)?;
    let codes = Codes::new(&mapped, row_bytes(coder.code_width()));

    let m = params.m.unwrap_or_else(|| Params::m_among(count));
    let passes = if count < Params::VERY_MANY { 1 } else { 2 };
    let links = Links { m, ef_construction: params.ef_construction, passes };
    let lists = if count == 0 { Lists::default() } else { link(codes, links, watch)? };
    let graph_bytes = lists.to_bytes();
    draft.write(GRAPH, &graph_bytes)?;
    let graph = Graph::parse(&graph_bytes, count).expect("it was written just now");
    let space = Space { graph: &graph, graph_bytes: &graph_bytes, codes };
    let calibration = calibrate(&space, &Scratch::default(), vectors, params.recall);
    drop(floats);
    draft.remove(FLOATS)?;

    let coding = Coding { learned: coder.is_learned(), code_width: coder.code_width(), kept };
    draft.publish(Manifest {
        format: FORMAT,
        generation: String::new(),
        fingerprint,
        width,
        count,
        last_sequence,
        params,
        m,
        coding,
        calibration,
        files: BTreeMap::new(),
    })?;
    open(folder, fingerprint, width).map_err(|reason: Unusable| Error::IndexUnreadable {
        folder: folder.to_path_buf(),
        source: Box::new(reason),
    })
}

struct Written {
    count: usize,
    last_sequence: i64,
}

/// Writes vectors and ids in a stream.
fn write_vectors(draft: &Draft, contents: &Contents<'_>, watch: &Watch<'_>) -> Result<Written> {
    let (mut floats, mut ids) = (draft.create(FLOATS)?, draft.create(IDS)?);
    let (mut rough, mut fine) = (draft.create(ROUGH)?, draft.create(FINE)?);
    let mut written = Written { count: 0, last_sequence: 0 };
    let [mut row, mut rough_row, mut fine_row] = [const { Vec::new() }; 3];
    (contents.embeddings)(&mut |sequence, id, embedding| {
        watch.check()?;
        row.clear();
        row.extend(embedding.as_slice().iter().flat_map(|v| v.to_le_bytes()));
        floats.write(&row)?;
        planes::split(embedding.as_slice(), &mut rough_row, &mut fine_row);
        rough.write(&rough_row)?;
        fine.write(&fine_row)?;
        ids.write(&id.0.to_le_bytes())?;
        written.count += 1;
        written.last_sequence = written.last_sequence.max(sequence);
        Ok(())
    })?;
    for file in [floats, rough, fine, ids] {
        file.finish()?;
    }
    Ok(written)
}

fn write_codes(
    draft: &Draft,
    coder: &Coder,
    vectors: Vectors<'_>,
    watch: &Watch<'_>,
) -> Result<()> {
    let mut codes = draft.create(CODES)?;
    for start in (0..vectors.len()).step_by(CHUNK) {
        watch.check()?;
        let points = start..(start + CHUNK).min(vectors.len());
        let rows = points.clone().into_par_iter().map(|p| coder.encode(vectors.row(p as u32)));
        rows.collect::<Vec<_>>().iter().try_for_each(|row| codes.write(row))?;
        vectors.release(points);
    }
    codes.finish()
}

#[cfg(test)]
mod tests;
