//! `likeness export`: embeddings for other systems.

use std::io::Write;
use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};
use likeness::export::{self, About, Format};
use likeness::filter::Filter;
use likeness::library::Library;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::stand_in::model_to_ask;

/// Write the embeddings of all indexed images to a file, with a manifest beside it.
///
/// Raw pooled features unless --normalized. Rows are in the order of the image ids. The file appears
/// whole or not at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness export features.npy               float32 [rows, width]; numpy.load reads it
  likeness export features.csv --normalized
  likeness export best.npy --where 'rating>=4 and taken:2024'
  likeness export out --format jsonl

features.npy comes with features.npy.ids.jsonl (row by row: id, path, content hash,
width, height), and every export with OUT.manifest.json (model, fingerprint,
preprocessing, count, BLAKE3 of the files).")]
pub(crate) struct Args {
    /// The file to write
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    out: PathBuf,

    /// How embeddings are written [default: by OUT's extension]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatName>,

    /// Scale every vector to length 1
    #[arg(long)]
    normalized: bool,

    /// Only photos that pass, as `camera:canon and taken:2024` (the words: likeness find --help)
    #[arg(long = "where", value_name = "EXPR", value_parser = str::parse::<Filter>)]
    filter: Option<Filter>,

    /// The model whose embeddings are written [default: that of the last `index`, or what still stands in for it]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    /// NumPy array file
    Npy,
    /// Comma-separated values
    Csv,
    /// One JSON object a line
    Jsonl,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Npy => Format::Npy,
            FormatName::Csv => Format::Csv,
            FormatName::Jsonl => Format::Jsonl,
        }
    }
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let format = args.format.map_or_else(|| Format::of(&args.out), |name| Ok(name.into()))?;
    let library = Library::open_existing(&context.library)?;
    let model = model_to_ask(&library, args.model.as_deref(), context)?;
    let about = About {
        model: model.name.clone(),
        fingerprint: model.fingerprint,
        preprocessing: model.preprocessing.clone(),
        width: model.width,
        normalized: args.normalized,
        library: library.catalog().uuid()?,
    };
    let watch = context.watch();
    let passing = |filter| library.catalog().passing(model.id, filter);
    let passing = args.filter.as_ref().map(passing).transpose()?;
    let summary = library.catalog().with_export_rows(model.id, passing.as_ref(), |rows| {
        export::export(&args.out, format, rows, &about, &watch)
    })?;
    let mut out = context.stdout();
    writeln!(out, "{} embeddings of {} features", summary.count, model.width)?;
    for file in summary.files {
        writeln!(out, "{}", file.display())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
