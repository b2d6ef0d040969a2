//! The published generation, open: memory-mapped, checked, searched.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::among::Among;
use super::calibrate::scaled;
use super::coder::Coder;
use super::codes::{Codes, Near, row_bytes};
use super::graph::Graph;
use super::manifest::{self, CODER, CODES, FILES, FINE, GRAPH, IDS, MANIFEST, Manifest, ROUGH};
use super::planes::{Planes, fine_row_bytes, rough_row_bytes};
use super::scan::{scan, scan_some};
use super::search::{Beam, Scratch, Space};
use super::{Calibration, Coding, Params, Unusable};
use crate::embedding::Embedding;
use crate::record::{Hit, ImageId, ModelFingerprint};

/// Up to so many points every search scans all codes, which misses next to nothing. The graph is faster from
/// 4,000 points on (`benches/RESULTS.md`), but a scan of so many takes a quarter of a millisecond.
pub(super) const SCAN_UP_TO: usize = 10_000;

/// Candidates that a scan orders by their vectors, at least, and how many for each image asked for.
pub(super) const SCAN_RERANK: (usize, usize) = (100, 4);

/// Distances that a search of the graph may measure, as a share of the images a scan would compare. One costs about
/// twice what it does in a scan, so a search that gives up has cost half of the scan that follows.
const BUDGET: f64 = 0.25;

/// Codes and graph up to so many bytes are hashed whenever they are opened. What is larger
/// is looked over only: damage there may cost a hit, never a crash, a wrong score or a wrong id.
const HASH_UP_TO: u64 = 16 << 20;

/// Queries that are turned into codes together: enough to read the components once for many, few enough to
/// stay in the nearest cache.
const CODED_AT_ONCE: usize = 16;

/// How candidates are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Search {
    /// By scanning up to 10,000 images, else by the graph; by scanning, too, where the graph does not find as
    /// much as was asked for when it was built.
    #[default]
    Auto,
    /// By the graph: most of the nearest, see [`Params::recall`]. Where that would look at more than a quarter of all
    /// images, they are scanned instead.
    Hnsw,
    /// By scanning the codes of all images: the time grows with their number.
    Exact,
}

/// How deep a search looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Depth {
    /// How far a search of the graph goes; `None` scans all codes.
    pub beam: Option<Beam>,
    /// Candidates ordered by their vectors, at most: fewer where the others lie too far by their codes.
    pub rerank: usize,
}

/// An open index, to be searched from any number of threads.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    manifest: Manifest,
    pub(super) coder: Coder,
    graph: Graph,
    codes: Mmap,
    graph_bytes: Mmap,
    ids: Mmap,
    rough: Mmap,
    fine: Mmap,
    scratch: Scratch,
}

