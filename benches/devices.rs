//! What networks run on: how long they take to open, what 16-bit floats change, and what a GPU gives.
//!
//! ```text
//! cargo bench --bench devices [-- --photos FOLDER] [--mirror DIR] [--rounds N] [--cuda N]
//! ```
//!
//! First the default network, the same with its weights plain, and the same in 8 bits are opened, in turn: anew,
//! as for the first time on a machine, with what ONNX Runtime made of it written to disk; and from that. Medians
//! of the rounds.
//!
//! Then the cosine of the features in fp16 with those in fp32, both on the CPU, where ONNX Runtime rounds to 16
//! bits between the operators.
//!
//! Last, with an NVIDIA device (`likeness runtime install --cuda` into the data folder that is printed): the
//! cosine of what it gives with the CPU's fp32; images a second of the network alone, and of `index` over the
//! photos of FOLDER (by default `../shared/photos/objects`), at several batch sizes. Where there is none, the
//! last line says why.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use likeness::embedding::Embedding;
use likeness::engine::{Engine, halved};
use likeness::library::Library;
use likeness::model::{self, ModelStore, StoreConfig};
use likeness::network::{FeatureNetwork, InputTensor};
use likeness::photo::{self, DecodeOptions};
use likeness::progress::Watch;
use likeness::quantise::{QuantiseOptions, quantise};
use likeness::runtime::{Device, FeatureSession, Precision, Runtime, RuntimeConfig, fold};
use likeness::scan::{self, Found, Selection};
use likeness::sync::{self, SyncOptions};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Photos that are compared.
const COMPARED: usize = 100;
/// How many images an NVIDIA device is given at once.
const BATCHES: [usize; 5] = [1, 8, 32, 64, 128];

fn main() -> Outcome<()> {
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let rounds = option("--rounds").map_or(Ok(9), |n| n.parse())?;
    let device = Device::Cuda(option("--cuda").map_or(Ok(0), |n| n.parse())?);
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

    let tensors = tensors(&photos, &cpu)?;
    let session = FeatureSession::open(&runtime, &network, 1)?;
    let reference = embeddings(&session, &tensors)?;
    let half = halved(&runtime, &network, scratch.path())?;
    let half = embeddings(&FeatureSession::open(&runtime, &half, 1)?, &tensors)?;
    println!("\ncosine with fp32 on the CPU, {} photos: lowest, mean", tensors.len());
    compare("fp16 on the CPU", &reference, &half);

    for precision in [Precision::Fp32, Precision::Fp16] {
        let engine = || {
            Engine::new(network.clone(), on(device), DecodeOptions::default())
                .with_precision(precision)
        };
        match engine().session(1, &watch) {
            Ok(session) => {
                let found = embeddings(&session, &tensors)?;
                compare(&format!("{precision} on {device}"), &reference, &found);
            }
            Err(error) => {
                println!("\nno CUDA device was measured: {error}");
                return Ok(());
            }
        }
    }
    println!("\nimages a second on {device}: network alone, index");
    for precision in [Precision::Fp32, Precision::Fp16] {
        for batch in BATCHES {
            let engine = Engine::new(network.clone(), on(device), DecodeOptions::default())
                .with_precision(precision);
            let session = engine.batch_session(Some(batch), 1, &watch)?;
            if !session.is_staged() {
                println!("without page-locked memory:");
            }
            let alone = median((0..rounds).map(|_| alone(&session, &tensors, batch)))?;
            let index = median((0..rounds).map(|_| index(&engine, &photos, batch)))?;
            println!("{precision}, batches of {batch:>3} {alone:>10.0} {index:>10.0}");
        }
    }
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

/// Photos of a folder as the network takes them, from all over it.
fn tensors(folder: &Path, engine: &Engine) -> Outcome<Vec<InputTensor>> {
    let folder = std::path::absolute(folder)?;
    let selection = Selection::default();
    let paths: Vec<PathBuf> = scan::walk(&folder, Path::new(""), &selection)
        .filter_map(|found| match found {
            Found::File(file) => Some(file.path()),
            Found::Unreadable { .. } => None,
        })
        .collect();
    let preprocessing = &engine.network().preprocessing;
    let tensor = |path: &PathBuf| {
        let bytes = photo::read(path, DecodeOptions::MAX_BYTES)?;
        let decoded = photo::decode(&bytes, preprocessing, engine.decoding())?;
        let mut tensor = InputTensor::default();
        model::normalise(&decoded.pixels, preprocessing, &mut tensor);
        Ok(tensor)
    };
    paths.iter().step_by((paths.len() / COMPARED).max(1)).take(COMPARED).map(tensor).collect()
}

/// One batch of several.
fn together<'t>(tensors: impl Iterator<Item = &'t InputTensor>) -> InputTensor {
    InputTensor(tensors.flat_map(|tensor| &tensor.0).copied().collect())
}

fn embeddings(session: &FeatureSession, tensors: &[InputTensor]) -> Outcome<Vec<Embedding>> {
    let mut embeddings = Vec::with_capacity(tensors.len());
    for batch in tensors.chunks(4) {
        for features in session.run(&together(batch.iter()))? {
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

/// Images a second of a session alone, in batches that it takes whole.
fn alone(session: &FeatureSession, tensors: &[InputTensor], batch: usize) -> Outcome<f64> {
    const AT_LEAST: usize = 256;
    let images = together(tensors.iter().cycle().take(batch));
    session.run(&images)?;
    let runs = AT_LEAST.div_ceil(batch);
    let started = Instant::now();
    for _ in 0..runs {
        session.run(&images)?;
    }
    Ok((runs * batch) as f64 / started.elapsed().as_secs_f64())
}

/// Photos a second of a whole run into a new library.
fn index(engine: &Engine, folder: &Path, batch: usize) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let mut library = Library::open(dir.path())?;
    let mut options = SyncOptions::new(vec![folder.to_path_buf()]);
    options.batch = Some(batch);
    let report = sync::sync(&mut library, engine, &options, &Watch::none())?;
    Ok(report.embedded as f64 / report.elapsed.as_secs_f64())
}

fn median(values: impl Iterator<Item = Outcome<f64>>) -> Outcome<f64> {
    let mut values = values.collect::<Outcome<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    Ok(values[values.len() / 2])
}
