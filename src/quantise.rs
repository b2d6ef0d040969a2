//! A model in 8 bits, its scales chosen by the user's own photos.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;

use crate::embedding::Embedding;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{Labels, Quality, evaluate};
use crate::model::{
    Activations, Finds, Installed, ModelEntry, ModelStore, Quantisation, Quantiser, Retrieval,
    WeightBits,
};
use crate::network::{FeatureNetwork, Pixels, Preprocessing};
use crate::photo::{self, DecodeOptions};
use crate::progress::{Event, Watch};
use crate::query::Ranking;
use crate::random::split_mix;
use crate::record::ImageId;
use crate::runtime::{self, FeatureSession, Observer, RuntimeConfig};
use crate::scan::{self, Found, Selection};

/// Of the photos, one in so many is kept back to see how alike the features are.
const CHECKED: usize = 5;
/// Fewer say too little about which values there are.
const FEWEST: usize = 20;
/// Photos the two networks take at once while they are timed, and how often each.
const TIMED: (usize, usize) = (8, 5);

/// How to quantise.
#[derive(Debug, Clone)]
pub struct QuantiseOptions {
    /// The new model's name; by default the old one's with `-int8` behind it, or `-int8-own` where a mirror or
    /// the zoo has a model of that name.
    pub name: Option<String>,
    /// Photos whose values choose the scales. A quarter as many again is compared with the original.
    pub images: usize,
    /// A folder of labelled photos, each in a folder of its label, on which both models are compared; by default
    /// none.
    pub evaluate: Option<PathBuf>,
    /// How photos are decoded.
    pub decoding: DecodeOptions,
}

impl QuantiseOptions {
    /// The default of [`QuantiseOptions::images`].
    pub const IMAGES: usize = 200;
}

/// Makes a model that computes in 8 bits of one that computes in floats, and installs it beside it. Its
/// features are others, with a fingerprint of their own. How alike they are, and how much faster, is
/// measured on photos that had no say in the scales, and stands in the new model's entry.
///
/// The same photos, options and ONNX Runtime give the same network.
///
/// # Errors
/// [`Error::QuantisePhotos`] when `folder` holds too few photos; [`Error::NothingToEvaluate`] when no two of the
/// labelled ones share a label; [`Error::QuantiseNetwork`] when the
/// network cannot be quantised; [`Error::ModelExists`], [`Error::ModelName`]; those of
/// [`ModelStore::prepare`] and [`runtime::ensure`].
pub fn quantise(
    models: &ModelStore,
    model: &Installed,
    config: &RuntimeConfig,
    folder: &Path,
    options: &QuantiseOptions,
    watch: &Watch<'_>,
) -> Result<Installed> {
    let name = new_name(models, model, options.name.as_deref(), watch)?;
    // Not after minutes.
    let labelled = options.evaluate.as_deref().map(files).transpose()?;
    let network = models.prepare(model, watch)?;
    let engine = Engine::new(network.clone(), config.clone(), options.decoding.clone());
    let runtime = engine.runtime(watch)?;
    let scratch =
        tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
    let unfit = |reason| Error::QuantiseNetwork { name: network.name.clone(), reason };

    let folded = scratch.path().join("folded.onnx");
    runtime::fold(&runtime, &network.name, &network.path, &folded)?;
    let quantiser =
        Quantiser::new(fs::read(&folded).map_err(Error::io("read", &folded))?).map_err(unfit)?;
    let photos = sample(folder, &engine, options.images + options.images.div_ceil(4), watch)?;
    let (checked, calibrating) = photos.split_at(photos.len() / CHECKED);

    let observing = scratch.path().join("observing.onnx");
    fs::write(&observing, quantiser.observing()).map_err(Error::io("write", &observing))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let preprocessing = &network.preprocessing;
    let observer = Observer::open(&runtime, &network.name, &observing, preprocessing, threads)?;
    let seen = observe(observer, &quantiser, calibrating, preprocessing, watch)?;

    let bits = weight_bits();
    let bytes = quantiser.quantise(&seen, bits);
    let path = scratch.path().join("int8.onnx");
    fs::write(&path, &bytes).map_err(Error::io("write", &path))?;
    let quantised = FeatureNetwork { path, name: name.clone(), ..network.clone() };
    let pair = [network, quantised];
    let sessions: Vec<FeatureSession> = (pair.iter())
        .map(|network| FeatureSession::open(&runtime, network, 1))
        .collect::<Result<_>>()?;
    let [cosine_mean, cosine_min] = compare(&sessions, checked, watch)?;
    let retrieval = labelled.map(|(_, paths)| retrieval_of(&sessions, &paths, &engine, watch));
    let facts = Quantisation {
        of: model.entry.name.clone(),
        images: calibrating.len(),
        checked: checked.len(),
        cosine_mean,
        cosine_min,
        speed: speed(&sessions, checked, watch)?,
        weight_bits: if bits == WeightBits::Eight { 8 } else { 7 },
        retrieval: retrieval.transpose()?,
    };
    let description = format!("{} in 8-bit integers", model.entry.name);
    let entry = ModelEntry {
        name,
        description,
        quantised: Some(facts),
        urls: vec![],
        ..model.entry.clone()
    };
    models.add(entry, &pair[1].output, &bytes, watch)
}

