//! A graph seen from its tensors: who makes each, which depend on the image, and what can be told of
//! their shape and type without running the network.

use std::collections::{HashMap, HashSet};

use crate::onnx::{Dim, FLOAT, Graph, Node, Tensor, UINT8, ValueInfo};

/// How many nodes a question may walk back over: far more than lie between a weight and its use,
/// and an end for graphs that bite their own tail.
const FUEL: usize = 256;

/// A graph with its edges resolved.
pub(crate) struct Trace<'g, 'a> {
    makers: HashMap<&'a str, &'g Node<'a>>,
    constants: HashMap<&'a str, &'g Tensor<'a>>,
    declared: HashMap<&'a str, &'g ValueInfo<'a>>,
    dynamic: HashSet<&'a str>,
    /// The graph's input that is not a weight: the image.
    pub(crate) image: &'g ValueInfo<'a>,
}

impl<'g, 'a> Trace<'g, 'a> {
    /// Resolves `graph`; the reason when it has not exactly one input besides its weights, or a tensor
    /// is made twice.
    pub(crate) fn new(graph: &'g Graph<'a>) -> Result<Self, String> {
        let constants: HashMap<_, _> = graph.initializers().map(|t| (t.name, t)).collect();
        // Before IR version 4 every weight is listed as an input too.
        let images: Vec<_> =
            graph.inputs().filter(|info| !constants.contains_key(info.name)).collect();
        let &[image] = images.as_slice() else {
            let names: Vec<_> = images.iter().take(6).map(|info| info.name).collect();
            return Err(format!(
                "it has {} inputs ({}), expected 1",
                images.len(),
                names.join(", ")
            ));
        };
        let mut makers = HashMap::new();
        for node in graph.nodes() {
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                if makers.insert(*output, node).is_some() {
                    return Err(format!("the tensor `{output}` is made twice"));
                }
            }
        }
        let declared =
            graph.value_infos().chain(graph.outputs()).map(|info| (info.name, info)).collect();
        let dynamic = depending_on(image.name, graph);
        Ok(Self { makers, constants, declared, dynamic, image })
    }

    /// The node that makes a tensor.
    pub(crate) fn maker(&self, tensor: &str) -> Option<&'g Node<'a>> {
        self.makers.get(tensor).copied()
    }

    /// The constant of this name that the file holds.
    pub(crate) fn constant(&self, tensor: &str) -> Option<&'g Tensor<'a>> {
        self.constants.get(tensor).copied()
    }

    /// Whether a tensor depends on the image.
    pub(crate) fn is_dynamic(&self, tensor: &str) -> bool {
        self.dynamic.contains(tensor)
    }

    /// Whether the graph has a tensor of this name.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        tensor == self.image.name
            || self.makers.contains_key(tensor)
            || self.constants.contains_key(tensor)
    }

    /// The one input of a node that depends on the image; `None` where two do, or none.
    pub(crate) fn only_dynamic_input(&self, node: &Node<'a>) -> Option<&'a str> {
        let mut dynamic = node.inputs.iter().filter(|name| self.is_dynamic(name));
        let first = dynamic.next().copied()?;
        dynamic.next().is_none().then_some(first)
    }

    /// What the file declares of a tensor's axes.
    pub(crate) fn declared_dims(&self, tensor: &str) -> Option<&'g [Dim<'a>]> {
        self.declared.get(tensor)?.dims.as_deref()
    }

    /// The shape of a weight, which may be computed in the graph (decoded, cast, reshaped).
    pub(crate) fn weight_shape(&self, tensor: &'a str) -> Option<Vec<i64>> {
        let mut tensor = tensor;
        let mut permutations = Vec::new();
        let mut shape = None;
        for _ in 0..FUEL {
            if let Some(constant) = self.constants.get(tensor) {
                shape = Some(constant.dims.clone());
                break;
            }
            let node = self.maker(tensor)?;
            if node.is("Constant") {
                shape = Some(node.tensor("value")?.dims.clone());
                break;
            } else if node.is("ConstantOfShape") {
                shape = Some(self.integers(node.input(0)?)?);
                break;
            } else if node.is("Reshape") {
                let mut lengths = self.integers(node.input(1)?)?;
                if let Some(rest) = lengths.iter().position(|&length| length == -1) {
                    lengths[rest] = 1;
                    let others = lengths.iter().product::<i64>();
                    lengths[rest] = self.weight_count(node.input(0)?)?.checked_div(others)?;
                }
                // A length that is copied (0) would need the data's shape.
                shape = Some(lengths.iter().all(|&length| length > 0).then_some(lengths)?);
                break;
            } else if node.is("Transpose") {
                permutations.push(node.ints("perm"));
            } else if !["Cast", "Identity", "QuantizeLinear", "DequantizeLinear"]
                .iter()
                .any(|op| node.is(op))
            {
                return None;
            }
            tensor = node.input(0)?;
        }
        let mut shape = shape?;
        for permutation in permutations.into_iter().rev() {
            shape = match permutation {
                None => shape.into_iter().rev().collect(),
                Some(axes) => axes
                    .iter()
                    .map(|&axis| shape.get(usize::try_from(axis).ok()?).copied())
                    .collect::<Option<_>>()?,
            };
        }
        Some(shape)
    }

    /// How many values a weight has, which may be looked up in a table, cast and reshaped in the graph.
    fn weight_count(&self, tensor: &'a str) -> Option<i64> {
        let (mut tensor, mut times) = (tensor, 1i64);
        for _ in 0..FUEL {
            if let Some(constant) = self.constants.get(tensor) {
                return constant.dims.iter().try_fold(times, |n, length| n.checked_mul(*length));
            }
            let node = self.maker(tensor)?;
            if node.is("Gather") && node.int("axis", 0) == 0 {
                // For each index a row of the table.
                let table = self.weight_shape(node.input(0)?)?;
                times =
                    table.get(1..)?.iter().try_fold(times, |n, length| n.checked_mul(*length))?;
                tensor = node.input(1)?;
            } else if ["Cast", "Identity", "Reshape", "Transpose"].iter().any(|op| node.is(op)) {
                tensor = node.input(0)?;
            } else {
                return None;
            }
        }
        None
    }

    /// The values of a constant list of integers, such as a shape.
    pub(crate) fn integers(&self, tensor: &str) -> Option<Vec<i64>> {
        match self.constants.get(tensor) {
            Some(constant) => constant.int64s(),
            None => {
                let node = self.maker(tensor)?;
                if node.is("Constant") { node.tensor("value")?.int64s() } else { None }
            }
        }
    }

    /// The `TensorProto.DataType` of a tensor: as declared, as cast to, or that of the weights that
    /// made it. [`FLOAT`] where nothing speaks against it, [`UINT8`] for any quantised values.
    pub(crate) fn elem_type(&self, tensor: &'a str) -> i64 {
        let mut tensor = tensor;
        for _ in 0..FUEL {
            if let Some(info) = self.declared.get(tensor).filter(|info| info.elem_type != 0) {
                return info.elem_type;
            }
            if let Some(constant) = self.constants.get(tensor) {
                return constant.data_type;
            }
            let Some(node) = self.maker(tensor) else { break };
            if node.is("Cast") {
                return node.int("to", FLOAT);
            }
            if node.is("Constant") || node.is("ConstantOfShape") {
                return node.tensor("value").map_or(FLOAT, |value| value.data_type);
            }
            if node.is("QuantizeLinear") || node.op.starts_with("QLinear") || node.op == "QGemm" {
                return UINT8;
            }
            // The scale has the type of the dequantised values; a layer's weights that of its result.
            let weighted =
                ["Conv", "Gemm", "MatMul", "Add", "Mul", "Sub", "Div", "DequantizeLinear"];
            let weight =
                node.inputs.iter().rfind(|name| !name.is_empty() && !self.is_dynamic(name));
            let decides = weight.filter(|_| weighted.iter().any(|op| node.is(op)));
            let Some(next) = decides.copied().or(node.input(0)) else { break };
            tensor = next;
        }
        FLOAT
    }

    /// The number of features a tensor holds for one image, where it can be told: from its declared
    /// shape, or from the weights of the layer that made it. `pooled` says that a map counts by its channels, whatever
    /// its size.
    pub(crate) fn width(&self, tensor: &'a str, pooled: bool) -> Option<usize> {
        const KEEPS_CHANNELS: &[&str] = &[
            "Add",
            "BatchNormalization",
            "Cast",
            "Clip",
            "DequantizeLinear",
            "Div",
            "Dropout",
            "HardSwish",
            "Identity",
            "LeakyRelu",
            "Mul",
            "PRelu",
            "QLinearAdd",
            "QuantizeLinear",
            "Relu",
            "Sigmoid",
            "Softmax",
            "Sub",
            "Sum",
        ];
        let mut tensor = tensor;
        let mut pooled = pooled;
        for _ in 0..FUEL {
            let declares = if pooled { channels } else { fixed_width };
            if let Some(width) = self.declared_dims(tensor).and_then(declares) {
                return Some(width);
            }
            let node = self.maker(tensor)?;
            let last = |shape: Vec<i64>| usize::try_from(*shape.last()?).ok();
            let first = |shape: Vec<i64>| usize::try_from(*shape.first()?).ok();
            if self.reduces_channels(node) {
                return None;
            }
            pooled |= is_global_pool(node);
            if node.is("Conv") && pooled {
                return first(self.weight_shape(node.input(1)?)?);
            } else if node.is("QLinearConv") && pooled {
                return first(self.weight_shape(node.input(3)?)?);
            } else if node.is("Gemm") {
                let shape = self.weight_shape(node.input(1)?)?;
                return if node.int("transB", 0) == 1 { first(shape) } else { last(shape) };
            } else if node.is("MatMul") {
                return last(self.weight_shape(node.input(1)?)?);
            }
            // Flattening keeps the number of channels where each is a single value by now, which the
            // way back to the convolution tells.
            tensor = if KEEPS_CHANNELS.contains(&node.op) || is_global_pool(node) {
                node.inputs.iter().copied().find(|name| self.is_dynamic(name))?
            } else if ["Flatten", "Reshape", "Squeeze"].iter().any(|op| node.is(op)) {
                node.input(0)?
            } else {
                return None;
            };
        }
        None
    }

    /// Whether a node averages over the axis that is a map's channels: what it is given are tokens, or a map with
    /// the channels at its end.
    pub(crate) fn reduces_channels(&self, node: &Node<'a>) -> bool {
        let listed = node.ints("axes").map(<[i64]>::to_vec);
        let axes = || listed.or_else(|| self.integers(node.input(1)?));
        node.op.starts_with("Reduce") && axes().is_some_and(|axes| axes.contains(&1))
    }
}

