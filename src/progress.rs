//! How long-running work tells what it does and learns that it should stop.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::error::{Error, Result};

/// Something worth telling while work goes on. Plain data: how it looks is the caller's business; as
/// JSON each is an object whose `event` names the kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// One line a person should read, whatever the progress display: lower case, no full stop.
    Note {
        /// The line.
        text: String,
    },
    /// Bytes of a download or copy. `done == total` ends it.
    Transfer {
        /// What is transferred, as a person would name it.
        name: String,
        /// Bytes there so far, those of an earlier partial download included.
        done: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// Photos: sent as often as the numbers change.
    Photos {
        /// Files found so far.
        found: u64,
        /// Files dealt with so far: unchanged, embedded, moved or skipped.
        done: u64,
        /// Photos that went through the network so far.
        embedded: u64,
        /// Whether the folders have been walked to their end, so that `found` is final.
        scanned: bool,
    },
    /// Photos looked at to choose the scales of a model in 8 bits.
    Calibrating {
        /// Photos so far.
        done: u64,
        /// Photos in all.
        total: u64,
    },
    /// Vectors on their way out of a library, or into one, with what is known of the images.
    Vectors {
        /// What is done with them.
        doing: Doing,
        /// Vectors so far; of those pushed, acknowledged.
        done: u64,
        /// Vectors in all.
        total: u64,
    },
    /// Vectors put into the search index.
    Building {
        /// Vectors in so far.
        done: u64,
        /// Vectors in all.
        total: u64,
    },
}

/// What [`Event::Vectors`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Doing {
    /// They are written to files.
    Exporting,
    /// They are read from files.
    Importing,
    /// They are sent to a server, or deleted there.
    Pushing,
}

/// What a caller hands to long-running work: an ear and a brake.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    on_event: &'a (dyn Fn(Event) + Sync),
    cancelled: &'a AtomicBool,
}

impl<'a> Watch<'a> {
    /// Sends events to `on_event` (from any thread) and stops soon after `cancelled` turns true.
    pub fn new(on_event: &'a (dyn Fn(Event) + Sync), cancelled: &'a AtomicBool) -> Self {
        Self { on_event, cancelled }
    }

    /// Hears nothing and never stops.
    pub fn none() -> Watch<'static> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Watch { on_event: &|_| {}, cancelled: &NEVER }
    }

    /// Sends an event.
    pub fn tell(&self, event: Event) {
        (self.on_event)(event);
    }

    /// Sends [`Event::Note`].
    pub fn note(&self, text: impl Into<String>) {
        self.tell(Event::Note { text: text.into() });
    }

    /// Whether the caller wants the work to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// For `?` between two steps.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the caller wants the work to end.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
