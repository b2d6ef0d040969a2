//! What networks run on: how long they take to open, what 16-bit floats change, and what a GPU gives.
//!
//! ```text
//! cargo bench --bench devices [-- --photos FOLDER] [--mirror DIR] [--rounds N]
//! cargo bench --bench devices -- --cuda N [--folders A,B,...] [--batches A,B,...] [--photos FOLDER] [--mirror DIR]
//!     [--rounds N]
//! ```
//!
//! First the default network, the same with its weights plain, and the same in 8 bits are opened, in turn: anew,
//! as for the first time on a machine, with what ONNX Runtime made of it written to disk; and from that. Medians
//! of the rounds. Then the cosine of the features in fp16 with those in fp32, both on the CPU, where ONNX Runtime
//! rounds to 16 bits between the operators, over photos of FOLDER (by default `../shared/photos/objects`).
//!
//! With --cuda the NVIDIA device N is measured instead (`likeness runtime install --cuda` into the data folder that
//! is printed, or ORT_DYLIB_PATH): the cosine of what it gives with the CPU's fp32; then, for each of the folders,
//! images a second of decoding alone, of the network alone and of `index`, which cannot be faster than either.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod cuda;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use likeness::embedding::Embedding;
use likeness::engine::{Engine, halved};
use likeness::library::Library;
use likeness::model::{ModelStore, StoreConfig};
use likeness::network::{FeatureNetwork, Pixels};
use likeness::photo::{self, DecodeOptions};
use likeness::progress::Watch;
use likeness::quantise::{QuantiseOptions, quantise};
use likeness::runtime::{Device, FeatureSession, Precision, Runtime, RuntimeConfig, fold};
use likeness::scan::{self, Found, Selection};
use likeness::sync::{self, Profile, SyncOptions};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Photos that are compared.
const COMPARED: usize = 100;

fn main() -> Outcome<()> {
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let rounds = option("--rounds").map_or(Ok(9), |n| n.parse())?;
    let photos = PathBuf::from(option("--photos").unwrap_or("../shared/photos/objects".into()));
    let mirror = option("--mirror").or_else(|| std::env::var("LIKENESS_MIRROR").ok());
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("devices/likeness");
    println!("data folder: {}", data.display());
    let watch = Watch::none();
    let models = ModelStore::new(StoreConfig {
        folder: data.join("models"),
        library_folder: None,
        mirror,
        offline: false,
        cache: data.join("networks"),
    });
    let explicit = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    // One process has one ONNX Runtime: where CUDA is there, its build computes for the CPU, too.
    let config = RuntimeConfig { explicit, data, offline: false, device: Device::Auto };
    let installed = models.obtain(None, &watch)?;
    let network = models.prepare(&installed, &watch)?;
    let on = |device| RuntimeConfig { device, ..config.clone() };
    let cpu = Engine::new(network.clone(), on(Device::Auto), DecodeOptions::default());
    let runtime = cpu.runtime(&watch)?;
    println!("ONNX Runtime {} with {}", runtime.version, runtime.providers.join(", "));

    let squares = squares(&photos, &cpu)?;
    let session = FeatureSession::open(&runtime, &network, 1)?;
    let reference = embeddings(&session, &squares)?;
    let cosines =
        || println!("\ncosine with fp32 on the CPU, {} photos: lowest, mean", squares.len());
    if let Some(number) = option("--cuda") {
        let device = Device::Cuda(number.parse()?);
        let open = |precision| {
            Engine::new(network.clone(), on(device), DecodeOptions::default())
                .with_precision(precision)
        };
        let folders = option("--folders")
            .map_or(vec![photos], |folders| folders.split(',').map(PathBuf::from).collect());
        let batches = option("--batches").unwrap_or("1,8,32,64,128".into());
        let batches = batches.split(',').map(str::parse).collect::<Result<_, _>>()?;
        cosines();
        let settings = cuda::Settings { folders, batches, rounds };
        return cuda::run(open, (&reference, &squares), &settings);
    }

    let scratch = tempfile::tempdir()?;
    let plain = scratch.path().join("plain.onnx");
    fold(&runtime, &network.name, &network.path, &plain)?;
    let name = "bench-int8";
    let int8 = match models.on_this_machine(Some(name), &watch) {
        Ok(Ok(found)) => found,
        _ => {
            let (name, decoding) = (Some(name.to_owned()), DecodeOptions::default());
            let options = QuantiseOptions { name, images: 40, evaluate: None, decoding };
            quantise(&models, &installed, &on(Device::Auto), &photos, &options, &watch)?
        }
    };
    let networks = [
        ("the default", network.clone()),
        ("weights plain", FeatureNetwork { path: plain, ..network.clone() }),
        ("in 8 bits", models.prepare(&int8, &watch)?),
    ];
    opening(&runtime, &networks, rounds)?;

    let half = halved(&runtime, &network, scratch.path())?;
    let half = embeddings(&FeatureSession::open(&runtime, &half, 1)?, &squares)?;
    cosines();
    compare("fp16 on the CPU", &reference, &half);
    Ok(())
}

