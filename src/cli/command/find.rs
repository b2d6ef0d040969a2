//! `likeness find`: the most similar images of the library.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use likeness::catalog::ModelRecord;
use likeness::embedding::Embedding;
use likeness::engine::Engine;
use likeness::error::Error;
use likeness::index::Search;
use likeness::library::Library;
use likeness::photo::{self, PhotoBytes};
use likeness::query::{FindOptions, Match};
use likeness::record::ImageId;
use serde_json::{Value, json};

use crate::cli::args::Decoding;
use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Find the images of the library that look most like a query image.
///
/// The score is the cosine of the two feature vectors: 1 for the same image, in practice above 0.9 for
/// near copies and around 0.5 for strangers.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness find beach.jpg
  likeness find id:42 -k 5 --exclude-query
  curl -s https://example.org/cat.jpg | likeness find - --format json
  likeness find beach.jpg --min-score 0.8 --format paths -0 | xargs -0 ls -l

An image that was indexed, and id:N, need no model and no inference.")]
pub(crate) struct Args {
    /// An image file, `id:N` for an indexed image, or `-` for image bytes on stdin
    #[arg(value_name = "QUERY")]
    query: std::path::PathBuf,

    /// How many images at most
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    k: usize,

    /// The lowest score shown, from -1 to 1
    #[arg(long, value_name = "S", default_value_t = -1.0, value_parser = cosine, allow_negative_numbers = true)]
    min_score: f32,

    /// How the index is searched
    #[arg(long, value_name = "HOW", default_value = "auto")]
    search: How,

    /// Compare with every image instead of asking the index
    #[arg(long, conflicts_with = "search")]
    exact: bool,

    /// Leave out the query itself, when it is in the library
    #[arg(long)]
    exclude_query: bool,

    /// The model whose vectors are compared [default: that of the last `index`]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    #[command(flatten)]
    decoding: Decoding,

    /// How the images are printed
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// End paths with NUL instead of a newline; means --format paths
    #[arg(short = '0')]
    nul: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// Whichever is faster: exact up to 10,000 images
    Auto,
    /// By the graph, as deep as `rebuild --recall` says
    Hnsw,
    /// By the codes of all images, on all cores
    Exact,
}

impl From<How> for Search {
    fn from(how: How) -> Self {
        match how {
            How::Auto => Search::Auto,
            How::Hnsw => Search::Hnsw,
            How::Exact => Search::Exact,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for reading
    Table,
    /// One JSON array
    Json,
    /// One JSON object a line
    Jsonl,
    /// One path a line
    Paths,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|k| *k > 0).ok_or_else(|| "expected a number from 1".to_owned())
}

fn cosine(text: &str) -> Result<f32, String> {
    let inside = |score: &f32| (-1.0..=1.0).contains(score);
    text.parse().ok().filter(inside).ok_or_else(|| "expected a number from -1 to 1".to_owned())
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let library = Library::open_existing(&context.library)?;
    let model = library.model(args.model.as_deref())?;
    let asked = ask(&args, &library, &model, context)?;
    let options = FindOptions {
        k: args.k,
        min_score: args.min_score,
        exact: args.exact,
        search: args.search.into(),
        exclude: asked.id.filter(|_| args.exclude_query),
    };
    let matches = library.find(&model, &asked.embedding, &options, &context.watch())?;
    let format = if args.nul { Format::Paths } else { args.format };
    print(&matches, format, if args.nul { b'\0' } else { b'\n' }, context)?;
    Ok(Exit::Done)
}

/// What is asked with; `id` when the library holds the very same bytes.
struct Asked {
    embedding: Embedding,
    id: Option<ImageId>,
}

fn ask(
    args: &Args,
    library: &Library,
    model: &ModelRecord,
    context: &Context,
) -> anyhow::Result<Asked> {
    let query = &args.query;
    if let Some(id) = query.to_str().and_then(|q| q.strip_prefix("id:")) {
        let id = id.parse().map(ImageId).with_context(|| format!("`id:{id}` names no image"))?;
        return Ok(Asked { embedding: library.embedding_of(model, id)?, id: Some(id) });
    }
    let (photo, name) = read(query)?;
    if let Some((id, embedding)) = library.find_same(model, &photo)? {
        return Ok(Asked { embedding, id: Some(id) });
    }
    let watch = context.watch();
    let network = context.network(Some(&model.name), &watch)?;
    if network.fingerprint != model.fingerprint {
        let (indexed, found) = (model.fingerprint, network.fingerprint);
        return Err(Error::ModelChanged { name: model.name.clone(), indexed, found }.into());
    }
    let engine = Engine::new(network, context.runtime(), args.decoding.options());
    let features = engine.features(&photo, &name, &watch)?;
    Ok(Asked { embedding: features.embedding(), id: None })
}

fn read(query: &Path) -> anyhow::Result<(PhotoBytes, String)> {
    if query == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read stdin")?;
        let name = "stdin".to_owned();
        let photo = photo::from_bytes(bytes).map_err(|reason| Error::QueryPhoto {
            name: name.clone(),
            reason: reason.to_string(),
        })?;
        return Ok((photo, name));
    }
    let name = query.display().to_string();
    let photo = photo::read(query)
        .map_err(|reason| Error::QueryPhoto { name: name.clone(), reason: reason.to_string() })?;
    Ok((photo, name))
}

fn print(matches: &[Match], format: Format, end: u8, context: &Context) -> anyhow::Result<()> {
    let mut out = context.stdout();
    let mut numbered = matches.iter().zip(1..);
    match format {
        Format::Table => {
            let paths: Vec<String> = matches.iter().map(show_path).collect();
            let id_width = matches.iter().map(|m| m.hit.id.to_string().len()).fold(2, usize::max);
            if matches.is_empty() {
                context.watch().note("nothing found");
            } else {
                writeln!(out, "rank   score  {:>id_width$}  path", "id")?;
            }
            for ((found, rank), path) in numbered.zip(paths) {
                let (score, id) = (found.hit.score, found.hit.id);
                writeln!(out, "{rank:>4}  {score:>6.4}  {id:>id_width$}  {path}")?;
            }
        }
        Format::Json => out.json(&numbered.map(to_json).collect::<Vec<_>>())?,
        Format::Jsonl => numbered.try_for_each(|found| out.json_line(&to_json(found)))?,
        Format::Paths => {
            for found in matches {
                out.write_all(found.image.path.as_os_str().as_encoded_bytes())?;
                out.write_all(&[end])?;
            }
        }
    }
    Ok(out.flush()?)
}

fn show_path(found: &Match) -> String {
    let path = found.image.path.display();
    match found.image.copies.len() {
        0 => path.to_string(),
        1 => format!("{path}  (and 1 copy)"),
        n => format!("{path}  (and {n} copies)"),
    }
}

fn to_json((found, rank): (&Match, usize)) -> Value {
    let image = &found.image;
    let mut hit = json!({
        "rank": rank,
        "id": found.hit.id,
        "score": found.hit.score,
        "path": image.path.to_string_lossy(),
        "root": image.root.to_string_lossy(),
        "width": image.width,
        "height": image.height,
        "copies": image.copies.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>(),
    });
    // What the photo does not say is left out.
    let details = serde_json::to_value(&image.details).unwrap_or_default();
    if let (Some(hit), Value::Object(details)) = (hit.as_object_mut(), details) {
        let empty = |value: &Value| value.is_null() || *value == json!([]);
        hit.extend(details.into_iter().filter(|(_, value)| !empty(value)));
    }
    hit
}
