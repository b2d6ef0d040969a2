//! `likeness runtime`: ONNX Runtime, which runs the networks.

use std::io::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use likeness::runtime::{
    self, Absence, Build, Candidate, Device, Located, MINIMUM_VERSION, PINNED_VERSION, Source,
    driver,
};
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Install ONNX Runtime, or show which one is used.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness runtime status
  likeness runtime install
  likeness runtime install --cuda

It is looked for in this order: --onnxruntime or ORT_DYLIB_PATH; beside the program; what
`runtime install` put into the data folder; the system's library folders; the onnxruntime
package of the Python on PATH. Where there is an NVIDIA driver, or --device cuda is said,
the first that has CUDA is taken. `index` and `find` install the one for the CPU by
themselves when there is none.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install the official build with pip, into likeness's own data folder; hashes are checked
    #[command(after_help = "\
Examples:
  likeness runtime install
  likeness runtime install --wheel ./onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl
  likeness runtime install --cuda
  likeness runtime install --cuda --wheel wheels/*.whl

Fetch the wheel on a machine with a network:
  python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 onnxruntime==1.31.1

With --cuda it is the build for NVIDIA devices, for Linux on x86-64, and what it needs of CUDA
and cuDNN: onnxruntime-gpu 1.31.1, nvidia-cuda-runtime 13.0.96, nvidia-cublas 13.1.1.3,
nvidia-curand 10.4.0.35, nvidia-cuda-nvrtc 13.0.88, nvidia-cudnn-cu13 9.26.0.51; 1,350 MB to
download, 2,100 MB on disk. It lies beside the build for the CPU, which stays. Their libraries are
found without LD_LIBRARY_PATH. NVIDIA's driver, 580 or newer, is not part of it.")]
    Install {
        /// Install the build for NVIDIA devices, and NVIDIA's libraries: 1,350 MB to download
        #[arg(long)]
        cuda: bool,
        /// Install from wheels that were fetched already; with --cuda, name all six
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, num_args = 1..)]
        wheel: Vec<PathBuf>,
        /// Install again what is installed already
        #[arg(long)]
        force: bool,
    },
    /// Show the one that is used, those installed, and the NVIDIA driver. Exit code 1 when none serves
    #[command(after_help = "\
Examples:
  likeness runtime status
  likeness runtime status --json")]
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.action {
        Action::Install { cuda, wheel, force } => {
            install(if cuda { Build::Cuda } else { Build::Cpu }, wheel, force, context)
        }
        Action::Status { json } => status(json, context),
    }
}

fn install(
    build: Build,
    wheels: Vec<PathBuf>,
    force: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let watch = context.watch();
    let installed =
        runtime::installed(&context.data, build).filter(|_| !force && wheels.is_empty());
    let path = match installed {
        Some(path) => path,
        None if !wheels.is_empty() => {
            runtime::install(&context.data, build, &Source::Wheels(wheels), &watch)?
        }
        None if context.offline => anyhow::bail!(
            "the network must not be used; fetch the wheel elsewhere and name it with --wheel"
        ),
        None => runtime::install(&context.data, build, &Source::PyPi, &watch)?,
    };
    if let (Build::Cuda, Err(absence)) = (build, driver()) {
        watch.note(format!(
            "it cannot be used with `--device cuda` yet: {absence}; until then it runs on the CPU"
        ));
    }
    let mut out = context.stdout();
    writeln!(out, "{}", path.display())?;
    out.flush()?;
    Ok(Exit::Done)
}

fn status(as_json: bool, context: &Context) -> anyhow::Result<Exit> {
    let Located { found, passed_over } = runtime::locate(&context.runtime(Device::Auto))?;
    let loaded = found.as_ref().map(runtime::load).transpose()?;
    let installed = |build| runtime::installed(&context.data, build);
    let (cpu, cuda) = (installed(Build::Cpu), installed(Build::Cuda));
    let lossy = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mut out = context.stdout();
    if as_json {
        let passed_over: Vec<_> = passed_over
            .iter()
            .map(|(path, reason)| json!({ "path": path.to_string_lossy(), "reason": reason }))
            .collect();
        out.json(&json!({
            "usable": loaded.is_some(),
            "path": loaded.as_ref().map(|r| r.path.to_string_lossy()),
            "version": loaded.as_ref().map(|r| r.version),
            "origin": loaded.as_ref().map(|r| r.origin),
            "providers": loaded.as_ref().map(|r| &r.providers),
            "installed": { "cpu": lossy(&cpu), "cuda": lossy(&cuda) },
            "driver": driver_json(),
            "minimum_version": MINIMUM_VERSION,
            "pinned_version": PINNED_VERSION,
            "passed_over": passed_over,
        }))?;
    } else {
        match &loaded {
            Some(runtime) => {
                writeln!(out, "path       {}", runtime.path.display())?;
                writeln!(
                    out,
                    "version    {} ({MINIMUM_VERSION} or newer is needed)",
                    runtime.version
                )?;
                writeln!(out, "found      {}", runtime.origin)?;
                writeln!(out, "providers  {}", runtime.providers.join(", "))?;
            }
            None => writeln!(
                out,
                "ONNX Runtime is not installed; `likeness runtime install` gets {PINNED_VERSION}"
            )?,
        }
        for (name, path) in [("cpu", &cpu), ("cuda", &cuda)] {
            if let Some(path) = path {
                writeln!(out, "installed  {name}: {}", path.display())?;
            }
        }
        match driver() {
            Ok(driver) => {
                writeln!(
                    out,
                    "driver     NVIDIA's, CUDA {}: {}",
                    driver.cuda,
                    driver.devices.join(", ")
                )?;
            }
            Err(absence) => writeln!(out, "driver     {absence}")?,
        }
        for (path, reason) in &passed_over {
            writeln!(out, "passed over {}: {reason}", path.display())?;
        }
    }
    out.flush()?;
    Ok(if loaded.is_some() { Exit::Done } else { Exit::Failed })
}

/// What the NVIDIA driver says, or why there is none.
pub(crate) fn driver_json() -> serde_json::Value {
    match driver() {
        Ok(driver) => json!(driver),
        Err(absence) => json!({ "missing": absence }),
    }
}

/// What `--device auto` takes, for `likeness status`.
pub(crate) fn device(found: Option<&Candidate>) -> String {
    match (driver(), found) {
        (Ok(driver), Some(found)) if found.cuda => {
            format!("auto takes cuda:0 ({})", driver.devices[0])
        }
        (Ok(driver), _) => format!(
            "auto takes the CPU, though {} is here; see `likeness runtime install --cuda`",
            driver.devices[0]
        ),
        (Err(Absence::NoLibrary(_)), _) => "auto takes the CPU: there is no NVIDIA driver".into(),
        (Err(absence), _) => format!("auto takes the CPU: {absence}"),
    }
}

/// A line for `likeness status`.
pub(crate) fn summary(found: Option<&Candidate>) -> String {
    match found {
        Some(found) => format!("ONNX Runtime {}, {}", found.version, found.origin),
        None => "not installed; `likeness runtime install` gets it".to_owned(),
    }
}
