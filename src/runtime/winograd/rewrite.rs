//! An optimised network with the convolutions that gain by it taken over.

use std::borrow::Cow;
use std::collections::HashMap;

use super::convolution::Method;
use super::{DOMAIN, LANES, OPERATOR, RELU, TILE};
use crate::onnx::encode::{node_field_in, tensor_field};
use crate::onnx::{FLOAT, Graph, Kind, Node, Tensor};
use crate::runtime::FeatureSession;

/// ONNX Runtime's operators on channels in blocks.
const BLOCKED: &str = "com.microsoft.nchwc";

/// Rows of tiles with which a product takes as long as reading its filters from afar.
const ROWS_WORTH_READING: usize = 29;

/// The fields of the graph of a network that ONNX Runtime optimised for this processor, with convolutions taken over.
/// `side` is the height and width of the pictures it takes, in pixels. `None` where there is nothing to take over.
pub(in crate::runtime) fn rewritten<'a>(
    graph: &'a Graph<'a>,
    side: usize,
) -> Option<Vec<Cow<'a, [u8]>>> {
    let methods = Method::available()?;
    let constants: HashMap<_, _> =
        graph.initializers().map(|tensor| (tensor.name, tensor)).collect();
    let mut readers = HashMap::new();
    for name in graph.nodes().flat_map(|node| &node.inputs) {
        *readers.entry(*name).or_insert(0) += 1;
    }

    let mut sides = HashMap::new();
    let known = |name: &&str| !constants.contains_key(name);
    sides.extend(graph.inputs().map(|input| input.name).filter(known).map(|name| (name, side)));

    let mut taken_over = HashMap::new();
    for node in graph.nodes() {
        let Some(side) = node.inputs.iter().find_map(|name| sides.get(name).copied()) else {
            continue;
        };
        let replacement = Replacement::of(node, side, &methods, &constants);
        // Filters that another node shares stay as they are.
        if let Some(replacement) =
            replacement.filter(|new| readers.get(new.weights.name) == Some(&1))
        {
            taken_over.insert(node.outputs[0], replacement);
        }
        sides.extend(node.outputs.iter().map(|name| (*name, side_after(node, side))));
    }
    if taken_over.is_empty() {
        return None;
    }

    let replaced: HashMap<_, _> = taken_over.values().map(|new| (new.weights.name, new)).collect();
    let mut pieces = Vec::with_capacity(graph.parts.len());
    for part in &graph.parts {
        match &part.kind {
            Kind::Node(node) => match node.outputs.first().and_then(|name| taken_over.get(name)) {
                Some(new) => {
                    pieces.extend(new.bias_field().map(Cow::Owned));
                    pieces.push(Cow::Owned(new.node_field(node)));
                }
                None => pieces.push(Cow::Borrowed(part.raw)),
            },
            Kind::Initializer(tensor) => match replaced.get(tensor.name) {
                Some(new) => pieces.push(Cow::Owned(new.filters_field())),
                None => pieces.push(Cow::Borrowed(part.raw)),
            },
            _ => pieces.push(Cow::Borrowed(part.raw)),
        }
    }
    Some(pieces)
}

/// The side of what a node gives, of pictures of this side, as near as the choice of a tile needs it.
fn side_after(node: &Node<'_>, side: usize) -> usize {
    let stride = node.ints("strides").and_then(|strides| usize::try_from(*strides.first()?).ok());
    side.div_ceil(stride.unwrap_or(1).max(1))
}

/// What takes a convolution's place.
struct Replacement<'a> {
    method: Method,
    weights: &'a Tensor<'a>,
    filters: usize,
    channels: usize,
    relu: bool,
    has_bias: bool,
}

impl<'a> Replacement<'a> {
    /// `None` where the node is no such convolution, or would gain nothing.
    fn of(
        node: &Node<'_>,
        side: usize,
        methods: &[Method],
        constants: &HashMap<&str, &'a Tensor<'a>>,
    ) -> Option<Self> {
        let all = |name, value, default| {
            node.ints(name)
                .map_or(default == value, |list| list.iter().all(|number| *number == value))
        };
        let activation = node.text("activation");
        let is_ours = (node.op, node.domain) == ("Conv", BLOCKED)
            && all("kernel_shape", 3, 3)
            && all("pads", 1, 0)
            && all("strides", 1, 1)
            && all("dilations", 1, 1)
            && node.int("group", 1) == 1
            && node.text("auto_pad").is_none_or(|pad| pad == "NOTSET")
            && activation.is_none_or(|name| matches!(name, "" | "Relu"))
            && node.outputs.len() == 1;
        if !is_ours {
            return None;
        }
        let weights = *constants.get(node.input(1)?)?;
        let &[filters, channels, 3, 3] = &weights.dims[..] else { return None };
        let (filters, channels) = (usize::try_from(filters).ok()?, usize::try_from(channels).ok()?);
        let method = best(methods, side)?;
        let whole = |count: usize| count > 0 && count.is_multiple_of(method.lanes);
        (whole(filters) && whole(channels)).then_some(())?;
        weights.floats()?;
        let relu = activation == Some("Relu");
        Some(Self { method, weights, filters, channels, relu, has_bias: node.input(2).is_some() })
    }

    fn filters_name(&self) -> String {
        format!("{}:winograd", self.weights.name)
    }

    fn bias_name(&self) -> String {
        format!("{}:no-bias", self.weights.name)
    }

    /// From `[block of filters, block of channels, 3, 3, channel of the block, filter of the block]`.
    fn filters_field(&self) -> Vec<u8> {
        let lanes = self.method.lanes;
        let values = self.weights.floats().expect("there are such, or this would not be made");
        let laid_out = self.method.filters(self.filters, self.channels, |filter, channel| {
            let block = filter / lanes * (self.channels / lanes) + channel / lanes;
            let at =
                |pixel| ((block * 9 + pixel) * lanes + channel % lanes) * lanes + filter % lanes;
            std::array::from_fn(|pixel| values[at(pixel)])
        });
        let bytes: Vec<u8> = laid_out.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = [self.method.points(), self.filters, self.channels].map(|length| length as i64);
        tensor_field(&self.filters_name(), FLOAT, &dims, &bytes)
    }

    /// Zeros, where the convolution has no bias.
    fn bias_field(&self) -> Option<Vec<u8>> {
        let zeros = vec![0; self.filters * size_of::<f32>()];
        let field = || tensor_field(&self.bias_name(), FLOAT, &[self.filters as i64], &zeros);
        (!self.has_bias).then(field)
    }

    fn node_field(&self, node: &Node<'_>) -> Vec<u8> {
        let (filters, no_bias) = (self.filters_name(), self.bias_name());
        let mut inputs = vec![node.inputs[0], &filters, node.input(2).unwrap_or(&no_bias)];
        inputs.extend(node.input(3));
        let attributes = [
            (TILE, self.method.tile() as i64),
            (LANES, self.method.lanes as i64),
            (RELU, i64::from(self.relu)),
        ];
        node_field_in(DOMAIN, OPERATOR, &inputs, node.outputs[0], &attributes)
    }
}

/// What is fastest for a batch of pictures of this side; `None` where the plain convolution is.
fn best(methods: &[Method], side: usize) -> Option<Method> {
    let cost = |products: usize, rows: usize| {
        products * (rows * FeatureSession::CPU_BATCH).max(ROWS_WORTH_READING)
    };
    let plain = cost(9, side * side);
    let by = |method: &Method| cost(method.points(), method.tiles(side, side));
    let best = methods.iter().min_by_key(|method| by(method))?;
    (by(best) < plain).then_some(*best)
}
