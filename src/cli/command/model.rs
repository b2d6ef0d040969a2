//! `likeness model`: the networks that turn photos into vectors.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Subcommand, ValueHint};
use likeness::model::{ImportOptions, Listed, ModelEntry, ModelStore, NetworkFacts, Place};
use likeness::network::{Channels, Filter, Layout};
use serde::de::value::{Error as NotOneOf, StrDeserializer};
use serde::{Deserialize, de::IntoDeserializer};
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// List, fetch, import, check and remove models.
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
  likeness model show resnet101
  likeness model verify

A model is looked for in this order: the file, where a path is given; the library's model
folder; the user's ($XDG_DATA_HOME/likeness/models); the mirror (--mirror or LIKENESS_MIRROR);
the addresses of its manifest entry. Its SHA-256 decides, wherever it comes from. Nothing is
fetched twice.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the models that are installed, in the mirror, or on the internet
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

/// Make a model of an ONNX file
///
/// The file is copied. When it is one that likeness or the mirror knows, by its hash, what is known of
/// it holds; otherwise what is not said here is read from the graph, or is as torchvision trains
/// ResNets. The options --mean and --std follow the order of --channels.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness model import ./resnet50.onnx
  likeness model import ./resnet50.onnx --name r50-bicubic --filter bicubic
  likeness model import ./odd.onnx --output /avgpool/Flatten_output_0 --width 2048")]
struct Import {
    /// The ONNX file, its weights inside
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The model's name [default: the file's, without its ending]
    #[arg(long)]
    name: Option<String>,
    /// The tensor that holds the features [default: what feeds the last linear layer]
    #[arg(long, value_name = "TENSOR")]
    output: Option<String>,
    /// The number of features, where the graph does not tell
    #[arg(long, value_name = "N", value_parser = positive)]
    width: Option<usize>,
    /// Side of the square the network takes, in pixels [default: the graph's, else 224]
    #[arg(long, value_name = "PX")]
    size: Option<u32>,
    /// Length of the shorter side before the crop, in pixels [default: size x 256 / 224]
    #[arg(long, value_name = "PX")]
    resize: Option<u32>,
    /// How the image is made smaller, antialiased [default: bilinear]
    #[arg(long, value_parser = one_of::<Filter>(&["bilinear", "bicubic"]))]
    filter: Option<Filter>,
    /// The order of the colour channels [default: rgb]
    #[arg(long, value_parser = one_of::<Channels>(&["rgb", "bgr"]))]
    channels: Option<Channels>,
    /// The order of the axes [default: the graph's, else nchw]
    #[arg(long, value_parser = one_of::<Layout>(&["nchw", "nhwc"]))]
    layout: Option<Layout>,
    /// What an 8-bit value is multiplied by first [default: 1/255]
    #[arg(long, value_name = "X")]
    scale: Option<f32>,
    /// Subtracted after that, a channel [default: 0.485,0.456,0.406]
    #[arg(long, value_name = "A,B,C", value_parser = triple, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Divided by in the end, a channel [default: 0.229,0.224,0.225]
    #[arg(long, value_name = "A,B,C", value_parser = triple)]
    std: Option<[f32; 3]>,
    /// Under what terms it may be used; kept with it
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    /// One line about it; kept with it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let models = context.models();
    match args.action {
        Action::List { json } => list(&models, json, context),
        Action::Fetch { names } => fetch(&models, &names, context),
        Action::Import(import) => import.run(&models, context),
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
        writeln!(out, "{}  {}", model.entry.name, model.path.display())?;
        out.flush()?;
    }
    Ok(Exit::Done)
}

