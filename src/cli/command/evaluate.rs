//! `likeness evaluate`: how well similarity tells labels apart.

use std::io::Write;

use clap::ValueEnum;
use likeness::evaluate::{Evaluation, Labels, Quality};
use likeness::library::Library;

use super::find::Rank;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::render::{Stdout, shown};
use crate::cli::stand_in::model_to_ask;

/// Measure how well similarity finds images with the same label: recall@1/5/10 and mAP.
///
/// Every image asks for all others, compared one by one. Nothing is embedded.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness evaluate --labels parent
  likeness evaluate --labels parent --by-label --rank expanded
  likeness evaluate --labels parent --csv > labels.csv

recall@k is the share of images with another image of their label among the best k; mAP
is the mean average precision over the whole ranking. Images whose label nobody shares
are ranked but do not ask. Behind each figure stands where 95 % of such figures lie when
the labels are drawn anew, a thousand times.")]
pub(crate) struct Args {
    /// Where an image's label comes from
    #[arg(long, value_name = "WHERE")]
    labels: From,

    /// How hits are ordered
    #[arg(long, value_name = "HOW", default_value = "cosine")]
    rank: Rank,

    /// Show each label, the one of the lowest mAP first
    #[arg(long)]
    by_label: bool,

    /// The model whose vectors are compared [default: that of the last `index`, or what still stands in for it]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Print one JSON object, with all labels
    #[arg(long, conflicts_with = "by_label")]
    json: bool,

    /// Print a line of CSV for each label
    #[arg(long, conflicts_with_all = ["by_label", "json"])]
    csv: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// The name of the folder that holds it
    Parent,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let library = Library::open_existing(&context.library)?;
    let model = model_to_ask(&library, args.model.as_deref(), context)?;
    let From::Parent = args.labels;
    let evaluation = library.evaluate(&model, Labels::Parent, args.rank.into())?;
    let mut out = context.stdout();
    if args.json {
        out.json(&evaluation)?;
    } else if args.csv {
        print_csv(&evaluation, &mut out)?;
    } else {
        print(&evaluation, &model.name, args.by_label, &mut out)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn print(
    evaluation: &Evaluation,
    model: &str,
    by_label: bool,
    out: &mut Stdout,
) -> std::io::Result<()> {
    let Evaluation { queries, images, labels, all, interval_95, .. } = evaluation;
    let rows = [
        ("recall@1", all.recall_at_1, interval_95.recall_at_1),
        ("recall@5", all.recall_at_5, interval_95.recall_at_5),
        ("recall@10", all.recall_at_10, interval_95.recall_at_10),
        ("mAP", all.mean_average_precision, interval_95.mean_average_precision),
    ];
    for (name, value, (low, high)) in rows {
        writeln!(out, "{name:<9}  {value:.4}  ({low:.4} to {high:.4})")?;
    }
    writeln!(out, "{queries} queries among {images} images with {labels} labels, model {model}")?;
    if by_label {
        let mut labels: Vec<_> = evaluation.by_label.iter().collect();
        let precision = |quality: &Quality| quality.mean_average_precision;
        labels.sort_by(|a, b| precision(&a.quality).total_cmp(&precision(&b.quality)));
        writeln!(out, "\nrecall@1  recall@5     mAP  images  label")?;
        for label in labels {
            let Quality { recall_at_1, recall_at_5, mean_average_precision, .. } = label.quality;
            writeln!(
                out,
                "{recall_at_1:>8.4}  {recall_at_5:>8.4}  {mean_average_precision:.4}  {:>6}  {}",
                label.images,
                shown(&label.label)
            )?;
        }
    }
    Ok(())
}

fn print_csv(evaluation: &Evaluation, out: &mut Stdout) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["label", "images", "recall@1", "recall@5", "recall@10", "mAP"])?;
    for label in &evaluation.by_label {
        let Quality { recall_at_1, recall_at_5, recall_at_10, mean_average_precision } =
            label.quality;
        let measures = [recall_at_1, recall_at_5, recall_at_10, mean_average_precision];
        let measures = measures.map(|measure| format!("{measure:.6}"));
        csv.write_field(&label.label)?;
        csv.write_field(label.images.to_string())?;
        csv.write_record(&measures)?;
    }
    csv.flush()?;
    Ok(())
}
