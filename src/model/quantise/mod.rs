//! A network whose convolutions compute in 8-bit integers: post-training static quantisation.
//!
//! What goes into convolutions, additions and the pooling between them, and what comes out, is rounded to
//! unsigned 8 bits, with a scale a tensor that [`Activations`] choose; weights to signed 8 bits, with a
//! scale for each channel that they make. The graph says so with QuantizeLinear and DequantizeLinear, which
//! ONNX Runtime fuses with what lies between into operators on integers. What rounding the weights adds to a
//! channel in the mean is taken off its bias (Nagel et al., *Data-Free Quantization Through Weight
//! Equalization and Bias Correction*, 2019).
//!
//! It wants the network as ONNX Runtime folds it: weights plain, each BatchNormalization in its convolution.

mod activations;
mod conv;
mod plan;
mod stem;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

pub use activations::Activations;
pub use conv::WeightBits;

use self::activations::Scale;
use self::plan::{Plan, is_addition};
use super::trace::Trace;
use crate::onnx::encode::{
    node_field, node_field_with_lists, node_with_inputs, tensor_field, value_info_field,
};
use crate::onnx::wire::Malformed;
use crate::onnx::{Dim, FLOAT, Kind, Model, Node, UINT8};

/// In the names of all tensors that are added.
const MARK: &str = "_likeness_";
/// The first version of the operators with a scale for each channel in DequantizeLinear.
const OPSET: i64 = 13;
/// The file version that came with it.
const IR_VERSION: i64 = 7;

/// A network that can be quantised.
pub struct Quantiser {
    folded: Vec<u8>,
    image: String,
    observed: Vec<String>,
}

impl Quantiser {
    /// Takes a network folded by ONNX Runtime.
    ///
    /// # Errors
    /// The reason why it cannot be quantised.
    pub fn new(folded: Vec<u8>) -> Result<Self, String> {
        let folded = without_unused_inputs(&folded).map_err(|error| error.to_string())?;
        let model = Model::parse(&folded).map_err(|error| error.to_string())?;
        let trace = Trace::new(&model.graph)?;
        check_operators(&model)?;
        let plan = Plan::of(&model.graph, &trace);
        if plan.convs.is_empty() {
            return Err("it has no convolution with constant weights".into());
        }
        let image = trace.image.name.to_owned();
        let observed = plan.points.iter().filter(|point| point.like.is_none());
        let observed = observed.map(|point| point.tensor.to_owned()).filter(|name| *name != image);
        Ok(Self { observed: observed.collect(), image, folded })
    }

    /// The tensor that takes the picture; its values are to be observed, too.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The tensors inside the network whose values are to be observed.
    pub fn observed(&self) -> &[String] {
        &self.observed
    }

    /// The network as an ONNX file with the observed tensors as its outputs.
    pub fn observing(&self) -> Vec<u8> {
        let model = Model::parse(&self.folded).expect("parsed before");
        let parts = model.graph.parts.iter().filter(|part| !matches!(part.kind, Kind::Output(_)));
        let mut pieces: Vec<_> = parts.map(|part| Cow::Borrowed(part.raw)).collect();
        for tensor in &self.observed {
            pieces.push(Cow::Owned(value_info_field(12, tensor, &[Dim::Unknown; 4])));
        }
        model.with_graph(pieces).concat()
    }

    /// The network in 8 bits, as an ONNX file. `seen` holds the values of [`Quantiser::observed`] and
    /// [`Quantiser::image`].
    ///
    /// # Panics
    /// When one of them is missing.
    pub fn quantise(&self, seen: &HashMap<String, Activations>, bits: WeightBits) -> Vec<u8> {
        let model = Model::parse(&self.folded).expect("parsed before");
        let trace = Trace::new(&model.graph).expect("traced before");
        let plan = Plan::of(&model.graph, &trace);
        let scales: HashMap<&str, Scale> = (plan.points.iter())
            .map(|point| (point.tensor, seen[point.like.unwrap_or(point.tensor)].best_scale()))
            .collect();
        let mut pieces: Vec<Cow<'_, [u8]>> = Vec::with_capacity(2 * model.graph.parts.len());
        let round = |pieces: &mut Vec<_>, tensor: &str| {
            if let Some(scale) = scales.get(tensor) {
                pieces.extend(rounding(tensor, *scale).map(Cow::Owned));
            }
        };
        let stem = plan.convs.values().find_map(|conv| conv.stem);
        match scales.get(trace.image.name).filter(|_| stem.is_some()) {
            Some(scale) => pieces.extend(quartering(trace.image.name, *scale).map(Cow::Owned)),
            None => round(&mut pieces, trace.image.name),
        }
        for part in &model.graph.parts {
            match &part.kind {
                Kind::Node(node) => {
                    let mut inputs = rewired(node, &scales);
                    let conv = node.outputs.first().and_then(|name| plan.convs.get(name));
                    if let Some(conv) = conv {
                        let means =
                            seen.get(conv.input).map(Activations::means).unwrap_or_default();
                        let rounded = conv.round(&scales[conv.input], &means, bits);
                        inputs.truncate(1);
                        inputs.extend(rounded.inputs.map(Cow::Owned));
                        pieces.extend(rounded.fields.into_iter().map(Cow::Owned));
                    }
                    let field = if let Some(stem) = conv.and_then(|conv| conv.stem) {
                        let names: Vec<&str> = inputs.iter().map(|name| &**name).collect();
                        let pads = stem.pads();
                        node_field_with_lists("Conv", &names, node.outputs[0], &[("pads", &pads)])
                    } else if node.is("Sum") && is_addition(node) {
                        // ONNX Runtime adds two tensors of integers only by this name.
                        node_field("Add", &[&*inputs[0], &*inputs[1]], node.outputs[0], &[])
                    } else {
                        node_with_inputs(part.raw, &inputs).expect("parsed before")
                    };
                    pieces.push(Cow::Owned(field));
                    node.outputs.iter().for_each(|output| round(&mut pieces, output));
                }
                Kind::Initializer(tensor) if plan.is_replaced(tensor.name) => {}
                // Before the file version that is written, weights were listed as inputs, too.
                Kind::Input(info) if info.name != trace.image.name => {}
                _ => pieces.push(Cow::Borrowed(part.raw)),
            }
        }
        let ir_version = model.ir_version.max(IR_VERSION);
        model.with_graph_of_version(pieces, ir_version, model.opset.max(OPSET)).concat()
    }
}

