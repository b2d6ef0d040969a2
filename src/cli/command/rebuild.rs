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
  likeness rebuild --recall 0.999          search deeper from now on
  likeness rebuild --model resnet50-v1-12

What is said of the recall and of codes is kept for later builds.")]
pub(crate) struct Args {
    /// The model whose index is made [default: that of the last `index`]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// The share of the true nearest ten that graph searches shall find [default: as before, or 0.99]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    recall: Option<f64>,

    /// Components of the codes that are searched, one byte each; `auto`: as many as keep 80 % of the
    /// variance, from 64 to 384 [default: as before, or auto]
    #[arg(long, value_name = "N", value_parser = code_width)]
    code_width: Option<CodeWidth>,
}

/// How wide codes shall be; by the spectrum without a number.
#[derive(Debug, Clone, Copy)]
struct CodeWidth(Option<usize>);

fn code_width(text: &str) -> Result<CodeWidth, String> {
    if text == "auto" {
        return Ok(CodeWidth(None));
    }
    let width = text.parse().ok().filter(|width| (16..=4096).contains(width));
    let width = width.ok_or_else(|| "expected `auto` or a number from 16 to 4096".to_owned())?;
    Ok(CodeWidth(Some(width)))
}

fn share(text: &str) -> Result<f64, String> {
    let inside = |share: &f64| (0.5..=1.0).contains(share);
    text.parse().ok().filter(inside).ok_or_else(|| "expected a number from 0.5 to 1".to_owned())
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let mut library = Library::open_existing(&context.library)?;
    let _lock = library.lock()?;
    let model = library.model(args.model.as_deref())?;
    library.forget_damaged(&model, &context.watch())?;
    let mut params = library.index_params(&model).unwrap_or_default();
    params.recall = args.recall.unwrap_or(params.recall);
    params.code_width = args.code_width.map_or(params.code_width, |CodeWidth(width)| width);
    let index = library.rebuild_index_as(&model, params, &context.watch())?;
    let mut out = context.stdout();
    writeln!(out, "{} images in {}", index.len(), index.generation())?;
    out.flush()?;
    Ok(Exit::Done)
}
