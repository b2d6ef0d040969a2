//! Networks as ONNX Runtime optimised them, kept beside the network file: they open in a third of the
//! time, or a tenth where weights are decoded in the graph.
//!
//! What is kept is for one version of ONNX Runtime and one kind of processor, both in its name, and
//! carries its BLAKE3, as ONNX Runtime would take a flipped weight without complaint. Whatever is wrong
//! with it, the network itself is opened, and a new one is kept.

use std::fs;
use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::load::Runtime;
use crate::network::FeatureNetwork;

/// Opens a network with `threads` threads, from what was kept when there is such.
pub(super) fn open(
    runtime: &Runtime,
    network: &FeatureNetwork,
    threads: usize,
) -> ort::Result<Session> {
    let kept = place(runtime, &network.path);
    if is_whole(&kept) {
        let opened =
            builder(runtime, threads, GraphOptimizationLevel::Disable)?.commit_from_file(&kept);
        if let Ok(session) = opened {
            return Ok(session);
        }
    }
    // Where it cannot be kept, as in a folder without room or rights, nothing is lost but time.
    let unfinished = kept.with_extension(format!("unfinished-{}", std::process::id()));
    let keeping = builder(runtime, threads, GraphOptimizationLevel::All)?
        .with_optimized_model_path(&unfinished)?
        .commit_from_file(&network.path);
    let session = match keeping {
        Ok(session) => {
            let _ = keep(&unfinished, &kept);
            session
        }
        Err(_) => builder(runtime, threads, GraphOptimizationLevel::All)?
            .commit_from_file(&network.path)?,
    };
    let _ = fs::remove_file(&unfinished);
    Ok(session)
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
        u8::from(std::arch::is_x86_feature_detected!("avx512f")),
        u8::from(std::arch::is_x86_feature_detected!("avx512vnni")),
    ]);
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