/// Opens the published generation in `folder`. Sizes and headers are checked, and the hashes of all but
/// the vectors; those of codes and graph up to 16 MiB only, so that opening takes a few milliseconds
/// whatever the size. A damaged vector is noticed when it is used, the rest by [`Index::verify`].
///
/// # Errors
/// [`Unusable`], whatever is wrong: the caller builds a new one.
pub fn open(folder: &Path, fingerprint: ModelFingerprint, width: usize) -> Result<Index, Unusable> {
    let manifest = manifest::read(&folder.join(MANIFEST))?;
    if (manifest.fingerprint, manifest.width) != (fingerprint, width) {
        return Err(Unusable::OtherModel);
    }
    let here = folder.join(&manifest.generation);
    let damaged = |name: &str, what: String| Unusable::Damaged { path: here.join(name), what };
    if manifest.generation.contains(['/', '\\', '.']) {
        return Err(damaged("", "is no name of a generation".to_owned()));
    }
    let map = |name: &str| -> Result<Mmap, Unusable> {
        let path = here.join(name);
        let record = manifest.files.get(name);
        let record = record.ok_or_else(|| damaged(name, "is not listed".to_owned()))?;
        let mapped = File::open(&path)
            // SAFETY: generations are written once, under a name of their own, and only ever deleted
            // whole; a deleted file stays mapped. Who else writes into the library folder may cause a
            // fault, as with any memory-mapped file.
            .and_then(|file| unsafe { Mmap::map(&file) })
            .map_err(|error| damaged(name, format!("cannot be read: {error}")))?;
        if mapped.len() as u64 != record.bytes {
            return Err(damaged(name, "has another size than was written".to_owned()));
        }
        let large = matches!(name, CODES | GRAPH) && record.bytes > HASH_UP_TO;
        let vectors = matches!(name, ROUGH | FINE);
        if !vectors && !large && !is_as_written(&mapped, &record.blake3) {
            return Err(damaged(name, "has other bytes than were written".to_owned()));
        }
        Ok(mapped)
    };
    let rows = |name: &str, row_bytes: usize| -> Result<Mmap, Unusable> {
        let mapped = map(name)?;
        if manifest.count.checked_mul(row_bytes) != Some(mapped.len()) {
            return Err(damaged(name, format!("holds no {} rows", manifest.count)));
        }
        Ok(mapped)
    };
    let coder = Coder::parse(&map(CODER)?, width).map_err(|what| damaged(CODER, what))?;
    let codes = rows(CODES, row_bytes(coder.code_width()))?;
    let ids = rows(IDS, size_of::<i64>())?;
    let rough = rows(ROUGH, rough_row_bytes(width))?;
    let fine = rows(FINE, fine_row_bytes(width))?;
    let graph_bytes = map(GRAPH)?;
    let graph = Graph::parse(&graph_bytes, manifest.count).map_err(|what| damaged(GRAPH, what))?;
    let scratch = Scratch::default();
    let folder = here;
    Ok(Index { folder, manifest, coder, graph, codes, graph_bytes, ids, rough, fine, scratch })
}

/// As many distances, measured by a search of the graph, as are worth a scan of `count` codes.
pub(super) fn worth_a_scan(count: usize) -> usize {
    (count as f64 * BUDGET) as usize
}

fn is_as_written(bytes: &[u8], blake3: &str) -> bool {
    blake3::Hasher::new().update_rayon(bytes).finalize().to_hex().as_str() == blake3
}

impl Index {
    /// How many images it holds.
    pub fn len(&self) -> usize {
        self.manifest.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.manifest.count == 0
    }

    /// The name of its generation.
    pub fn generation(&self) -> &str {
        &self.manifest.generation
    }

    /// The newest embedding it holds: what is newer in the catalog is not in it.
    pub fn last_sequence(&self) -> i64 {
        self.manifest.last_sequence
    }

    /// How it was built.
    pub fn params(&self) -> Params {
        self.manifest.params
    }

    /// How many links its points have in the upper layers, half of those in the base layer.
    pub fn m(&self) -> usize {
        self.manifest.m
    }

    /// What its codes are.
    pub fn coding(&self) -> Coding {
        self.manifest.coding
    }

    /// How deep its searches look, and what they found when that was measured.
    pub fn calibration(&self) -> Calibration {
        self.manifest.calibration
    }

