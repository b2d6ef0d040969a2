//! What became of the files → the catalog, one transaction a batch.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::SyncReport;
use super::pipeline::{Claims, Decoded, Outcome};
use super::plan::{Tally, Walked, Work};
use crate::catalog::{Batch, Catalog, FileId, ModelId, Scope, Skip};
use crate::embedding::{Features, InvalidVector};
use crate::error::{Error, Result};
use crate::photo::{DECODER_VERSION, Unreadable};
use crate::progress::{Event, Watch};
use crate::record::{ImageId, PathBytes, Skipped};

/// Outcomes without features are cheap to do again, so they wait for company: a transaction waits for
/// the disk.
const SMALL_OUTCOMES: usize = 256;

/// How long they wait at most.
const PATIENCE: Duration = Duration::from_millis(500);

/// The only thread that writes to the catalog.
pub(super) struct Writer<'a> {
    catalog: &'a mut Catalog,
    model: ModelId,
    scopes: &'a [Scope],
    claims: &'a Claims,
    report: &'a mut SyncReport,
    newest_before: FileId,
    failure: Option<Error>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        catalog: &'a mut Catalog,
        model: ModelId,
        scopes: &'a [Scope],
        claims: &'a Claims,
        report: &'a mut SyncReport,
    ) -> Result<Self> {
        let newest_before = catalog.newest_file()?;
        Ok(Self { catalog, model, scopes, claims, report, newest_before, failure: None })
    }

    /// Writes outcomes until all senders are gone.
    pub(super) fn receive(
        &mut self,
        outcomes: Receiver<Outcome>,
        scanned: impl Fn() -> bool,
        tally: &Tally,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let mut waiting = Vec::new();
        loop {
            let received = outcomes.recv_timeout(PATIENCE);
            let (due, ended) = match received {
                Ok(outcome) => {
                    let embedded = matches!(outcome, Outcome::Embedded(_));
                    waiting.push(outcome);
                    (embedded || waiting.len() >= SMALL_OUTCOMES, false)
                }
                Err(RecvTimeoutError::Timeout) => (true, false),
                Err(RecvTimeoutError::Disconnected) => (true, true),
            };
            if due && !waiting.is_empty() {
                let done = self.write(std::mem::take(&mut waiting))?;
                tally.done.fetch_add(done, Ordering::Relaxed);
            }
            watch.tell(Event::Photos {
                found: tally.found.load(Ordering::Relaxed),
                done: tally.done.load(Ordering::Relaxed),
                embedded: self.report.embedded,
                scanned: scanned(),
            });
            if ended {
                return self.failure.take().map_or(Ok(()), Err);
            }
        }
    }

    /// Writes outcomes in one transaction, then those that waited for the same content in another.
    /// Returns how many files are done.
    fn write(&mut self, outcomes: Vec<Outcome>) -> Result<u64> {
        let mut settled = Vec::new();
        let mut done = 0;
        let mut batch = self.catalog.batch()?;
        for outcome in outcomes {
            match outcome {
                Outcome::Known { work, hash, image } => {
                    link(&mut batch, self.report, &work, image, false)?;
                    settled.push((hash, Settled::Image(image)));
                    done += 1;
                }
                Outcome::Skipped { work, hash, reason } => {
                    let skip = Left::from(&reason);
                    leave_out(&mut batch, self.report, &work, &skip)?;
                    settled.extend(hash.map(|hash| (hash, Settled::LeftOut(skip))));
                    done += 1;
                }
                Outcome::Embedded(photos) => {
                    for (photo, features) in photos {
                        let how = embedded(&mut batch, self.report, self.model, &photo, features)?;
                        settled.push((photo.hash, how));
                        done += 1;
                    }
                }
                Outcome::Failed(error) => {
                    self.failure.get_or_insert(error);
                }
            }
        }
        batch.commit()?;
        // Only now: whoever claims the same content from here on finds it in the catalog.
        let mut batch = self.catalog.batch()?;
        for (hash, how) in settled {
            for twin in self.claims.release(&hash) {
                match &how {
                    Settled::Image(image) => link(&mut batch, self.report, &twin, *image, false)?,
                    Settled::LeftOut(skip) => leave_out(&mut batch, self.report, &twin, skip)?,
                }
                done += 1;
            }
        }
        batch.commit()?;
        Ok(done)
    }

    /// Forgets what the walks did not come upon, and completes the report.
    pub(super) fn finish(self, walked: Vec<Option<Walked>>, cancelled: bool) -> Result<()> {
        let mut batch = self.catalog.batch()?;
        for (scope, walked) in self.scopes.iter().zip(walked) {
            let Some(walked) = walked else { continue };
            self.report.unchanged += walked.unchanged;
            self.report.skipped_before += walked.skipped_before;
            let (spared, unreadable): (Vec<PathBytes>, Vec<Skipped>) =
                walked.unreadable.into_iter().unzip();
            self.report.skipped.extend(unreadable);
            if cancelled {
                continue;
            }
            self.report.removed +=
                batch.forget_vanished(scope, &walked.seen, self.newest_before, &spared)?;
            if batch.count_skips(scope)? > walked.known_skips {
                batch.forget_vanished_skips(scope, |path| !is_gone(path))?;
            }
        }
        batch.commit()
    }
}

