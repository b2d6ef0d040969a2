//! `likeness find`: the most similar images of the library.

mod ask;
mod batch;
mod clipboard;
#[cfg(feature = "remote")]
mod remote;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use clap::{ValueEnum, ValueHint};
use likeness::embedding::Embedding;
use likeness::error::Error;
use likeness::filter::Filter;
use likeness::index;
use likeness::library::Library;
use likeness::photo::Region;
use likeness::query::{FindOptions, Match, Ranking, Search};
use likeness::record::{ImageId, ModelFingerprint};
use likeness::web::FetchOptions;

use ask::{Asker, Known, Local, Network, Query};
use batch::{Answers, Batch};
use show::Format;

#[cfg(feature = "remote")]
use crate::cli::args::Server;
use crate::cli::args::{Decoding, Running};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::stand_in::model_to_ask;

/// Find the images of the library that look most like a query image.
///
/// The score is the cosine of the two feature vectors: 1 for the same image. Copies made smaller, cropped or
/// recompressed mostly have 0.8 and more; strangers around 0.4 with ResNet-50, around 0 with `starter`.
///
/// Several queries are added up: what they have in common counts. `2:beach.jpg` counts twice, and
/// `--unlike 0.5:people.jpg` takes half of a picture away.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness find beach.jpg
  likeness find id:42 -k 5 --exclude-query
  likeness find beach.jpg 2:sunset.jpg --unlike 0.5:people.jpg
  likeness find group.jpg --crop 25%,10%,30%,50%
  likeness find https://example.org/cat.jpg
  likeness find clipboard:
  curl -s https://example.org/cat.jpg | likeness find - --format json
  likeness find beach.jpg --where 'camera:canon and taken:2024-05..2024-06'
  likeness find beach.jpg --where 'path:holiday and not (rating<0 or mp<2)'
  likeness find --queries list.txt -k 3 > hits.jsonl
  likeness find beach.jpg --min-score 0.8 --format paths -0 | xargs -0 ls -l
  likeness find beach.jpg --remote milvus://db.lan/photos
  likeness find beach.jpg --remote 'postgres://ann@db.lan/archive?table=photos'

--remote needs no library here: the collection names its model, and an image that is in it,
and id:N, need no inference. --where is applied by the server, but in Milvus for keywords
with a * or ? inside, and `near` with more than 16,384 photos within the radius; a Milvus
before 2.4 compares texts whole or by how they begin. Of an image in several places only the
first is looked at.

An image that was indexed, and id:N, need no model and no inference.

--queries reads one query a line, as it would stand on the command line, or takes the
photos of a folder, and writes one line of JSON for each, in order, with `query` and
`hits`, or `query` and `error`: a bad query ends nothing (exit code 3).

Words of --where: tests FIELD:VALUE (or = != < <= > >=), put together with and, or, not
and parentheses; values with spaces in quotes; ranges A..B, A.. and ..B with both ends.
  path:*.jpg path:holiday path:/srv/2024   a file or folder and all below it; * crosses folders
  root:/srv/photos                         an indexed folder
  camera:canon lens:'EF 50mm*'             part of the text; all of it where there is a * or ?
  keyword:sea format:jpeg
  taken:2024 taken:2024-05-03..2024-06-01 taken>=2024-05
  width>=4000 height:1080 mp:12 rating>=4  rating 0: unrated, -1: rejected
  near:48.137,11.575,10km                  latitude, longitude, radius in km, m or mi
  has:gps                                  or taken, camera, lens, rating, keyword
Upper and lower case are the same. A photo that does not say passes no test of that
field, and passes the test's not.")]
pub(crate) struct Args {
    /// An image file, `id:N` for an indexed image, an http(s) address, `clipboard:`, or `-` for
    /// image bytes on stdin; `2:QUERY` counts twice (for a file named so, write `./2:…`)
    #[arg(value_name = "QUERY", required_unless_present = "queries", value_hint = ValueHint::FilePath)]
    query: Vec<OsString>,

    /// What the hits should not look like; may be given several times, and with a weight
    #[arg(long, value_name = "QUERY", conflicts_with = "queries")]
    unlike: Vec<OsString>,

