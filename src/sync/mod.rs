//! Folders → library: scan → plan → decode → embed → catalog → index.
//!
//! ```text
//! plan (1 thread) ─work─▶ read (I/O threads) ─photos─▶ decode, embed (workers) ─outcomes─▶ write (caller)
//! ```
//!
//! A worker decodes or embeds, whichever is due, in a session of one thread that all share: as many threads
//! compute as were asked for. Where a device embeds, workers only decode, and two more threads bring it batches. Every channel is bounded, so memory does not depend on how many photos there are. What the writer
//! has committed stays, whatever happens later.

mod claims;
mod pipeline;
mod plan;
mod profile;
mod squares;
mod worker;
mod write;

pub use profile::Profile;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::plan::Visit;
use crate::catalog::{ModelId, ModelRecord};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::library::{Library, StandIn};
use crate::progress::Watch;
use crate::record::Skipped;
use crate::runtime::Processor;
use crate::scan::Selection;

/// Who chose the model of a run, which decides from when on the library answers with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// A person, until another is chosen: from the end of the first run on that was through all folders, or has left no
    /// image without its features. Until then the one before answers, if it has features of any.
    #[default]
    Made,
    /// Nobody; it is the default, or what the library answers with anyway. What stands in for it answers until
    /// this one has features of all images that the stand-in has.
    Default,
    /// Nobody, and it only stands in for the default of this name. It gives way as is said above.
    StandIn(String),
}

/// What to bring up to date, and how.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// The folders; none means every root that the library knows.
    pub folders: Vec<PathBuf>,
    /// Who chose the model.
    pub choice: Choice,
    /// Which files of them are wanted, which is kept for each folder that is not part of another; `None` for what is kept.
    pub selection: Option<Selection>,
    /// Forget the photos of a folder that is missing or holds no files any more.
    pub prune: bool,
    /// Open again what was left out before, though it did not change.
    pub retry_skipped: bool,
    /// How many workers decode photos and run one-thread sessions.
    pub threads: usize,
    /// How many photos a device other than the CPU computes at once; by default as many as suit it.
    pub batch: Option<usize>,
    /// How many files are read at once, ahead of the workers; more help where a drive is slow to answer.
    pub io_threads: usize,
}

impl SyncOptions {
    /// The default of [`SyncOptions::io_threads`].
    pub const IO_THREADS: usize = 2;

    /// Everything in these folders that is wanted by default, on all cores, forgetting nothing.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            choice: Choice::default(),
            selection: None,
            prune: false,
            retry_skipped: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            batch: None,
            io_threads: Self::IO_THREADS,
        }
    }
}

/// How far a library is on its way from one model to another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Handover {
    /// The name of the one that answered before.
    pub from: String,
    /// Images of which only that has features.
    pub lacking: u64,
    /// Whether the new model answers from now on; an interrupted run leaves that to the next.
    pub complete: bool,
}

/// What a run did. Every file that was found is counted once, in `added`, `updated`, `moved`,
/// `unchanged`, `skipped` or `skipped_before`, or is no picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SyncReport {
    /// Files that are new in the results.
    pub added: u64,
    /// Files whose content is another than before.
    pub updated: u64,
    /// Files found at a new path while the old one is gone: nothing was embedded for them.
    pub moved: u64,
    /// Files that are as they were.
    pub unchanged: u64,
    /// Files that are gone and left the results.
    pub removed: u64,
    /// Files that claimed to be pictures and were left out in this run, with the reason.
    pub skipped: Vec<Skipped>,
    /// Files left out in an earlier run and not opened again, as they did not change.
    pub skipped_before: u64,
    /// Photos that went through the network.
    pub embedded: u64,
    /// How long the run took, up to the point where all photos were in the catalog; without the time it
    /// took to find ONNX Runtime or to install it.
    pub elapsed: Duration,
    /// What the network ran on; `None` when it did not run.
    pub ran_on: Option<Processor>,
    /// Where the time went.
    pub profile: Profile,
    /// When the library answered with another model before than this run was with; `None` also where a person's choice
    /// answers now.
    pub handover: Option<Handover>,
    /// Whether the caller ended it early. What was finished is kept; nothing was removed.
    pub interrupted: bool,
}

impl SyncReport {
    /// Whether the results are others than before.
    fn changed(&self) -> bool {
        let Self { added, updated, moved, removed, embedded, .. } = self;
        added + updated + moved + removed + embedded > 0
    }
}

