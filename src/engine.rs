//! A network and a runtime introduced to each other: photos in, features out.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::embedding::Features;
use crate::error::{Error, Result};
use crate::model;
use crate::network::{FeatureNetwork, InputTensor};
use crate::photo::{self, DecodeOptions, PhotoBytes};
use crate::progress::Watch;
use crate::runtime::{self, FeatureSession, Runtime, RuntimeConfig};

/// A network that is ready to run. ONNX Runtime is looked for, or installed, only when the first
/// session is opened: a run that embeds nothing needs none.
pub struct Engine {
    network: FeatureNetwork,
    config: RuntimeConfig,
    decoding: DecodeOptions,
    runtime: Mutex<Option<Runtime>>,
    setup: OnceLock<Duration>,
}

impl Engine {
    /// Puts a prepared network, the way to a runtime, and how photos are decoded together.
    pub fn new(network: FeatureNetwork, config: RuntimeConfig, decoding: DecodeOptions) -> Self {
        Self { network, config, decoding, runtime: Mutex::new(None), setup: OnceLock::new() }
    }

    /// The network.
    pub fn network(&self) -> &FeatureNetwork {
        &self.network
    }

    /// How photos are decoded.
    pub fn decoding(&self) -> &DecodeOptions {
        &self.decoding
    }

    /// What the network runs on.
    pub fn device(&self) -> &'static str {
        "cpu"
    }

    /// How long it took to find ONNX Runtime, or to install it, and to load it; zero before.
    pub fn setup(&self) -> Duration {
        self.setup.get().copied().unwrap_or_default()
    }

    /// ONNX Runtime, found or installed at the first call.
    ///
    /// # Errors
    /// Those of [`runtime::ensure`].
    pub fn runtime(&self, watch: &Watch<'_>) -> Result<Runtime> {
        let mut runtime = self.runtime.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.clone());
        }
        let started = Instant::now();
        let found = runtime::ensure(&self.config, watch)?;
        self.setup.get_or_init(|| started.elapsed());
        Ok(runtime.insert(found).clone())
    }

    /// Opens a session of `threads` threads. One of one thread, shared by as many callers as there are
    /// cores, equals one of many threads on a quiet machine and is 2 to 3 times faster on a busy one.
    ///
    /// # Errors
    /// Those of [`runtime::ensure`] and [`FeatureSession::open`].
    pub fn session(&self, threads: usize, watch: &Watch<'_>) -> Result<FeatureSession> {
        FeatureSession::open(&self.runtime(watch)?, &self.network, threads)
    }

    /// The features of one photo. `name` is what an error calls it.
    ///
    /// # Errors
    /// [`Error::QueryPhoto`] when it gives no pixels or no usable features; those of
    /// [`Engine::session`].
    pub fn features(&self, photo: &PhotoBytes, name: &str, watch: &Watch<'_>) -> Result<Features> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let tensor = self.tensor(photo, &self.decoding, name)?;
        self.run(&self.session(threads, watch)?, tensor, name)
    }

    /// The same, decoded in another way, through a session that is open already: for many photos, and for
    /// a part of one.
    ///
    /// # Errors
    /// [`Error::QueryPhoto`]; those of [`FeatureSession::run`].
    pub fn features_through(
        &self,
        session: &FeatureSession,
        photo: &PhotoBytes,
        decoding: &DecodeOptions,
        name: &str,
    ) -> Result<Features> {
        self.run(session, self.tensor(photo, decoding, name)?, name)
    }

    /// One photo as the network takes it. `name` is what an error calls it.
    pub(crate) fn tensor(
        &self,
        photo: &PhotoBytes,
        decoding: &DecodeOptions,
        name: &str,
    ) -> Result<InputTensor> {
        let decoded = photo::decode(photo, &self.network.preprocessing, decoding)
            .map_err(|reason| unusable(name, reason.to_string()))?;
        Ok(model::normalise(&decoded.pixels, &self.network.preprocessing))
    }

    fn run(&self, session: &FeatureSession, tensor: InputTensor, name: &str) -> Result<Features> {
        let mut features = session.run(&[tensor])?;
        let features = features.pop().expect("one photo in, one vector out");
        let without = |reason| format!("the network gave no usable features: {reason}");
        features.map_err(|reason| unusable(name, without(reason)))
    }
}

fn unusable(name: &str, reason: String) -> Error {
    Error::QueryPhoto { name: name.to_owned(), reason }
}
