//! The threads between the plan and the catalog.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::claims::{Claims, lock};
use super::plan::{Planner, Tally, Walked, Work};
use super::profile::{Clock, Stage};
use super::write::Writer;
use super::{SyncOptions, SyncReport};
use crate::catalog::{Catalog, ModelId, Scope};
use crate::embedding::{Features, InvalidVector};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::library::Library;
use crate::model;
use crate::network::{InputTensor, Pixels};
use crate::photo::{self, Photo, PhotoBytes, Unreadable};
use crate::progress::Watch;
use crate::record::{ContentHash, ImageId, PhotoFacts};
use crate::runtime::FeatureSession;

/// Files that wait to be opened: paths only, so that the walk may run ahead.
const WORK_AHEAD: usize = 1024;

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
struct Read {
    work: Work,
    hash: ContentHash,
    bytes: PhotoBytes,
}

/// A photo on its way through the network.
struct Decoded {
    work: Work,
    hash: ContentHash,
    facts: PhotoFacts,
}

/// What all threads share.
struct Shared<'a> {
    engine: &'a Engine,
    model: ModelId,
    catalog: Mutex<Catalog>,
    claims: &'a Claims,
    tally: Tally,
    clock: &'a Clock,
    /// Squares that wait for a worker with time for the network, in the order they were decoded. Never
    /// more than a batch a worker and one, or two batches of a device that computes one at a time: whoever sees
    /// enough of them takes a batch before decoding another.
    squares: Mutex<VecDeque<(Decoded, Pixels)>>,
    /// What all workers run the network in, opened for the first photo.
    session: OnceLock<FeatureSession>,
    /// Held while the session is opened.
    opening: Mutex<()>,
    workers: usize,
    /// Photos a device other than the CPU computes at once.
    batch: Option<usize>,
    /// Set when one thread failed: the others finish what they hold.
    failed: AtomicBool,
    watch: &'a Watch<'a>,
}

impl Shared<'_> {
    fn halted(&self) -> bool {
        self.watch.is_cancelled() || self.failed.load(Ordering::Relaxed)
    }

    /// The session. Opens it, or waits for the worker that is opening it.
    fn session(&self) -> Result<&FeatureSession> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        self.open_session(&lock(&self.opening))
    }

    fn open_session(&self, _opening: &MutexGuard<'_, ()>) -> Result<&FeatureSession> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let opened = self.engine.batch_session(self.batch, 1, self.watch)?;
        Ok(self.session.get_or_init(|| opened))
    }
}

/// Runs the pipeline over all scopes and fills in the report.
pub(super) fn run(
    library: &mut Library,
    engine: &Engine,
    model: ModelId,
    scopes: &[Scope],
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
        squares: Mutex::default(),
        session: OnceLock::new(),
        opening: Mutex::default(),
        workers,
        batch: options.batch,
        failed: AtomicBool::new(false),
        watch,
    };
    let mut writer = Writer::new(library.catalog_mut(), model, scopes, &claims, &clock, report)?;

    let walked: Result<Vec<Option<Walked>>> = std::thread::scope(|threads| {
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
                work: work_tx,
                tally: &shared.tally,
                halted: &halted,
            };
            scopes.iter().map(|scope| planner.walk(scope)).collect()
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
                if let Err(error) = work(shared, &photo_rx, &news) {
                    shared.failed.store(true, Ordering::Relaxed);
                    // With the writer gone there is an earlier failure already.
                    let _ = news.send(News::Failed(error));
                    // Nobody may be left waiting for a place in the queue.
                    photo_rx.iter().for_each(drop);
                }
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
    writer.finish(walked?, watch.is_cancelled())?;
    report.profile = clock.profile(workers);
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
            shared.failed.store(true, Ordering::Relaxed);
            drop(news.send(News::Failed(error)));
            None
        }
    }
}

