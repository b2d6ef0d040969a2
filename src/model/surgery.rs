//! Takes the classifier off a network.
//!
//! The rule looks at the structure, not at names. From the graph's first output it walks back over
//! what may stand behind the last linear layer (Softmax, bias, reshaping, dequantising) to that layer
//! (Gemm, MatMul, a 1 × 1 Conv over pooled features, or their quantised forms) and takes the tensor
//! that feeds it. A graph whose output comes from a pooling layer has no classifier and keeps its
//! output. Everything the features do not need is left out: nodes, weights, declarations.

use std::borrow::Cow;
use std::collections::HashSet;

use super::ending::Ending;
use super::head::{Features, before_pooling, find_features, reshaped_to};
use super::manifest::{FeatureRule, Pool};
use super::preset::Stated;
use super::trace::Trace;
use crate::network::{Layout, Preprocessing};
use crate::onnx::encode::{node_field, value_info_field};
use crate::onnx::wire::Malformed;
use crate::onnx::{Dim, FLOAT, FLOAT16, Graph, Kind, Model, Part, ValueInfo};

/// Part of the key of prepared networks: raised when the same file and rule give other bytes, which
/// gives every model a new fingerprint and so asks for every photo to be embedded again.
pub(crate) const VERSION: u32 = 1;

/// Why no features can be taken from a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Not an ONNX file.
    Malformed(Malformed),
    /// The network does not take one picture and give floats.
    Network(String),
    /// The classifier was not recognised. `tail` describes the last nodes.
    Head { reason: String, tail: Vec<String> },
    /// No tensor of this name depends on the picture. `tail` describes the last nodes.
    NoTensor { tensor: String, tail: Vec<String> },
    /// The features are not as wide as stated.
    Width { stated: usize, found: usize },
    /// Neither the graph nor the caller tells how wide the features are.
    UnknownWidth { tensor: String },
}

impl From<Malformed> for Unfit {
    fn from(malformed: Malformed) -> Self {
        Unfit::Malformed(malformed)
    }
}

/// A network whose output is features `[batch, width]`, 32-bit floats.
#[derive(Debug)]
pub(crate) struct FeatureGraph<'a> {
    /// The file, to be written one slice after the other.
    pub(crate) pieces: Vec<Cow<'a, [u8]>>,
    /// The name of the tensor that takes the picture.
    pub(crate) input: String,
    /// The side of the square the network takes, where the file fixes it.
    pub(crate) size: Option<u32>,
    /// The order of the picture's axes, where the file tells.
    pub(crate) layout: Option<Layout>,
    /// What the file says of pixels.
    pub(super) stated: Stated,
    /// The name of the tensor that gives the features.
    pub(crate) output: String,
    /// The number of features.
    pub(crate) width: usize,
    /// The operators that were left out, in the order of the file.
    pub(crate) removed: Vec<String>,
}

impl FeatureGraph<'_> {
    /// The reason why the network cannot take what `preprocessing` makes.
    pub(crate) fn check_input(&self, preprocessing: &Preprocessing) -> Result<(), String> {
        let Preprocessing { size, layout, .. } = preprocessing;
        match self.size {
            Some(taken) if taken != *size => {
                return Err(format!("it takes {taken} × {taken} pixels, the manifest says {size}"));
            }
            _ => {}
        }
        match self.layout {
            Some(taken) if taken != *layout => {
                Err(format!("it takes {taken:?}, the manifest says {layout:?}").to_lowercase())
            }
            _ => Ok(()),
        }
    }
}

