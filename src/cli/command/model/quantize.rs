//! `likeness model quantize`.

use std::io::Write;
use std::path::PathBuf;

use clap::ValueHint;
use likeness::model::{ModelStore, Retrieval};
use likeness::quantise::{self, QuantiseOptions, has_fast_integers};
use likeness::runtime::Device;

use crate::cli::args::Decoding;
use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Make a model that computes in 8-bit integers: three times as fast, nearly the same features
///
/// Its scales are chosen by photos of yours, which are only read. The result is a model of its own: its
/// vectors are not compared with those of the other, so the photos of a library are embedded again when
/// it moves over. It pays on processors that multiply 8-bit integers at once (AVX-512 VNNI, AVX-VNNI, ARM's
/// dot product); elsewhere it may be slower. What was gained and lost is measured, and told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness model quantize --calibrate ~/Photos
  likeness model quantize resnet101 --calibrate ~/Photos --images 500 --name fast
  likeness index ~/Photos --model resnet101-int8")]
pub(super) struct Quantize {
    /// The model's name, or an ONNX file [default: the default model]
    #[arg(value_name = "NAME|FILE")]
    model: Option<String>,
    /// A folder of photos like those that will be indexed
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    calibrate: PathBuf,
    /// Photos that choose the scales, taken from all over the folder; a quarter as many check the result
    #[arg(
        long, value_name = "N", default_value_t = QuantiseOptions::IMAGES as u32,
        value_parser = clap::value_parser!(u32).range(16..=5_000)
    )]
    images: u32,
    /// The new model's name [default: the other's with -int8 behind it, or -int8-own where that is known]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A folder of labelled photos, each in a folder of its label, to tell recall@1 and mAP of both models
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    evaluate: Option<PathBuf>,
    #[command(flatten)]
    decoding: Decoding,
}

impl Quantize {
    pub(super) fn run(self, models: &ModelStore, context: &Context) -> anyhow::Result<Exit> {
        let watch = context.watch();
        if !has_fast_integers() {
            watch.note(
                "this processor has no instruction that multiplies and adds 8-bit integers: the model may \
                 be slower here than in floats",
            );
        }
        let model = models.obtain(self.model.as_deref(), &watch)?;
        let options = QuantiseOptions {
            name: self.name,
            images: self.images as usize,
            evaluate: self.evaluate,
            decoding: self.decoding.options(),
        };
        let made = quantise::quantise(
            models,
            &model,
            // Scales are for the CPU, which is what 8 bits are for.
            &context.runtime(Device::Cpu),
            &self.calibrate,
            &options,
            &watch,
        )?;
        let mut out = context.stdout();
        let (name, facts) =
            (made.entry.name, made.entry.quantised.expect("it was made of another"));
        writeln!(
            out,
            "{name}: 8 bits by {} photos; on {} others alike to {:.4} in the mean, {:.4} at least\n\
             (cosine), and {:.1} times as fast here as {}",
            facts.images, facts.checked, facts.cosine_mean, facts.cosine_min, facts.speed, facts.of,
        )?;
        if let Some(retrieval) = &facts.retrieval {
            writeln!(out, "{}", finds(retrieval))?;
        }
        writeln!(out, "to use it: likeness index --model {name}")?;
        out.flush()?;
        if facts.speed < 1.1 {
            watch.note(format!(
                "it gains nothing here: what lies between its convolutions, or this processor, does not work in \
                 8 bits; `likeness model remove {name}` takes it away"
            ));
        }
        if facts.cosine_mean < 0.99 {
            watch.note(
                "its features differ more than usual: see what `likeness evaluate` says before you move over",
            );
        }
        Ok(Exit::Done)
    }
}

/// What the labelled photos told.
pub(super) fn finds(Retrieval { queries, before, after }: &Retrieval) -> String {
    format!(
        "of {queries} labelled photos: recall@1 {:.3} (before {:.3}), mAP {:.3} (before {:.3})",
        after.recall_at_1,
        before.recall_at_1,
        after.mean_average_precision,
        before.mean_average_precision,
    )
}
