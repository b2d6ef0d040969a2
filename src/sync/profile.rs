//! Where the time of a run goes: seconds a stage, over all threads, and how full the queues were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What threads do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Read,
    Decode,
    Embed,
    Write,
    /// A worker has nothing to decode and nothing to embed.
    Idle,
}

const STAGES: usize = 5;

/// Counts while the run goes on; from any thread.
#[derive(Debug, Default)]
pub(super) struct Clock {
    nanoseconds: [AtomicU64; STAGES],
    photos_waiting: Mean,
    squares_waiting: Mean,
}

#[derive(Debug, Default)]
struct Mean {
    sum: AtomicU64,
    samples: AtomicU64,
}

impl Mean {
    fn add(&self, value: usize) {
        self.sum.fetch_add(value as u64, Ordering::Relaxed);
        self.samples.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self) -> f64 {
        let samples = self.samples.load(Ordering::Relaxed).max(1);
        self.sum.load(Ordering::Relaxed) as f64 / samples as f64
    }
}

/// The account of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// Threads that decode and embed.
    pub workers: usize,
    /// Reading and hashing files, in seconds over all threads, as all of these.
    pub read: f64,
    /// Decoding and resizing.
    pub decode: f64,
    /// The network, normalising for it included; where a device computes it, waiting for that.
    pub embed: f64,
    /// How long a device computed, of the time of the run; 0 where the workers compute.
    pub device: f64,
    /// The catalog's transactions.
    pub write: f64,
    /// Workers waiting for files to be read: when it is large, the disk bounds the run.
    pub idle: f64,
    /// Photos that were read and waited for a worker, on average.
    pub photos_waiting: f64,
    /// Squares that were decoded and waited for the network, on average.
    pub squares_waiting: f64,
}

impl Clock {
    /// Runs `work` and puts its time down.
    pub(super) fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds[stage as usize].fetch_add(nanoseconds, Ordering::Relaxed);
        done
    }

    /// Puts down how full the queues are, as a worker sees them.
    pub(super) fn queues(&self, photos: usize, squares: usize) {
        self.photos_waiting.add(photos);
        self.squares_waiting.add(squares);
    }

    /// `device` is how long a device computed.
    pub(super) fn profile(&self, workers: usize, device: Duration) -> Profile {
        let seconds = |stage: Stage| {
            let nanoseconds = self.nanoseconds[stage as usize].load(Ordering::Relaxed);
            Duration::from_nanos(nanoseconds).as_secs_f64()
        };
        Profile {
            workers,
            read: seconds(Stage::Read),
            decode: seconds(Stage::Decode),
            embed: seconds(Stage::Embed),
            device: device.as_secs_f64(),
            write: seconds(Stage::Write),
            idle: seconds(Stage::Idle),
            photos_waiting: self.photos_waiting.of(),
            squares_waiting: self.squares_waiting.of(),
        }
    }
}