/// Edits the ONNX file `bytes` so that features, found by `rule`, are its only output; with `pool`, what
/// stood before they were pooled, pooled so. `stated` is the width they must have; without it the graph must
/// tell.
pub(crate) fn take_features<'a>(
    bytes: &'a [u8],
    rule: &FeatureRule,
    pool: Option<Pool>,
    stated: Option<usize>,
) -> Result<FeatureGraph<'a>, Unfit> {
    let model = Model::parse(bytes)?;
    let graph = &model.graph;
    let trace = Trace::new(graph).map_err(Unfit::Network)?;
    let mut picture = Picture::of(trace.image).map_err(Unfit::Network)?;
    let features = match rule {
        FeatureRule::Pooled => {
            let reason = |reason| Unfit::Head { reason, tail: tail(&trace, graph) };
            let output = graph.outputs().next().ok_or_else(|| reason("it has no output".into()))?;
            match (find_features(&trace, output.name), pool) {
                (Ok(features), _) => features,
                // A network that ends in a map of features.
                (Err(_), Some(_)) => Features::from_tensor(&trace, output.name),
                (Err(why), None) => return Err(reason(why)),
            }
        }
        FeatureRule::Tensor(name) => {
            let known = graph.nodes().flat_map(|node| &node.outputs).find(|output| *output == name);
            match known.filter(|tensor| trace.is_dynamic(tensor)) {
                Some(tensor) => Features::from_tensor(&trace, tensor),
                None => {
                    let tail = tail(&trace, graph);
                    return Err(Unfit::NoTensor { tensor: name.clone(), tail });
                }
            }
        }
    };
    let features = match pool {
        Some(pool) => before_pooling(&trace, features, pool).map_err(Unfit::Network)?,
        None => features.unfixed(&trace),
    };
    let told = || trace.width(features.tensor, features.pool.is_some());
    // A linear layer behind a pooling that leaves more than one value of each channel takes more than the map has.
    let found = match pool {
        Some(_) => told().or(features.width),
        None => features.width.or_else(told),
    };
    let width = match (stated, found) {
        (Some(stated), Some(found)) if stated != found => {
            return Err(Unfit::Width { stated, found });
        }
        (Some(width), _) | (None, Some(width)) => width,
        (None, None) => return Err(Unfit::UnknownWidth { tensor: features.tensor.into() }),
    };

    let ending = Ending::after(&features, &trace).map_err(Unfit::Network)?;
    let needed = needed_by(&ending.roots, &trace);
    if let Some(batch) = picture.fixed_batch {
        match check_batch_is_free(graph, &trace, &needed, batch) {
            // It takes one picture at a time, and is given one at a time.
            Err(_) if batch == 1 => picture.is_free = false,
            checked => checked.map_err(Unfit::Network)?,
        }
    }
    if let Some(tensor) = graph.initializers().find(|t| t.external && needed.contains(t.name)) {
        return Err(Unfit::Network(format!(
            "the weights `{}` lie in another file; `likeness model import` brings them in",
            tensor.name
        )));
    }

    let mut removed = Vec::new();
    let mut pieces: Vec<Cow<'a, [u8]>> = Vec::with_capacity(graph.parts.len());
    let mut output = Some(ending.output_field(graph, picture.batch(), width));
    for part in &graph.parts {
        let keep = match &part.kind {
            Kind::Node(node) => {
                let keep = node.outputs.iter().any(|name| needed.contains(name));
                if !keep {
                    removed.push(node.op.to_owned());
                }
                keep
            }
            Kind::Initializer(tensor) => needed.contains(tensor.name),
            Kind::About(name) => needed.contains(name),
            Kind::Input(info) if info.name == picture.name => {
                pieces.push(picture.field(part));
                false
            }
            // From IR version 4 a weight that is listed as an input may be overridden by the caller,
            // which keeps ONNX Runtime from folding it; before, it must be listed.
            Kind::Input(info) => needed.contains(info.name) && model.ir_version < 4,
            Kind::Output(_) => {
                pieces.extend(output.take());
                false
            }
            // With the batch no longer fixed, what is declared of inner shapes is no longer true.
            Kind::ValueInfo(info) => {
                needed.contains(info.name) && info.name != ending.output && !picture.is_freed()
            }
            Kind::Other => true,
        };
        if keep {
            pieces.push(Cow::Borrowed(part.raw));
        }
    }
    pieces.extend(ending.nodes.into_iter().map(Cow::Owned));
    let mut input = picture.name.to_owned();
    if picture.is_half {
        input = format!("{input}_likeness_32bit");
        pieces.insert(0, Cow::Owned(picture.narrowing(&input)));
    }
    Ok(FeatureGraph {
        pieces: model.with_graph(pieces),
        input,
        stated: Stated::of(model.metadata()),
        size: picture.size,
        layout: picture.layout,
        output: ending.output,
        width,
        removed,
    })
}

/// The input that takes the picture.
struct Picture<'g, 'a> {
    name: &'a str,
    dims: &'g [Dim<'a>],
    layout: Option<Layout>,
    size: Option<u32>,
    fixed_batch: Option<i64>,
    /// Whether it takes floats of 16 bits.
    is_half: bool,
    /// Whether the network may take any number of pictures at once, whatever the file says.
    is_free: bool,
}

