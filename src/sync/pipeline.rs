//! The threads between the plan and the catalog.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use rayon::iter::{ParallelBridge, ParallelIterator};

use super::plan::{self, Tally, Walked, Work};
use super::write::Writer;
use super::{SyncOptions, SyncReport};
use crate::catalog::{Catalog, ModelId, Scope};
use crate::embedding::{Features, InvalidVector};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::library::Library;
use crate::model;
use crate::network::InputTensor;
use crate::photo::{self, Unreadable};
use crate::progress::Watch;
use crate::record::{ContentHash, ImageId, PhotoFacts};

/// Photos a session takes at once. From 4 up, more hardly helps on a CPU; fewer are lost when the
/// machine goes down.
const BATCH: usize = 8;

/// Files that wait to be opened: paths only, so that the walk may run ahead.
const WORK_AHEAD: usize = 1024;

/// What became of a file that was opened.
pub(super) enum Outcome {
    /// Its content is known, with features.
    Known { work: Work, hash: ContentHash, image: ImageId },
    /// It gives no pixels; `hash` is known once it could be read.
    Skipped { work: Work, hash: Option<ContentHash>, reason: Unreadable },
    /// These went through the network together.
    Embedded(Vec<(Decoded, Result<Features, InvalidVector>)>),
    /// Nothing can go on.
    Failed(Error),
}

/// A photo on its way through the network.
pub(super) struct Decoded {
    pub(super) work: Work,
    pub(super) hash: ContentHash,
    pub(super) facts: PhotoFacts,
    tensor: InputTensor,
}

/// Contents that are on their way, so that two files with the same bytes are embedded once: the first
/// goes through, the others wait here for what becomes of it.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashMap<ContentHash, Vec<Work>>>);

impl Claims {
    /// Gives the work back if it is the first with this content; else keeps it.
    fn claim(&self, hash: ContentHash, work: Work) -> Option<Work> {
        match self.lock().entry(hash) {
            std::collections::hash_map::Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(work);
                None
            }
            std::collections::hash_map::Entry::Vacant(first) => {
                first.insert(Vec::new());
                Some(work)
            }
        }
    }

    /// Ends the claim and gives the files that waited for it.
    pub(super) fn release(&self, hash: &ContentHash) -> Vec<Work> {
        self.lock().remove(hash).unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ContentHash, Vec<Work>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all threads share.
struct Shared<'a> {
    engine: &'a Engine,
    model: ModelId,
    claims: &'a Claims,
    tally: &'a Tally,
    /// Set when one thread failed: the others finish what they hold.
    failed: &'a AtomicBool,
    watch: &'a Watch<'a>,
}

