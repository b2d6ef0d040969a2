//! What a network costs: its parameters, and the multiplications it takes for one picture.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::trace::{Trace, is_global_pool, is_pool};
use crate::network::Layout;
use crate::onnx::{Dim, Graph, Model, Node};

/// The size of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Weights and biases of convolutions and linear layers, and scale and shift of each normalised channel:
    /// what PyTorch counts for such networks. `None` where the graph does not tell all shapes.
    pub parameters: Option<u64>,
    /// Multiplications, each with an addition, of convolutions and linear layers for one picture; `None` where
    /// the graph does not tell all shapes.
    pub multiply_adds: Option<u64>,
}

/// Axes behind the batch.
type Shape = Vec<u64>;

impl Cost {
    /// Of the ONNX file `bytes`, given pictures of `size` x `size`; `None` when it is not understood.
    pub(super) fn of(bytes: &[u8], size: u32, layout: Layout) -> Option<Self> {
        let model = Model::parse(bytes).ok()?;
        let trace = Trace::new(&model.graph).ok()?;
        let mut counter = Counter { trace: &trace, shapes: HashMap::new() };
        let side = u64::from(size);
        let picture = match layout {
            Layout::Nchw => vec![3, side, side],
            Layout::Nhwc => vec![side, side, 3],
        };
        counter.shapes.insert(trace.image.name, picture);
        Some(counter.count(&model.graph))
    }
}

struct Counter<'t, 'g, 'a> {
    trace: &'t Trace<'g, 'a>,
    shapes: HashMap<&'a str, Shape>,
}

impl<'a> Counter<'_, '_, 'a> {
    fn count(&mut self, graph: &Graph<'a>) -> Cost {
        let (mut parameters, mut multiply_adds) = (Some(0u64), Some(0u64));
        for node in graph.nodes() {
            let Some(&output) = node.outputs.first() else { continue };
            if !self.trace.is_dynamic(output) {
                continue;
            }
            parameters = parameters.zip(self.parameters(node)).map(|(sum, more)| sum + more);
            let input = node.inputs.iter().find(|name| self.trace.is_dynamic(name));
            let shape = input.and_then(|name| self.shapes.get(name)).cloned();
            let made = shape.as_deref().and_then(|shape| self.shape_of(node, shape));
            if is_integer(node) || self.is_layer(node) && self.multiplied(node).is_none() {
                multiply_adds = None;
            } else if let Some(weights) = self.multiplied(node) {
                let places = made.as_deref().map(|made| self.places(node, made, &weights));
                multiply_adds = multiply_adds.zip(places).map(|(sum, places)| {
                    sum.saturating_add(places.saturating_mul(weights.iter().product()))
                });
            }
            if let Some(made) = made {
                self.shapes.insert(output, made);
            }
        }
        Cost { parameters, multiply_adds }
    }

    /// The shape of a constant, whose values the graph may compute.
    fn constant(&self, tensor: &'a str) -> Option<Shape> {
        let shape = self.trace.weight_shape(tensor).filter(|_| !self.trace.is_dynamic(tensor))?;
        shape.into_iter().map(|length| u64::try_from(length).ok()).collect()
    }

    /// Whether a node is a convolution or a linear layer with weights, which do not depend on the picture.
    fn is_layer(&self, node: &Node<'a>) -> bool {
        let multiplies = ["Conv", "Gemm", "MatMul"].iter().any(|op| node.is(op));
        multiplies && node.input(1).is_some_and(|weights| !self.trace.is_dynamic(weights))
    }

    /// The weights that it multiplies with.
    fn multiplied(&self, node: &Node<'a>) -> Option<Shape> {
        self.constant(node.input(1).filter(|_| self.is_layer(node))?)
    }

    /// `None` where the graph does not tell how many they are.
    fn parameters(&self, node: &Node<'a>) -> Option<u64> {
        let size = |index| match node.input(index) {
            Some(name) => self.constant(name).map(|shape| shape.iter().product::<u64>()),
            None => Some(0),
        };
        if is_integer(node) {
            return None;
        }
        let counts = self.is_layer(node) || node.is("BatchNormalization");
        if counts { Some(size(1)? + size(2)?) } else { Some(0) }
    }