/// What became of a content, for the files that waited for it.
enum Settled {
    Image(ImageId),
    LeftOut(Left),
}

/// Why a file is left out.
struct Left {
    reason: String,
    decoder: u32,
    worth_telling: bool,
    /// Whether its content was seen: then what the path held before is gone.
    content_seen: bool,
}

impl From<&Unreadable> for Left {
    fn from(reason: &Unreadable) -> Self {
        // Rights and cables change without the file changing: such a file is tried every time.
        let transient = matches!(reason, Unreadable::Io(_));
        Self {
            reason: reason.to_string(),
            decoder: if transient { 0 } else { DECODER_VERSION },
            worth_telling: !matches!(reason, Unreadable::NotAPhoto),
            content_seen: !transient,
        }
    }
}

fn embedded(
    batch: &mut Batch<'_>,
    report: &mut SyncReport,
    model: ModelId,
    photo: &Decoded,
    features: Result<Features, InvalidVector>,
) -> Result<Settled> {
    report.embedded += 1;
    match features {
        Ok(features) => {
            let image = batch.add_image(&photo.hash, &photo.facts)?;
            batch.add_features(image, model, &features)?;
            link(batch, report, &photo.work, image, true)?;
            Ok(Settled::Image(image))
        }
        Err(reason) => {
            let left = Left {
                reason: format!("the network gave no usable features: {reason}"),
                decoder: DECODER_VERSION,
                worth_telling: true,
                content_seen: true,
            };
            leave_out(batch, report, &photo.work, &left)?;
            Ok(Settled::LeftOut(left))
        }
    }
}

/// Says that a file holds an image, and finds out what that means for the report.
fn link(
    batch: &mut Batch<'_>,
    report: &mut SyncReport,
    work: &Work,
    image: ImageId,
    new_features: bool,
) -> Result<()> {
    match batch.link(work.root, &work.file, image)? {
        Some(before) if before == image && new_features => report.added += 1,
        // Touched, or copied over itself.
        Some(before) if before == image => report.unchanged += 1,
        Some(_) => report.updated += 1,
        None => {
            let others = batch.other_files(image, work.root, &work.file.relative)?;
            // A file that moved leaves one old path behind; a copy leaves none.
            match others.into_iter().find(|other| is_gone(&other.path)) {
                Some(old) => {
                    batch.unlink(old.id)?;
                    report.moved += 1;
                }
                None => report.added += 1,
            }
        }
    }
    Ok(())
}

fn leave_out(
    batch: &mut Batch<'_>,
    report: &mut SyncReport,
    work: &Work,
    left: &Left,
) -> Result<()> {
    let skip =
        Skip { decoder: left.decoder, worth_telling: left.worth_telling, reason: &left.reason };
    if left.content_seen {
        batch.unlink_path(work.root, &work.file.relative)?;
    }
    batch.skip(work.root, &work.file, &skip)?;
    if left.worth_telling {
        report.skipped.push(Skipped { path: work.file.path(), reason: left.reason.clone() });
    }
    Ok(())
}

fn is_gone(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    path.symlink_metadata().is_err_and(|e| matches!(e.kind(), NotFound | NotADirectory))
}
