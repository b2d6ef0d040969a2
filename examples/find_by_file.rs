//! Finds what looks like a photo: `cargo run --example find_by_file -- DATA PHOTO`, after `index_folder`
//! has filled DATA.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;
use std::path::{Path, PathBuf};

use likeness::engine::Engine;
use likeness::library::Library;
use likeness::model::{ModelStore, StoreConfig};
use likeness::photo::{self, DecodeOptions};
use likeness::progress::Watch;
use likeness::query::FindOptions;
use likeness::runtime::{Device, RuntimeConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(data), Some(query)) = (args.next(), args.next()) else {
        return Err("usage: find_by_file DATA PHOTO".into());
    };
    let watch = Watch::none();
    let library = Library::open_existing(&data.join("library"))?;
    let model = library.model(None)?;
    let photo = photo::read(&query, DecodeOptions::MAX_BYTES)?;
    // A photo with the same bytes as one in the library needs no network.
    let embedding = match library.find_same(&model, &photo)? {
        Some((_, embedding)) => embedding,
        None => {
            let engine = engine(&data, &model.name, &watch)?;
            // Vectors of different networks never meet.
            if engine.network().fingerprint != model.fingerprint {
                return Err("the library was indexed with another network".into());
            }
            engine.features(&photo, &query.display().to_string(), &watch)?.embedding()
        }
    };
    let options = FindOptions { k: 5, ..FindOptions::default() };
    for found in library.find(&model, &embedding, &options, &watch)? {
        println!("{:.4} {}", found.hit.score, found.image.path.display());
    }
    Ok(())
}

/// The network that the library was indexed with.
fn engine(data: &Path, name: &str, watch: &Watch<'_>) -> likeness::error::Result<Engine> {
    let models = ModelStore::new(StoreConfig {
        folder: data.join("models"),
        library_folder: None,
        mirror: std::env::var("LIKENESS_MIRROR").ok(),
        offline: false,
        cache: data.join("networks"),
    });
    let network = models.prepare(&models.obtain(Some(name), watch)?, watch)?;
    let explicit = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let runtime =
        RuntimeConfig { explicit, data: data.to_path_buf(), offline: false, device: Device::Auto };
    Ok(Engine::new(network, runtime, DecodeOptions::default()))
}
