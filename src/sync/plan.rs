//! Which folders, and which of their files must be opened.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Sender, bounded};
use rayon::prelude::*;

use super::{SyncOptions, SyncReport};
use crate::catalog::{Catalog, FileId, KnownFile, ModelId, RootId, Scope};
use crate::error::{Error, Result};
use crate::library::Library;
use crate::photo::DECODER_VERSION;
use crate::record::{PathBytes, Skipped, SourceFile};
use crate::scan::{self, Found, Listed};

/// Files that are found together, at most, and how many such chunks the walk may be ahead of the catalog.
const LARGEST_CHUNK: usize = 1_024;
const CHUNKS_AHEAD: usize = 4;

/// Files that one thread looks up, at least: fewer are not worth another.
const FEW: usize = 64;

/// A file that must be opened.
#[derive(Debug, Clone)]
pub(super) struct Work {
    /// Its place among all work of the run, counted from 0.
    pub(super) order: u64,
    pub(super) root: RootId,
    pub(super) file: SourceFile,
}

/// What a whole walk of a scope came upon, besides the work.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Indexed files that are not there any more.
    pub(super) gone: Vec<(FileId, PathBytes)>,
    /// Files and folders that could not be looked into.
    pub(super) unreadable: Vec<(PathBytes, Skipped)>,
    pub(super) unchanged: u64,
    pub(super) skipped_before: u64,
    /// Files left out before that are still there, pictures or not.
    pub(super) known_skips: u64,
}

/// How far the run is, for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) found: AtomicU64,
    pub(super) done: AtomicU64,
    /// Files that must be opened.
    work: AtomicU64,
}

/// Turns folders into scopes. Nothing is touched when one of them is missing or empty, unless it may
/// be forgotten: a drive that is not connected must not empty the library.
pub(super) fn enter(
    library: &mut Library,
    options: &SyncOptions,
    report: &mut SyncReport,
) -> Result<Vec<Scope>> {
    let catalog = library.catalog();
    let folders = if options.folders.is_empty() {
        let roots = catalog.roots()?;
        if roots.is_empty() {
            return Err(Error::NoRoots { folder: library.folder().to_path_buf() });
        }
        roots.into_iter().map(|(_, path)| path).collect()
    } else {
        options.folders.clone()
    };
    let mut present: Vec<PathBuf> = Vec::new();
    let mut gone = Vec::new();
    for folder in folders {
        let resolved = resolve(&folder)?;
        let path = resolved.clone().unwrap_or(absolute(&folder)?);
        let known = catalog.scope_of(&path)?;
        let files = known.as_ref().map_or(Ok(0), |scope| catalog.count_files(scope))?;
        match (resolved, known) {
            (None, Some(scope)) if files > 0 && options.prune => gone.push(scope),
            (None, Some(_)) if files > 0 => return Err(Error::RootMissing { path, files }),
            (None, _) => {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(Error::io("open folder", &folder)(missing));
            }
            (Some(_), Some(scope)) if files > 0 && !holds_files(&scope, options) => {
                if !options.prune {
                    return Err(Error::RootEmpty { path, files });
                }
                gone.push(scope);
            }
            (Some(path), _) => present.push(path),
        }
    }
    // Outer folders first, so that an inner one is found to be part of it.
    present.sort();
    present.dedup();
    let mut scopes: Vec<Scope> = Vec::new();
    let catalog = library.catalog_mut();
    for path in present {
        if scopes.iter().any(|scope| path.starts_with(scope.path())) {
            continue;
        }
        let known = catalog.scope_of(&path)?;
        let mut batch = catalog.batch()?;
        scopes.push(batch.enter(&path, known)?);
        batch.commit()?;
    }
    let mut batch = catalog.batch()?;
    for scope in gone {
        report.removed += batch.forget(&scope)?;
    }
    batch.commit()?;
    Ok(scopes)
}

