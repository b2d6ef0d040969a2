//! How long one waits for servers, and how often they are asked again.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};
use crate::progress::Watch;

/// How long a name, a connection and TLS may take.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// The waits before a call is said again; then it has failed. 32 seconds in all: a Milvus that was killed and
/// started anew takes up to 30 to forget what it was.
const BACK_OFF_MS: [u64; 7] = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000];

/// Of one thread, which waits for each answer: the rest of likeness knows no tasks.
pub(super) fn runtime() -> Result<Runtime> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|source| Error::Threads { source: source.into() })
}

/// Does something, and again, with growing waits, while what fails may pass. Each failure that is left is for who called.
pub(super) fn again<T, F>(
    watch: &Watch<'_>,
    once: impl Fn() -> Result<Result<T, F>>,
    is_transient: impl Fn(&F) -> bool,
) -> Result<Result<T, F>> {
    for wait in BACK_OFF_MS {
        watch.check()?;
        match once()? {
            Err(failure) if is_transient(&failure) => pause(Duration::from_millis(wait), watch)?,
            said => return Ok(said),
        }
    }
    watch.check()?;
    once()
}

/// What went wrong at the bottom: `Connection refused (os error 111)`.
pub(super) fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// Waits, but not when it should stop.
pub(super) fn pause(wait: Duration, watch: &Watch<'_>) -> Result<()> {
    let end = Instant::now() + wait;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        watch.check()?;
        thread::sleep(left.min(Duration::from_millis(50)));
    }
    watch.check()
}
