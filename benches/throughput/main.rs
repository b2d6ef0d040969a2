//! What `likeness index` costs beside the network alone.
//!
//! ```text
//! cargo bench --bench throughput [-- --photos FOLDER] [--mirror DIR] [--rounds N] [--unchanged FILES] [--int8]
//!     [--times N]
//! cargo bench --bench throughput -- --make DIR [--times N]
//! ```
//!
//! Two folders are made: DIR/1mp and DIR/12mp, mosaics of the photos in FOLDER (by default
//! `../shared/photos/objects`), so that they have the detail and the file size of photos and not of
//! enlargements; with --times N, N times as many, so that what a run costs once weighs less. Each is indexed into a new library, in turn with the network alone: as many one-thread
//! sessions, batches as large, as many images, nothing to decode. Medians of the rounds count. With --int8 the
//! model in 8 bits takes part, made by the photos in FOLDER.
//!
//! Then: from the start of the process to the first photo that is embedded, and a run over FILES files
//! (by default 100,000) none of which changed, in turn with `find -type f -printf '%s %T@ %p\n'`. Last, what
//! the decoders take for one photo of each folder.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod decoders;

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use image::RgbImage;
use image::imageops::replace;
use likeness::engine::Engine;
use likeness::library::Library;
use likeness::model::{Installed, ModelStore, StoreConfig};
use likeness::network::Pixels;
use likeness::photo::{self, DecodeOptions};
use likeness::progress::Watch;
use likeness::quantise::{QuantiseOptions, quantise};
use likeness::runtime::{self, Device, FeatureSession, Runtime, RuntimeConfig};
use likeness::sync::{self, Profile, SyncOptions};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Name, width, height and number of the photos made, once.
const FOLDERS: [(&str, u32, u32, usize); 2] =
    [("1mp", 1_224, 816, 200), ("12mp", 4_032, 3_024, 60)];

/// As `index` batches them.
const BATCH: usize = 4;

fn main() -> Outcome<()> {
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let rounds = option("--rounds").map_or(Ok(3), |n| n.parse())?;
    let unchanged = option("--unchanged").map_or(Ok(100_000), |n| n.parse())?;
    let photos = option("--photos").unwrap_or_else(|| "../shared/photos/objects".into());
    let mirror = option("--mirror").or_else(|| std::env::var("LIKENESS_MIRROR").ok());
    let times = option("--times").map_or(Ok(1), |n| n.parse())?;
    if let Some(dir) = option("--make") {
        return make(Path::new(&photos), Path::new(&dir), times);
    }
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("data");
    let made = tempfile::tempdir()?;
    make(Path::new(&photos), made.path(), times)?;
    let int8 = std::env::args().any(|arg| arg == "--int8").then(|| Path::new(&photos));
    let explicit = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let config = RuntimeConfig {
        explicit,
        data: data.join("likeness"),
        offline: false,
        device: Device::Auto,
    };
    let engines = engines(&data, &config, mirror.clone(), int8)?;
    let runtime = runtime::ensure(&config, &Watch::none())?;
    let threads = SyncOptions::new(Vec::new()).threads;
    println!("{threads} threads, {rounds} rounds");
    println!(
        "\n{:<24} {:>14} {:>12} {:>12} {:>8}",
        "", "ONNX Runtime/s", "network/s", "index/s", "ratio"
    );
    for (name, ..) in FOLDERS {
        throughput(&engines, &runtime, &made.path().join(name), threads, rounds)?;
    }
    first_photo(&data, &made.path().join("1mp"), mirror.as_deref(), rounds)?;
    nothing_new(&data, made.path(), mirror.as_deref(), rounds, unchanged)?;
    let first = FOLDERS.map(|(name, ..)| made.path().join(name).join("0000.jpg"));
    decoders::run(&first.each_ref().map(PathBuf::as_path), &engines[0].network().preprocessing)
}

/// The default network; and the same in 8 bits, made by photos.
fn engines(
    data: &Path,
    runtime: &RuntimeConfig,
    mirror: Option<String>,
    int8: Option<&Path>,
) -> Outcome<Vec<Engine>> {
    let watch = Watch::none();
    let (folder, cache) = (data.join("likeness/models"), data.join("likeness/networks"));
    let models = ModelStore::new(StoreConfig {
        folder,
        library_folder: None,
        mirror,
        offline: false,
        cache,
    });
    let mut installed = vec![models.obtain(None, &watch)?];
    if let Some(photos) = int8 {
        let name = "bench-int8";
        if models.on_this_machine(Some(name), &watch).is_ok() {
            models.remove(name)?;
        }
        let options = QuantiseOptions {
            name: Some(name.into()),
            images: QuantiseOptions::IMAGES,
            evaluate: None,
            decoding: DecodeOptions::default(),
        };
        installed.push(quantise(&models, &installed[0], runtime, photos, &options, &watch)?);
    }
    let engine = |model: &Installed| {
        let network = models.prepare(model, &watch)?;
        Ok(Engine::new(network, runtime.clone(), DecodeOptions::default()))
    };
    installed.iter().map(engine).collect()
}

