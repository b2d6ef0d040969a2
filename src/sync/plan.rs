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
use crate::progress::Watch;
use crate::record::{PathBytes, Skipped, SourceFile};
use crate::scan::{self, Exclude, Found, Listed, Selection};

/// Files that are found together, at most, and how many such chunks the walk may be ahead of the catalog.
const LARGEST_CHUNK: usize = 1_024;
const CHUNKS_AHEAD: usize = 4;

/// Files that one thread looks up, at least: fewer are not worth another.
const FEW: usize = 64;

/// A folder, and what is wanted of it.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) scope: Scope,
    pub(super) selection: Selection,
}

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

/// Decides which folders are walked. Nothing is touched when one of them is missing or empty, unless it may
/// be forgotten: a drive that is not connected must not empty the library.
pub(super) fn enter(
    library: &mut Library,
    options: &SyncOptions,
    report: &mut SyncReport,
    watch: &Watch<'_>,
) -> Result<Vec<Visit>> {
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
        match (catalog.scope_of(&path)?, resolved) {
            (Some(scope), there) => match known(catalog, scope, there.is_some(), options)? {
                Known::There => present.push(path),
                Known::Gone(scope) => gone.push(scope),
                Known::Nothing => return Err(missing(&folder)),
            },
            (None, None) => return Err(missing(&folder)),
            (None, Some(path)) => {
                for scope in roots_inside(catalog, &path)? {
                    let there = resolve(&scope.root_path)?.is_some();
                    if let Known::Gone(scope) = known(catalog, scope, there, options)? {
                        gone.push(scope);
                    }
                }
                present.push(path);
            }
        }
    }
    let catalog = library.catalog_mut();
    let mut batch = catalog.batch()?;
    for scope in gone {
        report.removed += batch.forget(&scope)?;
    }
    batch.commit()?;
    // Outer folders first, so that an inner one is found to be part of it.
    present.sort();
    present.dedup();
    let mut visits: Vec<Visit> = Vec::new();
    for path in present {
        if visits.iter().any(|visit| path.starts_with(visit.scope.path())) {
            continue;
        }
        let visit = visit(catalog, &path, options, watch)?;
        if options.selection.is_none() && !visit.selection.is_default() {
            let Visit { scope, selection } = &visit;
            watch.note(format!("{}: {selection}, as before", scope.root_path.display()));
        }
        visits.push(visit);
    }
    Ok(visits)
}

/// Makes a folder part of the library, with what is wanted of it: what is said in this run, else what was said before, of
/// the folder or of those in it.
fn visit(
    catalog: &mut Catalog,
    path: &Path,
    options: &SyncOptions,
    watch: &Watch<'_>,
) -> Result<Visit> {
    let known = catalog.scope_of(path)?;
    let mut kept = match &known {
        Some(scope) => kept_selection(catalog, scope.root)?,
        None => Selection::default(),
    };
    if known.is_none() {
        for inner in roots_inside(catalog, path)? {
            let below = inner.root_path.strip_prefix(path).unwrap_or(&inner.root_path);
            let selection = kept_selection(catalog, inner.root)?;
            // They were patterns before.
            let _ = kept.leave_out_too(&selection, below);
            // What more was wanted of a part cannot be said of the whole.
            let more = Selection { exclude: Exclude::default(), ..selection };
            if options.selection.is_none() && !more.is_default() {
                watch.note(format!(
                    "{} was indexed {more}; as part of {} it is not, unless that is said again",
                    inner.root_path.display(),
                    path.display()
                ));
            }
        }
    }
    let mut batch = catalog.batch()?;
    let scope = batch.enter(path, known)?;
    let selection = match &options.selection {
        Some(said) => Selection { said_of: scope.below.clone(), ..said.clone() },
        None => kept,
    };
    if scope.below.as_os_str().is_empty() {
        let text = serde_json::to_string(&selection).expect("a selection is plain data");
        batch.keep_selection(scope.root, (!selection.is_default()).then_some(text.as_str()))?;
    }
    batch.commit()?;
    Ok(Visit { scope, selection })
}

/// What was said of a root; where that cannot be read, as after somebody wrote into the catalog, nothing.
fn kept_selection(catalog: &Catalog, root: RootId) -> Result<Selection> {
    let kept = catalog.selection_of(root)?;
    Ok(kept.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn missing(folder: &Path) -> Error {
    Error::io("open folder", folder)(std::io::Error::from(std::io::ErrorKind::NotFound))
}

/// What there is of a scope that lies in a root.
enum Known {
    There,
    /// It is to be forgotten.
    Gone(Scope),
    /// It is not there and nothing of it is known: somebody mistyped.
    Nothing,
}

/// Looks whether a scope holds files; `is_there` tells whether it is there. What would take files out of the results must be
/// allowed; a root that is gone and has none is forgotten, so that it does not stand in the way of the others.
fn known(catalog: &Catalog, scope: Scope, is_there: bool, options: &SyncOptions) -> Result<Known> {
    let kept;
    let selection = match &options.selection {
        Some(said) => said,
        None => {
            kept = kept_selection(catalog, scope.root)?;
            &kept
        }
    };
    if holds_files(&scope, selection) {
        return Ok(Known::There);
    }
    let (path, files) = (scope.path(), catalog.count_files(&scope)?);
    let is_root = scope.below.as_os_str().is_empty();
    let is_named = !options.folders.is_empty();
    match (is_there, files) {
        (_, 1..) if options.prune => Ok(Known::Gone(scope)),
        (_, 1..) => Err(away(path, files)),
        (_, 0) if is_root && (options.prune || !(is_there || is_named)) => Ok(Known::Gone(scope)),
        // It may be filled yet.
        (true, 0) => Ok(Known::There),
        (false, 0) => Ok(Known::Nothing),
    }
}

/// The roots that lie inside a folder that is none.
fn roots_inside(catalog: &Catalog, folder: &Path) -> Result<Vec<Scope>> {
    let inside = catalog.roots()?.into_iter().filter(|(_, path)| path.starts_with(folder));
    let scope = |(root, root_path)| Scope { root, root_path, below: PathBuf::new() };
    Ok(inside.map(scope).collect())
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

/// What is said of a folder whose indexed files have all gone.
pub(super) fn away(path: PathBuf, files: u64) -> Error {
    match path.is_dir() {
        true => Error::RootEmpty { path, files },
        false => Error::RootMissing { path, files },
    }
}

/// Whether there is any file, wanted or not: what is left out by a person's word is not lost.
pub(super) fn holds_files(scope: &Scope, wanted: &Selection) -> bool {
    let all = Selection { follow_links: true, hidden: wanted.hidden, ..Selection::default() };
    scope.path().is_dir() && scan::walk(&scope.root_path, &scope.below, &all).next().is_some()
}

/// Decides what must be opened.
pub(super) struct Planner<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) model: ModelId,
    pub(super) options: &'a SyncOptions,
    /// [`crate::photo::DecodeOptions::limits_mark`].
    pub(super) limits: u32,
    /// What must be opened goes here.
    pub(super) work: Sender<Work>,
    pub(super) tally: &'a Tally,
    pub(super) halted: &'a dyn Fn() -> bool,
}

impl Planner<'_> {
    /// Walks a folder and sends what must be opened; the rest is counted. `None` when it was ended early:
    /// then nothing may be concluded from what was not seen.
    pub(super) fn walk(&self, Visit { scope, selection }: &Visit) -> Result<Option<Walked>> {
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
                    if (size, mtime_ns) == (file.size, file.mtime_ns)
                        && [DECODER_VERSION, self.limits].contains(&decoder)
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