/// Brings the library up to date with the folders, and then its search index.
///
/// Unchanged files (same size and modification time) are not opened; moved, renamed and copied ones
/// (same content) are not embedded again. One bad photo never stops the run.
///
/// # Errors
/// [`Error::Locked`] when another process changes the library; [`Error::NotAFolder`],
/// [`Error::RootMissing`] and [`Error::RootEmpty`] before anything is touched; what keeps the network
/// from running; [`Error::Catalog`]. Committed batches stay in every case.
pub fn sync(
    library: &mut Library,
    engine: &Engine,
    options: &SyncOptions,
    watch: &Watch<'_>,
) -> Result<SyncReport> {
    let _lock = library.lock()?;
    let started = Instant::now();
    let mut batch = library.catalog_mut().batch()?;
    let model = batch.add_model(engine.network())?;
    batch.commit()?;
    let mut report = SyncReport::default();
    let visits = plan::enter(library, options, &mut report, watch)?;
    let (chosen, wanted) = (library.catalog().current_model()?, library.catalog().stands_in_for()?);
    let before = begin(library, model, engine, &options.choice)?;
    let ran = pipeline::run(library, engine, model, &visits, options, &mut report, watch);
    if ran.is_err() && report.embedded == 0 {
        // A network that cannot run is not what anybody asks with.
        let mut batch = library.catalog_mut().batch()?;
        batch.use_model(chosen.map(|model| model.id), wanted.as_deref())?;
        batch.commit()?;
    }
    ran?;
    report.elapsed = started.elapsed().saturating_sub(engine.setup());
    report.ran_on = engine.ran_on().filter(|_| report.embedded > 0).cloned();
    if let Some(processor) = &report.ran_on {
        let mut batch = library.catalog_mut().batch()?;
        batch.ran_on(model, &processor.to_string())?;
        batch.commit()?;
    }
    report.interrupted = watch.is_cancelled();
    if let Some(before) = &before {
        let lacking = library.catalog().count_lacking(before.id, model)?;
        let is_through = lacking == 0 || (options.choice == Choice::Made && all(library, &visits)?);
        let complete = is_through && !report.interrupted;
        if complete {
            answer_with(library, model, &options.choice)?;
        }
        // Who chose it need not be told that it answers.
        if !complete || options.choice != Choice::Made {
            report.handover = Some(Handover { from: before.name.clone(), lacking, complete });
        }
    }
    if report.interrupted {
        return Ok(report);
    }
    let model = library.catalog().current_model()?.expect("set above");
    if report.changed() || library.index_is_behind(&model)? {
        let refreshed = match library.refresh_index(&model, watch) {
            Err(Error::StoredFeatures { .. }) if library.forget_damaged(&model, watch)? > 0 => {
                library.refresh_index(&model, watch)
            }
            refreshed => refreshed,
        };
        match refreshed {
            // The photos are safe; the next run, or the next question, makes the index.
            Err(Error::Cancelled) => report.interrupted = true,
            done => done?,
        }
    }
    Ok(report)
}

/// Whether the folders are all that the library knows: what lacks features then cannot get them.
fn all(library: &Library, visits: &[Visit]) -> Result<bool> {
    let roots = library.catalog().roots()?;
    Ok(roots.iter().all(|(_, path)| visits.iter().any(|visit| visit.scope.path() == *path)))
}

/// Decides which model answers while a run with `model` lasts. Returns the one that goes on answering, if that is another;
/// else the library answers with `model` from now on.
fn begin(
    library: &mut Library,
    model: ModelId,
    engine: &Engine,
    choice: &Choice,
) -> Result<Option<ModelRecord>> {
    let wanted = match choice {
        Choice::Made => None,
        Choice::Default => Some(&engine.network().name),
        Choice::StandIn(wanted) => Some(wanted),
    };
    if let Some(wanted) = wanted
        && let Some(StandIn { model: before, .. }) = library.stand_in()?
        && before.id != model
    {
        let mut batch = library.catalog_mut().batch()?;
        batch.use_model(Some(before.id), Some(wanted))?;
        batch.commit()?;
        return Ok(Some(before));
    }
    if let Some(before) = library.catalog().current_model()?
        && before.id != model
        && library.catalog().count_embedded(before.id)? > 0
    {
        return Ok(Some(before));
    }
    answer_with(library, model, choice)?;
    Ok(None)
}

/// From now on the library answers with `model`.
fn answer_with(library: &mut Library, model: ModelId, choice: &Choice) -> Result<()> {
    let wanted = match choice {
        Choice::StandIn(wanted) => Some(wanted.as_str()),
        Choice::Made | Choice::Default => None,
    };
    let mut batch = library.catalog_mut().batch()?;
    batch.use_model(Some(model), wanted)?;
    batch.commit()
}
