//! A network whose floats are 16 bits wide.
//!
//! Weights are rounded, declarations of what lies between are left out, and two Casts stand before and behind:
//! pictures and features stay 32 bits wide. The nodes stay as they are, as their operators take either; one
//! that does not is refused by ONNX Runtime, which checks types. It wants the network as ONNX Runtime folds it:
//! weights plain, and each BatchNormalization in its convolution before anything is rounded.

use std::borrow::Cow;

use ::half::f16;

use super::quantise::{computes_in_integers, without_unused_inputs};
use super::trace::Trace;
use crate::onnx::encode::{node_field, tensor_field, value_info_field};
use crate::onnx::{FLOAT, FLOAT16, Kind, Model};

/// In the names of the tensors that are added.
const MARK: &str = "_likeness_float";

/// A network in 16-bit floats.
#[derive(Debug)]
pub struct Halved {
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// The name of the tensor that takes the picture, 32-bit floats.
    pub input: String,
    /// The name of the tensor that gives the features, 32-bit floats.
    pub output: String,
}

/// Rounds the weights of a network folded by ONNX Runtime. `output` is the tensor of its features.
///
/// # Errors
/// The reason why it cannot compute in 16-bit floats.
pub fn halved(folded: &[u8], output: &str) -> Result<Halved, String> {
    let folded = without_unused_inputs(folded).map_err(|error| error.to_string())?;
    let model = Model::parse(&folded).map_err(|error| error.to_string())?;
    let image = Trace::new(&model.graph)?.image.name;
    if let Some(node) = model.graph.nodes().find(|node| computes_in_integers(node)) {
        return Err(format!("it computes in 8 bits ({})", node.op));
    }
    if model.graph.initializers().any(|tensor| tensor.data_type == FLOAT16) {
        return Err("its weights are 16-bit floats already".into());
    }
    let [given, wanted] = [image, output].map(|name| format!("{name}{MARK}"));
    let mut pieces = Vec::with_capacity(model.graph.parts.len() + 2);
    pieces.push(Cow::Owned(node_field("Cast", &[&given], image, &[("to", FLOAT16)])));
    for part in &model.graph.parts {
        match &part.kind {
            Kind::Initializer(tensor) if tensor.data_type == FLOAT => {
                let values =
                    tensor.floats().ok_or_else(|| format!("`{}` is damaged", tensor.name))?;
                let raw: Vec<u8> =
                    values.iter().flat_map(|value| half(*value).to_le_bytes()).collect();
                pieces.push(Cow::Owned(tensor_field(tensor.name, FLOAT16, &tensor.dims, &raw)));
            }
            Kind::Input(info) if info.name == image => {
                let dims = info.dims.as_deref().unwrap_or_default();
                pieces.push(Cow::Owned(value_info_field(11, &given, dims)));
            }
            Kind::Output(info) => {
                let dims = info.dims.as_deref().unwrap_or_default();
                pieces.push(Cow::Owned(value_info_field(12, &wanted, dims)));
            }
            Kind::Input(_) | Kind::ValueInfo(_) => {}
            _ => pieces.push(Cow::Borrowed(part.raw)),
        }
    }
    pieces.push(Cow::Owned(node_field("Cast", &[output], &wanted, &[("to", FLOAT)])));
    Ok(Halved { bytes: model.with_graph(pieces).concat(), input: given, output: wanted })
}

/// The nearest 16-bit float, ties to even. What is too large becomes the largest there is: weights are
/// finite, and a limit of 3.4e38 means none.
fn half(value: f32) -> f16 {
    f16::from_f32(value).clamp(f16::MIN, f16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_becomes_the_largest() {
        assert_eq!(half(f32::MAX), f16::MAX);
        assert_eq!(half(f32::NEG_INFINITY), f16::MIN);
        assert_eq!(half(1.0 + 0.49 / 1024.0), f16::ONE);
        assert!(half(f32::NAN).is_nan());
    }
}