/// The name that the user wants, or one that nothing has yet.
fn new_name(
    models: &ModelStore,
    model: &Installed,
    wanted: Option<&str>,
    watch: &Watch<'_>,
) -> Result<String> {
    // Installed, known to be somewhere, or neither.
    let taken = |name: &str| match models.on_this_machine(Some(name), watch) {
        Ok(found) => Ok(Some(found.is_ok())),
        Err(Error::ModelUnknown { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    // A model that was named by its path goes by the file's name.
    let stem = Path::new(&model.entry.name).file_stem().unwrap_or_default();
    let plain = match model.entry.name.contains(std::path::is_separator) {
        true => stem.to_string_lossy().into_owned(),
        false => model.entry.name.clone(),
    };
    let mut name = wanted.map_or_else(|| format!("{plain}-int8"), str::to_owned);
    if wanted.is_none() && taken(&name)? == Some(false) {
        // The zoo has 8-bit models of its own by that name.
        name = format!("{plain}-int8-own");
    }
    if taken(&name)?.is_some() { Err(Error::ModelExists { name }) } else { Ok(name) }
}

/// What the network sees of up to `wanted` photos of a folder: the same ones each time, from all over it.
fn sample(folder: &Path, engine: &Engine, wanted: usize, watch: &Watch<'_>) -> Result<Vec<Pixels>> {
    let (folder, mut paths) = files(folder)?;
    let mut state = 0;
    for i in (1..paths.len()).rev() {
        paths.swap(i, (split_mix(&mut state) % (i as u64 + 1)) as usize);
    }
    let mut photos = Vec::with_capacity(wanted);
    for paths in paths.chunks(16) {
        watch.check()?;
        let squares: Vec<_> = (paths.par_iter()).filter_map(|path| square(engine, path)).collect();
        photos.extend(squares);
        if photos.len() >= wanted {
            break;
        }
    }
    photos.truncate(wanted);
    match photos.len() {
        found @ ..FEWEST => Err(Error::QuantisePhotos { folder, found, wanted: FEWEST }),
        _ => Ok(photos),
    }
}

/// The folder's absolute path, and all files below it, in order.
fn files(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let folder = std::path::absolute(folder).map_err(Error::io("find", folder))?;
    fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
    let selection = Selection::default();
    let paths = scan::walk(&folder, Path::new(""), &selection)
        .filter_map(|found| match found {
            Found::File(file) => Some(file.path()),
            Found::Unreadable { .. } => None,
        })
        .collect();
    Ok((folder, paths))
}

/// What the network sees of a photo; `None` for what cannot be decoded.
fn square(engine: &Engine, path: &Path) -> Option<Pixels> {
    let decoding = engine.decoding();
    let photo = photo::read(path, decoding.max_bytes).ok()?;
    engine.square(&photo, decoding, &path.to_string_lossy()).ok()
}

/// How well the two networks find photos of the same label.
fn retrieval_of(
    sessions: &[FeatureSession],
    paths: &[PathBuf],
    engine: &Engine,
    watch: &Watch<'_>,
) -> Result<Retrieval> {
    let labelled: Vec<_> = (paths.par_iter().enumerate())
        .map(|(id, path)| {
            watch.check()?;
            let Some((label, photo)) = Labels::Parent.of(path).zip(square(engine, path)) else {
                return Ok(None);
            };
            let both = embedding(&sessions[0], &photo)?.zip(embedding(&sessions[1], &photo)?);
            Ok(both.map(|both| (ImageId(id as i64), label, both)))
        })
        .collect::<Result<_>>()?;
    let labelled: Vec<_> = labelled.into_iter().flatten().collect();
    let quality = |which: fn(&(Embedding, Embedding)) -> &Embedding| {
        let embeddings = (labelled.iter())
            .map(|(id, label, both)| (*id, label.clone(), which(both).clone()))
            .collect();
        evaluate(embeddings, Ranking::Cosine)
    };
    let (before, after) = (quality(|both| &both.0)?, quality(|both| &both.1)?);
    let finds = |quality: Quality| Finds {
        recall_at_1: quality.recall_at_1,
        mean_average_precision: quality.mean_average_precision,
    };
    Ok(Retrieval { queries: before.queries, before: finds(before.all), after: finds(after.all) })
}

/// Runs the network on each photo and takes in what its tensors hold.
fn observe(
    mut observer: Observer,
    quantiser: &Quantiser,
    photos: &[Pixels],
    preprocessing: &Preprocessing,
    watch: &Watch<'_>,
) -> Result<HashMap<String, Activations>> {
    let names = quantiser.observed().iter().cloned().chain([quantiser.image().to_owned()]);
    let mut seen: HashMap<String, Activations> =
        names.map(|name| (name, Activations::default())).collect();
    let [a, b, c] = preprocessing.image_shape();
    let mut values = vec![0.0; preprocessing.image_len()];
    for (done, photo) in photos.iter().enumerate() {
        watch.check()?;
        preprocessing.normalise(photo, &mut values);
        watch.tell(Event::Calibrating { done: done as u64, total: photos.len() as u64 });
        observer.run(&values, |outputs| {
            let mut outputs: HashMap<&str, _> =
                outputs.iter().map(|(name, shape, values)| (*name, (*shape, *values))).collect();
            let image = [1, a, b, c];
            outputs.insert(quantiser.image(), (&image, &values));
            seen.par_iter_mut().for_each(|(name, activations)| {
                if let Some((shape, values)) = outputs.get(name.as_str()) {
                    activations.add(shape, values);
                }
            });
        })?;
    }
    let total = photos.len() as u64;
    watch.tell(Event::Calibrating { done: total, total });
    Ok(seen)
}

/// What a network makes of a photo; `None` where that is no direction.
fn embedding(session: &FeatureSession, photo: &Pixels) -> Result<Option<Embedding>> {
    let features = session.run(std::slice::from_ref(photo))?.remove(0);
    Ok(features.ok().map(|features| features.embedding()))
}

/// Mean and least cosine of what the two networks give for the same photo.
fn compare(sessions: &[FeatureSession], photos: &[Pixels], watch: &Watch<'_>) -> Result<[f32; 2]> {
    let mut cosines = Vec::with_capacity(photos.len());
    for photo in photos {
        watch.check()?;
        let both = embedding(&sessions[0], photo)?.zip(embedding(&sessions[1], photo)?);
        // A photo that only one of them makes something of is as unlike as can be.
        cosines.push(both.map_or(0.0, |(a, b)| a.cosine(&b)));
    }
    let mean = cosines.iter().sum::<f32>() / cosines.len().max(1) as f32;
    Ok([mean, cosines.into_iter().fold(1.0, f32::min)])
}

/// How many times as fast the second network is as the first: medians of runs in turn, one thread.
fn speed(sessions: &[FeatureSession], photos: &[Pixels], watch: &Watch<'_>) -> Result<f32> {
    let (batch, rounds) = TIMED;
    let batch: Vec<Pixels> = photos.iter().cycle().take(batch).cloned().collect();
    let mut seconds = [vec![], vec![]];
    for _ in 0..rounds {
        for (session, seconds) in sessions.iter().zip(&mut seconds) {
            watch.check()?;
            let start = Instant::now();
            session.run(&batch)?;
            seconds.push(start.elapsed().as_secs_f32());
        }
    }
    let [first, second] = seconds.map(|mut seconds| {
        seconds.sort_by(f32::total_cmp);
        seconds[seconds.len() / 2]
    });
    Ok(first / second)
}

/// How finely this processor can multiply in 8 bits without overflow.
fn weight_bits() -> WeightBits {
    if has_fast_integers() || !cfg!(target_arch = "x86_64") {
        WeightBits::Eight
    } else {
        WeightBits::Seven
    }
}

/// Whether this processor multiplies and adds 8-bit integers in one instruction; without, a model in 8 bits
/// gains little and may be slower.
pub fn has_fast_integers() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vnni")
        || std::arch::is_x86_feature_detected!("avxvnni");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}
