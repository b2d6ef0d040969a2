//! A network and a runtime introduced to each other: photos in, features out.

mod device;

pub use device::{fed_pixels, halved};

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::embedding::Features;
use crate::error::{Error, Result};
use crate::network::{FeatureNetwork, Pixels};
use crate::photo::{self, DecodeOptions, PhotoBytes};
use crate::progress::Watch;
use crate::runtime::{
    self, Decision, Device, FeatureSession, Precision, Processor, Runtime, RuntimeConfig,
};

/// A network that is ready to run. ONNX Runtime is looked for, or installed, only when the first
/// session is opened: a run that embeds nothing needs none.
pub struct Engine {
    network: FeatureNetwork,
    config: RuntimeConfig,
    decoding: DecodeOptions,
    precision: Precision,
    one_at_a_time: bool,
    runtime: Mutex<Option<Runtime>>,
    setup: OnceLock<Duration>,
    ran_on: OnceLock<Processor>,
}

impl Engine {
    /// Puts a prepared network, the way to a runtime, and how photos are decoded together.
    pub fn new(network: FeatureNetwork, config: RuntimeConfig, decoding: DecodeOptions) -> Self {
        Self {
            network,
            config,
            decoding,
            precision: Precision::default(),
            one_at_a_time: false,
            runtime: Mutex::new(None),
            setup: OnceLock::new(),
            ran_on: OnceLock::new(),
        }
    }

    /// The same, computing so.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same, computing one batch at a time on the CPU, too, as on an NVIDIA device, and in either precision.
    /// Slower; it is for tests where there is none.
    pub fn one_at_a_time(self) -> Self {
        Self { one_at_a_time: true, ..self }
    }

    /// The network.
    pub fn network(&self) -> &FeatureNetwork {
        &self.network
    }

    /// How photos are decoded.
    pub fn decoding(&self) -> &DecodeOptions {
        &self.decoding
    }

    /// Whether the network is expected to run on a device of its own, beside the threads that decode.
    pub(crate) fn expects_device(&self) -> bool {
        let wanted = self.config.device != Device::Cpu && runtime::driver().is_ok();
        wanted || self.one_at_a_time
    }

    /// What the network runs on, once a session was opened; `None` before.
    pub fn ran_on(&self) -> Option<&Processor> {
        self.ran_on.get()
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

    /// Opens a session for single photos, of `threads` threads where it runs on the CPU. One of one thread,
    /// shared by as many callers as there are cores, equals one of many threads on a quiet machine and is 2
    /// to 3 times faster on a busy one.
    ///
    /// With [`Device::Auto`] it is told once what was taken, where a person would wonder.
    ///
    /// # Errors
    /// [`Error::Device`] when the device that was asked for cannot be used, or does not compute as asked
    /// for; those of [`runtime::ensure`] and [`FeatureSession::open`].
    pub fn session(&self, threads: usize, watch: &Watch<'_>) -> Result<FeatureSession> {
        self.session_for(1, threads, watch)
    }

    /// The same for batches of [`FeatureSession::batch`] photos: on an NVIDIA device of `batch`, or as many as
    /// suit it.
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub fn batch_session(
        &self,
        batch: Option<usize>,
        threads: usize,
        watch: &Watch<'_>,
    ) -> Result<FeatureSession> {
        self.session_for(batch.unwrap_or(FeatureSession::CUDA_BATCH), threads, watch)
    }

    fn session_for(
        &self,
        batch: usize,
        threads: usize,
        watch: &Watch<'_>,
    ) -> Result<FeatureSession> {
        if self.config.device == Device::Cpu && !self.one_at_a_time {
            self.precision.check_on_cpu()?;
        }
        let runtime = self.runtime(watch)?;
        let (why, worth_telling) = match runtime::decide(&runtime, self.config.device)? {
            Decision::Cpu { why, worth_telling } => (why, worth_telling),
            Decision::Cuda(number) => match self.on_cuda(&runtime, number, batch) {
                Ok(session) => {
                    self.took(Processor::cuda(number, self.precision), None, watch);
                    return Ok(session);
                }
                // It is for what works.
                Err(error) if self.config.device == Device::Auto => (error.to_string(), true),
                Err(error) => return Err(error),
            },
        };
        if self.precision == Precision::Fp16 && !self.one_at_a_time {
            let remedy = "leave `--precision` out to run on the CPU in fp32".into();
            return Err(Error::Device { device: "cuda in fp16".into(), reason: why, remedy });
        }
        let session = if self.one_at_a_time {
            let (_scratch, network) = self.network_for_device(&runtime)?;
            FeatureSession::open_one_at_a_time(&runtime, &network, batch)?
        } else {
            FeatureSession::open(&runtime, &self.network, threads)?
        };
        self.took(Processor::cpu(), worth_telling.then_some(why), watch);
        Ok(session)
    }

    /// Keeps what the network runs on, and tells it once where a person would wonder.
    fn took(&self, processor: Processor, instead: Option<String>, watch: &Watch<'_>) {
        let note = match (self.config.device, instead) {
            (_, Some(why)) => Some(format!("running on the CPU: {why}")),
            (Device::Auto, None) if processor.device != Device::Cpu => {
                Some(format!("running on {processor} ({})", processor.name))
            }
            _ => None,
        };
        if self.ran_on.set(processor).is_ok() {
            note.into_iter().for_each(|note| watch.note(note));
        }
    }

    fn on_cuda(&self, runtime: &Runtime, number: u32, batch: usize) -> Result<FeatureSession> {
        let (_scratch, network) = self.network_for_device(runtime)?;
        FeatureSession::open_on_cuda(runtime, &network, number, self.precision, batch)
    }

    /// The network as devices take it, and a folder that must stay until it is open.
    fn network_for_device(&self, runtime: &Runtime) -> Result<(TempDir, FeatureNetwork)> {
        let scratch = tempfile::tempdir();
        let scratch = scratch.map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let network =
            device::network_for_device(runtime, &self.network, self.precision, scratch.path())?;
        Ok((scratch, network))
    }

    /// The features of one photo. `name` is what an error calls it.
    ///
    /// # Errors
    /// [`Error::QueryPhoto`] when it gives no pixels or no usable features; those of
    /// [`Engine::session`].
    pub fn features(&self, photo: &PhotoBytes, name: &str, watch: &Watch<'_>) -> Result<Features> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let square = self.square(photo, &self.decoding, name)?;
        self.run(&self.session(threads, watch)?, square, name)
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
        self.run(session, self.square(photo, decoding, name)?, name)
    }

    /// What the network sees of a photo. `name` is what an error calls it.
    pub(crate) fn square(
        &self,
        photo: &PhotoBytes,
        decoding: &DecodeOptions,
        name: &str,
    ) -> Result<Pixels> {
        photo::decode(photo, &self.network.preprocessing, decoding)
            .map(|photo| photo.pixels)
            .map_err(|reason| unusable(name, reason.to_string()))
    }

    fn run(&self, session: &FeatureSession, square: Pixels, name: &str) -> Result<Features> {
        let mut features = session.run(&[square])?;
        let features = features.pop().expect("one photo in, one vector out");
        let without = |reason| format!("the network gave no usable features: {reason}");
        features.map_err(|reason| unusable(name, without(reason)))
    }
}

fn unusable(name: &str, reason: String) -> Error {
    Error::QueryPhoto { name: name.to_owned(), reason }
}
