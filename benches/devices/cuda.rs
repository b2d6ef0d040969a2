//! An NVIDIA device: whether it gives what the CPU gives, and what bounds `index` there.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// What [`index`] is measured with.
pub(super) struct Settings {
    pub(super) folders: Vec<PathBuf>,
    /// How many images the device is given at once.
    pub(super) batches: Vec<usize>,
    pub(super) rounds: usize,
}

/// `open` gives an engine on the device.
pub(super) fn run(
    open: impl Fn(Precision) -> Engine,
    (reference, squares): (&[Embedding], &[Pixels]),
    settings: &Settings,
) -> Outcome<()> {
    let watch = Watch::none();
    for precision in [Precision::Fp32, Precision::Fp16] {
        let engine = open(precision);
        let found = embeddings(&engine.session(1, &watch)?, squares)?;
        let on = engine.ran_on().map_or("", |on| &on.name);
        compare(&format!("{precision} on {on}"), reference, &found);
    }
    for folder in &settings.folders {
        let paths = files(folder)?;
        let threads = SyncOptions::new(Vec::new()).threads;
        println!(
            "\n{}: {} photos, {threads} threads; images a second",
            folder.display(),
            paths.len()
        );
        println!(
            "{:<24} {:>9} {:>9} {:>9} {:>17}",
            "", "decoding", "network", "index", "share of the bound"
        );
        for precision in [Precision::Fp32, Precision::Fp16] {
            for &batch in &settings.batches {
                bound(
                    &open(precision),
                    precision,
                    &paths,
                    folder,
                    batch,
                    (squares, settings.rounds),
                )?;
            }
        }
    }
    Ok(())
}

/// Prints a line: what decoding alone, the network alone and `index` do, in turn, medians.
fn bound(
    engine: &Engine,
    precision: Precision,
    paths: &[PathBuf],
    folder: &Path,
    batch: usize,
    (squares, rounds): (&[Pixels], usize),
) -> Outcome<()> {
    let threads = SyncOptions::new(Vec::new()).threads;
    let session = engine.batch_session(Some(batch), 1, &Watch::none())?;
    if !session.is_staged() {
        println!("without page-locked memory:");
    }
    let images: Vec<Pixels> = squares.iter().cycle().take(batch).cloned().collect();
    let mut all: [Vec<f64>; 4] = Default::default();
    let mut profile = None;
    for _ in 0..rounds {
        let decoding = decoding(engine, paths, threads)?;
        let network = network(&session, &images, batch)?;
        let (index, spent) = index(engine, folder, batch)?;
        let values = [decoding, network, index, index / decoding.min(network)];
        all.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
        profile = Some(spent);
    }
    let [decoding, network, index, share] =
        all.map(|values| median(values.into_iter().map(Ok)).expect("a round at least"));
    println!(
        "{:<24} {decoding:>9.0} {network:>9.0} {index:>9.0} {share:>17.2}",
        format!("{precision}, batches of {batch}")
    );
    if let Some(profile) = profile {
        println!(
            "    the device {:.1} s; seconds of threads: decode {:.1}, waiting for it {:.1}, idle {:.1}, read {:.1}, \
             catalog {:.1}",
            profile.device,
            profile.decode,
            profile.embed,
            profile.idle,
            profile.read,
            profile.write
        );
    }
    Ok(())
}

/// Photos a second that so many threads read, hash and decode, and do nothing else.
fn decoding(engine: &Engine, paths: &[PathBuf], threads: usize) -> Outcome<f64> {
    let next = AtomicUsize::new(0);
    let preprocessing = &engine.network().preprocessing;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let decode = || -> Result<(), String> {
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                let told = |error: &dyn std::fmt::Display| error.to_string();
                let bytes = photo::read(path, DecodeOptions::MAX_BYTES).map_err(|e| told(&e))?;
                bytes.hash();
                let photo = photo::decode(&bytes, preprocessing, engine.decoding());
                photo.map_err(|e| told(&e))?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(decode)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    Ok(paths.len() as f64 / started.elapsed().as_secs_f64())
}

/// Images a second of the network alone, in batches that it takes whole. Two threads bring them, so that the
/// device need not wait for either.
fn network(session: &FeatureSession, images: &[Pixels], batch: usize) -> Outcome<f64> {
    const AT_LEAST: usize = 4_096;
    session.run(images)?;
    let runs = AT_LEAST.div_ceil(2 * batch);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let run = || (0..runs).try_for_each(|_| session.run(images).map(drop));
        let threads = [scope.spawn(run), scope.spawn(run)];
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    Ok((2 * runs * batch) as f64 / started.elapsed().as_secs_f64())
}

/// Photos a second of a whole run into a new library, and where its time went.
fn index(engine: &Engine, folder: &Path, batch: usize) -> Outcome<(f64, Profile)> {
    let dir = tempfile::tempdir()?;
    let mut library = Library::open(dir.path())?;
    let mut options = SyncOptions::new(vec![folder.to_path_buf()]);
    options.batch = Some(batch);
    let report = sync::sync(&mut library, engine, &options, &Watch::none())?;
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    Ok((report.embedded as f64 / report.elapsed.as_secs_f64(), report.profile))
}
