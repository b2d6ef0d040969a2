//! How fast embeddings leave a library, each format beside NumPy or pyarrow writing the same arrays.
//!
//! ```text
//! cargo bench --bench exports [-- --rows N] [--width N] [--rounds N] [--only FORMAT] [--no-peers]
//! ```
//!
//! A library of N images (by default 100,000 of 2,048 features, seeded) is made once, in the build folder. Each round
//! exports it in every format, alternately with `benches/peers/exports.py`, which holds the arrays in memory
//! already and has imported its libraries; both end with fsync. likeness reads the catalog, and reads back,
//! compares and hashes what it wrote; the peers do none of that. Medians of the rounds; MB are those of the
//! vectors (rows × width × 4), whatever the format makes of them.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use likeness::catalog::{Catalog, Chosen};
use likeness::embedding::Features;
use likeness::export::{self, About, Format, Options};
use likeness::network::{Channels, FeatureNetwork, Feed, Filter, Layout, Preprocessing};
use likeness::progress::Watch;
use likeness::record::{
    ContentHash, ModelFingerprint, PathBytes, PhotoDetails, PhotoFacts, SourceFile,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const FORMATS: [Format; 9] = [
    Format::Npy,
    Format::Npz,
    Format::Parquet,
    Format::MilvusParquet,
    Format::Arrow,
    Format::Safetensors,
    Format::Fvecs,
    Format::ClipRetrieval,
    Format::Jsonl,
];
const BATCH: usize = 1_000;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let number = |name: &str, default| option(name).map_or(Ok(default), |n| n.parse::<usize>());
    let (rows, width) = (number("--rows", 100_000)?, number("--width", 2_048)?);
    let rounds = number("--rounds", 3)?.max(1);
    let only = option("--only");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("exports-{rows}-{width}"));
    std::fs::create_dir_all(&folder)?;
    let catalog = library(&folder, rows, width)?;

    // The peers' arrays are what likeness exports.
    let (arrays, _) = run(&catalog, &folder, "arrays", Format::Npy)?;
    let mut peers = match args.iter().any(|arg| arg == "--no-peers") {
        true => None,
        false => Some(Peers::start(&folder.join(arrays))?),
    };
    let formats = FORMATS.into_iter().filter(|format| only.is_none_or(|o| o == format.name()));
    let mut times: Vec<(Format, Vec<f64>, Vec<f64>)> =
        formats.map(|format| (format, Vec::new(), Vec::new())).collect();
    for _ in 0..rounds {
        for (format, ours, theirs) in &mut times {
            let (out, seconds) = run(&catalog, &folder, "ours", *format)?;
            ours.push(seconds);
            remove(&folder.join(out))?;
            if let Some(peers) = &mut peers {
                let out = folder.join("theirs");
                theirs.extend(peers.write(format.name(), &out)?);
                remove(&out)?;
            }
        }
    }
    let megabytes = (rows * width * 4) as f64 / 1e6;
    println!("{rows} rows of {width} features, {megabytes:.0} MB; medians of {rounds} rounds");
    println!(
        "{:<16} {:>10} {:>8}   {:>10} {:>8}  likeness/peer",
        "", "rows/s", "MB/s", "peer", "MB/s"
    );
    for (format, ours, theirs) in times {
        let (ours, theirs) = (median(ours), median(theirs));
        let rates = |seconds: f64| (rows as f64 / seconds, megabytes / seconds);
        let (own_rows, own_megabytes) = rates(ours);
        print!("{:<16} {own_rows:>10.0} {own_megabytes:>8.0}", format.name());
        if theirs.is_nan() {
            println!();
            continue;
        }
        let (rows, megabytes) = rates(theirs);
        println!("   {rows:>10.0} {megabytes:>8.0}  {:.2}", theirs / ours);
    }
    Ok(())
}