    /// How often each weight is used.
    fn places(&self, node: &Node<'a>, made: &[u64], weights: &[u64]) -> u64 {
        match (node.is("Conv"), made) {
            (true, [_, area @ ..]) => area.iter().product(),
            // Rows of a matrix, all but the last axis.
            (false, [rows @ .., _]) if weights.len() == 2 => rows.iter().product(),
            _ => 1,
        }
    }

    /// The shape of what a node makes of an input of `shape`; `None` where this is not understood.
    fn shape_of(&self, node: &Node<'a>, shape: &[u64]) -> Option<Shape> {
        let output = *node.outputs.first()?;
        if let Some(declared) = self.trace.declared_dims(output).and_then(fixed) {
            return Some(declared);
        }
        if node.is("Conv") {
            let weights = self.multiplied(node)?;
            let (outputs, kernel) = (*weights.first()?, weights.get(2..)?);
            return Some([&[outputs][..], &windows(node, shape.get(1..)?, kernel)?].concat());
        }
        if is_global_pool(node) {
            return Some([&shape[..1], &vec![1; shape.len() - 1]].concat());
        }
        if is_pool(node) {
            let kernel: Shape = node.ints("kernel_shape")?.iter().map(|k| *k as u64).collect();
            return Some([&shape[..1], &windows(node, &shape[1..], &kernel)?].concat());
        }
        if node.is("SpaceToDepth") {
            let side = u64::try_from(node.int("blocksize", 0)).ok().filter(|side| *side > 0)?;
            let [channels, height, width] = *shape else { return None };
            return Some(vec![channels * side * side, height / side, width / side]);
        }
        if node.is("Flatten") {
            return Some(vec![shape.iter().product()]);
        }
        if node.is("Gemm") || node.is("MatMul") {
            let weights = self.multiplied(node)?;
            let made = if node.int("transB", 0) == 1 { weights.first() } else { weights.last() };
            return Some([&shape[..shape.len() - 1], &[*made?]].concat());
        }
        if node.is("Concat") && node.int("axis", 1) == 1 {
            let parts = node.inputs.iter().map(|name| self.shapes.get(name)?.first().copied());
            let channels = parts.sum::<Option<u64>>()?;
            return Some([&[channels], &shape[1..]].concat());
        }
        if node.is("Transpose") {
            let order = node.ints("perm")?.get(1..)?;
            let axis = |axis: &i64| shape.get(usize::try_from(axis - 1).ok()?).copied();
            return order.iter().map(axis).collect();
        }
        if node.is("Reshape") {
            let lengths = self.trace.integers(node.input(1)?)?;
            let all = shape.iter().product();
            let flat = matches!(lengths[..], [_, last] if last < 0 || last as u64 == all);
            return flat.then(|| vec![all]);
        }
        const KEEP: &[&str] = &[
            "Add",
            "BatchNormalization",
            "Cast",
            "Clip",
            "DequantizeLinear",
            "QuantizeLinear",
            "Div",
            "Dropout",
            "Elu",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "Identity",
            "LRN",
            "LayerNormalization",
            "LeakyRelu",
            "LogSoftmax",
            "Mul",
            "PRelu",
            "Relu",
            "Sigmoid",
            "Softmax",
            "Sub",
            "Sum",
            "Tanh",
        ];
        // Of two pictures, a scale a channel among them, the larger.
        let inputs = node.inputs.iter().filter_map(|name| self.shapes.get(name));
        let largest = inputs.max_by_key(|shape| shape.iter().product::<u64>());
        KEEP.iter().any(|op| node.is(op)).then(|| largest.cloned())?
    }
}

/// Operators on 8-bit integers, which keep their weights elsewhere among their inputs.
fn is_integer(node: &Node<'_>) -> bool {
    ["QLinear", "QGemm", "ConvInteger", "MatMulInteger"].iter().any(|op| node.op.starts_with(op))
}

