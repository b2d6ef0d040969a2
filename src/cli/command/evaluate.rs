//! `likeness evaluate`: how well similarity tells labels apart.

use std::io::Write;

use clap::ValueEnum;
use likeness::evaluate::Labels;
use likeness::library::Library;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Measure how well similarity finds images with the same label: recall@1/5/10 and mAP.
///
/// Every image asks for all others by exact cosine. Nothing is embedded.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness evaluate --labels parent
  likeness evaluate --labels parent --json

recall@k is the share of images with another image of their label among the best k; mAP
is the mean average precision over the whole ranking. Images whose label nobody shares
are ranked but do not ask.")]
pub(crate) struct Args {
    /// Where an image's label comes from
    #[arg(long, value_name = "WHERE")]
    labels: From,

    /// The model whose vectors are compared [default: that of the last `index`]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// The name of the folder that holds it
    Parent,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let library = Library::open_existing(&context.library)?;
    let model = library.model(args.model.as_deref())?;
    let From::Parent = args.labels;
    let evaluation = library.evaluate(&model, Labels::Parent)?;
    let mut out = context.stdout();
    if args.json {
        out.json(&evaluation)?;
    } else {
        writeln!(out, "recall@1   {:.4}", evaluation.recall_at_1)?;
        writeln!(out, "recall@5   {:.4}", evaluation.recall_at_5)?;
        writeln!(out, "recall@10  {:.4}", evaluation.recall_at_10)?;
        writeln!(out, "mAP        {:.4}", evaluation.mean_average_precision)?;
        let (queries, images, labels) = (evaluation.queries, evaluation.images, evaluation.labels);
        writeln!(
            out,
            "{queries} queries among {images} images with {labels} labels, model {}",
            model.name
        )?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
