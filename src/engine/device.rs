//! A network as devices other than the CPU take it: fed with pixels, and in 16-bit floats where that is wanted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{self, Halved, PixelFed};
use crate::network::{FeatureNetwork, Feed};
use crate::record::ContentHash;
use crate::runtime::{self, Precision, Runtime};

/// Raised when networks are brought into another form in 16-bit floats than before.
const FP16_VERSION: u32 = 1;

/// The network for a device. It may lie in `scratch`, which must stay until it is open.
pub(super) fn network_for_device(
    runtime: &Runtime,
    network: &FeatureNetwork,
    precision: Precision,
    scratch: &Path,
) -> Result<FeatureNetwork> {
    match precision {
        Precision::Fp32 => fed_pixels(network, scratch),
        Precision::Fp16 => {
            let place = Place::of(runtime, network);
            if let Some(kept) = place.kept(network) {
                return Ok(kept);
            }
            let made = fed_pixels(&halved(runtime, network, scratch)?, scratch)?;
            // Where it cannot be kept, as in a folder without room or rights, nothing is lost but time.
            let _ = place.keep(&made);
            Ok(made)
        }
    }
}

/// The network in 16-bit floats, its file written into `folder`; pictures and features stay 32 bits wide.
///
/// It keeps the fingerprint: the features are those of the network, rounded on their way, as on another
/// device; they differ less than with another way to decode.
///
/// # Errors
/// [`Error::HalveNetwork`] when it does not compute in floats; [`Error::Network`] when ONNX Runtime refuses
/// it; [`Error::Io`].
pub fn halved(
    runtime: &Runtime,
    network: &FeatureNetwork,
    folder: &Path,
) -> Result<FeatureNetwork> {
    let folded = folder.join("folded.onnx");
    runtime::fold(runtime, &network.name, &network.path, &folded)?;
    let folded = fs::read(&folded).map_err(Error::io("read", &folded))?;
    let halved = model::halved(&folded, &network.output);
    let Halved { bytes, input, output } =
        halved.map_err(|reason| Error::HalveNetwork { name: network.name.clone(), reason })?;
    let path = folder.join("half.onnx");
    fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    Ok(FeatureNetwork { path, input, output, ..network.clone() })
}

/// The network taking pixels, its file written into `folder`. It gives the same features.
///
/// # Errors
/// [`Error::NetworkShape`] when it has no input for pictures; [`Error::Io`].
pub fn fed_pixels(network: &FeatureNetwork, folder: &Path) -> Result<FeatureNetwork> {
    let bytes = fs::read(&network.path).map_err(Error::io("read", &network.path))?;
    let fed = model::fed_pixels(&bytes, &network.preprocessing);
    let PixelFed { bytes, input } =
        fed.map_err(|what| Error::NetworkShape { name: network.name.clone(), what })?;
    let path = folder.join("pixels.onnx");
    fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    Ok(FeatureNetwork { path, input, feed: Feed::Pixels, ..network.clone() })
}

/// Where a network's form in 16-bit floats is kept, which takes half a second to make: beside the network, under
/// its name and endings of its own, for one version of ONNX Runtime, which folds it.
struct Place(PathBuf);

/// What is said of a network that is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// BLAKE3 of its file, as ONNX Runtime would take a flipped weight without complaint.
    blake3: String,
    input: String,
    output: String,
}

impl Place {
    fn of(runtime: &Runtime, network: &FeatureNetwork) -> Self {
        Self(network.path.with_extension(format!("{}-{FP16_VERSION}.fp16", runtime.version)))
    }

    fn said(&self) -> PathBuf {
        self.0.with_added_extension("json")
    }

    /// The network that is kept, if it is whole.
    fn kept(&self, network: &FeatureNetwork) -> Option<FeatureNetwork> {
        let said = fs::read(self.said()).ok()?;
        let Kept { blake3, input, output } = serde_json::from_slice(&said).ok()?;
        let path = self.0.clone();
        let is_whole = ContentHash::of_mapped(&path).is_ok_and(|found| found.to_string() == blake3);
        let feed = Feed::Pixels;
        is_whole.then(|| FeatureNetwork { path, input, output, feed, ..network.clone() })
    }

    /// What is said goes last: without its network, or with another, it is no harm.
    fn keep(&self, made: &FeatureNetwork) -> io::Result<()> {
        let FeatureNetwork { input, output, .. } = made.clone();
        let said = Kept { blake3: ContentHash::of_mapped(&made.path)?.to_string(), input, output };
        let unfinished = self.0.with_added_extension(format!("unfinished-{}", std::process::id()));
        let whole =
            fs::copy(&made.path, &unfinished).and_then(|_| fs::rename(&unfinished, &self.0));
        if whole.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        whole?;
        fs::write(self.said(), serde_json::to_vec(&said)?)
    }
}
