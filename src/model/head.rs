//! Finds the features: walks back from a network's output to what feeds its last linear layer.

use super::manifest::Pool;
use super::trace::{Trace, is_global_pool, is_pool};
use crate::onnx::Node;

/// A longer way from the output to the last linear layer is no classifier.
const LONGEST: usize = 32;

/// Where the features are.
pub(crate) struct Features<'a> {
    pub(crate) tensor: &'a str,
    /// Whether the tensor is known to be `[batch, width]`.
    pub(crate) flat: bool,
    /// How to read the tensor when it holds 8-bit integers.
    pub(crate) quantised: Scale<'a>,
    /// The number of features, where the linear layer tells.
    pub(crate) width: Option<usize>,
    /// How the tensor, a map of features, is still to be pooled.
    pub(crate) pool: Option<Pool>,
}

impl<'a> Features<'a> {
    /// Takes a tensor as it is.
    pub(crate) fn from_tensor(trace: &Trace<'_, 'a>, tensor: &'a str) -> Self {
        let flat = match trace.declared_dims(tensor) {
            Some(dims) => dims.len() == 2,
            None => trace.maker(tensor).is_some_and(|maker| {
                maker.is("Flatten")
                    || maker.is("Gemm")
                    || maker.is("Reshape")
                        && reshaped_to(maker, trace).is_some_and(|s| s.len() == 2)
            }),
        };
        Self { tensor, flat, quantised: None, width: None, pool: None }
    }

    /// Steps back over a reshaping to a fixed number of pictures, `[1, width]`: the flattening that
    /// replaces it gives the same values for any number.
    pub(crate) fn unfixed(self, trace: &Trace<'_, 'a>) -> Self {
        let shaper = trace.maker(self.tensor).filter(|maker| maker.is("Reshape"));
        match shaper.and_then(|maker| Some((maker.input(0)?, reshaped_to(maker, trace)?))) {
            Some((tensor, shape)) if shape.len() == 2 && shape[0] > 0 => {
                let width = self.width.or_else(|| usize::try_from(shape[1]).ok());
                Self { tensor, flat: false, width, ..self }
            }
            _ => self,
        }
    }
}

/// The lengths a Reshape asks for, where they are constant.
pub(crate) fn reshaped_to(node: &Node<'_>, trace: &Trace<'_, '_>) -> Option<Vec<i64>> {
    match node.input(1) {
        Some(shape) => trace.integers(shape),
        // Before opset 5 the shape was an attribute.
        None => node.ints("shape").map(<[i64]>::to_vec),
    }
}

/// Walks back from `output` to what feeds the last linear layer.
pub(crate) fn find_features<'a>(
    trace: &Trace<'_, 'a>,
    output: &'a str,
) -> Result<Features<'a>, String> {
    const UNARY: &[&str] = &[
        "Cast",
        "DequantizeLinear",
        "Dropout",
        "Flatten",
        "Identity",
        "LogSoftmax",
        "QuantizeLinear",
        "Reshape",
        "Sigmoid",
        "Softmax",
        "Squeeze",
        "Unsqueeze",
    ];
    const WITH_CONSTANT: &[&str] = &["Add", "Div", "Mul", "QLinearAdd", "QLinearMul", "Sub"];
    let mut tensor = output;
    let mut classifies = false;
    for _ in 0..LONGEST {
        let node = trace.maker(tensor).ok_or("its output comes straight from its input")?;
        if let Some(features) = linear_input(trace, node) {
            return Ok(features);
        }
        if is_pool(node) {
            // SqueezeNet pools the classes of each place. Without a softmax that cannot be told from features.
            let classes = classifies.then(|| convolved_classes(trace, node)).flatten();
            return Ok(classes.unwrap_or_else(|| Features::from_tensor(trace, output)));
        }
        classifies |= node.op.ends_with("Softmax");
        let before = if UNARY.contains(&node.op) {
            node.input(0)
        } else if WITH_CONSTANT.contains(&node.op) {
            trace.only_dynamic_input(node)
        } else {
            None
        };
        tensor = before.filter(|name| trace.is_dynamic(name)).ok_or_else(|| {
            format!("a {} stands where a linear layer or a pooling layer was expected", node.op)
        })?;
    }
    Err(format!("no linear layer is among its last {LONGEST} steps"))
}