    /// The size of its files in bytes.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.values().map(|file| file.bytes).sum()
    }

    /// The bytes of what is searched: codes, graph and the coder. Vectors order what was found.
    pub fn searched_bytes(&self) -> u64 {
        let searched = [CODER, CODES, GRAPH].map(|name| self.manifest.files[name].bytes);
        searched.iter().sum()
    }

    /// Reads every byte and compares its hash with that of what was written.
    ///
    /// # Errors
    /// [`Unusable::Damaged`], naming the first file that differs.
    pub fn verify(&self) -> Result<(), Unusable> {
        let coder = self.coder.to_bytes();
        let bytes: [&[u8]; 6] =
            [&coder, &self.codes, &self.graph_bytes, &self.ids, &self.rough, &self.fine];
        for (name, bytes) in FILES.into_iter().zip(bytes) {
            if !is_as_written(bytes, &self.manifest.files[name].blake3) {
                return Err(self.damaged(name, "has other bytes than were written"));
            }
        }
        Ok(())
    }

    /// How deep a search for the `k` nearest looks.
    pub fn depth(&self, k: usize, how: Search) -> Depth {
        let scanned =
            Depth { beam: None, rerank: SCAN_RERANK.0.max(k.saturating_mul(SCAN_RERANK.1)) };
        let Manifest { calibration, params, .. } = &self.manifest;
        let scan = match how {
            // Of a million photos a graph may miss more than was asked for, however deep it looks.
            Search::Auto => self.len() <= SCAN_UP_TO || !calibration.reaches(params.recall),
            Search::Hnsw => false,
            Search::Exact => true,
        };
        if scan || scaled(calibration.distances, k) > worth_a_scan(self.len()) {
            return scanned;
        }
        Depth { beam: Some(calibration.beam(k)), rerank: scaled(calibration.rerank, k) }
    }

    /// Up to `k` images near the query, best first, equal ones by id, with their cosines, off by
    /// [`Embedding::ROUNDING`] at most.
    ///
    /// # Errors
    /// [`Unusable::Damaged`] when a vector that it comes upon is.
    ///
    /// # Panics
    /// When the query's width is not the index's: embeddings of different models never meet.
    pub fn search(&self, query: &Embedding, k: usize, how: Search) -> Result<Vec<Hit>, Unusable> {
        self.search_to(query, k, self.depth(k, how))
    }

    /// As [`Index::search`], looking as deep as is said.
    ///
    /// # Errors
    /// As [`Index::search`].
    ///
    /// # Panics
    /// As [`Index::search`].
    pub fn search_to(
        &self,
        query: &Embedding,
        k: usize,
        depth: Depth,
    ) -> Result<Vec<Hit>, Unusable> {
        self.search_all(&[query], k, depth, None).map(|mut answers| answers.remove(0))
    }

    /// As [`Index::search_to`] for each of several queries, which takes less time for each; among some of
    /// the images, if they are given.
    ///
    /// # Errors
    /// As [`Index::search`].
    ///
    /// # Panics
    /// As [`Index::search`].
    pub fn search_all(
        &self,
        queries: &[&Embedding],
        k: usize,
        depth: Depth,
        among: Option<&Among>,
    ) -> Result<Vec<Vec<Hit>>, Unusable> {
        if let Some(among) = among.filter(|among| among.len() <= depth.rerank) {
            // The codes have nothing to choose.
            return queries.iter().map(|query| self.order(query, among.points(), k)).collect();
        }
        let mut answers = Vec::with_capacity(queries.len());
        for queries in queries.chunks(CODED_AT_ONCE) {
            let vectors: Vec<&[f32]> = queries.iter().map(|query| query.as_slice()).collect();
            for (query, code) in queries.iter().zip(self.coder.encode_all(&vectors)) {
                let near = self.near(&code, depth, among);
                answers.push(self.order_near(query, &near, k)?);
            }
        }
        Ok(answers)
    }

    /// The points whose vectors are worth a look, nearest by their codes first.
    pub(super) fn near(&self, code: &[u8], depth: Depth, among: Option<&Among>) -> Vec<Near> {
        let codes = Codes::new(&self.codes, row_bytes(self.coder.code_width()));
        let space = Space { graph: &self.graph, graph_bytes: &self.graph_bytes, codes };
        let scan = |rerank| match among {
            None => scan(codes, code, rerank),
            Some(among) => scan_some(codes, code, among.points(), rerank),
        };
        match (depth.beam, among) {
            (None, _) => scan(depth.rerank),
            (Some(beam), None) => self.scratch.search(&space, code, beam, depth.rerank),
            (Some(beam), Some(among)) => {
                let budget = worth_a_scan(among.len());
                match self.scratch.search_among(among, &space, code, beam, depth.rerank, budget) {
                    Some(near) => near,
                    // A scan orders more of them, as it stands for the exact answer.
                    None => scan(depth.rerank.max(SCAN_RERANK.0)),
                }
            }
        }
    }

    pub(super) fn vectors(&self) -> Planes<'_> {
        Planes::new(&self.rough, &self.fine, self.manifest.width)
    }

    pub(super) fn id(&self, point: u32) -> ImageId {
        let at = point as usize * size_of::<i64>();
        let bytes = self.ids[at..at + size_of::<i64>()].try_into().expect("eight bytes");
        ImageId(i64::from_le_bytes(bytes))
    }

    pub(super) fn damaged(&self, name: &str, what: &str) -> Unusable {
        Unusable::Damaged { path: self.folder.join(name), what: what.to_owned() }
    }
}