    /// Ask with a part of the picture: x,y,width,height in pixels or %, as you see it
    #[arg(long, value_name = "X,Y,W,H", conflicts_with = "queries", value_parser = str::parse::<Region>)]
    crop: Option<Region>,

    /// Answer many queries: the lines of a file or of stdin (`-`), or the photos of a folder
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["query", "format", "nul"])]
    queries: Option<PathBuf>,

    /// Fetch queries from this machine and private networks, too
    #[arg(long)]
    allow_private: bool,

    /// How many images at most
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    k: usize,

    /// The lowest score shown, from -1 to 1
    #[arg(long, value_name = "S", default_value_t = -1.0, value_parser = cosine, allow_negative_numbers = true)]
    min_score: f32,

    /// Only images that pass, as `camera:canon and taken:2024`; never fewer than K when so many do
    #[arg(long = "where", value_name = "EXPR", value_parser = str::parse::<Filter>)]
    filter: Option<Filter>,

    /// How the index is searched
    #[arg(long, value_name = "HOW", default_value = "auto")]
    search: How,

    /// How hits are ordered and scored
    #[arg(long, value_name = "HOW", default_value = "cosine")]
    rank: Rank,

    /// Compare with every image instead of asking the index
    #[arg(long, conflicts_with = "search")]
    exact: bool,

    /// Leave out the query itself, when it is in the library
    #[arg(long)]
    exclude_query: bool,

    /// The model whose vectors are compared [default: that of the last `index`, or what still stands in for it]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Ask what `likeness push` filled, as milvus://HOST/COLLECTION or
    /// postgres://HOST/DATABASE?table=TABLE, instead of the library
    #[cfg(feature = "remote")]
    #[arg(
        long, value_name = "ADDRESS",
        conflicts_with_all = ["search", "rank", "exact", "model"]
    )]
    remote: Option<String>,

    #[cfg(feature = "remote")]
    #[command(flatten)]
    server: Server,

    #[command(flatten)]
    running: Running,

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
    /// Exact up to 10,000 images and where the graph finds too little, else the graph
    Auto,
    /// By the graph, as deep as `rebuild --recall` says
    Hnsw,
    /// By the codes of all images, on all cores
    Exact,
}

impl From<How> for index::Search {
    fn from(how: How) -> Self {
        match how {
            How::Auto => Self::Auto,
            How::Hnsw => Self::Hnsw,
            How::Exact => Self::Exact,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Rank {
    /// By the cosine with the query
    Cosine,
    /// By the cosine after whitening: what most photos of the library share counts less; looks at all
    Whitened,
    /// By the cosine with the query and its three nearest together: more of the same
    Expanded,
}

impl From<Rank> for Ranking {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Cosine => Ranking::Cosine,
            Rank::Whitened => Ranking::Whitened,
            Rank::Expanded => Ranking::Expanded,
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|k| *k > 0).ok_or_else(|| "expected a number from 1".to_owned())
}

fn cosine(text: &str) -> Result<f32, String> {
    let inside = |score: &f32| (-1.0..=1.0).contains(score);
    text.parse().ok().filter(inside).ok_or_else(|| "expected a number from -1 to 1".to_owned())
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        args.crop.is_none() || args.query.len() == 1,
        "--crop takes a part of one picture, and there are {} queries",
        args.query.len()
    );
    #[cfg(feature = "remote")]
    if let Some(address) = &args.remote {
        return remote::run(&args, address, context);
    }
    let library = Library::open_existing(&context.library)?;
    let model = model_to_ask(&library, args.model.as_deref(), context)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let network = |threads| network(&args, (&model.name, model.fingerprint), threads, context);
    let fetch = FetchOptions { allow_private: args.allow_private, ..FetchOptions::default() };
    let mut options = FindOptions {
        k: args.k,
        min_score: args.min_score,
        rank: args.rank.into(),
        exact: args.exact,
        search: args.search.into(),
        filter: args.filter.clone(),
        ..FindOptions::default()
    };
    if let Some(from) = &args.queries {
        let queries = batch::queries(from)?;
        let search = library.prepare_search(&model, &options, &context.watch())?;
        let search = Shared { search: Mutex::new((Arc::new(search), false)), context };
        let open = || -> anyhow::Result<Box<dyn Answers + '_>> {
            let library = Library::open_existing(&context.library)?;
            Ok(Box::new(Near { local: Local { library, model: &model }, search: &search }))
        };
        let (network, exclude_query) = (&network(1), args.exclude_query);
        let batch = Batch { context, network, open: &open, fetch, exclude_query, workers: cores };
        return batch::run(&batch, queries);
    }
    let network = network(cores);
    let local = Local { library: &library, model: &model };
    let query;
    (query, options.exclude) = asked(&args, &Asker::new(&local, &network, fetch))?;
    let matches = library.find(&model, &query, &options, &context.watch())?;
    print(&args, &matches, context)
}