/// Old files list their weights as inputs, too; of weights that were folded away the listing is left.
pub(super) fn without_unused_inputs(folded: &[u8]) -> Result<Vec<u8>, Malformed> {
    let model = Model::parse(folded)?;
    let nodes = model.graph.nodes();
    let used: HashSet<&str> =
        nodes.flat_map(|node| node.inputs.iter().chain(&node.captured).copied()).collect();
    let kept = model.graph.parts.iter().filter(|part| match &part.kind {
        Kind::Input(info) => used.contains(info.name),
        _ => true,
    });
    let pieces = kept.map(|part| Cow::Borrowed(part.raw)).collect();
    Ok(model.with_graph(pieces).concat())
}

/// A node's inputs, those that are rounded in their rounded form.
fn rewired<'a>(node: &Node<'a>, scales: &HashMap<&str, Scale>) -> Vec<Cow<'a, str>> {
    let rounded = |name: &&'a str| match scales.contains_key(*name) {
        true => Cow::Owned(format!("{name}{MARK}rounded")),
        false => Cow::Borrowed(*name),
    };
    node.inputs.iter().map(rounded).collect()
}

/// Graph fields that round a tensor: its scale and zero point, and the way to 8 bits and back.
fn rounding(tensor: &str, Scale { scale, zero_point }: Scale) -> [Vec<u8>; 4] {
    let name = |what| format!("{tensor}{MARK}{what}");
    let (scale_name, zero, eight_bits) = (name("scale"), name("zero"), name("8bit"));
    [
        tensor_field(&scale_name, FLOAT, &[], &scale.to_le_bytes()),
        tensor_field(&zero, UINT8, &[], &[zero_point]),
        node_field("QuantizeLinear", &[tensor, &scale_name, &zero], &eight_bits, &[]),
        node_field("DequantizeLinear", &[&eight_bits, &scale_name, &zero], &name("rounded"), &[]),
    ]
}

/// The same of the picture, on whose way lies that each square of pixels is put behind one another.
fn quartering(image: &str, scale: Scale) -> [Vec<u8>; 5] {
    let name = |what| format!("{image}{MARK}{what}");
    let (scale_name, zero) = (name("scale"), name("zero"));
    let (pixels, quarters) = (name("8bit"), name("quarters"));
    let [scale_field, zero_field, round, _] = rounding(image, scale);
    let side = [("blocksize", stem::SIDE as i64)];
    let back = [quarters.as_str(), &scale_name, &zero];
    [
        scale_field,
        zero_field,
        round,
        node_field("SpaceToDepth", &[&pixels], &quarters, &side),
        node_field("DequantizeLinear", &back, &name("rounded"), &[]),
    ]
}

/// Whether a node rounds to integers, or computes in them.
pub(super) fn computes_in_integers(node: &Node<'_>) -> bool {
    node.op.contains("QuantizeLinear")
        || node.op == "DequantizeLinear"
        || node.op.starts_with("QLinear")
        || node.op.ends_with("Integer")
}

/// Refuses networks in 8 bits, and old ones with operators whose meaning changed since.
fn check_operators(model: &Model<'_>) -> Result<(), String> {
    /// What these mean has not changed from version 7 to [`OPSET`].
    const UNCHANGED: &[&str] = &[
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Concat",
        "Constant",
        "Conv",
        "Div",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "LeakyRelu",
        "LRN",
        "MatMul",
        "MaxPool",
        "Mul",
        "PRelu",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Sub",
        "Sum",
        "Tanh",
        "Transpose",
    ];
    /// From version 11 on, this one's limits are inputs.
    const SINCE_11: &[&str] = &["Clip", "Gather", "Pad", "Slice"];
    for node in model.graph.nodes() {
        if computes_in_integers(node) {
            return Err(format!("it computes in 8 bits already ({})", node.op));
        }
        let unchanged = model.opset >= OPSET
            || !matches!(node.domain, "" | "ai.onnx")
            || model.opset >= 7 && UNCHANGED.contains(&node.op)
            || model.opset >= 11 && SINCE_11.contains(&node.op);
        if !unchanged {
            return Err(format!(
                "it uses {} of opset {}, which means something else in opset {OPSET}; export it with \
                 opset {OPSET} or later",
                node.op, model.opset
            ));
        }
        if node.outputs.iter().any(|name| name.contains(MARK)) {
            return Err(format!("a tensor of it is named `{}`", node.outputs[0]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