/// The folder with links resolved; `None` when it is not there.
fn resolve(folder: &Path) -> Result<Option<PathBuf>> {
    match scan::canonical(folder) {
        Ok(path) if path.is_dir() => Ok(Some(path)),
        Ok(path) => Err(Error::NotAFolder { path }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open folder", folder)(error)),
    }
}

fn absolute(folder: &Path) -> Result<PathBuf> {
    std::path::absolute(folder).map_err(Error::io("find", folder))
}

fn holds_files(scope: &Scope, options: &SyncOptions) -> bool {
    scan::walk(&scope.root_path, &scope.below, &options.selection).next().is_some()
}

/// Decides what must be opened.
pub(super) struct Planner<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) model: ModelId,
    pub(super) options: &'a SyncOptions,
    /// What must be opened goes here.
    pub(super) work: Sender<Work>,
    pub(super) tally: &'a Tally,
    pub(super) halted: &'a dyn Fn() -> bool,
}

impl Planner<'_> {
    /// Walks a scope and sends what must be opened; the rest is counted. `None` when it was ended early:
    /// then nothing may be concluded from what was not seen.
    pub(super) fn walk(&self, scope: &Scope) -> Result<Option<Walked>> {
        let selection = &self.options.selection;
        std::thread::scope(|threads| {
            let (ahead, found) = bounded(CHUNKS_AHEAD);
            // The system looks up files while the catalog looks up what is known of others.
            threads.spawn(move || {
                let listed = scan::list(&scope.root_path, &scope.below, selection);
                look_ahead(listed, &scope.root_path, &ahead);
            });
            self.compare(scope, found.into_iter().flatten())
        })
    }

    fn compare(&self, scope: &Scope, walk: impl Iterator<Item = Found>) -> Result<Option<Walked>> {
        let mut walked = Walked::default();
        let mut known_files = self.catalog.known_files(scope, self.model);
        for found in walk {
            if (self.halted)() {
                return Ok(None);
            }
            let file = match found {
                Found::File(file) => file,
                Found::Unreadable { relative, skipped } => {
                    walked.unreadable.push((relative, skipped));
                    continue;
                }
            };
            self.tally.found.fetch_add(1, Ordering::Relaxed);
            let known = known_files.find(&file.relative)?;
            walked.known_skips += u64::from(matches!(known, Some(KnownFile::Skipped { .. })));
            match known {
                Some(KnownFile::Indexed { size, mtime_ns, embedded: true, .. })
                    if (size, mtime_ns) == (file.size, file.mtime_ns) =>
                {
                    walked.unchanged += 1;
                }
                Some(KnownFile::Skipped { size, mtime_ns, decoder, worth_telling })
                    if (size, mtime_ns, decoder) == (file.size, file.mtime_ns, DECODER_VERSION)
                        && !self.options.retry_skipped =>
                {
                    walked.skipped_before += u64::from(worth_telling);
                }
                _ => {
                    let order = self.tally.work.fetch_add(1, Ordering::Relaxed);
                    if self.work.send(Work { order, root: scope.root, file }).is_err() {
                        return Ok(None);
                    }
                    continue;
                }
            }
            self.tally.done.fetch_add(1, Ordering::Relaxed);
        }
        walked.gone = known_files.not_found()?;
        Ok(Some(walked))
    }
}

/// Sends what is found in growing chunks: the first file at once, later ones at little cost each. All threads look
/// up the files of a chunk. Ends when nobody listens any more.
fn look_ahead(listed: impl Iterator<Item = Listed>, root: &Path, chunks: &Sender<Vec<Found>>) {
    let (mut chunk, mut size) = (Vec::new(), 1);
    let send = |chunk: Vec<Listed>| {
        let found = chunk.into_par_iter().with_min_len(FEW).map(|listed| listed.look_up(root));
        chunks.send(found.collect())
    };
    for listed in listed {
        chunk.push(listed);
        if chunk.len() == size {
            size = (size * 2).min(LARGEST_CHUNK);
            if send(std::mem::replace(&mut chunk, Vec::with_capacity(size))).is_err() {
                return;
            }
        }
    }
    let _ = send(chunk);
}
