//! Generations: each in a folder of its own, published by one rename of the manifest that names it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::codes::{self, Codes};
use super::graph::Graph;
use super::search::{Scratch, Space, scan};
use super::{Candidate, Params, Unusable};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::record::{ImageId, ModelFingerprint};

/// The format of the files; another one is built anew.
const FORMAT: u32 = 1;

const MANIFEST: &str = "manifest.json";
pub(super) const CODES: &str = "codes.bin";
pub(super) const GRAPH: &str = "graph.bin";
pub(super) const IDS: &str = "ids.bin";

/// Up to so many points every search scans all codes: that is exact, and faster than the graph.
const SCAN_UP_TO: usize = 2_000;

/// What a generation is, and the hash of each of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) generation: String,
    pub(super) fingerprint: ModelFingerprint,
    pub(super) width: usize,
    pub(super) count: usize,
    pub(super) last_sequence: i64,
    pub(super) params: Params,
    pub(super) files: BTreeMap<String, FileRecord>,
}

/// A file as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    bytes: u64,
    blake3: String,
}

/// An open index: memory-mapped, checked, ready to search from any number of threads.
#[derive(Debug)]
pub struct Index {
    manifest: Manifest,
    graph: Graph,
    codes: Mmap,
    graph_bytes: Mmap,
    ids: Mmap,
    scratch: Scratch,
}

/// Opens the published generation in `folder` and checks every byte of it.
///
/// # Errors
/// [`Unusable`], whatever is wrong: the caller builds a new one.
pub fn open(folder: &Path, fingerprint: ModelFingerprint, width: usize) -> Result<Index, Unusable> {
    let manifest = read_manifest(&folder.join(MANIFEST))?;
    if manifest.format != FORMAT {
        return Err(Unusable::OtherFormat { found: manifest.format, known: FORMAT });
    }
    if (manifest.fingerprint, manifest.width) != (fingerprint, width) {
        return Err(Unusable::OtherModel);
    }
    let damaged = |path: &Path, what: &str| Unusable::Damaged {
        path: path.to_path_buf(),
        what: what.to_owned(),
    };
    let here = folder.join(&manifest.generation);
    if manifest.generation.contains(['/', '\\', '.']) {
        return Err(damaged(&here, "is no name of a generation"));
    }
    let map = |name: &str, rows: usize, row_bytes: usize| -> Result<Mmap, Unusable> {
        let path = here.join(name);
        let record = manifest.files.get(name).ok_or_else(|| damaged(&path, "is not listed"))?;
        let mapped = File::open(&path)
            // SAFETY: generations are written once, under a name of their own, and only ever deleted
            // whole; a deleted file stays mapped. Who else writes into the library folder may cause a
            // fault, as with any memory-mapped file.
            .and_then(|file| unsafe { Mmap::map(&file) })
            .map_err(|error| damaged(&path, &format!("cannot be read: {error}")))?;
        let expected = rows.checked_mul(row_bytes).filter(|_| row_bytes > 0);
        if mapped.len() as u64 != record.bytes || expected.is_some_and(|e| e != mapped.len()) {
            return Err(damaged(&path, "has another size than was written"));
        }
        let hash = blake3::Hasher::new().update_rayon(&mapped).finalize();
        if hash.to_hex().as_str() != record.blake3 {
            return Err(damaged(&path, "has other bytes than were written"));
        }
        Ok(mapped)
    };
    let codes = map(CODES, manifest.count, codes::row_bytes(width))?;
    let ids = map(IDS, manifest.count, size_of::<i64>())?;
    let graph_bytes = map(GRAPH, 0, 0)?;
    let graph = Graph::parse(&graph_bytes, manifest.count)
        .map_err(|what| damaged(&here.join(GRAPH), &what))?;
    Ok(Index { manifest, graph, codes, graph_bytes, ids, scratch: Scratch::default() })
}

/// The newest embedding that the published generation in `folder` says it holds; `None` where there is
/// none for this model and version. Nothing but its manifest is read.
pub fn last_sequence(folder: &Path, fingerprint: ModelFingerprint) -> Option<i64> {
    let manifest = read_manifest(&folder.join(MANIFEST)).ok()?;
    let ours = manifest.format == FORMAT && manifest.fingerprint == fingerprint;
    ours.then_some(manifest.last_sequence)
}

