//! The threads between the plan and the catalog.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::claims::{Claims, lock};
use super::plan::{Planner, Tally, Visit, Walked, Work};
use super::profile::{Clock, Stage};
use super::squares::Squares;
use super::worker::{Square, work};
use super::write::Writer;
use super::{SyncOptions, SyncReport};
use crate::catalog::{Catalog, ModelId};
use crate::embedding::{Features, InvalidVector};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::library::Library;
use crate::photo::{self, PhotoBytes, Unreadable};
use crate::progress::Watch;
use crate::record::{ContentHash, ImageId, PhotoFacts};
use crate::runtime::FeatureSession;

/// Files that wait to be opened: paths only, so that the walk may run ahead.
const WORK_AHEAD: usize = 1024;

/// Bytes of squares that may wait for a device: what is decoded while it is opened, which takes a second.
const AHEAD_OF_DEVICE: usize = 512 << 20;

/// What became of a file.
pub(super) struct Outcome {
    pub(super) work: Work,
    pub(super) what: What,
}

/// What became of it.
pub(super) enum What {
    /// Its content is known, with features.
    Known { hash: ContentHash, image: ImageId },
    /// It gives no pixels; `hash` is known once it could be read.
    Skipped { hash: Option<ContentHash>, reason: Unreadable },
    /// Another file has the same content; whatever becomes of that one becomes of this.
    Waits,
    /// It went through the network.
    Embedded { hash: ContentHash, facts: PhotoFacts, features: Result<Features, InvalidVector> },
}

/// What the writer is told.
pub(super) enum News {
    /// These files are dealt with.
    Outcomes(Vec<Outcome>),
    /// Nothing can go on.
    Failed(Error),
}

/// A photo that was read, on its way to a worker.
pub(super) struct Read {
    pub(super) work: Work,
    pub(super) hash: ContentHash,
    pub(super) bytes: PhotoBytes,
}

/// What all threads share.
pub(super) struct Shared<'a> {
    pub(super) engine: &'a Engine,
    model: ModelId,
    catalog: Mutex<Catalog>,
    claims: &'a Claims,
    tally: Tally,
    pub(super) clock: &'a Clock,
    /// Squares that wait for the network. On the CPU never more than a batch a worker and one: whoever sees enough
    /// of them takes a batch before decoding another. For a device, [`AHEAD_OF_DEVICE`].
    pub(super) squares: Squares<Square>,
    /// What the network is run in, opened for the first photo.
    pub(super) session: OnceLock<FeatureSession>,
    /// Held while the session is opened.
    pub(super) opening: Mutex<()>,
    pub(super) workers: usize,
    /// Photos a device other than the CPU computes at once.
    batch: Option<usize>,
    /// Set when one thread failed: the others finish what they hold.
    failed: AtomicBool,
    watch: &'a Watch<'a>,
}

impl Shared<'_> {
    pub(super) fn halted(&self) -> bool {
        self.watch.is_cancelled() || self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn open_session(&self, _opening: &MutexGuard<'_, ()>) -> Result<&FeatureSession> {
        let opened = self.engine.batch_session(self.batch, 1, self.watch)?;
        Ok(self.session.get_or_init(|| opened))
    }

    /// Has all threads end, and tells why.
    pub(super) fn fail(&self, error: Error, news: &Sender<News>) {
        self.failed.store(true, Ordering::Relaxed);
        self.squares.end();
        // With the writer gone there is an earlier failure already.
        let _ = news.send(News::Failed(error));
    }

    /// Squares that may wait for a device.
    pub(super) fn ahead_of_device(&self) -> usize {
        let batch = self.session.get().map_or(1, FeatureSession::batch);
        (AHEAD_OF_DEVICE / self.engine.network().preprocessing.image_len()).max(2 * batch)
    }
}