/// The library, opened by a thread of its own, and what is wanted of it.
struct Near<'a> {
    local: Local<'a, Library>,
    search: &'a Shared<'a>,
}

/// A search that threads share: the first that finds its index damaged makes another for all.
struct Shared<'a> {
    /// Whether that was done already: what is damaged again at once would be so for every query.
    search: Mutex<(Arc<Search>, bool)>,
    context: &'a Context,
}

impl Shared<'_> {
    fn current(&self) -> Arc<Search> {
        Arc::clone(&self.search.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// What takes the place of a search that gave `error`.
    fn instead_of(
        &self,
        failed: &Arc<Search>,
        library: &Library,
        error: Error,
    ) -> Result<Arc<Search>, Error> {
        let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, mended) = &mut *search;
        match error {
            _ if !Arc::ptr_eq(current, failed) => {}
            Error::IndexUnreadable { source, .. } if !*mended => {
                *mended = true;
                *current = Arc::new(library.mend_search(failed, &source, &self.context.watch())?);
            }
            error => return Err(error),
        }
        Ok(Arc::clone(current))
    }
}

impl Answers for Near<'_> {
    fn known(&self) -> &dyn Known {
        &self.local
    }

    fn find(&self, query: &Embedding, exclude: Vec<ImageId>) -> anyhow::Result<Vec<Match>> {
        let library = &self.local.library;
        let search = self.search.current();
        let answer = match library.answer(&search, query, &exclude) {
            Err(error @ Error::IndexUnreadable { .. }) => {
                library.answer(&*self.search.instead_of(&search, library, error)?, query, &exclude)
            }
            answer => answer,
        };
        Ok(answer?)
    }
}

/// The vector that is asked with, and the images to leave out.
fn asked(args: &Args, asker: &Asker<'_>) -> anyhow::Result<(Embedding, Vec<ImageId>)> {
    let (mut parts, mut exclude) = (Vec::new(), Vec::new());
    for (texts, sign) in [(&args.query, 1.0), (&args.unlike, -1.0)] {
        for text in texts {
            let Query { weight, source } = Query::parse(text)?;
            let asked = asker.ask(&source, args.crop.filter(|_| sign > 0.0))?;
            parts.push((sign * weight, asked.embedding));
            exclude.extend(asked.id.filter(|_| args.exclude_query));
        }
    }
    let query = Embedding::weighted_sum(&parts)
        .context("the queries cancel out; give one of them another weight, as 2:QUERY")?;
    Ok((query, exclude))
}

fn print(args: &Args, matches: &[Match], context: &Context) -> anyhow::Result<Exit> {
    let format = if args.nul { Format::Paths } else { args.format };
    show::print(matches, format, if args.nul { b'\0' } else { b'\n' }, context)?;
    Ok(Exit::Done)
}

fn network<'a>(
    args: &Args,
    (model, fingerprint): (&'a str, ModelFingerprint),
    threads: usize,
    context: &'a Context,
) -> Network<'a> {
    let (decoding, running) = (args.decoding.options(), args.running);
    let (collection, opened) = (None, Mutex::default());
    Network { context, model, fingerprint, collection, running, decoding, opened, threads }
}
