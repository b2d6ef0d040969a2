//! `likeness model`: the networks that turn photos into vectors.

mod import;
mod quantize;
mod show;

use std::io::Write;
use std::path::Path;

use clap::Subcommand;
use likeness::model::{Listed, ModelStore, Place};
use serde_json::json;

use import::Import;
use quantize::Quantize;
use show::show;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// List, fetch, import, quantize, check and remove models.
///
/// A model is an ONNX file and what is known of it: its hash, what happens to pixels first, which of
/// its tensors holds the features. The classifier at its end is taken off by likeness.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness model list
  likeness model fetch resnet50-v1-12
  likeness model import ./resnet101.onnx --name resnet101
  likeness model import ./caffe.onnx --channels bgr --scale 1 --mean 104,117,123 --std 1,1,1
  likeness model quantize resnet101 --calibrate ~/Photos
  likeness model show resnet101
  likeness model verify

A model is looked for in this order: the file, where a path is given; this program, which
holds `starter`; the library's model folder; the user's ($XDG_DATA_HOME/likeness/models); the
mirror (--mirror or LIKENESS_MIRROR); the addresses of its manifest entry. Its SHA-256 decides,
wherever it comes from. Nothing is fetched twice.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the models that are built in, installed, in the mirror, or on the internet
    #[command(after_help = "\
Examples:
  likeness model list
  likeness model list --json")]
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Fetch models and take their classifiers off; `index` does so by itself
    #[command(after_help = "\
Examples:
  likeness model fetch
  likeness model fetch resnet50-v1-12 resnet50-v1-12-int8")]
    Fetch {
        /// The models [default: the default model]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    Import(Box<Import>),
    Quantize(Quantize),
    /// Hash installed models and compare. Exit code 1 when one is damaged
    #[command(after_help = "\
Examples:
  likeness model verify
  likeness model verify resnet50-v1-12 --json")]
    Verify {
        /// The model [default: all]
        name: Option<String>,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Delete an installed model; vectors made with it stay usable
    #[command(after_help = "\
Examples:
  likeness model remove resnet101")]
    Remove {
        /// The model
        name: String,
    },
    /// Show everything about a model
    #[command(after_help = "\
Examples:
  likeness model show
  likeness model show starter
  likeness model show resnet101 --json
  likeness model show ./resnet101.onnx")]
    Show {
        /// The model's name, or an ONNX file [default: the default model]
        #[arg(value_name = "NAME|FILE")]
        name: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let models = context.models();
    match args.action {
        Action::List { json } => list(&models, json, context),
        Action::Fetch { names } => fetch(&models, &names, context),
        Action::Import(import) => import.run(&models, context),
        Action::Quantize(quantize) => quantize.run(&models, context),
        Action::Verify { name, json } => verify(&models, name.as_deref(), json, context),
        Action::Remove { name } => {
            models.remove(&name)?;
            Ok(Exit::Done)
        }
        Action::Show { name, json } => show(&models, name.as_deref(), json, context),
    }
}

fn list(models: &ModelStore, as_json: bool, context: &Context) -> anyhow::Result<Exit> {
    let listed = models.list(&context.watch())?;
    let mut out = context.stdout();
    if as_json {
        out.json(&listed)?;
    } else {
        let names = listed.iter().map(|listed| listed.entry.name.len()).max().unwrap_or(0);
        for Listed { entry, place, is_default } in &listed {
            let mark = if *is_default { "*" } else { " " };
            let place = match place {
                Place::Installed(_) => "installed",
                Place::BuiltIn => "built in",
                Place::Mirror => "mirror",
                Place::Internet => "internet",
            };
            let line = format!(
                "{mark} {:names$}  {place:9}  {:>9}  {}",
                entry.name,
                megabytes(entry.bytes),
                entry.description
            );
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn fetch(models: &ModelStore, names: &[String], context: &Context) -> anyhow::Result<Exit> {
    let watch = context.watch();
    let wanted: Vec<_> = match names {
        [] => vec![None],
        some => some.iter().map(|name| Some(name.as_str())).collect(),
    };
    for name in wanted {
        let model = models.obtain(name, &watch)?;
        models.prepare(&model, &watch)?;
        let mut out = context.stdout();
        writeln!(out, "{}  {}", model.entry.name, model.file)?;
        out.flush()?;
    }
    Ok(Exit::Done)
}

fn verify(
    models: &ModelStore,
    name: Option<&str>,
    as_json: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let watch = context.watch();
    let verdicts = models.verify(name, &watch)?;
    let mut out = context.stdout();
    if as_json {
        let verdicts: Vec<_> = verdicts
            .iter()
            .map(|verdict| {
                json!({
                    "name": verdict.name,
                    "path": verdict.file.path().map(Path::to_string_lossy),
                    "sound": verdict.is_sound(),
                    "expected": verdict.expected,
                    "found": verdict.found,
                })
            })
            .collect();
        out.json(&verdicts)?;
    } else {
        for verdict in &verdicts {
            let (name, path) = (&verdict.name, &verdict.file);
            if verdict.is_sound() {
                writeln!(out, "{name}: sound")?;
            } else {
                let (found, expected) = (verdict.found, verdict.expected);
                writeln!(
                    out,
                    "{name}: {path} is damaged: its sha256 is {found}, expected {expected}"
                )?;
            }
        }
    }
    out.flush()?;
    if verdicts.is_empty() {
        watch.note("no model is installed");
    }
    let sound = verdicts.iter().all(|verdict| verdict.is_sound());
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
