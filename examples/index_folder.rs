//! Indexes a folder of photos: `cargo run --example index_folder -- DATA PHOTOS`.
//!
//! DATA is a folder of this program's own, for the model, ONNX Runtime and the library; LIKENESS_MIRROR and
//! ORT_DYLIB_PATH name a model mirror and an ONNX Runtime that is there already.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use likeness::engine::Engine;
use likeness::library::Library;
use likeness::model::{ModelStore, StoreConfig};
use likeness::photo::DecodeOptions;
use likeness::progress::{Event, Watch};
use likeness::runtime::{Device, RuntimeConfig};
use likeness::sync::{self, SyncOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(data), Some(photos)) = (args.next(), args.next()) else {
        return Err("usage: index_folder DATA PHOTOS".into());
    };
    let cancelled = AtomicBool::new(false);
    let on_event = |event| {
        if let Event::Note { text } = event {
            eprintln!("{text}");
        }
    };
    let watch = Watch::new(&on_event, &cancelled);
    let engine = engine(Path::new(&data), &watch)?;
    let mut library = Library::open(&Path::new(&data).join("library"))?;
    let options = SyncOptions::new(vec![PathBuf::from(photos)]);
    let report = sync::sync(&mut library, &engine, &options, &watch)?;
    println!("{} added, {} skipped", report.added, report.skipped.len());
    for skipped in report.skipped {
        println!("{}: {}", skipped.path.display(), skipped.reason);
    }
    Ok(())
}

/// The default network without its classifier, fetched, checked and prepared where need be.
fn engine(data: &Path, watch: &Watch<'_>) -> likeness::error::Result<Engine> {
    let models = ModelStore::new(StoreConfig {
        folder: data.join("models"),
        library_folder: None,
        mirror: std::env::var("LIKENESS_MIRROR").ok(),
        offline: false,
        cache: data.join("networks"),
    });
    let network = models.prepare(&models.obtain(None, watch)?, watch)?;
    let explicit = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let runtime =
        RuntimeConfig { explicit, data: data.to_path_buf(), offline: false, device: Device::Auto };
    Ok(Engine::new(network, runtime, DecodeOptions::default()))
}