/// What one network did, a value a round.
#[derive(Default)]
struct Rounds {
    /// With ONNX Runtime's own operators.
    plain: Vec<f64>,
    alone: Vec<f64>,
    indexed: Vec<f64>,
    ratios: Vec<f64>,
    profile: Profile,
}

fn throughput(
    engines: &[Engine],
    runtime: &Runtime,
    folder: &Path,
    threads: usize,
    rounds: usize,
) -> Outcome<()> {
    let paths = files(folder)?;
    // The networks take the same input.
    let engine = &engines[0];
    let square = |path: &PathBuf| {
        let preprocessing = &engine.network().preprocessing;
        let bytes = photo::read(path, DecodeOptions::MAX_BYTES)?;
        Ok(photo::decode(&bytes, preprocessing, engine.decoding())?.pixels)
    };
    let batch = |paths: &[PathBuf]| paths.iter().map(square).collect();
    let batches: Vec<Vec<Pixels>> =
        paths.chunks_exact(BATCH).take(4).map(batch).collect::<Outcome<_>>()?;
    let mut all: Vec<Rounds> = engines.iter().map(|_| Rounds::default()).collect();
    for _ in 0..rounds {
        for (engine, rounds) in engines.iter().zip(&mut all) {
            let plain = || FeatureSession::open_plain(runtime, engine.network(), 1);
            let plain = network_alone(plain, &batches, paths.len(), threads)?;
            let taken_over = || engine.session(1, &Watch::none());
            let network = network_alone(taken_over, &batches, paths.len(), threads)?;
            rounds.plain.push(plain);
            let (index, spent) = index(engine, folder)?;
            rounds.alone.push(network);
            rounds.indexed.push(index);
            rounds.ratios.push(index / network);
            rounds.profile = spent;
        }
    }
    let name = folder.file_name().unwrap_or_default().display().to_string();
    if let [floats, integers] = all.as_slice() {
        let pairs = integers.alone.iter().zip(&floats.alone);
        println!("{name}: 8 bits {:.2} times as fast", median(pairs.map(|(a, b)| a / b).collect()));
    }
    for (engine, Rounds { plain, alone, indexed, ratios, profile }) in engines.iter().zip(all) {
        let (plain, alone) = (median(plain), median(alone));
        let (indexed, ratio) = (median(indexed), median(ratios));
        let name = format!("{name} {}", engine.network().name);
        println!("{name:<24} {plain:>14.1} {alone:>12.1} {indexed:>12.1} {ratio:>8.3}");
        let Profile { embed, decode, idle, read, write, .. } = profile;
        println!(
            "       network {embed:.1} s, decode {decode:.1} s, idle {idle:.1} s, read {read:.1} s, \
             catalog {write:.1} s in the last round"
        );
    }
    Ok(())
}

/// Images a second of the network alone, sessions opened before the clock starts.
fn network_alone(
    open: impl Fn() -> Result<FeatureSession, likeness::error::Error>,
    batches: &[Vec<Pixels>],
    count: usize,
    threads: usize,
) -> Outcome<f64> {
    let sessions = (0..threads).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
    let runs = count.div_ceil(BATCH * threads);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let runs: Vec<_> = sessions
            .iter()
            .map(|session| {
                scope.spawn(move || {
                    let mut batches = batches.iter().cycle().take(runs);
                    batches.try_for_each(|batch| session.run(batch).map(drop))
                })
            })
            .collect();
        runs.into_iter().try_for_each(|run| run.join().expect("no panic"))
    })?;
    Ok((runs * BATCH * threads) as f64 / started.elapsed().as_secs_f64())
}

/// Photos a second of a whole run into a new library, and where its time went.
fn index(engine: &Engine, folder: &Path) -> Outcome<(f64, Profile)> {
    let dir = tempfile::tempdir()?;
    let mut library = Library::open(dir.path())?;
    let options = SyncOptions::new(vec![folder.to_path_buf()]);
    let report = sync::sync(&mut library, engine, &options, &Watch::none())?;
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    Ok((report.embedded as f64 / report.elapsed.as_secs_f64(), report.profile))
}

