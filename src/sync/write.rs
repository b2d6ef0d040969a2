//! What became of the files → the catalog, one transaction a batch.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::SyncReport;
use super::claims::Claims;
use super::pipeline::{News, Outcome, What};
use super::plan::{self, Tally, Visit, Walked, Work};
use super::profile::{Clock, Stage};
use crate::catalog::{Batch, Catalog, FileId, ModelId, OtherFile, Skip};
use crate::embedding::{Features, InvalidVector};
use crate::error::{Error, Result};
use crate::photo::{DECODER_VERSION, Unreadable};
use crate::progress::{Event, Watch};
use crate::record::{ContentHash, ImageId, PathBytes, PhotoFacts, Skipped};
use crate::scan;

/// How long outcomes wait for company, and so how much work a power cut costs: a transaction waits for the disk, and
/// writes a page once however much of it is new.
const TOGETHER: Duration = Duration::from_millis(250);

/// So many wait for no more.
const ENOUGH: usize = 256;

/// How long an outcome waits for one before it that takes long.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// The only thread that writes to the catalog.
pub(super) struct Writer<'a> {
    catalog: &'a mut Catalog,
    model: ModelId,
    /// [`crate::photo::DecodeOptions::limits_mark`].
    limits: u32,
    claims: &'a Claims,
    clock: &'a Clock,
    report: &'a mut SyncReport,
    newest_before: FileId,
    failure: Option<Error>,
}

/// Outcomes on their way into the catalog, put back into the order of the walk, so that ids follow it.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<u64, Outcome>,
    /// The place of the next outcome that may be written.
    next: u64,
}

impl Queue {
    /// Those whose turn it is; with `all`, those behind a gap, too.
    fn take(&mut self, all: bool) -> Vec<Outcome> {
        let mut taken = Vec::new();
        while let Some(entry) = self.waiting.first_entry() {
            let place = *entry.key();
            // What came late, after a gap was given up, is due at once.
            if place > self.next && !all {
                break;
            }
            self.next = self.next.max(place + 1);
            taken.push(entry.remove());
        }
        taken
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        catalog: &'a mut Catalog,
        model: ModelId,
        limits: u32,
        claims: &'a Claims,
        clock: &'a Clock,
        report: &'a mut SyncReport,
    ) -> Result<Self> {
        let newest_before = catalog.newest_file()?;
        let failure = None;
        Ok(Self { catalog, model, limits, claims, clock, report, newest_before, failure })
    }