/// Milliseconds to open each network, anew and from what was kept.
fn opening(runtime: &Runtime, networks: &[(&str, FeatureNetwork)], rounds: usize) -> Outcome<()> {
    let mut times: Vec<[Vec<Outcome<f64>>; 2]> =
        networks.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds {
        for ((_, network), times) in networks.iter().zip(&mut times) {
            forget(network)?;
            for times in times {
                let started = Instant::now();
                drop(FeatureSession::open(runtime, network, 1)?);
                times.push(Ok(started.elapsed().as_secs_f64() * 1000.0));
            }
        }
    }
    println!("\nmilliseconds to open a network: anew and kept, from what was kept, ratio");
    for ((name, network), [anew, kept]) in networks.iter().zip(times) {
        let megabytes = fs::metadata(&network.path)?.len() as f64 / 1e6;
        let (anew, kept) = (median(anew.into_iter())?, median(kept.into_iter())?);
        let ratio = anew / kept;
        println!("{name:<14} {megabytes:>6.1} MB {anew:>8.0} {kept:>8.0} {ratio:>6.1}");
    }
    Ok(())
}

/// Deletes what ONNX Runtime made of a network.
fn forget(network: &FeatureNetwork) -> Outcome<()> {
    let stem = network.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    for entry in fs::read_dir(network.path.parent().ok_or("it lies in a folder")?)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = path.extension().is_some_and(|e| e == "optimised" || e == "blake3");
        if name.starts_with(&format!("{stem}.")) && ending {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What the network sees of photos of a folder, from all over it.
fn squares(folder: &Path, engine: &Engine) -> Outcome<Vec<Pixels>> {
    let paths = files(folder)?;
    let preprocessing = &engine.network().preprocessing;
    let square = |path: &PathBuf| {
        let bytes = photo::read(path, DecodeOptions::MAX_BYTES)?;
        Ok(photo::decode(&bytes, preprocessing, engine.decoding())?.pixels)
    };
    paths.iter().step_by((paths.len() / COMPARED).max(1)).take(COMPARED).map(square).collect()
}

/// The photos of a folder.
fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let folder = std::path::absolute(folder)?;
    let selection = Selection::default();
    let walked = scan::walk(&folder, Path::new(""), &selection);
    let files = walked.filter_map(|found| match found {
        Found::File(file) => Some(file.path()),
        Found::Unreadable { .. } => None,
    });
    Ok(files.collect())
}

fn embeddings(session: &FeatureSession, squares: &[Pixels]) -> Outcome<Vec<Embedding>> {
    let mut embeddings = Vec::with_capacity(squares.len());
    for batch in squares.chunks(4) {
        for features in session.run(batch)? {
            embeddings.push(features?.embedding());
        }
    }
    Ok(embeddings)
}

fn compare(name: &str, reference: &[Embedding], found: &[Embedding]) {
    let cosines: Vec<f32> = reference.iter().zip(found).map(|(a, b)| a.cosine(b)).collect();
    let mean = cosines.iter().map(|c| f64::from(*c)).sum::<f64>() / cosines.len() as f64;
    let lowest = cosines.iter().copied().fold(1.0, f32::min);
    println!("{name:<18} {lowest:.7} {mean:.7}");
}

fn median(values: impl Iterator<Item = Outcome<f64>>) -> Outcome<f64> {
    let mut values = values.collect::<Outcome<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    Ok(values[values.len() / 2])
}