impl Shared<'_> {
    fn halted(&self) -> bool {
        self.watch.is_cancelled() || self.failed.load(Ordering::Relaxed)
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
    let threads = options.threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|n| format!("decode-{n}"))
        .build()
        .map_err(|source| Error::Threads { source: Box::new(source) })?;
    let plan_catalog = library.catalog().reopen()?;
    let decode_catalog = Mutex::new(library.catalog().reopen()?);
    let (claims, tally, failed) = (Claims::default(), Tally::default(), AtomicBool::new(false));
    let shared = Shared { engine, model, claims: &claims, tally: &tally, failed: &failed, watch };
    let mut writer = Writer::new(library.catalog_mut(), model, scopes, &claims, report)?;

    let walked: Result<Vec<Option<Walked>>> = std::thread::scope(|threads_scope| {
        let (work_tx, work_rx) = bounded::<Work>(WORK_AHEAD);
        // Enough tensors (600 KB each) that no session waits for a decoder, and no more.
        let (tensor_tx, tensor_rx) = bounded::<Decoded>(threads * BATCH);
        let (outcome_tx, outcome_rx) = bounded::<Outcome>(threads * 4);
        let shared = &shared;

        let planner = threads_scope.spawn(move || -> Result<Vec<Option<Walked>>> {
            let halted = || shared.halted();
            let walk = |scope| {
                plan::walk(scope, &plan_catalog, model, options, &work_tx, shared.tally, &halted)
            };
            let walked = scopes.iter().map(walk).collect();
            drop(work_tx);
            walked
        });
        {
            let outcomes = outcome_tx.clone();
            let catalog = &decode_catalog;
            threads_scope.spawn(move || {
                pool.install(|| {
                    work_rx.into_iter().par_bridge().for_each(|work| {
                        decode(work, shared, catalog, &tensor_tx, &outcomes);
                    });
                });
            });
        }
        for _ in 0..threads {
            let (tensors, outcomes) = (tensor_rx.clone(), outcome_tx.clone());
            threads_scope.spawn(move || {
                if let Err(error) = embed(shared, &tensors, &outcomes) {
                    shared.failed.store(true, Ordering::Relaxed);
                    // With the writer gone there is an earlier failure already.
                    let _ = outcomes.send(Outcome::Failed(error));
                }
            });
        }
        // Only the threads hold senders and receivers now: when they end, so does the loop below.
        drop((outcome_tx, tensor_rx));

        let written = writer.receive(outcome_rx, || planner.is_finished(), &tally, watch);
        if written.is_err() {
            failed.store(true, Ordering::Relaxed);
        }
        let walked = planner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(walked)
    });
    writer.finish(walked?, watch.is_cancelled())
}

/// One file: read, compare, decode, hand on.
fn decode(
    work: Work,
    shared: &Shared<'_>,
    catalog: &Mutex<Catalog>,
    tensors: &Sender<Decoded>,
    outcomes: &Sender<Outcome>,
) {
    if shared.halted() {
        return;
    }
    // A send fails only when the receiver gave up, which it does for a reason of its own.
    let tell = |outcome| drop(outcomes.send(outcome));
    let photo = match photo::read(&work.file.path()) {
        Ok(photo) => photo,
        Err(reason) => return tell(Outcome::Skipped { work, hash: None, reason }),
    };
    let hash = photo.hash();
    let Some(work) = shared.claims.claim(hash, work) else { return };
    let known =
        catalog.lock().unwrap_or_else(PoisonError::into_inner).image_by_hash(&hash, shared.model);
    match known {
        Ok(Some((image, true))) => return tell(Outcome::Known { work, hash, image }),
        Ok(_) => {}
        Err(error) => return tell(Outcome::Failed(error)),
    }
    let preprocessing = &shared.engine.network().preprocessing;
    match photo::decode(&photo, preprocessing, shared.engine.decoding()) {
        Ok(decoded) => {
            let tensor = model::normalise(&decoded.pixels, preprocessing);
            drop(tensors.send(Decoded { work, hash, facts: decoded.facts, tensor }));
        }
        Err(reason) => tell(Outcome::Skipped { work, hash: Some(hash), reason }),
    }
}

/// A session of its own, from the first photo to the last.
fn embed(
    shared: &Shared<'_>,
    tensors: &Receiver<Decoded>,
    outcomes: &Sender<Outcome>,
) -> Result<()> {
    let mut session = None;
    while let Ok(first) = tensors.recv() {
        // Whatever waits already goes along; nobody waits for a batch to fill.
        let batch: Vec<Decoded> =
            std::iter::once(first).chain(tensors.try_iter()).take(BATCH).collect();
        if shared.halted() {
            break;
        }
        let session = match &mut session {
            Some(session) => session,
            none => none.insert(shared.engine.session(1, shared.watch)?),
        };
        let (batch, inputs): (Vec<Decoded>, Vec<InputTensor>) = batch
            .into_iter()
            .map(|mut photo| {
                let tensor = std::mem::replace(&mut photo.tensor, InputTensor(Vec::new()));
                (photo, tensor)
            })
            .unzip();
        let features = session.run(&inputs)?;
        if outcomes.send(Outcome::Embedded(batch.into_iter().zip(features).collect())).is_err() {
            break;
        }
    }
    Ok(())
}