    /// Writes outcomes until all senders are gone.
    pub(super) fn receive(
        &mut self,
        news: Receiver<News>,
        scanned: impl Fn() -> bool,
        tally: &Tally,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let mut queue = Queue::default();
        let mut ready: Vec<Outcome> = Vec::new();
        let mut written = Instant::now();
        // What a run is like shows at once.
        let mut is_first = true;
        loop {
            let patience = match ready.is_empty() {
                true => PATIENCE,
                false => TOGETHER.saturating_sub(written.elapsed()),
            };
            let ended = match news.recv_timeout(patience) {
                Ok(News::Outcomes(outcomes)) => {
                    queue.waiting.extend(outcomes.into_iter().map(|o| (o.work.order, o)));
                    false
                }
                Ok(News::Failed(error)) => {
                    self.failure.get_or_insert(error);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            let impatient = ended || written.elapsed() >= PATIENCE;
            ready.extend(queue.take(impatient));
            let due = is_first || ready.len() >= ENOUGH || written.elapsed() >= TOGETHER;
            if impatient || (due && !ready.is_empty()) {
                if !ready.is_empty() {
                    is_first = false;
                    let outcomes = std::mem::take(&mut ready);
                    let clock = self.clock;
                    let done = clock.time(Stage::Write, || self.write(outcomes))?;
                    tally.done.fetch_add(done, Ordering::Relaxed);
                }
                written = Instant::now();
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
        let newest = self.newest_before;
        let mut done = 0;
        let mut batch = self.catalog.batch()?;
        for Outcome { work, what } in outcomes {
            match what {
                What::Known { hash, image } => {
                    link(&mut batch, self.report, &work, image, false, newest)?;
                    settled.push((hash, Settled::Image(image)));
                }
                What::Skipped { hash, reason } => {
                    let skip = Left::new(&reason, self.limits);
                    leave_out(&mut batch, self.report, &work, &skip)?;
                    settled.extend(hash.map(|hash| (hash, Settled::LeftOut(skip))));
                }
                What::Embedded { hash, facts, features } => {
                    let photo = (hash, facts);
                    let how = embedded(
                        &mut batch,
                        self.report,
                        self.model,
                        &work,
                        photo,
                        features,
                        newest,
                    )?;
                    settled.push((hash, how));
                }
                // Counted when it is settled.
                What::Waits => continue,
            }
            done += 1;
        }
        batch.commit()?;
        // Only now: whoever claims the same content from here on finds it in the catalog.
        let mut batch = self.catalog.batch()?;
        for (hash, how) in settled {
            for twin in self.claims.release(&hash) {
                match &how {
                    Settled::Image(image) => {
                        link(&mut batch, self.report, &twin, *image, false, newest)?
                    }
                    Settled::LeftOut(skip) => leave_out(&mut batch, self.report, &twin, skip)?,
                }
                done += 1;
            }
        }
        batch.commit()?;
        Ok(done)
    }

    /// Forgets what the walks did not come upon, and completes the report. With `prune`, a folder may lose all its files.
    ///
    /// # Errors
    /// [`Error::RootMissing`], [`Error::RootEmpty`] of the first folder that has none any more: its files stay.
    pub(super) fn finish<'v>(
        self,
        walked: impl Iterator<Item = (&'v Visit, Option<Walked>)>,
        cancelled: bool,
        prune: bool,
    ) -> Result<()> {
        let mut batch = self.catalog.batch()?;
        let mut away = None;
        for (Visit { scope, selection }, walked) in walked {
            let Some(walked) = walked else { continue };
            self.report.unchanged += walked.unchanged;
            self.report.skipped_before += walked.skipped_before;
            let (spared, unreadable): (Vec<PathBytes>, Vec<Skipped>) =
                walked.unreadable.into_iter().unzip();
            self.report.skipped.extend(unreadable);
            if cancelled {
                continue;
            }
            // The folder was looked at when the run began, which may be hours ago: since then its drive may have gone.
            if !(walked.gone.is_empty() || prune || plan::holds_files(scope, selection)) {
                away.get_or_insert_with(|| plan::away(scope.path(), walked.gone.len() as u64));
                continue;
            }
            self.report.removed += batch.forget_files(&walked.gone, &spared)?;
            if batch.count_skips(scope)? > walked.known_skips {
                batch.forget_vanished_skips(scope, |path| !is_gone(path))?;
            }
        }
        batch.commit()?;
        away.map_or(Ok(()), Err)
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

impl Left {
    fn new(reason: &Unreadable, limits: u32) -> Self {
        let decoder = match reason {
            // Rights, cables and installed libraries change without the file changing: such a file is tried
            // every time.
            Unreadable::Io(_) | Unreadable::NeedsLibrary { .. } => 0,
            Unreadable::TooLarge { .. } | Unreadable::TooMuchMemory { .. } => limits,
            _ => DECODER_VERSION,
        };
        Self {
            reason: reason.to_string(),
            decoder,
            worth_telling: !matches!(reason, Unreadable::NotAPhoto),
            content_seen: !matches!(reason, Unreadable::Io(_)),
        }
    }
}

fn embedded(
    batch: &mut Batch<'_>,
    report: &mut SyncReport,
    model: ModelId,
    work: &Work,
    (hash, facts): (ContentHash, PhotoFacts),
    features: Result<Features, InvalidVector>,
    newest_before: FileId,
) -> Result<Settled> {
    report.embedded += 1;
    match features {
        Ok(features) => {
            let image = batch.add_image(&hash, &facts)?;
            batch.add_features(image, model, &features)?;
            link(batch, report, work, image, true, newest_before)?;
            Ok(Settled::Image(image))
        }
        Err(reason) => {
            let left = Left {
                reason: format!("the network gave no usable features: {reason}"),
                decoder: DECODER_VERSION,
                worth_telling: true,
                content_seen: true,
            };
            leave_out(batch, report, work, &left)?;
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
    newest_before: FileId,
) -> Result<()> {
    match batch.link(work.root, &work.file, image)? {
        Some(before) if before == image && new_features => report.added += 1,
        // Touched, or copied over itself.
        Some(before) if before == image => report.unchanged += 1,
        Some(_) => report.updated += 1,
        None => {
            let others = batch.older_files(image, work.root, &work.file.relative, newest_before)?;
            // A file that moved leaves one old path behind; a copy leaves none, and what lies on a drive that is away
            // moved nowhere: where it is mounted, an empty folder remains.
            let has_moved = |other: &OtherFile| {
                is_gone(&other.path) && !scan::is_empty(&other.root).unwrap_or(false)
            };
            match others.into_iter().find(has_moved) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{PhotoDetails, SourceFile};
    use crate::scan::Selection;

    #[test]
    fn a_folder_whose_files_went_during_the_run_keeps_them_unless_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let photos = dir.path().join("photos");
        std::fs::create_dir(&photos).unwrap();
        let mut catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        let mut batch = catalog.batch().unwrap();
        let scope = batch.enter(&photos, None).unwrap();
        let details = PhotoDetails::default();
        let facts = PhotoFacts { width: 4, height: 3, format: "jpeg", details };
        let image = batch.add_image(&ContentHash::from_bytes([1; 32]), &facts).unwrap();
        let path = PathBytes::from_bytes(b"a.jpg".to_vec());
        let file =
            SourceFile { root: photos.clone(), relative: path.clone(), size: 1, mtime_ns: 1 };
        batch.link(scope.root, &file, image).unwrap();
        batch.commit().unwrap();
        let visit = Visit { scope, selection: Selection::default() };
        let mut finish = |prune| {
            let (claims, clock, mut report) = Default::default();
            let limits = 0;
            let writer =
                Writer::new(&mut catalog, ModelId(1), limits, &claims, &clock, &mut report);
            let walked = Walked { gone: vec![(FileId(1), path.clone())], ..Walked::default() };
            let walked = [(&visit, Some(walked))].into_iter();
            let done = writer.unwrap().finish(walked, false, prune);
            (done, report.removed)
        };
        let (done, removed) = finish(false);
        assert!(matches!(done, Err(Error::RootEmpty { files: 1, .. })), "{done:?}");
        std::fs::remove_dir(&photos).unwrap();
        let (done, removed_then) = finish(false);
        assert!(matches!(done, Err(Error::RootMissing { files: 1, .. })), "{done:?}");
        assert_eq!((removed, removed_then), (0, 0));
        assert_eq!(finish(true).1, 1);
    }
}