/// What feeds `node`, when that is a linear layer with constant weights.
fn linear_input<'a>(trace: &Trace<'_, 'a>, node: &Node<'a>) -> Option<Features<'a>> {
    let quantised = node.is_microsoft("QGemm") || node.is("QLinearMatMul");
    let (input, weights) = (node.input(0)?, node.input(if quantised { 3 } else { 1 })?);
    if !trace.is_dynamic(input) || trace.is_dynamic(weights) {
        return None;
    }
    let shape = trace.weight_shape(weights);
    let length = |axis: usize| usize::try_from(*shape.as_ref()?.get(axis)?).ok();
    let scale = quantised.then(|| Some((node.input(1)?, node.input(2)))).flatten();
    let gemm = node.is("Gemm") || node.is_microsoft("QGemm");
    if gemm && node.int("transA", 0) == 0 {
        let width = length(if node.int("transB", 0) == 1 { 1 } else { 0 });
        let (tensor, quantised) = unwrap(trace, input, scale);
        return Some(Features { tensor, flat: true, quantised, width, pool: None });
    }
    let matmul = node.is("MatMul") || node.is("QLinearMatMul");
    if matmul && shape.as_ref().is_none_or(|shape| shape.len() == 2) {
        let (tensor, quantised) = unwrap(trace, input, scale);
        let flat = Features::from_tensor(trace, tensor).flat;
        return Some(Features { tensor, flat, quantised, width: length(0), pool: None });
    }
    if node.is("Conv") && matches!(shape.as_deref(), Some([_, _, 1, 1])) {
        let (tensor, quantised) = unwrap(trace, input, None);
        let pooled = trace.maker(tensor).is_some_and(is_global_pool);
        let whole = node.int("group", 1) == 1;
        return (pooled && whole).then_some(Features {
            tensor,
            flat: false,
            quantised,
            width: length(1),
            pool: None,
        });
    }
    None
}

/// What feeds the convolution that gives each place its classes, when `pool` pools those.
fn convolved_classes<'a>(trace: &Trace<'_, 'a>, pool: &Node<'a>) -> Option<Features<'a>> {
    let mut node = trace.maker(pool.input(0)?)?;
    while ["Relu", "Dropout", "Identity"].iter().any(|op| node.is(op)) {
        node = trace.maker(node.input(0)?)?;
    }
    let shape = trace.weight_shape(node.input(1)?);
    let &[_, channels, 1, 1] = shape.as_deref()? else { return None };
    if !node.is("Conv") || node.int("group", 1) != 1 {
        return None;
    }
    let (tensor, width) = (node.input(0)?, usize::try_from(channels).ok());
    let pool = Some(Pool::Average);
    Some(Features { tensor, flat: false, quantised: None, width, pool })
}

/// The map of features that `features` are pooled from, to be pooled otherwise; themselves, where they are not
/// pooled yet. The reason when that is known to be no map.
pub(crate) fn before_pooling<'a>(
    trace: &Trace<'_, 'a>,
    features: Features<'a>,
    pool: Pool,
) -> Result<Features<'a>, String> {
    let pooling = pooling_of(trace, features.tensor);
    if pooling.is_some_and(|node| trace.reduces_channels(node)) {
        let tensor = features.tensor;
        return Err(format!(
            "the tensor `{tensor}` is pooled from tokens, expected a map's channels"
        ));
    }
    let map = pooling.and_then(|node| node.input(0));
    let (tensor, flat) = map.map_or((features.tensor, features.flat), |map| (map, false));
    let axes = trace.declared_dims(tensor).map(<[_]>::len).or(flat.then_some(2));
    match axes {
        None | Some(4) => Ok(Features { tensor, flat: false, pool: Some(pool), ..features }),
        Some(axes) => Err(format!(
            "the tensor `{tensor}` has {axes} axes and cannot be pooled, expected a map of 4: batch, channel, row, \
             column"
        )),
    }
}

/// The pooling layer that made `tensor`, perhaps flattened since.
fn pooling_of<'g, 'a>(trace: &Trace<'g, 'a>, mut tensor: &'a str) -> Option<&'g Node<'a>> {
    for _ in 0..LONGEST {
        let maker = trace.maker(tensor)?;
        if is_pool(maker) {
            return Some(maker);
        }
        let shapes = ["Flatten", "Reshape", "Squeeze", "Identity", "Dropout"];
        if !shapes.iter().any(|op| maker.is(op)) {
            return None;
        }
        tensor = maker.input(0)?;
    }
    None
}

/// Scale and zero point of a tensor of 8-bit integers.
pub(crate) type Scale<'a> = Option<(&'a str, Option<&'a str>)>;

/// Steps back over what leaves the features as they are, or only rounds them.
fn unwrap<'a>(trace: &Trace<'_, 'a>, tensor: &'a str, scale: Scale<'a>) -> (&'a str, Scale<'a>) {
    let (mut tensor, mut scale) = (tensor, scale);
    for _ in 0..LONGEST {
        let Some(maker) = trace.maker(tensor) else { break };
        let Some(input) = maker.input(0) else { break };
        let quantiser = |name| trace.maker(name).filter(|maker| maker.is("QuantizeLinear"));
        if maker.is("Identity") || maker.is("Dropout") {
            tensor = input;
        } else if maker.is("QuantizeLinear") && scale.is_some() {
            (tensor, scale) = (input, None);
        } else if maker.is("DequantizeLinear")
            && let Some(before) = quantiser(input).and_then(|maker| maker.input(0))
        {
            tensor = before;
        } else {
            break;
        }
    }
    (tensor, scale)
}