/// The command, with the data folder and the mirror of this bench.
fn command(data: &Path, mirror: Option<&str>, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_likeness"));
    command.args(args).env("XDG_DATA_HOME", data).stdin(Stdio::null());
    if let Some(mirror) = mirror {
        command.env("LIKENESS_MIRROR", mirror);
    }
    command
}

fn first_photo(data: &Path, folder: &Path, mirror: Option<&str>, rounds: usize) -> Outcome<()> {
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let dir = tempfile::tempdir()?;
        let mut command = command(data, mirror, &["index", "--progress", "json", "--library"]);
        command.arg(dir.path()).arg(folder).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn()?;
        let events = BufReader::new(child.stderr.take().expect("piped"));
        for line in events.lines() {
            let event: serde_json::Value = serde_json::from_str(&line?)?;
            if event["embedded"].as_u64() > Some(0) {
                seconds.push(started.elapsed().as_secs_f64());
                break;
            }
        }
        child.kill()?;
        child.wait()?;
    }
    println!("\nfrom the start of the process to the first photo: {:.2} s", median(seconds));
    Ok(())
}

fn nothing_new(
    data: &Path,
    made: &Path,
    mirror: Option<&str>,
    rounds: usize,
    count: usize,
) -> Outcome<()> {
    let folder = made.join("unchanged");
    // A file can have some 65,000 names, so there are as many files as photos.
    let photos = files(&made.join("1mp"))?;
    for number in 0..count {
        let below = folder.join(format!("{:03}", number / 1_000));
        fs::create_dir_all(&below)?;
        fs::hard_link(&photos[number % photos.len()], below.join(format!("{number}.jpg")))?;
    }
    let library = made.join("library");
    let index = || {
        let mut command = command(data, mirror, &["index", "--library"]);
        command.arg(&library).arg(&folder).stdout(Stdio::null());
        command
    };
    let find = || {
        let mut find = Command::new("find");
        find.arg(&folder).args(["-type", "f", "-printf", "%s %T@ %p\n"]).stdout(Stdio::null());
        find
    };
    seconds_of(&mut index())?;
    let (mut runs, mut walks, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.max(3) {
        let (walk, run) = (seconds_of(&mut find())?, seconds_of(&mut index())?);
        walks.push(walk);
        runs.push(run);
        ratios.push(run / walk);
    }
    let (run, walk, ratio) = (median(runs), median(walks), median(ratios));
    println!("{count} unchanged files: index {run:.3} s, find {walk:.3} s, ratio {ratio:.2}");
    Ok(())
}

fn seconds_of(command: &mut Command) -> Outcome<f64> {
    let started = Instant::now();
    let status = command.status()?;
    assert!(status.success(), "{command:?}: {status}");
    Ok(started.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All files below a folder, in the order of their names.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Makes the folders of [`FOLDERS`] in `dir`: rows of photos side by side, each mosaic another.
fn make(photos: &Path, dir: &Path, times: usize) -> Outcome<()> {
    let pieces: Vec<RgbImage> = files(photos)?
        .iter()
        .filter_map(|path| Some(image::open(path).ok()?.into_rgb8()))
        .collect();
    assert!(pieces.len() > 1, "there are no photos in {}", photos.display());
    // Numerical Recipes' generator: the same photos each time, no two alike.
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        &pieces[(state >> 8) as usize % pieces.len()]
    };
    for (name, width, height, count) in FOLDERS {
        fs::create_dir_all(dir.join(name))?;
        for number in 0..count * times {
            let mut mosaic = RgbImage::new(width, height);
            let mut top = 0;
            while top < height {
                let (mut left, mut lowest) = (0, height);
                while left < width {
                    let piece = next();
                    replace(&mut mosaic, piece, left.into(), top.into());
                    left += piece.width();
                    lowest = lowest.min(piece.height());
                }
                top += lowest;
            }
            fs::write(dir.join(name).join(format!("{number:04}.jpg")), jpeg(&mosaic)?)?;
        }
    }
    Ok(())
}

/// As cameras write them: baseline, chroma at half the width and height.
fn jpeg(picture: &RgbImage) -> std::io::Result<Vec<u8>> {
    let mut encoder = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    encoder.set_fastest_defaults();
    encoder.set_size(picture.width() as usize, picture.height() as usize);
    encoder.set_quality(88.0);
    encoder.set_chroma_sampling_pixel_sizes((2, 2), (2, 2));
    let mut started = encoder.start_compress(Vec::new())?;
    started.write_scanlines(picture.as_raw())?;
    started.finish()
}
