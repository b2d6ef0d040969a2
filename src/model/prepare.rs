//! A model's file → the network without classifier, kept in a cache.
//!
//! The cache holds `<fingerprint>.onnx`, and for each way to make one (source file, rule, width,
//! preprocessing, version of the surgery) a small `<way>.json` that says which. With both there the
//! source is not opened; the network's BLAKE3 is checked each time, as ONNX Runtime would take a
//! flipped weight without complaint.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::digest::Sha256;
use super::installed::Installed;
use super::manifest::{FeatureRule, ModelEntry, ModelOutput, Pool};
use super::publish;
use super::store::ModelStore;
use super::surgery::{self, FeatureGraph, Unfit, take_features};
use crate::error::{Error, Result};
use crate::network::{Channels, FeatureNetwork, Feed, Filter, Layout, Preprocessing};
use crate::progress::Watch;
use crate::record::{ContentHash, ModelFingerprint, lossy};

/// What became of a model's file when its classifier was taken off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkFacts {
    /// What decides whether vectors may be compared.
    pub fingerprint: ModelFingerprint,
    /// The ONNX file without classifier.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The name of the tensor that takes the picture.
    pub input: String,
    /// The name of the tensor that gives the features, `[batch, width]`.
    pub output: String,
    /// The number of features.
    pub width: usize,
    /// The operators that were taken off, in the order of the file.
    pub removed: Vec<String>,
    /// What the whole network costs, where that is understood.
    pub cost_before: Option<Cost>,
    /// What remains of that.
    pub cost: Option<Cost>,
}

/// What the cache says of one way to make a network.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    source: Sha256,
    features: FeatureRule,
    #[serde(default)]
    pool: Option<Pool>,
    surgery: u32,
    network: ContentHash,
    input: String,
    output: String,
    width: usize,
    removed: Vec<String>,
    /// Before and after; what was kept by earlier versions does not say, and is made again.
    costs: [Option<Cost>; 2],
}

impl ModelStore {
    /// Takes the classifier off a model and says how to run what remains: from the cache when it is
    /// there and undamaged, else from the model's file.
    ///
    /// The fingerprint is BLAKE3 in key derivation mode, context `likeness model fingerprint v1`, over
    /// the BLAKE3 of the network file (32 bytes); size and resize (u32); filter, channels and layout (a
    /// byte each, numbered from 0 as they are declared); scale, mean and std (f32); the output
    /// tensor's name (its length as u64, then UTF-8); and the width (u64); all little-endian.
    ///
    /// # Errors
    /// [`Error::ModelDamaged`] when the file is no longer what was installed; what keeps it from
    /// being used, as for [`ModelStore::import`]; [`Error::Io`].
    pub fn prepare(&self, model: &Installed, watch: &Watch<'_>) -> Result<FeatureNetwork> {
        let facts = self.network_facts(model, watch)?;
        Ok(FeatureNetwork {
            name: model.entry.name.clone(),
            fingerprint: facts.fingerprint,
            path: facts.path,
            input: facts.input,
            feed: Feed::Values,
            output: facts.output,
            width: facts.width,
            preprocessing: model.entry.input.clone(),
        })
    }

