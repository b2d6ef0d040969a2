//! What every command needs: the folders, the switches, an ear for progress, and Ctrl-C.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use etcetera::BaseStrategy;
use likeness::error::Error;
use likeness::export::hold_publishing;
use likeness::model::{ModelStore, Obtained, StoreConfig, Wanted};
use likeness::network::FeatureNetwork;
use likeness::progress::Watch;
use likeness::runtime::{Device, RuntimeConfig};

use super::args::Global;
use super::progress::Progress;
use super::render::Stdout;

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// What every command needs.
pub(crate) struct Context {
    /// The user's data folder, `$XDG_DATA_HOME/likeness`: models, ONNX Runtime, the default library.
    pub(crate) data: PathBuf,
    /// The library folder.
    pub(crate) library: PathBuf,
    /// The ONNX Runtime the user named.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// The model mirror the user named.
    pub(crate) mirror: Option<String>,
    /// Whether the network must not be used.
    pub(crate) offline: bool,
    progress: Progress,
    on_event: Box<dyn Fn(likeness::progress::Event) + Sync + Send>,
}

impl Context {
    /// Finds the folders and takes over Ctrl-C: once stops when the running batch is done, twice at once.
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        let data = etcetera::choose_base_strategy()
            .context("cannot find the home folder; set HOME or XDG_DATA_HOME")?
            .data_dir()
            .join("likeness");
        ctrlc::set_handler(on_signal).context("cannot listen for Ctrl-C")?;
        let progress = Progress::new(global.progress);
        let ear = progress.clone();
        Ok(Self {
            library: global.library().unwrap_or_else(|| data.clone()),
            data,
            onnxruntime: global.onnxruntime(),
            mirror: global.mirror(),
            offline: global.offline(),
            progress,
            on_event: Box::new(move |event| ear.show(event)),
        })
    }

    /// How to find ONNX Runtime for a device.
    pub(crate) fn runtime(&self, device: Device) -> RuntimeConfig {
        RuntimeConfig {
            explicit: self.onnxruntime.clone(),
            data: self.data.clone(),
            offline: self.offline,
            device,
        }
    }

    /// The models of this machine, and the way to more of them.
    pub(crate) fn models(&self) -> ModelStore {
        let folder = self.data.join("models");
        let library_folder = Some(self.library.join("models")).filter(|f| *f != folder);
        ModelStore::new(StoreConfig {
            folder,
            library_folder,
            mirror: self.mirror.clone(),
            offline: self.offline,
            cache: self.data.join("networks"),
        })
    }

    /// The feature network of a model, fetched and prepared where need be.
    pub(crate) fn network(
        &self,
        name: Option<&str>,
        watch: &Watch<'_>,
    ) -> anyhow::Result<FeatureNetwork> {
        let models = self.models();
        let installed = models.obtain(name, watch)?;
        Ok(models.prepare(&installed, watch)?)
    }

    /// The feature network of the model that a library was indexed with; no other ever takes its place.
    pub(crate) fn network_of(
        &self,
        model: &str,
        watch: &Watch<'_>,
    ) -> anyhow::Result<FeatureNetwork> {
        let network = self.network(Some(model), watch);
        network.map_err(|error| match error.downcast_ref() {
            Some(Error::ModelUnknown { name, .. }) => {
                Error::LibraryModelUnknown { name: name.clone() }.into()
            }
            _ => error,
        })
    }

    /// The feature network of the default model, or, where that cannot be had, of the starter that stands in
    /// for it: then what was wanted, too.
    pub(crate) fn default_network(
        &self,
        watch: &Watch<'_>,
    ) -> anyhow::Result<(FeatureNetwork, Option<Wanted>)> {
        let models = self.models();
        let Obtained { model, instead_of } = models.obtain_default(watch)?;
        Ok((models.prepare(&model, watch)?, instead_of))
    }

    /// The ear and the brake for work in the library.
    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch::new(&*self.on_event, &CANCELLED)
    }

    /// Refuses a server in the network when that must not be used; this machine is none.
    #[cfg(feature = "remote")]
    pub(crate) fn may_ask(&self, address: &likeness::remote::Address) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.offline || address.is_local(),
            "the network must not be used (--offline), and {} is in it",
            address.server()
        );
        Ok(())
    }

    /// A buffered writer to stdout; any progress bar is taken away first.
    pub(crate) fn stdout(&self) -> Stdout {
        self.progress.clear();
        Stdout::new()
    }
}

fn on_signal() {
    if CANCELLED.swap(true, Ordering::Relaxed) {
        // The second Ctrl-C means it. Unfinished batches are rolled back by SQLite's journal; the moment in which the
        // files of an export get their names is waited for.
        let _published = hold_publishing();
        #[expect(clippy::exit, reason = "the user asked twice")]
        std::process::exit(130);
    }
    let _ = writeln!(std::io::stderr(), "\nstopping soon; press Ctrl-C again to stop at once");
}
