//! Networks as ONNX Runtime optimised them, kept beside the network file: they open in a fraction of the time.
//!
//! What is kept is for one version of ONNX Runtime and one kind of processor, both in its name: a graph, its
//! [weights], and a list of the BLAKE3 of both, as ONNX Runtime would take a flipped weight without complaint.
//! Some [convolutions](winograd) are likeness's own. Whatever is wrong with it, the network itself is opened, and a new
//! one is kept.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;

use super::load::Runtime;
use super::{weights, winograd};
use crate::network::FeatureNetwork;
use crate::onnx::Model;
use crate::random::split_mix;
use crate::record::ContentHash;

/// Opens a network with `threads` threads, from what was kept when there is such.
pub(super) fn open(
    runtime: &Runtime,
    network: &FeatureNetwork,
    threads: usize,
) -> ort::Result<Session> {
    let kept = place(runtime, &network.path);
    if is_whole(&kept)
        && let Ok(session) = open_kept(runtime, &kept, threads)
    {
        return Ok(session);
    }
    // Where it cannot be kept, as in a folder without room or rights, nothing is lost but time.
    let unfinished = kept.with_extension(format!("unfinished-{}", std::process::id()));
    let keeping = builder(runtime, threads, GraphOptimizationLevel::All)?
        .with_optimized_model_path(&unfinished)?
        .commit_from_file(&network.path);
    let remade = keeping.ok().and_then(|mut plain| {
        let wanted = sample(&mut plain, network).ok()?;
        // One network in memory at a time.
        drop(plain);
        [Convolutions::Likeness, Convolutions::OnnxRuntime].into_iter().find_map(|convolutions| {
            let form = Form { convolutions, optimised: &unfinished, kept: &kept };
            form.make(runtime, network, threads, &wanted)
        })
    });
    let _ = fs::remove_file(&unfinished);
    remade.map_or_else(|| open_plain(runtime, network, threads), Ok)
}

/// Opens a network with nothing but ONNX Runtime's own operators.
pub(super) fn open_plain(
    runtime: &Runtime,
    network: &FeatureNetwork,
    threads: usize,
) -> ort::Result<Session> {
    builder(runtime, threads, GraphOptimizationLevel::All)?.commit_from_file(&network.path)
}

fn open_kept(runtime: &Runtime, kept: &Path, threads: usize) -> ort::Result<Session> {
    let builder = builder(runtime, threads, GraphOptimizationLevel::Disable)?;
    winograd::registered(builder)?.commit_from_file(kept)
}

pub(super) fn builder(
    runtime: &Runtime,
    threads: usize,
    level: GraphOptimizationLevel,
) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(runtime.environment())?
        .with_optimization_level(level)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // One block for all activations of a batch saves no time here, and takes 25 MB a session.
        .with_memory_pattern(false)?;
    Ok(builder)
}

/// Whose convolutions a network has.
#[derive(Clone, Copy)]
enum Convolutions {
    OnnxRuntime,
    Likeness,
}

/// The form in which a network is kept.
struct Form<'a> {
    convolutions: Convolutions,
    /// The file as ONNX Runtime wrote it.
    optimised: &'a Path,
    kept: &'a Path,
}

impl Form<'_> {
    /// Makes it, opens it, and keeps it. `None` where there is no such form, it cannot be written, or it does not give the
    /// features of the [`sample`] that are `wanted`.
    fn make(
        &self,
        runtime: &Runtime,
        network: &FeatureNetwork,
        threads: usize,
        wanted: &[f32],
    ) -> Option<Session> {
        let graph = self.kept.with_extension(format!("rewritten-{}", std::process::id()));
        let opened = self.write(network.preprocessing.size as usize, &graph).and_then(|weights| {
            let session = open_kept(runtime, &graph, threads).ok().and_then(|mut session| {
                let found = sample(&mut session, network).ok()?;
                is_close(wanted, &found).then_some(session)
            });
            if session.is_some() {
                let _ = keep(&graph, &weights, self.kept);
            } else {
                let _ = fs::remove_file(self.kept.with_file_name(weights));
            }
            session
        });
        // It is there still where it was cut short or is not kept.
        let _ = fs::remove_file(&graph);
        opened
    }

    /// Writes the graph to `to`, and weights beside it. Gives the name of their file.
    fn write(&self, side: usize, to: &Path) -> Option<String> {
        let bytes = fs::read(self.optimised).ok()?;
        let model = Model::parse(&bytes).ok()?;
        let as_it_is = || model.graph.parts.iter().map(|part| Cow::Borrowed(part.raw)).collect();
        let graph = match self.convolutions {
            Convolutions::OnnxRuntime => as_it_is(),
            Convolutions::Likeness => winograd::rewritten(&model.graph, side)?,
        };
        let stem = self.kept.file_stem()?.to_str()?;
        let (graph, weights) = weights::taken_out(graph, self.kept.parent()?, stem).ok()?;
        let pieces = match self.convolutions {
            Convolutions::OnnxRuntime => model.with_graph(graph),
            Convolutions::Likeness => {
                model.with_graph_and_domain(graph, winograd::DOMAIN, winograd::VERSION.into())
            }
        };
        let mut file = fs::File::create(to).ok()?;
        pieces.iter().try_for_each(|piece| file.write_all(piece)).ok()?;
        Some(weights)
    }
}

