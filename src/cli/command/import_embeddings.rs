//! `likeness import-embeddings`: embeddings that were computed elsewhere.

use std::io::Write;
use std::path::PathBuf;

use clap::ValueHint;
use likeness::error::Error;
use likeness::export::{Import, Manifest};
use likeness::import;
use likeness::library::Library;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Read an export back into a library: embeddings made on one machine, carried to another.
///
/// Images are known by their content, so that a later `index` of the same photos, wherever they lie, embeds none
/// of them anew. The export must hold raw features in 32 bits, as npy or Parquet, of a model that this library
/// knows or that can be had here. What is there stays: to import twice changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness export features.npy                        on the fast machine
  likeness import-embeddings features.npy             here, with the three files copied
  likeness index ~/Photos                             embeds what was not in them

  likeness import-embeddings big.parquet.manifest.json    an export of many files, by its manifest")]
pub(crate) struct Args {
    /// The file of an export, with OUT.manifest.json beside it, or that manifest
    #[arg(value_name = "MANIFEST|FILE", value_hint = ValueHint::FilePath)]
    export: PathBuf,

    /// The model that it must be of [default: the one that its manifest names]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let watch = context.watch();
    let export = Import::open(&args.export)?;
    let knows = match Library::open_existing(&context.library) {
        Ok(library) => import::knows_model(&library, export.manifest())?,
        Err(Error::NoLibrary { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let name = args.model.as_deref();
    let network = match (name, knows) {
        (None, true) => None,
        (name, _) => Some(context.network(name.or(Some(&export.manifest().model)), &watch)?),
    };
    if let Some(network) = &network {
        import::check_model(export.manifest(), network)?;
    }
    let verified = export.verify(&watch)?;
    // A library is made only once it is known that something will be in it.
    let mut library = Library::open(&context.library)?;
    let report = import::import(&mut library, verified, network.as_ref(), &watch)?;
    if let Some(line) = not_answered_with(&library, export.manifest())? {
        watch.note(line);
    }
    let mut out = context.stdout();
    match args.json {
        true => out.json(&serde_json::to_value(report)?)?,
        false => writeln!(
            out,
            "{} images with embeddings of {}; {} had them already",
            report.added,
            export.manifest().model,
            report.known
        )?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// The line for embeddings of a model that the library does not answer with.
fn not_answered_with(library: &Library, export: &Manifest) -> anyhow::Result<Option<String>> {
    let answers = library.model(None)?;
    if answers.fingerprint == export.fingerprint {
        return Ok(None);
    }
    let read = library.model(Some(&export.fingerprint.to_string()))?.name;
    Ok(Some(format!(
        "the library answers with {}, and these are of {read}: `likeness index --model {read}` makes it answer with \
         them",
        answers.name
    )))
}