/// NaN where there is none.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Exports everything; the name of the file, and seconds from the first row read to the last name given.
fn run(catalog: &Catalog, folder: &Path, name: &str, format: Format) -> Outcome<(String, f64)> {
    let name = format!("{name}.{}", format.name());
    let model = catalog.current_model()?.ok_or("the library has no model")?;
    let about = About {
        model: model.name.clone(),
        fingerprint: model.fingerprint,
        preprocessing: model.preprocessing.clone(),
        width: model.width,
        normalized: false,
        library: catalog.uuid()?,
    };
    let (out, options) = (folder.join(&name), Options::new(format));
    let started = Instant::now();
    catalog.with_export_rows(model.id, &Chosen::default(), |chosen| {
        export::export(&out, chosen.total, chosen.rows, &options, &about, &Watch::none())
    })?;
    Ok((name, started.elapsed().as_secs_f64()))
}

/// Removes an export and what stands beside it.
fn remove(out: &Path) -> Outcome<()> {
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for entry in out.parent().unwrap_or(Path::new(".")).read_dir()? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&name) {
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

/// A catalog of so many images, made where it is not there yet.
fn library(folder: &Path, rows: usize, width: usize) -> Outcome<Catalog> {
    let path = folder.join("catalog.sqlite");
    let mut catalog = Catalog::open(&path)?;
    if catalog.counts()?.images == rows as u64 {
        return Ok(catalog);
    }
    drop(catalog);
    std::fs::remove_dir_all(folder)?;
    std::fs::create_dir_all(folder)?;
    catalog = Catalog::open(&path)?;
    let network = FeatureNetwork {
        name: "made".into(),
        fingerprint: ModelFingerprint::from_bytes([1; 32]),
        path: PathBuf::new(),
        input: "input".into(),
        feed: Feed::Values,
        output: "output".into(),
        width,
        preprocessing: Preprocessing {
            size: 224,
            resize: 256,
            filter: Filter::Bilinear,
            channels: Channels::Rgb,
            layout: Layout::Nchw,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        },
    };
    let mut batch = catalog.batch()?;
    let model = batch.add_model(&network)?;
    batch.use_model(Some(model), None)?;
    let scope = batch.enter(Path::new("/srv/photos"), None)?;
    batch.commit()?;
    let mut state = 50u64;
    for first in (0..rows).step_by(BATCH) {
        let mut batch = catalog.batch()?;
        for row in first..rows.min(first + BATCH) {
            let hash = ContentHash::from_bytes(*blake3::hash(&row.to_le_bytes()).as_bytes());
            let details = PhotoDetails {
                taken_at: Some("2024-05-01T12:34:56+02:00".into()),
                camera: Some("Canon EOS R5".into()),
                ..PhotoDetails::default()
            };
            let facts = PhotoFacts { width: 6000, height: 4000, format: "jpeg", details };
            let image = batch.add_image(&hash, &facts)?;
            // As features are: not negative, and half of them next to nothing. Knuth's generator.
            let values = (0..width).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 40) as f32 / (1 << 24) as f32 - 0.5).max(0.0)
            });
            batch.add_features(image, model, &Features::new(values.collect(), width)?)?;
            let file = SourceFile {
                root: "/srv/photos".into(),
                relative: PathBytes::from_path(Path::new(&format!("{}/{row}.jpg", row / 100))),
                size: 1,
                mtime_ns: 0,
            };
            batch.link(scope.root, &file, image)?;
        }
        batch.commit()?;
    }
    Ok(catalog)
}

/// The process that writes with NumPy and pyarrow.
struct Peers {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peers {
    fn start(arrays: &Path) -> Outcome<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/exports.py");
        let mut command = Command::new("python3");
        let mut child =
            command.arg(script).arg(arrays).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().ok_or("no stdin")?;
        let from = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut peers = Self { child, to, from };
        match peers.line()?.as_str() {
            "ready" => Ok(peers),
            other => Err(format!("the peers said {other:?}").into()),
        }
    }

    /// Seconds; `None` where no peer writes the format.
    fn write(&mut self, format: &str, out: &Path) -> Outcome<Option<f64>> {
        writeln!(self.to, "{format}\t{}", out.display())?;
        match self.line()?.as_str() {
            "none" => Ok(None),
            seconds => Ok(Some(seconds.parse()?)),
        }
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It ends by itself when nothing more is asked; whether it does is not worth waiting for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