impl Import {
    fn run(self, models: &ModelStore, context: &Context) -> anyhow::Result<Exit> {
        let watch = context.watch();
        let options = ImportOptions {
            name: self.name,
            features: self.output.map(Into::into),
            width: self.width,
            size: self.size,
            resize: self.resize,
            filter: self.filter,
            channels: self.channels,
            layout: self.layout,
            scale: self.scale,
            mean: self.mean,
            std: self.std,
            licence: self.licence,
            description: self.description,
        };
        let model = models.import(&self.file, &options, &watch)?;
        let facts = models.network_facts(&model, &watch)?;
        let mut out = context.stdout();
        let removed = match facts.removed.len() {
            0 => "nothing taken off".to_owned(),
            _ => format!("taken off: {}", facts.removed.join(" ")),
        };
        writeln!(
            out,
            "{}: {} features from the tensor `{}`; {removed}",
            model.entry.name, facts.width, facts.output
        )?;
        out.flush()?;
        Ok(Exit::Done)
    }
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
                    "path": verdict.path,
                    "sound": verdict.is_sound(),
                    "expected": verdict.expected,
                    "found": verdict.found,
                })
            })
            .collect();
        out.json(&verdicts)?;
    } else {
        for verdict in &verdicts {
            let (name, path) = (&verdict.name, verdict.path.display());
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

fn show(
    models: &ModelStore,
    name: Option<&str>,
    as_json: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let watch = context.watch();
    let (entry, here) = match models.on_this_machine(name, &watch)? {
        Ok(model) => {
            let facts = models.network_facts(&model, &watch)?;
            (model.entry, Some((model.path, facts)))
        }
        Err(entry) => (entry, None),
    };
    let mut out = context.stdout();
    if as_json {
        let (path, facts) = here.as_ref().map(|(path, facts)| (path, facts)).unzip();
        out.json(&json!({
            "name": entry.name,
            "description": entry.description,
            "licence": entry.licence,
            "installed": here.is_some(),
            "path": path,
            "bytes": entry.bytes,
            "sha256": entry.sha256,
            "urls": entry.urls,
            "preprocessing": entry.input,
            "features": entry.output.features,
            "width": entry.output.width,
            "network": facts,
        }))?;
    } else {
        print_facts(&mut out, &entry, here.as_ref())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn print_facts(
    out: &mut impl Write,
    entry: &ModelEntry,
    here: Option<&(PathBuf, NetworkFacts)>,
) -> std::io::Result<()> {
    let numbers = |values: &[f32; 3]| values.map(|value| value.to_string()).join(", ");
    let said = |text: &str| if text.is_empty() { "not said".to_owned() } else { text.to_owned() };
    let input = &entry.input;
    writeln!(out, "name         {}", entry.name)?;
    writeln!(out, "description  {}", said(&entry.description))?;
    writeln!(out, "licence      {}", said(&entry.licence))?;
    match here {
        Some((path, _)) => {
            writeln!(out, "file         {} ({})", path.display(), megabytes(entry.bytes))?;
        }
        None => writeln!(
            out,
            "file         not installed ({}); `likeness model fetch {}` gets it",
            megabytes(entry.bytes),
            entry.name
        )?,
    }
    writeln!(out, "sha256       {}", entry.sha256)?;
    writeln!(
        out,
        "input        {size} x {size} {channels} {layout}: shorter side to {resize} ({filter}), central \
         crop,\n             times {scale}, minus ({mean}), divided by ({std})",
        size = input.size,
        channels = name_of(input.channels),
        layout = name_of(input.layout),
        resize = input.resize,
        filter = name_of(input.filter),
        scale = input.scale,
        mean = numbers(&input.mean),
        std = numbers(&input.std),
    )?;
    writeln!(
        out,
        "output       {} features: {}",
        entry.output.width,
        String::from(entry.output.features.clone())
    )?;
    if let Some((_, facts)) = here {
        let removed = if facts.removed.is_empty() { "nothing" } else { &facts.removed.join(" ") };
        writeln!(out, "fingerprint  {}", facts.fingerprint)?;
        writeln!(out, "network      {} ({})", facts.path.display(), megabytes(facts.bytes))?;
        writeln!(out, "tensors      {} -> {}", facts.input, facts.output)?;
        writeln!(out, "taken off    {removed}")?;
    }
    Ok(())
}

/// How manifests write a filter, channel order or layout.
fn name_of(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => unreachable!("these are written as their names"),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Reads a value by the name manifests give it.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: for<'de> Deserialize<'de> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| {
        let name: StrDeserializer<'_, NotOneOf> = name.as_str().into_deserializer();
        T::deserialize(name)
    })
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number above 0".into()),
        Ok(number) => Ok(number),
    }
}

fn triple(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let numbers = numbers.ok().and_then(|numbers| <[f32; 3]>::try_from(numbers).ok());
    numbers.ok_or_else(|| "expected three numbers, as in 0.485,0.456,0.406".into())
}
