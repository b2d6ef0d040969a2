//! ONNX Runtime: found, installed, loaded, and asked. The only room that uses `ort`.
//!
//! The library is loaded at run time, never linked, so that building needs nothing but crates and the
//! user's own build of it (CUDA, OpenVINO) can be used.

mod cuda;
mod device;
mod driver;
mod install;
mod load;
mod locate;
mod observe;
mod optimised;
mod pip;
mod probe;
mod session;
mod staging;
mod weights;
mod wheel;
#[cfg_attr(not(target_arch = "x86_64"), path = "winograd/none.rs")]
mod winograd;

use std::path::PathBuf;

use serde::Serialize;

pub(crate) use device::{Decision, decide};
pub use device::{Device, Precision, Processor};
pub use driver::{Absence, Driver, driver};
pub use install::{Source, install, installed};
pub use load::{NO_TELEMETRY, Runtime, load};
pub use locate::{Candidate, Located, Origin, locate};
pub use observe::{Observer, fold};
pub use probe::{MINIMUM_VERSION, Unfit, Version};
pub use session::FeatureSession;
pub use wheel::{Build, PINNED_VERSION};

use crate::error::{Error, Result};
use crate::progress::Watch;

/// Where to look for ONNX Runtime, and whether it may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuntimeConfig {
    /// The library the user named, or the folder that holds it; then no other is looked for.
    pub explicit: Option<PathBuf>,
    /// likeness's own data folder: an installed runtime lies in its `runtime` folder.
    pub data: PathBuf,
    /// Never use the network.
    pub offline: bool,
    /// What networks are to run on; decides which library is taken where there are several.
    pub device: Device,
}

/// Finds ONNX Runtime, installs it when there is none that serves, and loads it. What is installed so is the
/// build for the CPU; the one with CUDA is fifty times as large, and waits to be asked for.
///
/// # Errors
/// [`Error::RuntimeUnfit`] when the one the user named does not serve; [`Error::Device`] when an NVIDIA
/// device is asked for and there is none, no driver, or no ONNX Runtime with CUDA; [`Error::RuntimeMissing`]
/// when there is none at all and the network must not be used; those of [`install`] and [`load`].
pub fn ensure(config: &RuntimeConfig, watch: &Watch<'_>) -> Result<Runtime> {
    let located = locate(config)?;
    if let Device::Cuda(_) = config.device {
        let lacking = match &located.found {
            None => Some("no ONNX Runtime with CUDA is installed".to_owned()),
            Some(found) => (!found.cuda).then(|| device::without_cuda(&found.path)),
        };
        // Before a library is loaded that is of no use.
        device::decided(config.device, driver().as_ref(), lacking)?;
    }
    if let Some(found) = located.found {
        return load(&found);
    }
    if config.offline {
        let passed_over = located.passed_over.into_iter();
        let passed_over = passed_over.map(|(path, reason)| (path, reason.to_string())).collect();
        return Err(Error::RuntimeMissing { passed_over });
    }
    let path = install(&config.data, Build::Cpu, &Source::PyPi, watch)?;
    load(&Candidate { path, origin: Origin::Data, version: PINNED_VERSION, cuda: false })
}

/// What went wrong with the network `name`: `action` is a verb, `load` or `run`.
fn failed(name: &str, action: &'static str) -> impl FnOnce(ort::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Network { name, action, source: Box::new(source) }
}