/// A worker, from the first photo to the last. It embeds when a batch is there and decodes otherwise, so
/// that as many threads are busy as were asked for and no more, whatever the photos cost to decode. A
/// photo that takes long holds up its own worker and nobody else.
fn work(shared: &Shared<'_>, photos: &Receiver<Read>, news: &Sender<News>) -> Result<()> {
    // The first photo goes alone and the next two together: what a run is like shows at once.
    let mut batch = 1;
    // Kept from batch to batch: memory that was just written is nearer than new.
    let mut tensor = InputTensor::default();
    loop {
        match next(shared, photos, batch) {
            Next::Open(opening) => drop(shared.open_session(&opening)?),
            Next::Decode(photo) => decode(*photo, shared, news),
            Next::Embed(squares) => {
                if !shared.halted() {
                    embed(squares, &mut tensor, shared, news)?;
                    batch = (batch * 2).min(shared.session()?.batch());
                }
            }
            Next::Done => return Ok(()),
        }
    }
}

/// What a worker does next.
enum Next<'a> {
    Open(MutexGuard<'a, ()>),
    Decode(Box<Read>),
    Embed(Vec<(Decoded, Pixels)>),
    Done,
}

fn next<'a>(shared: &'a Shared<'_>, photos: &Receiver<Read>, batch: usize) -> Next<'a> {
    let squares = lock(&shared.squares).len();
    shared.clock.queues(photos.len(), squares);
    let mut enough = batch;
    if shared.session.get().is_none() && shared.workers > 1 {
        match shared.opening.try_lock() {
            Ok(opening) if !photos.is_empty() => return Next::Open(opening),
            // While one worker opens the session, the others decode.
            Err(TryLockError::WouldBlock) => enough = FeatureSession::CPU_BATCH * shared.workers,
            _ => {}
        }
    }
    let session = shared.session.get();
    // Who would have to wait for another's batch decodes for the next.
    if session.is_some_and(FeatureSession::is_busy) {
        enough *= 2;
    }
    let mut batch = batch;
    if squares < enough {
        match photos.try_recv() {
            Ok(photo) => return Next::Decode(Box::new(photo)),
            // The last squares are shared out, lest one worker embed them all and the others stand by.
            Err(TryRecvError::Disconnected)
                if !session.is_some_and(FeatureSession::is_exclusive) =>
            {
                batch = batch.min(squares.div_ceil(shared.workers));
            }
            Err(TryRecvError::Disconnected) => {}
            Err(TryRecvError::Empty) => {}
        }
    }
    // A batch, or nothing else to do: nobody waits for a batch to fill.
    let taken: Vec<_> = {
        let mut squares = lock(&shared.squares);
        let count = squares.len().min(batch);
        squares.drain(..count).collect()
    };
    if !taken.is_empty() {
        return Next::Embed(taken);
    }
    match shared.clock.time(Stage::Idle, || photos.recv()) {
        Ok(photo) => Next::Decode(Box::new(photo)),
        // That was the last one. What others are decoding they will embed themselves.
        Err(_) => Next::Done,
    }
}

fn decode(photo: Read, shared: &Shared<'_>, news: &Sender<News>) {
    if shared.halted() {
        return;
    }
    let Read { work, hash, bytes } = photo;
    let preprocessing = &shared.engine.network().preprocessing;
    let decoded = shared
        .clock
        .time(Stage::Decode, || photo::decode(&bytes, preprocessing, shared.engine.decoding()));
    match decoded {
        Ok(Photo { pixels, facts }) => {
            lock(&shared.squares).push_back((Decoded { work, hash, facts }, pixels));
        }
        Err(reason) => {
            let what = What::Skipped { hash: Some(hash), reason };
            drop(news.send(News::Outcomes(vec![Outcome { work, what }])));
        }
    }
}

/// Runs a batch, put together in `tensor`.
fn embed(
    squares: Vec<(Decoded, Pixels)>,
    tensor: &mut InputTensor,
    shared: &Shared<'_>,
    news: &Sender<News>,
) -> Result<()> {
    let session = shared.session()?;
    let preprocessing = &shared.engine.network().preprocessing;
    tensor.0.clear();
    shared.clock.time(Stage::Decode, || {
        squares.iter().for_each(|(_, pixels)| model::normalise(pixels, preprocessing, tensor));
    });
    let features = shared.clock.time(Stage::Embed, || session.run(tensor))?;
    let outcome = |((Decoded { work, hash, facts }, _), features)| Outcome {
        work,
        what: What::Embedded { hash, facts, features },
    };
    let outcomes = squares.into_iter().zip(features).map(outcome).collect();
    // A send fails only when the receiver gave up, which it does for a reason of its own.
    drop(news.send(News::Outcomes(outcomes)));
    Ok(())
}
