//! A network file of the user's own becomes a model.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::digest::Sha256;
use super::external::inlined;
use super::installed::{Installed, ModelFile};
use super::manifest::{FeatureRule, ModelEntry, ModelOutput, Pool, is_name};
use super::prepare::unfit;
use super::preset::Preset;
use super::starter::STARTER;
use super::store::ModelStore;
use super::surgery::take_features;
use crate::error::{Error, Result};
use crate::network::{Channels, Filter, Layout, Preprocessing};
use crate::progress::Watch;

/// What is said of a file that is imported. What is left `None` comes from the model of the same hash that likeness
/// or the mirror knows; else from the graph, where it tells; else it is what torchvision trains ResNets with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// The model's name; by default the known model's, else that of the file without its ending.
    pub name: Option<String>,
    /// Which tensor holds the features; by default what feeds the last linear layer.
    pub features: Option<FeatureRule>,
    /// How the features are pooled; by default as the network has it.
    pub pool: Option<Pool>,
    /// The number of features, for graphs that do not tell.
    pub width: Option<usize>,
    /// Channels, scale, mean and deviation by a usual name; each can be said otherwise beside it. By default
    /// what the file's metadata says, else [`Preset::Imagenet`].
    pub preset: Option<Preset>,
    /// Side of the square the network takes, in pixels; by default 224.
    pub size: Option<u32>,
    /// Length of the shorter side before the crop, in pixels; by default `size` × 256 / 224.
    pub resize: Option<u32>,
    /// How the image is made smaller; by default bilinear.
    pub filter: Option<Filter>,
    /// The order of the channels; by default RGB.
    pub channels: Option<Channels>,
    /// The order of the axes; by default NCHW.
    pub layout: Option<Layout>,
    /// What an 8-bit value is multiplied by first; by default 1/255.
    pub scale: Option<f32>,
    /// Subtracted, a channel; by default ImageNet's 0.485, 0.456, 0.406.
    pub mean: Option<[f32; 3]>,
    /// Divided by, a channel; by default ImageNet's 0.229, 0.224, 0.225.
    pub std: Option<[f32; 3]>,
    /// Under what terms it may be used.
    pub licence: Option<String>,
    /// One line for a person to read.
    pub description: Option<String>,
}

/// No file of the format can be larger; and it keeps a wrong path from filling the memory.
pub(super) const LARGEST: u64 = 1 << 31;

impl ModelStore {
    /// Makes a model of an ONNX file: copies it into the user's folder with a manifest entry, weights from other
    /// files included. The
    /// classifier is looked for at once, so that a file that cannot be used is refused here. Importing
    /// the same file in the same way twice changes nothing.
    ///
    /// # Errors
    /// [`Error::ModelName`]; [`Error::ModelExists`] and [`Error::ModelOfLikeness`] when another model has the
    /// name; [`Error::ModelFile`], [`Error::ModelUnsuited`], [`Error::ModelHead`], [`Error::ModelTensor`],
    /// [`Error::ModelWidth`] when the file cannot be used; [`Error::Io`].
    pub fn import(
        &self,
        file: &Path,
        options: &ImportOptions,
        watch: &Watch<'_>,
    ) -> Result<Installed> {
        let bytes = inlined(file, read(file)?)?;
        let sha256 = Sha256::of_bytes(&bytes);
        let known = self.known_by_hash(sha256, &self.all_installed(watch)?, watch)?;
        let entry = entry_for(file, &bytes, sha256, known.as_ref(), options)?;
        if !is_name(&entry.name) {
            return Err(Error::ModelName { name: entry.name });
        }
        let same = |there: &Installed| is_same(&there.entry, &entry);
        if entry.name == STARTER {
            let there = self.installed(&entry.name)?.filter(same);
            return there.ok_or(Error::ModelOfLikeness { name: entry.name });
        }
        let _lock = self.lock(&entry.name, watch)?;
        if let Some(there) = self.installed(&entry.name)? {
            return if same(&there) {
                Ok(there)
            } else {
                Err(Error::ModelExists { name: entry.name })
            };
        }
        self.publish(&entry, |copy| copy.write_all(&bytes).map_err(Error::io("copy", file)))
    }

    /// Installs a network that likeness made: `entry` says what it is, but for its file, and the tensor
    /// `output` holds the features.
    ///
    /// # Errors
    /// [`Error::ModelName`]; [`Error::ModelExists`] and [`Error::ModelOfLikeness`] when a model has the name;
    /// [`Error::Io`].
    pub fn add(
        &self,
        entry: ModelEntry,
        output: &str,
        network: &[u8],
        watch: &Watch<'_>,
    ) -> Result<Installed> {
        let features = FeatureRule::from(output.to_owned());
        let entry = ModelEntry {
            file: "model.onnx".into(),
            sha256: Sha256::of_bytes(network),
            bytes: network.len() as u64,
            output: ModelOutput { features, pool: None, ..entry.output },
            imported: false,
            ..entry
        };
        if !is_name(&entry.name) {
            return Err(Error::ModelName { name: entry.name });
        }
        if entry.name == STARTER {
            return Err(Error::ModelOfLikeness { name: entry.name });
        }
        let _lock = self.lock(&entry.name, watch)?;
        if self.installed(&entry.name)?.is_some() {
            return Err(Error::ModelExists { name: entry.name });
        }
        let file = self.config.folder.join(&entry.name);
        self.publish(&entry, |to| to.write_all(network).map_err(Error::io("write", &file)))
    }