    /// Does what [`ModelStore::prepare`] does and tells more.
    ///
    /// # Errors
    /// As [`ModelStore::prepare`].
    pub fn network_facts(&self, model: &Installed, watch: &Watch<'_>) -> Result<NetworkFacts> {
        let entry = &model.entry;
        if let Some(record) = self.read_record(entry) {
            let facts = self.facts(&record, entry);
            match ContentHash::of_mapped(&facts.path) {
                Ok(found) if found == record.network => return self.sized(facts),
                Ok(_) => watch.note(format!(
                    "the prepared network of {} is damaged; it is made again",
                    entry.name
                )),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &facts.path)(error)),
            }
        }
        self.make(model)
    }

    fn make(&self, model: &Installed) -> Result<NetworkFacts> {
        let (entry, path) = (&model.entry, &model.file.named());
        // The bytes that are hashed are the bytes that are edited, whoever writes to the file.
        let bytes = model.file.read()?;
        let found = Sha256::of_bytes(&bytes);
        if found != entry.sha256 {
            return Err(Error::ModelDamaged {
                name: entry.name.clone(),
                path: path.clone(),
                expected: entry.sha256.to_string(),
                found: found.to_string(),
            });
        }
        let ModelOutput { features, pool, width } = &entry.output;
        let graph = take_features(&bytes, features, *pool, Some(*width)).map_err(unfit(path))?;
        graph
            .check_input(&entry.input)
            .map_err(|reason| Error::ModelUnsuited { path: path.clone(), reason })?;

        let mut hasher = blake3::Hasher::new();
        for piece in &graph.pieces {
            hasher.update_rayon(piece);
        }
        let network = ContentHash::from_bytes(*hasher.finalize().as_bytes());
        let cost = |bytes: &[u8]| Cost::of(bytes, entry.input.size, entry.input.layout);
        let costs = [cost(&bytes), cost(&graph.pieces.concat())];
        let FeatureGraph { pieces, input, output, width, removed, .. } = graph;
        let record = Record {
            source: entry.sha256,
            features: entry.output.features.clone(),
            pool: entry.output.pool,
            surgery: surgery::VERSION,
            network,
            input,
            output,
            width,
            removed,
            costs,
        };
        let facts = self.facts(&record, entry);
        publish::write(&facts.path, |file| {
            let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
            let written = pieces.iter().try_for_each(|piece| out.write_all(piece));
            written.and_then(|()| out.flush()).map_err(Error::io("write", &facts.path))
        })?;
        let sidecar = self.record_path(entry);
        let text = serde_json::to_vec_pretty(&record).expect("a record is plain data");
        publish::write(&sidecar, |file| {
            file.write_all(&text).map_err(Error::io("write", &sidecar))
        })?;
        self.sized(facts)
    }

    /// Deletes what the cache holds of a model, unless another installed model is made the same way.
    pub(super) fn forget_prepared(&self, model: &Installed) -> Result<()> {
        let way = self.record_path(&model.entry);
        let shared = self
            .all_installed(&Watch::none())?
            .into_iter()
            .any(|other| other.file != model.file && self.record_path(&other.entry) == way);
        if shared {
            return Ok(());
        }
        if let Some(record) = self.read_record(&model.entry) {
            let network = self.facts(&record, &model.entry).path;
            remove_if_there(&network)?;
            // What ONNX Runtime made of it lies beside it, under its name and endings of its own.
            let stem = network.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            for entry in fs::read_dir(&self.config.cache).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&format!("{stem}.")) {
                    remove_if_there(&entry.path())?;
                }
            }
        }
        remove_if_there(&way)
    }

    /// Where the cache says how `entry` was made.
    fn record_path(&self, entry: &ModelEntry) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key("likeness prepared network v1");
        hasher.update(entry.sha256.as_bytes());
        hasher.update(&surgery::VERSION.to_le_bytes());
        hash_preprocessing(&mut hasher, &entry.input);
        hash_text(&mut hasher, &String::from(entry.output.features.clone()));
        hasher.update(&(entry.output.width as u64).to_le_bytes());
        // Ways without it keep the names they had.
        if let Some(pool) = entry.output.pool {
            hasher.update(&[match pool {
                Pool::Average => 0,
                Pool::Max => 1,
                Pool::Gem => 2,
            }]);
        }
        self.config.cache.join(format!("{:.16}.json", hasher.finalize().to_hex()))
    }

    /// What the cache says of `entry`; `None` when it says nothing usable.
    fn read_record(&self, entry: &ModelEntry) -> Option<Record> {
        let text = fs::read(self.record_path(entry)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let fits = record.source == entry.sha256
            && record.features == entry.output.features
            && record.pool == entry.output.pool
            && record.width == entry.output.width
            && record.surgery == surgery::VERSION;
        fits.then_some(record)
    }

    fn facts(&self, record: &Record, entry: &ModelEntry) -> NetworkFacts {
        let fingerprint = fingerprint(record.network, &entry.input, &record.output, record.width);
        NetworkFacts {
            path: self.config.cache.join(format!("{fingerprint:.16}.onnx")),
            fingerprint,
            bytes: 0,
            input: record.input.clone(),
            output: record.output.clone(),
            width: record.width,
            removed: record.removed.clone(),
            cost_before: record.costs[0],
            cost: record.costs[1],
        }
    }

    fn sized(&self, facts: NetworkFacts) -> Result<NetworkFacts> {
        let bytes = fs::metadata(&facts.path).map_err(Error::io("read", &facts.path))?.len();
        Ok(NetworkFacts { bytes, ..facts })
    }
}

/// See [`ModelStore::prepare`].
fn fingerprint(
    network: ContentHash,
    preprocessing: &Preprocessing,
    output: &str,
    width: usize,
) -> ModelFingerprint {
    let mut hasher = blake3::Hasher::new_derive_key("likeness model fingerprint v1");
    hasher.update(network.as_bytes());
    hash_preprocessing(&mut hasher, preprocessing);
    hash_text(&mut hasher, output);
    hasher.update(&(width as u64).to_le_bytes());
    ModelFingerprint::from_bytes(*hasher.finalize().as_bytes())
}

fn hash_preprocessing(hasher: &mut blake3::Hasher, preprocessing: &Preprocessing) {
    // Taken apart field by field, so that a new one cannot be forgotten here.
    let Preprocessing { size, resize, filter, channels, layout, scale, mean, std } = preprocessing;
    hasher.update(&size.to_le_bytes());
    hasher.update(&resize.to_le_bytes());
    let filter = match filter {
        Filter::Bilinear => 0,
        Filter::Bicubic => 1,
    };
    let channels = match channels {
        Channels::Rgb => 0,
        Channels::Bgr => 1,
    };
    let layout = match layout {
        Layout::Nchw => 0,
        Layout::Nhwc => 1,
    };
    hasher.update(&[filter, channels, layout]);
    for value in [scale].into_iter().chain(mean).chain(std) {
        // -0 and 0 are the same number.
        hasher.update(&(value + 0.0).to_le_bytes());
    }
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Says which file it was that gives no features.
pub(super) fn unfit(path: &Path) -> impl FnOnce(Unfit) -> Error {
    let path = path.to_path_buf();
    move |unfit| match unfit {
        Unfit::Malformed(source) => Error::ModelFile { path, source: Box::new(source) },
        Unfit::Network(reason) => Error::ModelUnsuited { path, reason },
        Unfit::Head { reason, tail } => Error::ModelHead { path, reason, tail },
        Unfit::NoTensor { tensor, tail } => Error::ModelTensor { path, tensor, tail },
        Unfit::Width { stated, found } => Error::ModelUnsuited {
            path,
            reason: format!("it gives {found} features, expected {stated}"),
        },
        Unfit::UnknownWidth { tensor } => Error::ModelWidth { path, tensor },
    }
}