impl<'g, 'a> Picture<'g, 'a> {
    fn of(info: &'g ValueInfo<'a>) -> Result<Self, String> {
        let name = info.name;
        if !matches!(info.elem_type, FLOAT | FLOAT16) {
            return Err(format!("its input `{name}` does not take floats"));
        }
        let is_half = info.elem_type == FLOAT16;
        let dims = info.dims.as_deref().unwrap_or_default();
        let layout = match dims {
            [] => None,
            [_, Dim::Fixed(3), _, _] => Some(Layout::Nchw),
            [_, _, _, Dim::Fixed(3)] => Some(Layout::Nhwc),
            [_, Dim::Fixed(_), _, Dim::Fixed(_)] => {
                return Err(format!("its input `{name}` does not take 3 colour channels"));
            }
            [_, _, _, _] => None,
            _ => return Err(format!("its input `{name}` has {} axes, expected 4", dims.len())),
        };
        let size = match (layout, dims) {
            (Some(Layout::Nchw), &[_, _, height, width])
            | (Some(Layout::Nhwc), &[_, height, width, _]) => match (height, width) {
                (Dim::Fixed(height), Dim::Fixed(width)) if height == width => {
                    u32::try_from(height).ok()
                }
                (Dim::Fixed(height), Dim::Fixed(width)) => {
                    return Err(format!(
                        "its input `{name}` takes {width} × {height} pixels, expected a square"
                    ));
                }
                _ => None,
            },
            _ => None,
        };
        let fixed_batch = match dims.first() {
            Some(Dim::Fixed(length)) => Some(*length),
            _ => None,
        };
        Ok(Self { name, dims, layout, size, fixed_batch, is_free: true, is_half })
    }

    /// Whether the file fixes the batch, and the edited graph does not.
    fn is_freed(&self) -> bool {
        self.is_free && self.fixed_batch.is_some()
    }

    /// The batch axis of the edited graph.
    fn batch(&self) -> Dim<'a> {
        match (self.dims.first(), self.fixed_batch) {
            (Some(Dim::Named(name)), _) => Dim::Named(name),
            (_, Some(length)) if !self.is_free => Dim::Fixed(length),
            _ => Dim::Named("batch"),
        }
    }

    /// The node that makes 16 bits of the 32 that are given.
    fn narrowing(&self, given: &str) -> Vec<u8> {
        node_field("Cast", &[given], self.name, &[("to", FLOAT16)])
    }

    /// The input as the edited graph lists it: any number of pictures at once.
    fn field(&self, part: &Part<'a>) -> Cow<'a, [u8]> {
        if self.is_half {
            let mut dims = self.dims.to_vec();
            dims.first_mut().into_iter().for_each(|batch| *batch = self.batch());
            let name = format!("{}_likeness_32bit", self.name);
            return Cow::Owned(value_info_field(11, &name, &dims));
        }
        if !self.is_freed() {
            return Cow::Borrowed(part.raw);
        }
        let mut dims = self.dims.to_vec();
        dims[0] = self.batch();
        Cow::Owned(value_info_field(11, self.name, &dims))
    }
}

/// The tensors that `roots` are computed from, themselves included.
fn needed_by<'a>(roots: &[&'a str], trace: &Trace<'_, 'a>) -> HashSet<&'a str> {
    let mut needed: HashSet<&str> = roots.iter().copied().collect();
    let mut open = roots.to_vec();
    while let Some(tensor) = open.pop() {
        let Some(maker) = trace.maker(tensor) else { continue };
        for name in maker.inputs.iter().chain(&maker.captured) {
            if !name.is_empty() && needed.insert(name) {
                open.push(name);
            }
        }
    }
    needed
}

/// Refuses a network that was exported for `batch` pictures at once and reshapes to that number.
fn check_batch_is_free(
    graph: &Graph<'_>,
    trace: &Trace<'_, '_>,
    needed: &HashSet<&str>,
    batch: i64,
) -> Result<(), String> {
    let shapers = graph
        .nodes()
        .filter(|node| node.is("Reshape") && node.outputs.iter().any(|name| needed.contains(name)));
    for node in shapers.filter(|node| node.input(0).is_some_and(|name| trace.is_dynamic(name))) {
        if reshaped_to(node, trace).is_some_and(|shape| shape.first() == Some(&batch)) {
            return Err(format!(
                "it takes exactly {batch} pictures at once (`{}` is reshaped to that number); \
                 export it with a free batch axis",
                node.outputs.first().unwrap_or(&"")
            ));
        }
    }
    Ok(())
}

/// The last steps from the picture to the output, for a person who must name one of their tensors.
fn tail(trace: &Trace<'_, '_>, graph: &Graph<'_>) -> Vec<String> {
    let mut tail: Vec<_> = graph
        .nodes()
        .rev()
        .filter(|node| node.outputs.iter().any(|name| trace.is_dynamic(name)))
        .take(6)
        .map(|node| {
            let name = if node.name.is_empty() { "" } else { " " };
            format!("{}{name}{} → {}", node.op, node.name, node.outputs.join(", "))
        })
        .collect();
    tail.reverse();
    tail
}

#[cfg(test)]
mod tests;