    /// A model that stays where the user has it.
    pub(super) fn at_path(&self, file: &Path, watch: &Watch<'_>) -> Result<Installed> {
        let path = std::path::absolute(file).map_err(Error::io("find", file))?;
        let bytes = read(&path)?;
        let sha256 = Sha256::of_bytes(&bytes);
        let installed = self.all_installed(watch)?;
        let known = self.known_by_hash(sha256, &installed, watch)?;
        let name = known.is_none().then(|| path.display().to_string());
        let options = ImportOptions { name, ..ImportOptions::default() };
        let mut entry = entry_for(&path, &bytes, sha256, known.as_ref(), &options)?;
        // Whoever asks for the model by the name it had finds it again.
        if known.is_none()
            && let Some(there) = installed.into_iter().find(|there| is_same(&there.entry, &entry))
        {
            entry.name = there.entry.name;
        }
        Ok(Installed { entry, file: ModelFile::Path(path) })
    }
}

/// Whether two models give the same features of a picture.
fn is_same(a: &ModelEntry, b: &ModelEntry) -> bool {
    (a.sha256, &a.input, &a.output) == (b.sha256, &b.input, &b.output)
}

/// The manifest entry of a file, from what the user says of it, a known model `base` of the same hash,
/// and the graph, in this order.
fn entry_for(
    path: &Path,
    bytes: &[u8],
    sha256: Sha256,
    base: Option<&ModelEntry>,
    options: &ImportOptions,
) -> Result<ModelEntry> {
    let output = base.map(|entry| &entry.output);
    let features = (options.features.clone())
        .or_else(|| output.map(|output| output.features.clone()))
        .unwrap_or(FeatureRule::Pooled);
    let pool = options.pool.or(output.and_then(|output| output.pool));
    let same = output.filter(|output| output.features == features && output.pool == pool);
    let width = options.width.or(same.map(|output| output.width));
    let graph = take_features(bytes, &features, pool, width).map_err(unfit(path))?;
    let unsuited = |reason| Error::ModelUnsuited { path: path.to_path_buf(), reason };
    let mut input = base.map_or(IMAGENET, |entry| entry.input.clone());
    if let Some(size) = options.size.or(graph.size)
        && size != input.size
    {
        (input.size, input.resize) = (size, (size.saturating_mul(256) + 112) / 224);
    }
    // What the file says is for who knows no better.
    if base.is_none() {
        if let Some(range) = graph.stated.range {
            range.apply(&mut input);
        }
        input.channels = graph.stated.channels.unwrap_or(input.channels);
    }
    if let Some(preset) = options.preset {
        preset.apply(&mut input);
    }
    input.resize = options.resize.unwrap_or(input.resize);
    input.filter = options.filter.unwrap_or(input.filter);
    input.channels = options.channels.unwrap_or(input.channels);
    input.layout = options.layout.or(graph.layout).unwrap_or(input.layout);
    input.scale = options.scale.unwrap_or(input.scale);
    input.mean = options.mean.unwrap_or(input.mean);
    input.std = options.std.unwrap_or(input.std);
    graph.check_input(&input).map_err(unsuited)?;

    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = options.name.clone().or_else(|| base.map(|entry| entry.name.clone()));
    let text = |given: &Option<String>, known: fn(&ModelEntry) -> &String| {
        given.clone().or_else(|| base.map(known).cloned()).unwrap_or_default()
    };
    let output = ModelOutput { features, pool, width: graph.width };
    let entry = ModelEntry {
        name: name.unwrap_or_else(stem),
        file: "model.onnx".into(),
        sha256,
        bytes: bytes.len() as u64,
        urls: base.map(|entry| entry.urls.clone()).unwrap_or_default(),
        licence: text(&options.licence, |entry| &entry.licence),
        description: text(&options.description, |entry| &entry.description),
        imported: base.is_none_or(|known| (&known.input, &known.output) != (&input, &output)),
        input,
        output,
        quantised: base.and_then(|entry| entry.quantised.clone()),
    };
    entry.check_values().map_err(unsuited)?;
    Ok(entry)
}

/// The preprocessing of torchvision's ResNets and of most of the ONNX Model Zoo's.
pub(super) const IMAGENET: Preprocessing = Preprocessing {
    size: 224,
    resize: 256,
    filter: Filter::Bilinear,
    channels: Channels::Rgb,
    layout: Layout::Nchw,
    scale: 1.0 / 255.0,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// Reads a whole network file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let unsuited =
        |reason: &str| Error::ModelUnsuited { path: PathBuf::from(path), reason: reason.into() };
    let facts = std::fs::metadata(path).map_err(Error::io("read", path))?;
    // Opening a FIFO would wait for a writer.
    if !facts.is_file() {
        return Err(unsuited("it is not a regular file"));
    }
    if facts.len() > LARGEST {
        return Err(unsuited("it is larger than 2 GB, the most the format can hold"));
    }
    let mut bytes = Vec::with_capacity(facts.len() as usize);
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(LARGEST).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}
