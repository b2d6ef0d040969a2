//! What the threads do that have photos decoded and embedded.

use std::sync::{MutexGuard, TryLockError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::claims::lock;
use super::pipeline::{News, Outcome, Read, Shared, What};
use super::plan::Work;
use super::profile::Stage;
use crate::error::{Error, Result};
use crate::network::Pixels;
use crate::photo::{self, Photo};
use crate::record::{ContentHash, PhotoFacts};
use crate::runtime::FeatureSession;

/// Threads that bring batches to a device: one brings the next while the other waits for what is computed.
const FEEDERS: usize = 2;

/// A photo on its way through the network.
pub(super) struct Decoded {
    work: Work,
    hash: ContentHash,
    facts: PhotoFacts,
}

/// What the network sees of it.
pub(super) type Square = (Decoded, Pixels);

/// A worker, from the first photo to the last. On the CPU it embeds when a batch is there and decodes otherwise,
/// so that as many threads are busy as were asked for and no more, whatever the photos cost to decode. Where a
/// device embeds, it only decodes. A photo that takes long holds up its own worker and nobody else.
pub(super) fn work<'scope>(
    shared: &'scope Shared<'_>,
    photos: &Receiver<Read>,
    news: &Sender<News>,
    threads: &'scope thread::Scope<'scope, '_>,
) -> Result<()> {
    // The first photo goes alone and the next two together: what a run is like shows at once.
    let mut batch = 1;
    loop {
        match next(shared, photos, batch) {
            Next::Open(opening) => {
                let session = shared.open_session(&opening)?;
                let feeders = if session.is_exclusive() { FEEDERS } else { 0 };
                for number in 0..feeders {
                    let news = news.clone();
                    thread::Builder::new()
                        .name(format!("feeder-{number}"))
                        .spawn_scoped(threads, move || feed(session, shared, &news))
                        .map_err(|source| Error::Threads { source: Box::new(source) })?;
                }
            }
            Next::Decode(photo) => decode(*photo, shared, news),
            Next::Embed(session, squares) => {
                embed(session, squares, shared, news)?;
                batch = (batch * 2).min(session.batch());
            }
            Next::Done => return Ok(()),
        }
    }
}

/// Brings a device one batch after the other, until there are no more.
fn feed(session: &FeatureSession, shared: &Shared<'_>, news: &Sender<News>) {
    loop {
        let squares = shared.squares.wait_for(session.batch());
        if squares.is_empty() {
            return;
        }
        // What is left after a failure is taken all the same: workers wait for room.
        if !shared.halted()
            && let Err(error) = embed(session, squares, shared, news)
        {
            shared.fail(error, news);
        }
    }
}

/// What a worker does next.
enum Next<'a> {
    Open(MutexGuard<'a, ()>),
    Decode(Box<Read>),
    Embed(&'a FeatureSession, Vec<Square>),
    Done,
}

fn next<'a>(shared: &'a Shared<'_>, photos: &Receiver<Read>, batch: usize) -> Next<'a> {
    loop {
        if shared.halted() {
            photos.iter().for_each(drop);
            return Next::Done;
        }
        let squares = shared.squares.len();
        shared.clock.queues(photos.len(), squares);
        let Some(session) = shared.session.get() else {
            if let Some(next) = next_without_session(shared, photos, squares) {
                return next;
            }
            continue;
        };
        if session.is_exclusive() {
            let most = shared.ahead_of_device();
            shared.clock.time(Stage::Embed, || shared.squares.wait_for_room(most));
            return wait_for_photo(shared, photos);
        }
        let mut batch = batch;
        if squares < batch {
            match photos.try_recv() {
                Ok(photo) => return Next::Decode(Box::new(photo)),
                // The last squares are shared out, lest one worker embed them all and the others stand by.
                Err(TryRecvError::Disconnected) => batch = squares.div_ceil(shared.workers),
                Err(TryRecvError::Empty) => {}
            }
        }
        // A batch, or nothing else to do: nobody waits for a batch to fill.
        let taken = shared.squares.take(batch);
        if !taken.is_empty() {
            return Next::Embed(session, taken);
        }
        return wait_for_photo(shared, photos);
    }
}

/// What to do before the session is open: one worker opens it, while the others decode. `None` when it is open
/// now.
fn next_without_session<'a>(
    shared: &'a Shared<'_>,
    photos: &Receiver<Read>,
    squares: usize,
) -> Option<Next<'a>> {
    let ahead = match shared.engine.expects_device() {
        true => shared.ahead_of_device(),
        false => FeatureSession::CPU_BATCH * shared.workers,
    };
    let opening = match shared.opening.try_lock() {
        Ok(_) if shared.session.get().is_some() => return None,
        // A single worker decodes a photo first.
        Ok(opening) if squares > 0 || (shared.workers > 1 && !photos.is_empty()) => {
            return Some(Next::Open(opening));
        }
        Err(TryLockError::WouldBlock) => true,
        _ => false,
    };
    let next = if squares < ahead { wait_for_photo(shared, photos) } else { Next::Done };
    match next {
        Next::Done if opening => {
            drop(lock(&shared.opening));
            None
        }
        next => Some(next),
    }
}

fn wait_for_photo<'a>(shared: &Shared<'_>, photos: &Receiver<Read>) -> Next<'a> {
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
            shared.squares.push((Decoded { work, hash, facts }, pixels));
        }
        Err(reason) => {
            let what = What::Skipped { hash: Some(hash), reason };
            drop(news.send(News::Outcomes(vec![Outcome { work, what }])));
        }
    }
}

/// Runs a batch.
fn embed(
    session: &FeatureSession,
    squares: Vec<Square>,
    shared: &Shared<'_>,
    news: &Sender<News>,
) -> Result<()> {
    let (photos, squares): (Vec<_>, Vec<_>) = squares.into_iter().unzip();
    let run = || session.run(&squares);
    // A worker's time; feeders have none.
    let features =
        if session.is_exclusive() { run() } else { shared.clock.time(Stage::Embed, run) }?;
    let outcome = |(Decoded { work, hash, facts }, features)| Outcome {
        work,
        what: What::Embedded { hash, facts, features },
    };
    let outcomes = photos.into_iter().zip(features).map(outcome).collect();
    // A send fails only when the receiver gave up, which it does for a reason of its own.
    drop(news.send(News::Outcomes(outcomes)));
    Ok(())
}
