//! `likeness export`: embeddings for other systems.

use std::io::Write;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};
use likeness::catalog::Chosen;
use likeness::error::Error;
use likeness::export::{self, About, Dtype, Format, Options, Thumbnails};
use likeness::filter::Filter;
use likeness::library::Library;
use likeness::photo::DecodeOptions;
use likeness::thumbnail::thumbnails;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::stand_in::model_to_ask;
use crate::cli::time;

/// Write the embeddings of all indexed images to a file, with a manifest beside it.
///
/// Raw pooled features unless --normalized. Rows are in the order of the image ids. What was written is read back
/// and compared before it gets its name, and the manifest comes last: what has one is whole. Of what is there
/// already, only an earlier export is replaced; a link is followed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness export features.npy               float32 [rows, width]; numpy.load reads it
  likeness export photos.parquet             every column: pandas, Polars, DuckDB, Spark
  likeness export photos.parquet --for milvus
  likeness export projector --for projector  a folder: tensorboard --logdir projector
  likeness export clip --for clip-retrieval --shard 250000
  likeness export best.npy --where 'rating>=4 and taken:2024' --normalized --dtype f16
  likeness export new.npy --since 2024-05-01

features.npy, .safetensors and .fvecs come with OUT.ids.jsonl (row by row: id, path, content
hash, width, height, format, and what cameras wrote), and every export with OUT.manifest.json,
in a folder manifest.json (model, fingerprint, preprocessing, count, BLAKE3 of the files).
`likeness import-embeddings` reads npy and parquet back.")]
pub(crate) struct Args {
    /// The file to write; for projector and clip-retrieval the folder
    #[arg(value_name = "OUT", value_hint = ValueHint::AnyPath)]
    out: PathBuf,

    /// How embeddings are written [default: by OUT's extension]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatName>,

    /// The program that shall read it, where it wants a form of its own
    #[arg(long = "for", value_name = "PROGRAM", conflicts_with = "format")]
    reader: Option<Reader>,

    /// Scale every vector to length 1
    #[arg(long)]
    normalized: bool,

    /// What components are written as
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: DtypeName,

    /// Write files of so many rows, numbered (OUT-00000.npy, …), with one manifest for all
    #[arg(long, value_name = "ROWS")]
    shard: Option<NonZeroU64>,

    /// Only photos that pass, as `camera:canon and taken:2024` (the words: likeness find --help)
    #[arg(long = "where", value_name = "EXPR", value_parser = str::parse::<Filter>)]
    filter: Option<Filter>,

    /// Only photos embedded since, or back since: a date (from midnight, UTC) or a time as
    /// 2024-05-01T12:30:00Z
    ///
    /// What an earlier likeness embedded has no time, and counts as older than any.
    #[arg(long, value_name = "TIME", value_parser = time::seconds)]
    since: Option<i64>,

    /// The model whose embeddings are written [default: that of the last `index`, or what still stands in for it]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    /// NumPy array file
    Npy,
    /// NumPy archive of embeddings, ids, paths and hashes
    Npz,
    /// Comma-separated values
    Csv,
    /// One JSON object a line
    Jsonl,
    /// Apache Parquet, every column
    Parquet,
    /// Apache Arrow file (Feather 2), every column
    Arrow,
    /// Hugging Face safetensors
    Safetensors,
    /// FAISS's and the SIFT sets' vectors
    Fvecs,
    /// A folder for TensorBoard's Embedding Projector, up to 100,000 photos
    Projector,
    /// A folder as clip-retrieval and autofaiss read it
    ClipRetrieval,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Reader {
    /// Parquet for bulk import: id, path, embedding, and no other column
    Milvus,
    /// The folder that clip-retrieval, autofaiss and embedding-reader read
    #[value(alias = "autofaiss")]
    ClipRetrieval,
    /// The folder that TensorBoard's Embedding Projector reads, up to 100,000 photos
    #[value(alias = "tensorboard")]
    Projector,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DtypeName {
    /// 32-bit floats, as the library has them
    F32,
    /// 16-bit floats, rounded; for npy, npz, parquet, arrow, safetensors and clip-retrieval
    F16,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Npy => Format::Npy,
            FormatName::Npz => Format::Npz,
            FormatName::Csv => Format::Csv,
            FormatName::Jsonl => Format::Jsonl,
            FormatName::Parquet => Format::Parquet,
            FormatName::Arrow => Format::Arrow,
            FormatName::Safetensors => Format::Safetensors,
            FormatName::Fvecs => Format::Fvecs,
            FormatName::Projector => Format::Projector,
            FormatName::ClipRetrieval => Format::ClipRetrieval,
        }
    }
}

impl From<Reader> for Format {
    fn from(reader: Reader) -> Self {
        match reader {
            Reader::Milvus => Format::MilvusParquet,
            Reader::ClipRetrieval => Format::ClipRetrieval,
            Reader::Projector => Format::Projector,
        }
    }
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let format = match (args.reader, args.format) {
        (Some(reader), _) => reader.into(),
        (None, Some(name)) => name.into(),
        (None, None) => Format::of(&args.out)?,
    };
    let decoding = DecodeOptions::default();
    let pictures = |photos: &[PathBuf], side: u32| thumbnails(photos, side, &decoding);
    let dtype = match args.dtype {
        DtypeName::F32 => Dtype::F32,
        DtypeName::F16 => Dtype::F16,
    };
    let (shard, thumbnails) = (args.shard, Some(&pictures as Thumbnails<'_>));
    let library = Some(context.library.as_path());
    let options = Options { format, dtype, shard, thumbnails, library };
    // What cannot be, is said before anything is looked for.
    options.check(0)?;
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
    if args.since.is_some() {
        let timeless = library.catalog().count_timeless(model.id)?;
        if timeless > 0 {
            watch.note(format!(
                "{timeless} images were embedded by an earlier likeness, which wrote no time down: --since \
                 leaves them out"
            ));
        }
    }
    let passing = |filter| library.catalog().passing(model.id, filter);
    let passing = args.filter.as_ref().map(passing).transpose()?;
    let chosen = Chosen { passing: passing.as_ref(), since: args.since };
    let summary = library.catalog().with_export_rows(model.id, &chosen, |chosen| {
        export::export(&args.out, chosen.total, chosen.rows, &options, &about, &watch)
    });
    let summary = summary.map_err(|error| match error {
        Error::Cancelled => anyhow::Error::from(error).context("interrupted; nothing was exported"),
        other => other.into(),
    })?;
    let mut out = context.stdout();
    writeln!(out, "{} embeddings of {} features", summary.count, model.width)?;
    for file in summary.files {
        writeln!(out, "{}", file.display())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
