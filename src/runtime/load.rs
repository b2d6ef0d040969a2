//! Loads ONNX Runtime into the process, once.

use std::ffi::{CStr, c_char, c_int};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::locate::{Candidate, Origin};
use super::probe::Version;
use crate::error::{Error, Result};
use crate::record::lossy;

/// A loaded ONNX Runtime. Cheap to clone; a process has one.
#[derive(Debug, Clone, Serialize)]
pub struct Runtime {
    /// The library file.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// How it was found.
    pub origin: Origin,
    /// Its version.
    pub version: Version,
    /// What it can run networks on, in its own order of preference.
    pub providers: Vec<String>,
    #[serde(skip)]
    environment: Environment,
}

impl Runtime {
    /// Whether it was built with CUDA.
    pub(super) fn has_cuda(&self) -> bool {
        self.providers.iter().any(|provider| provider == "CUDA")
    }

    pub(super) fn environment(&self) -> &ort::environment::Environment {
        &self.environment.0
    }
}

#[derive(Clone)]
struct Environment(Arc<ort::environment::Environment>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}

/// Name and value of the environment variable with which ONNX Runtime 1.31 and later collect nothing and
/// send nothing. Without it the library keeps a device number and what it will send in
/// `~/.cache/Microsoft`, and asking it by its interface to stop comes too late: the first events are
/// there by then. The `likeness` command sets it; a program that uses this crate should, before it
/// starts threads.
pub const NO_TELEMETRY: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

/// Loads a library that [`super::locate`] found. Telemetry is switched off as far as the library's
/// interface can; see [`NO_TELEMETRY`].
///
/// # Errors
/// [`Error::RuntimeUnfit`] when it changed since it was found; [`Error::RuntimeAlreadyLoaded`] when the
/// process has loaded another one.
pub fn load(candidate: &Candidate) -> Result<Runtime> {
    static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        if runtime.path == candidate.path {
            return Ok(runtime.clone());
        }
        return Err(Error::RuntimeAlreadyLoaded {
            loaded: runtime.path.clone(),
            wanted: candidate.path.clone(),
        });
    }
    let unfit = |reason: String| Error::RuntimeUnfit { path: candidate.path.clone(), reason };
    // Always through a path: the implicit look-up panics when there is no library.
    let environment = ort::init_from(&candidate.path)
        .map_err(|error| unfit(error.to_string()))?
        .with_name("likeness")
        .with_telemetry(false)
        .build()
        .map_err(|error| unfit(error.to_string()))?;
    let runtime = Runtime {
        path: candidate.path.clone(),
        origin: candidate.origin,
        version: candidate.version,
        providers: providers(),
        environment: Environment(Arc::new(environment)),
    };
    Ok(loaded.insert(runtime).clone())
}

/// What this build of ONNX Runtime can run networks on, as `CPU`, `CUDA`.
fn providers() -> Vec<String> {
    let api = ort::api();
    let mut names: *mut *mut c_char = std::ptr::null_mut();
    let mut count: c_int = 0;
    // SAFETY: both pointers are valid for writing; on success `names` holds `count` C strings that stay
    // valid until they are released below.
    unsafe {
        let status = (api.GetAvailableProviders)(&mut names, &mut count);
        if !status.0.is_null() || names.is_null() {
            return Vec::new();
        }
        let providers = (0..usize::try_from(count).unwrap_or(0))
            .map(|i| CStr::from_ptr(*names.add(i)).to_string_lossy().into_owned())
            .map(|name| name.trim_end_matches("ExecutionProvider").to_owned())
            .collect();
        let _ = (api.ReleaseAvailableProviders)(names, count);
        providers
    }
}