fn read_manifest(path: &Path) -> Result<Manifest, Unusable> {
    let damaged = |what: String| Unusable::Damaged { path: path.to_path_buf(), what };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Unusable::Missing);
        }
        Err(error) => return Err(damaged(format!("cannot be read: {error}"))),
    };
    serde_json::from_slice(&text).map_err(|error| damaged(format!("is no manifest: {error}")))
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

    /// How it was built, and is searched.
    pub fn params(&self) -> Params {
        self.manifest.params
    }

    /// The size of its files in bytes.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.values().map(|file| file.bytes).sum()
    }

    /// Up to `k` images near the query, nearest first by their codes; `ef` (at least `k`) is how many
    /// the search keeps in view: more finds more of the true nearest, and takes longer. Up to 2,000
    /// images, and when `ef` asks for a fifth of them all, every code is compared instead.
    ///
    /// # Panics
    /// When the query's width is not the index's: embeddings of different models never meet.
    pub fn search(&self, query: &Embedding, k: usize, ef: usize) -> Vec<Candidate> {
        assert_eq!(query.width(), self.manifest.width, "embeddings of different models never meet");
        let query = codes::encode(query);
        let row_bytes = codes::row_bytes(self.manifest.width);
        let codes = Codes { bytes: &self.codes, row_bytes };
        let nearest = if self.len() <= SCAN_UP_TO || ef.max(k) > self.len() / 5 {
            scan(codes, &query, k)
        } else {
            let space = Space { graph: &self.graph, graph_bytes: &self.graph_bytes, codes };
            self.scratch.search(&space, self.len(), &query, k, ef)
        };
        nearest
            .into_iter()
            .map(|(point, cosine)| Candidate { id: self.id(point), cosine })
            .collect()
    }

    fn id(&self, point: u32) -> ImageId {
        let at = point as usize * size_of::<i64>();
        let bytes = self.ids[at..at + size_of::<i64>()].try_into().expect("eight bytes");
        ImageId(i64::from_le_bytes(bytes))
    }
}

/// A generation that is being written; its folder goes away again unless it is published.
pub(super) struct Draft {
    folder: PathBuf,
    generation: String,
    draft: tempfile::TempDir,
}

impl Draft {
    /// Begins a generation in `folder`.
    pub(super) fn begin(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let draft = tempfile::Builder::new()
            .prefix("generation-")
            .rand_bytes(8)
            .tempdir_in(folder)
            .map_err(Error::io("create a folder in", folder))?;
        let name = draft.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { folder: folder.to_path_buf(), generation: name, draft })
    }

    /// The path of one of its files.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.draft.path().join(name)
    }

    /// Writes a file whole and makes it durable.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_durably(&self.path(name), bytes)
    }

    /// Publishes it: from the rename of the manifest on, it is the index. What came before is deleted.
    pub(super) fn publish(self, mut manifest: Manifest) -> Result<()> {
        for name in [CODES, IDS, GRAPH] {
            let path = self.path(name);
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            let bytes = file.metadata().map_err(Error::io("read", &path))?.len();
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).map_err(Error::io("read", &path))?;
            let blake3 = hasher.finalize().to_string();
            manifest.files.insert(name.to_owned(), FileRecord { bytes, blake3 });
        }
        manifest.generation.clone_from(&self.generation);
        sync_folder(self.draft.path())?;
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        let (temporary, path) = (self.folder.join("manifest.new"), self.folder.join(MANIFEST));
        write_durably(&temporary, &text)?;
        let _kept = self.draft.keep();
        fs::rename(&temporary, &path).map_err(Error::io("rename to", &path))?;
        sync_folder(&self.folder)?;
        remove_others(&self.folder, &self.generation);
        Ok(())
    }
}

/// The fields of a manifest that the builder knows.
pub(super) fn manifest(
    fingerprint: ModelFingerprint,
    width: usize,
    count: usize,
    last_sequence: i64,
    params: Params,
) -> Manifest {
    let (generation, files) = (String::new(), BTreeMap::new());
    Manifest { format: FORMAT, generation, fingerprint, width, count, last_sequence, params, files }
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

fn sync_folder(folder: &Path) -> Result<()> {
    // Windows has no such thing; its rename is journaled.
    if cfg!(unix) {
        let opened = File::open(folder).map_err(Error::io("open", folder))?;
        opened.sync_all().map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

/// Deletes other generations, also those that a killed build left. What cannot be deleted now, as a
/// file that is open on Windows, goes next time.
fn remove_others(folder: &Path, keep: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("generation-") && name != keep {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