/// The lengths behind the batch, where all are said.
fn fixed(dims: &[Dim<'_>]) -> Option<Shape> {
    let lengths = dims.get(1..)?.iter().map(|dim| match dim {
        Dim::Fixed(length) => u64::try_from(*length).ok(),
        _ => None,
    });
    lengths.collect()
}

/// How many windows of a convolution or pooling fit along each axis of `input`.
fn windows(node: &Node<'_>, input: &[u64], kernel: &[u64]) -> Option<Shape> {
    if input.len() != kernel.len() {
        return None;
    }
    let list = |name, default| {
        let values = node.ints(name).filter(|values| !values.is_empty()).map(<[i64]>::to_vec);
        values.unwrap_or_else(|| vec![default; 2 * kernel.len()])
    };
    let (strides, dilations, pads) = (list("strides", 1), list("dilations", 1), list("pads", 0));
    let same = node.text("auto_pad").is_some_and(|pad| pad.starts_with("SAME"));
    let round_up = node.int("ceil_mode", 0) == 1;
    let along = |axis: usize| {
        let (length, stride) = (input[axis], u64::try_from(strides[axis]).ok().filter(|s| *s > 0)?);
        if same {
            return Some(length.div_ceil(stride));
        }
        let reach = u64::try_from(dilations[axis]).ok()? * kernel[axis].checked_sub(1)? + 1;
        let padding = u64::try_from(pads[axis] + pads.get(axis + kernel.len())?).ok()?;
        let room = (length + padding).checked_sub(reach)?;
        Some(if round_up { room.div_ceil(stride) } else { room / stride } + 1)
    };
    (0..kernel.len()).map(along).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::FLOAT;
    use crate::onnx::encode::{node_field, tensor_field, value_info_field};
    use crate::onnx::wire::put_bytes;

    #[test]
    fn a_small_network_is_counted_by_hand() {
        let dims = [Dim::Named("N"), Dim::Fixed(3), Dim::Unknown, Dim::Unknown];
        let weights = |name: &str, dims: &[i64]| {
            tensor_field(name, FLOAT, dims, &vec![0; 4 * dims.iter().product::<i64>() as usize])
        };
        let graph = [
            value_info_field(11, "image", &dims),
            weights("w", &[8, 3, 3, 3]),
            weights("b", &[8]),
            weights("fc", &[8, 10]),
            node_field("Conv", &["image", "w", "b"], "conv", &[]),
            node_field("Relu", &["conv"], "relu", &[]),
            node_field("GlobalAveragePool", &["relu"], "pooled", &[]),
            node_field("Flatten", &["pooled"], "flat", &[]),
            node_field("MatMul", &["flat", "fc"], "logits", &[]),
        ];
        let mut file = Vec::new();
        put_bytes(&mut file, 7, &graph.concat());
        let cost = Cost::of(&file, 10, Layout::Nchw).unwrap();
        assert_eq!(cost.parameters, Some(8 * 27 + 8 + 80));
        // 8 x 8 places without padding.
        assert_eq!(cost.multiply_adds, Some(64 * 8 * 27 + 80));
    }

    #[test]
    fn a_convolution_over_quarters_is_counted_where_they_are() {
        let dims = [Dim::Named("N"), Dim::Fixed(3), Dim::Unknown, Dim::Unknown];
        let graph = [
            value_info_field(11, "image", &dims),
            tensor_field("w", FLOAT, &[8, 12, 2, 2], &[0; 4 * 8 * 48]),
            node_field("SpaceToDepth", &["image"], "quarters", &[("blocksize", 2)]),
            node_field("Conv", &["quarters", "w"], "conv", &[]),
        ];
        let mut file = Vec::new();
        put_bytes(&mut file, 7, &graph.concat());
        let cost = Cost::of(&file, 10, Layout::Nchw).unwrap();
        // 4 x 4 places among 5 x 5 quarters.
        assert_eq!(cost.multiply_adds, Some(16 * 8 * 48));
    }
}