/// Whether a node averages (or takes the greatest of) each channel over the whole picture.
pub(crate) fn is_global_pool(node: &Node<'_>) -> bool {
    node.op.starts_with("Global") && node.op.ends_with("Pool")
        || node.is_microsoft("QLinearGlobalAveragePool")
        || node.is("ReduceMean")
        || node.is("ReduceMax")
}

/// Whether a node pools at all.
pub(crate) fn is_pool(node: &Node<'_>) -> bool {
    is_global_pool(node) || node.op.ends_with("AveragePool") || node.op.ends_with("MaxPool")
}

/// The features of one image: the product of all axes but the batch.
fn fixed_width(dims: &[Dim<'_>]) -> Option<usize> {
    let (_, features) = dims.split_first()?;
    if features.is_empty() {
        return None;
    }
    features.iter().try_fold(1usize, |width, dim| match dim {
        Dim::Fixed(length) => width.checked_mul(usize::try_from(*length).ok()?),
        _ => None,
    })
}

/// The channels of a map `[batch, channels, rows, columns]`.
fn channels(dims: &[Dim<'_>]) -> Option<usize> {
    match dims {
        [_, Dim::Fixed(length), _, _] => usize::try_from(*length).ok(),
        _ => None,
    }
}

/// The tensors that depend on `image`, itself included.
fn depending_on<'a>(image: &'a str, graph: &Graph<'a>) -> HashSet<&'a str> {
    let mut users: HashMap<&str, Vec<&Node<'a>>> = HashMap::new();
    for node in graph.nodes() {
        for name in node.inputs.iter().chain(&node.captured) {
            users.entry(name).or_default().push(node);
        }
    }
    let mut dynamic = HashSet::from([image]);
    let mut open = vec![image];
    while let Some(tensor) = open.pop() {
        for node in users.remove(tensor).unwrap_or_default() {
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                if dynamic.insert(*output) {
                    open.push(output);
                }
            }
        }
    }
    dynamic
}
