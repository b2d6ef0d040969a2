//! `likeness rebuild`: the search index, made again from the catalog.

use std::io::Write;

use likeness::library::Library;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Make the search index again from the catalog; no photo is opened and nothing is embedded.
///
/// `index` and `find` do so by themselves when the index is missing, damaged or out of date.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness rebuild
  likeness rebuild --model resnet50-v1-12")]
pub(crate) struct Args {
    /// The model whose index is made [default: that of the last `index`]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let library = Library::open_existing(&context.library)?;
    let _lock = library.lock()?;
    let model = library.model(args.model.as_deref())?;
    let index = library.rebuild_index(&model, &context.watch())?;
    let mut out = context.stdout();
    writeln!(out, "{} images in {}", index.len(), index.generation())?;
    out.flush()?;
    Ok(Exit::Done)
}
