//! `likeness model import`.

use std::io::Write;
use std::path::PathBuf;

use clap::ValueHint;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use likeness::model::{ImportOptions, ModelStore, Pool, Preset};
use likeness::network::{Channels, Filter, Layout};
use serde::de::value::{Error as NotOneOf, StrDeserializer};
use serde::{Deserialize, de::IntoDeserializer};

use super::show::preparation;
use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Make a model of an ONNX file
///
/// The file is copied. When it is one that likeness or the mirror knows, by its hash, what is known of
/// it holds; otherwise what is not said here is read from the graph, or is as torchvision trains
/// ResNets. The options --mean and --std follow the order of --channels.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness model import ./resnet50.onnx
  likeness model import ./resnet50.onnx --name r50-bicubic --filter bicubic
  likeness model import ./keras-resnet50.onnx --preset caffe-bgr
  likeness model import ./body.onnx --pool gem
  likeness model import ./odd.onnx --output /avgpool/Flatten_output_0 --width 2048")]
pub(super) struct Import {
    /// The ONNX file; weights that lie in other files of its folder are brought in
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The model's name [default: the file's, without its ending]
    #[arg(long)]
    name: Option<String>,
    /// The tensor that holds the features [default: what feeds the last linear layer]
    #[arg(long, value_name = "TENSOR")]
    output: Option<String>,
    /// Pool the map of features so, in place of the network's own pooling or where it has none; for maps in
    /// the order batch, channel, row, column
    #[arg(long, value_parser = one_of::<Pool>(&["average", "max", "gem"]))]
    pool: Option<Pool>,
    /// The number of features, where the graph does not tell
    #[arg(long, value_name = "N", value_parser = positive)]
    width: Option<usize>,
    /// Channels, scale, mean and std by a usual name; the options below say otherwise [default: what the
    /// file's metadata says, else imagenet]
    #[arg(long, value_parser = one_of::<Preset>(&Preset::NAMES))]
    preset: Option<Preset>,
    /// Side of the square the network takes, in pixels [default: the graph's, else 224]
    #[arg(long, value_name = "PX")]
    size: Option<u32>,
    /// Length of the shorter side before the crop, in pixels [default: size x 256 / 224]
    #[arg(long, value_name = "PX")]
    resize: Option<u32>,
    /// How the image is made smaller, antialiased [default: bilinear]
    #[arg(long, value_parser = one_of::<Filter>(&["bilinear", "bicubic"]))]
    filter: Option<Filter>,
    /// The order of the colour channels [default: rgb]
    #[arg(long, value_parser = one_of::<Channels>(&["rgb", "bgr"]))]
    channels: Option<Channels>,
    /// The order of the axes [default: the graph's, else nchw]
    #[arg(long, value_parser = one_of::<Layout>(&["nchw", "nhwc"]))]
    layout: Option<Layout>,
    /// What an 8-bit value is multiplied by first [default: 1/255]
    #[arg(long, value_name = "X")]
    scale: Option<f32>,
    /// Subtracted after that, a channel [default: 0.485,0.456,0.406]
    #[arg(long, value_name = "A,B,C", value_parser = triple, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Divided by in the end, a channel [default: 0.229,0.224,0.225]
    #[arg(long, value_name = "A,B,C", value_parser = triple)]
    std: Option<[f32; 3]>,
    /// Under what terms it may be used; kept with it
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    /// One line about it; kept with it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl Import {
    pub(super) fn run(self, models: &ModelStore, context: &Context) -> anyhow::Result<Exit> {
        let watch = context.watch();
        let options = ImportOptions {
            name: self.name,
            features: self.output.map(Into::into),
            pool: self.pool,
            width: self.width,
            preset: self.preset,
            size: self.size,
            resize: self.resize,
            filter: self.filter,
            channels: self.channels,
            layout: self.layout,
            scale: self.scale,
            mean: self.mean,
            std: self.std,
            licence: self.licence,
            description: self.description,
        };
        let model = models.import(&self.file, &options, &watch)?;
        let facts = models.network_facts(&model, &watch)?;
        let mut out = context.stdout();
        let removed = match facts.removed.len() {
            0 => "nothing taken off".to_owned(),
            _ => format!("taken off: {}", facts.removed.join(" ")),
        };
        writeln!(
            out,
            "{}: {} features from the tensor `{}`; {removed}",
            model.entry.name, facts.width, facts.output
        )?;
        writeln!(out, "pixels: {}", preparation(&model.entry.input).replace('\n', " "))?;
        out.flush()?;
        Ok(Exit::Done)
    }
}

/// Reads a value by the name manifests give it.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: for<'de> Deserialize<'de> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| {
        let name: StrDeserializer<'_, NotOneOf> = name.as_str().into_deserializer();
        T::deserialize(name)
    })
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number above 0".into()),
        Ok(number) => Ok(number),
    }
}

fn triple(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let numbers = numbers.ok().and_then(|numbers| <[f32; 3]>::try_from(numbers).ok());
    numbers.ok_or_else(|| "expected three numbers, as in 0.485,0.456,0.406".into())
}