/// Runs the pipeline over all folders and fills in the report.
pub(super) fn run(
    library: &mut Library,
    engine: &Engine,
    model: ModelId,
    visits: &[Visit],
    options: &SyncOptions,
    report: &mut SyncReport,
    watch: &Watch<'_>,
) -> Result<()> {
    let workers = options.threads.max(1);
    let readers = options.io_threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|n| format!("worker-{n}"))
        .build()
        .map_err(|source| Error::Threads { source: Box::new(source) })?;
    let plan_catalog = library.catalog().reopen()?;
    let (claims, clock) = (Claims::default(), Clock::default());
    let shared = Shared {
        engine,
        model,
        catalog: Mutex::new(library.catalog().reopen()?),
        claims: &claims,
        tally: Tally::default(),
        clock: &clock,
        squares: Squares::new(workers),
        session: OnceLock::new(),
        opening: Mutex::default(),
        workers,
        batch: options.batch,
        failed: AtomicBool::new(false),
        watch,
    };
    let limits = engine.decoding().limits_mark();
    let catalog = library.catalog_mut();
    let mut writer = Writer::new(catalog, model, limits, &claims, &clock, report)?;

    let walked: Result<Vec<Option<Walked>>> = thread::scope(|threads| {
        let (work_tx, work_rx) = bounded::<Work>(WORK_AHEAD);
        // Whole files: enough that no worker waits for the disk to seek, and no more.
        let (photo_tx, photo_rx) = bounded::<Read>(workers + readers);
        let (news_tx, news_rx) = bounded::<News>(workers * 4);
        let shared = &shared;

        let planner = threads.spawn(move || -> Result<Vec<Option<Walked>>> {
            let halted = || shared.halted();
            let planner = Planner {
                catalog: &plan_catalog,
                model,
                options,
                limits,
                work: work_tx,
                tally: &shared.tally,
                halted: &halted,
            };
            visits.iter().map(|visit| planner.walk(visit)).collect()
        });
        for _ in 0..readers {
            let (work, photos, news) = (work_rx.clone(), photo_tx.clone(), news_tx.clone());
            threads.spawn(move || {
                for work in work {
                    if let Some(photo) = read(work, shared, &news) {
                        drop(photos.send(photo));
                    }
                }
            });
        }
        let news = news_tx.clone();
        threads.spawn(move || {
            pool.broadcast(|_| {
                if let Err(error) = work(shared, &photo_rx, &news, threads) {
                    shared.fail(error, &news);
                    // Nobody may be left waiting for a place in the queue.
                    photo_rx.iter().for_each(drop);
                }
                shared.squares.one_less();
            });
        });
        // Only the threads hold senders and receivers now: when they end, so does the loop below.
        drop((work_rx, photo_tx, news_tx));

        let written = writer.receive(news_rx, || planner.is_finished(), &shared.tally, watch);
        if written.is_err() {
            shared.failed.store(true, Ordering::Relaxed);
        }
        let walked = planner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(walked)
    });
    writer.finish(visits.iter().zip(walked?), watch.is_cancelled(), options.prune)?;
    let device = shared.session.get().map_or(Duration::ZERO, FeatureSession::busy);
    report.profile = clock.profile(workers, device);
    Ok(())
}

/// One file: read, hash, compare with what is known. Gives the photo when it must be decoded.
fn read(work: Work, shared: &Shared<'_>, news: &Sender<News>) -> Option<Read> {
    if shared.halted() {
        return None;
    }
    // A send fails only when the receiver gave up, which it does for a reason of its own.
    let tell = |work, what| drop(news.send(News::Outcomes(vec![Outcome { work, what }])));
    let max_bytes = shared.engine.decoding().max_bytes;
    let read = || photo::read(&work.file.path(), max_bytes);
    let bytes = match shared.clock.time(Stage::Read, read) {
        Ok(bytes) => bytes,
        Err(reason) => {
            tell(work, What::Skipped { hash: None, reason });
            return None;
        }
    };
    let hash = bytes.hash();
    if !shared.claims.claim(hash, &work) {
        tell(work, What::Waits);
        return None;
    }
    match lock(&shared.catalog).image_by_hash(&hash, shared.model) {
        Ok(Some((image, true))) => {
            tell(work, What::Known { hash, image });
            None
        }
        Ok(_) => Some(Read { work, hash, bytes }),
        Err(error) => {
            shared.fail(error, news);
            None
        }
    }
}