/// The features of one picture of noise, between about the values that preprocessing gives.
fn sample(session: &mut Session, network: &FeatureNetwork) -> ort::Result<Vec<f32>> {
    let [a, b, c] = network.preprocessing.image_shape();
    let mut state = 0;
    let mut noise = || (split_mix(&mut state) >> 40) as f32 / (1 << 22) as f32 - 2.0;
    let values: Vec<f32> = (0..a * b * c).map(|_| noise()).collect();
    let input = TensorRef::from_array_view(([1, a, b, c], values.as_slice()))?;
    let outputs = session.run(ort::inputs![network.input.as_str() => input])?;
    Ok(outputs[network.output.as_str()].try_extract_tensor::<f32>()?.1.to_vec())
}

/// Whether no value differs by more than a thousandth of the largest.
fn is_close(wanted: &[f32], found: &[f32]) -> bool {
    let largest = wanted.iter().fold(0f32, |most, value| most.max(value.abs()));
    wanted.len() == found.len()
        && wanted.iter().zip(found).all(|(a, b)| (a - b).abs() <= largest / 1000.0)
}

/// `<network>.<version and processor>.optimised`, beside the network.
fn place(runtime: &Runtime, network: &Path) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(runtime.version.to_string().as_bytes());
    hasher.update(runtime.path.as_os_str().as_encoded_bytes());
    hasher.update(std::env::consts::ARCH.as_bytes());
    hasher.update(&winograd::VERSION.to_le_bytes());
    // The layouts that weights are brought into depend on these.
    #[cfg(target_arch = "x86_64")]
    hasher.update(&[
        u8::from(std::arch::is_x86_feature_detected!("avx")),
        u8::from(std::arch::is_x86_feature_detected!("avx2")),
        u8::from(std::arch::is_x86_feature_detected!("fma")),
        u8::from(std::arch::is_x86_feature_detected!("avx512f")),
        u8::from(std::arch::is_x86_feature_detected!("avx512vnni")),
    ]);
    network.with_extension(format!("{:.16}.optimised", hasher.finalize().to_hex()))
}

/// The list of a kept network's files: the BLAKE3 and the name of each, a line a file.
fn list_path(kept: &Path) -> PathBuf {
    kept.with_extension("blake3")
}

fn is_whole(kept: &Path) -> bool {
    let is_as_listed = |line: &str| {
        let file = line.split_once("  ");
        file.is_some_and(|(hash, name)| {
            let found = ContentHash::of_mapped(&kept.with_file_name(name));
            found.is_ok_and(|found| found.to_string() == hash)
        })
    };
    // A list that was cut short says too little.
    let is_right = |list: String| list.lines().count() == 2 && list.lines().all(is_as_listed);
    fs::read_to_string(list_path(kept)).is_ok_and(is_right)
}

/// The graph first and the list last: a list without its files, or with others, is no harm.
fn keep(graph: &Path, weights: &str, kept: &Path) -> io::Result<()> {
    let mut list = String::new();
    for (file, name) in [
        (graph.to_path_buf(), kept.file_name()),
        (kept.with_file_name(weights), Some(weights.as_ref())),
    ] {
        let hash = ContentHash::of_mapped(&file)?;
        list += &format!("{hash}  {}\n", name.unwrap_or_default().to_string_lossy());
    }
    fs::rename(graph, kept)?;
    fs::write(list_path(kept), list)
}
