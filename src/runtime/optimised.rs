//! Networks as ONNX Runtime optimised them, kept beside the network file: they open in a third of the
//! time, or a tenth where weights are decoded in the graph.
//!
//! What is kept is for one version of ONNX Runtime and one kind of processor, both in its name, and
//! carries its BLAKE3, as ONNX Runtime would take a flipped weight without complaint. Whatever is wrong
//! with it, the network itself is opened, and a new one is kept.

use std::fs;
#[cfg(target_arch = "x86_64")]
use std::io::Write;
use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
#[cfg(target_arch = "x86_64")]
use ort::value::TensorRef;

use super::load::Runtime;
#[cfg(target_arch = "x86_64")]
use super::winograd;
use crate::network::FeatureNetwork;
#[cfg(target_arch = "x86_64")]
use crate::random::split_mix;

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
    let session = match keeping {
        Ok(plain) => {
            let session = take_over(runtime, network, threads, plain, &unfinished);
            let _ = keep(&unfinished, &kept);
            Ok(session)
        }
        Err(_) => open_plain(runtime, network, threads),
    };
    let _ = fs::remove_file(&unfinished);
    session
}

#[cfg(target_arch = "x86_64")]
fn open_kept(runtime: &Runtime, kept: &Path, threads: usize) -> ort::Result<Session> {
    builder(runtime, threads, GraphOptimizationLevel::Disable)?
        .with_operators(winograd::operators()?)?
        .commit_from_file(kept)
}

#[cfg(not(target_arch = "x86_64"))]
fn open_kept(runtime: &Runtime, kept: &Path, threads: usize) -> ort::Result<Session> {
    builder(runtime, threads, GraphOptimizationLevel::Disable)?.commit_from_file(kept)
}

/// Rewrites the `optimised` file of `plain` for the convolutions here, and opens it. Where there are none, or where
/// that does not give the same features, it and the session stay as they are.
#[cfg(target_arch = "x86_64")]
fn take_over(
    runtime: &Runtime,
    network: &FeatureNetwork,
    threads: usize,
    mut plain: Session,
    optimised: &Path,
) -> Session {
    let rewritten = optimised.with_extension(format!("rewritten-{}", std::process::id()));
    let side = network.preprocessing.size as usize;
    let mut opened = || -> Option<Session> {
        rewrite(optimised, side, &rewritten)?;
        let mut session = open_kept(runtime, &rewritten, threads).ok()?;
        let wanted = sample(&mut plain, network).ok()?;
        let found = sample(&mut session, network).ok()?;
        let is_same = is_close(&wanted, &found) && fs::rename(&rewritten, optimised).is_ok();
        is_same.then_some(session)
    };
    let session = opened();
    let _ = fs::remove_file(&rewritten);
    session.unwrap_or(plain)
}

#[cfg(not(target_arch = "x86_64"))]
fn take_over(_: &Runtime, _: &FeatureNetwork, _: usize, plain: Session, _: &Path) -> Session {
    plain
}

/// `None` where there is nothing to rewrite, or no room for it.
#[cfg(target_arch = "x86_64")]
fn rewrite(optimised: &Path, side: usize, to: &Path) -> Option<()> {
    let bytes = fs::read(optimised).ok()?;
    let pieces = winograd::rewritten(&bytes, side).ok()??;
    let mut file = fs::File::create(to).ok()?;
    pieces.iter().try_for_each(|piece| file.write_all(piece)).ok()
}

/// The features of one picture of noise, between about the values that preprocessing gives.
#[cfg(target_arch = "x86_64")]
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
#[cfg(target_arch = "x86_64")]
fn is_close(wanted: &[f32], found: &[f32]) -> bool {
    let largest = wanted.iter().fold(0f32, |most, value| most.max(value.abs()));
    wanted.len() == found.len()
        && wanted.iter().zip(found).all(|(a, b)| (a - b).abs() <= largest / 1000.0)
}

/// Opens a network with nothing but ONNX Runtime's own operators.
pub(super) fn open_plain(
    runtime: &Runtime,
    network: &FeatureNetwork,
    threads: usize,
) -> ort::Result<Session> {
    builder(runtime, threads, GraphOptimizationLevel::All)?.commit_from_file(&network.path)
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

/// `<network>.<version and processor>.optimised`, beside the network.
fn place(runtime: &Runtime, network: &Path) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    hasher.update(runtime.version.to_string().as_bytes());
    hasher.update(runtime.path.as_os_str().as_encoded_bytes());
    hasher.update(std::env::consts::ARCH.as_bytes());
    // The layouts that weights are brought into depend on these.
    #[cfg(target_arch = "x86_64")]
    hasher.update(&[
        u8::from(std::arch::is_x86_feature_detected!("avx")),
        u8::from(std::arch::is_x86_feature_detected!("avx2")),
        u8::from(std::arch::is_x86_feature_detected!("fma")),
        u8::from(std::arch::is_x86_feature_detected!("avx512f")),
        u8::from(std::arch::is_x86_feature_detected!("avx512vnni")),
    ]);
    #[cfg(target_arch = "x86_64")]
    hasher.update(&winograd::VERSION.to_le_bytes());
    network.with_extension(format!("{:.16}.optimised", hasher.finalize().to_hex()))
}

fn hash_path(kept: &Path) -> PathBuf {
    kept.with_extension("blake3")
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    Ok(blake3::Hasher::new().update_mmap_rayon(path)?.finalize().to_string())
}

fn is_whole(kept: &Path) -> bool {
    let expected = fs::read_to_string(hash_path(kept));
    expected.is_ok_and(|expected| hash_of(kept).is_ok_and(|found| found == expected))
}

/// The file first and its hash last: a hash without its file, or with another, is no harm.
fn keep(unfinished: &Path, kept: &Path) -> std::io::Result<()> {
    let hash = hash_of(unfinished)?;
    fs::rename(unfinished, kept)?;
    fs::write(hash_path(kept), hash)
}
