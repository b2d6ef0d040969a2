//! CUDA in ONNX Runtime: whether a build has it, and what it needs, loaded before it is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use libloading::Library;
use ort::ep::CUDA;
use ort::ep::cuda::ConvAlgorithmSearch;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::device::{Device, Precision};
use super::driver;
use super::load::Runtime;
use super::optimised;
use super::probe::check_length;
use crate::error::{Error, Result};

/// The part of a build with CUDA that lies beside the library and that it loads by itself.
pub(super) const PROVIDER: &str = if cfg!(windows) {
    "onnxruntime_providers_cuda.dll"
} else {
    "libonnxruntime_providers_cuda.so"
};

/// NVIDIA's libraries that the provider needs or opens by name, each behind those that it needs itself.
/// `libcudnn` finds its own parts beside itself.
const NEEDED: [&str; 7] = [
    "libcudart.so.",
    "libcublasLt.so.",
    "libcublas.so.",
    "libcurand.so.",
    "libnvrtc-builtins.so.",
    "libnvrtc.so.",
    "libcudnn.so.",
];

/// Whether the ONNX Runtime at `library` can have CUDA, without loading it.
pub(super) fn is_beside(library: &Path) -> bool {
    library.with_file_name(PROVIDER).is_file()
}

/// Loads NVIDIA's libraries where they came with ONNX Runtime: beside it, where likeness installs them, or in
/// the packages beside it in a Python. Whatever asks for one by its name afterwards is given it, so that
/// nobody has to set LD_LIBRARY_PATH; ONNX Runtime's own `preload_dlls` for Python does the same. What is not
/// there, or does not load, is left to the system; the provider then says what it misses.
fn preload(library: &Path) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let folders = folders(library);
        for needed in NEEDED {
            let found = folders.iter().find_map(|folder| {
                let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
                names
                    .filter(|path| {
                        let name = path.file_name().unwrap_or_default().to_string_lossy();
                        name.starts_with(needed) && check_length(path).is_ok()
                    })
                    .max()
            });
            if let Some(path) = found {
                // SAFETY: loading runs the library's initialisers. It came from NVIDIA's package.
                if let Ok(loaded) = unsafe { Library::new(path) } {
                    std::mem::forget(loaded);
                }
            }
        }
    });
}

/// `.../onnxruntime-gpu-1.31.1`; `site-packages/nvidia/cu13/lib` and its like.
fn folders(library: &Path) -> Vec<PathBuf> {
    let beside = library.parent().map(Path::to_path_buf);
    let packages = library.ancestors().nth(3).map(|packages| packages.join("nvidia"));
    let packages = packages.and_then(|packages| fs::read_dir(packages).ok());
    let packages = packages.into_iter().flatten().flatten().map(|entry| entry.path().join("lib"));
    beside.into_iter().chain(packages).collect()
}

/// Settings of a session on an NVIDIA device.
///
/// # Errors
/// [`Error::Device`] when ONNX Runtime's CUDA cannot be loaded.
pub(super) fn builder(
    runtime: &Runtime,
    number: u32,
    precision: Precision,
) -> Result<SessionBuilder> {
    preload(&runtime.path);
    driver::wait_asleep(number);
    // It tells as errors what it tries in vain before it takes another way. What is one comes back as such.
    runtime.environment().set_log_level(LogLevel::Fatal);
    let cuda = CUDA::default()
        .with_device_id(number.try_into().unwrap_or(i32::MAX))
        // Trying all algorithms for each convolution takes seconds, a session.
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
        // By default 32-bit products are made of 19 bits on newer devices, which is not what fp32 says.
        .with_tf32(precision == Precision::Fp16)
        // In 16 bits the fast convolutions want the channels of a pixel together; in 32 bits they do not.
        .with_prefer_nhwc(precision == Precision::Fp16)
        .build()
        // Else the CPU would take over without a word.
        .error_on_failure();
    let builder = || -> ort::Result<SessionBuilder> {
        Ok(optimised::builder(runtime, 1, GraphOptimizationLevel::All)?
            // Likewise; and what the device does not compute is told to nobody who could change it.
            .with_log_level(LogLevel::Fatal)?
            .with_execution_providers([cuda])?)
    };
    builder().map_err(|error| refused(number, &error))
}

/// Says what ONNX Runtime said, without where in its sources and on which machine it said so.
pub(super) fn refused(number: u32, error: &ort::Error) -> Error {
    Error::Device {
        device: Device::Cuda(number).to_string(),
        reason: reason(&error.to_string()).to_owned(),
        remedy:
            "`likeness runtime status` shows what is there; leave `--device` out to run on the CPU"
                .into(),
    }
}

fn reason(said: &str) -> &str {
    let reason = said.rsplit_once(" FAIL : ").map_or(said, |(_, reason)| reason);
    let failure = reason.find("CUDA failure").map_or(reason, |at| &reason[at..]);
    failure.split(" ; GPU=").next().unwrap_or(failure).trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both were said by ONNX Runtime 1.31.1: without a driver, and with one that does not work.
    #[test]
    fn of_what_onnx_runtime_says_the_reason_is_kept() {
        assert_eq!(
            reason(
                "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2216 \
                 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : \
                 FAIL : Failed to load library libonnxruntime_providers_cuda.so with error: \
                 libcuda.so.1: cannot open shared object file: No such file or directory"
            ),
            "Failed to load library libonnxruntime_providers_cuda.so with error: libcuda.so.1: \
             cannot open shared object file: No such file or directory"
        );
        assert_eq!(
            reason(
                "provider_options_utils.h:187 Parse Failed to parse provider option \"device_id\": CUDA \
                 failure 999: unknown error ; GPU=-1 ; hostname=vm ; file=a.cc ; line=70 ; expr=b;"
            ),
            "CUDA failure 999: unknown error"
        );
    }
}
