//! A network that takes pixels as they are decoded.
//!
//! The steps from 8-bit pixels to what a network was trained with stand at its beginning then, in the order and the
//! 32-bit floats of [`Preprocessing::normalise`], whose values they give to the bit. A device is sent a quarter of
//! the bytes, and no processor works on them.

use std::borrow::Cow;

use super::trace::Trace;
use crate::network::{Channels, Layout, Preprocessing};
use crate::onnx::encode::{
    node_field, node_field_with_lists, tensor_field, typed_value_info_field,
};
use crate::onnx::{Dim, FLOAT, INT64, Kind, Model, UINT8};

/// In the names of the tensors that are added.
const MARK: &str = "likeness_pixels";

/// A network that takes pixels.
#[derive(Debug)]
pub struct PixelFed {
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// The name of the tensor that takes the pixels: 8-bit integers, `[batch, size, size, 3]`, red, green, blue.
    pub input: String,
}

/// Puts the steps before a network that takes 32-bit floats.
///
/// # Errors
/// The reason why it is no such network.
pub fn fed_pixels(network: &[u8], preprocessing: &Preprocessing) -> Result<PixelFed, String> {
    let model = Model::parse(network).map_err(|error| error.to_string())?;
    let image = Trace::new(&model.graph)?.image;
    let batch = image.dims.as_deref().and_then(|dims| dims.first().copied());
    let size = Dim::Fixed(i64::from(preprocessing.size));
    let dims = [batch.unwrap_or(Dim::Unknown), size, size, Dim::Fixed(3)];
    let input = format!("{}_{MARK}", image.name);
    let steps = Steps { input: &input, image: image.name, preprocessing };
    let mut pieces: Vec<Cow<'_, [u8]>> = steps.written().into_iter().map(Cow::Owned).collect();
    pieces.extend(model.graph.parts.iter().map(|part| match &part.kind {
        Kind::Input(info) if info.name == image.name => {
            Cow::Owned(typed_value_info_field(11, &input, UINT8, &dims))
        }
        _ => Cow::Borrowed(part.raw),
    }));
    Ok(PixelFed { bytes: model.with_graph(pieces).concat(), input })
}

struct Steps<'n> {
    input: &'n str,
    image: &'n str,
    preprocessing: &'n Preprocessing,
}

impl Steps<'_> {
    /// The nodes, in the order they are computed, and their constants.
    fn written(&self) -> Vec<Vec<u8>> {
        let Preprocessing { scale, mean, std, .. } = self.preprocessing;
        let name = |step: &str| format!("{}_{step}", self.input);
        let floats = |step: &str, values: &[f32]| {
            let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensor_field(&name(step), FLOAT, &[values.len() as i64], &raw)
        };
        let mut parts = vec![floats("scale", &[*scale]), floats("mean", mean), floats("std", std)];
        let mut last = self.input.to_owned();
        if self.preprocessing.channels == Channels::Bgr {
            let order: Vec<u8> = [2i64, 1, 0].iter().flat_map(|i| i.to_le_bytes()).collect();
            parts.push(tensor_field(&name("order"), INT64, &[3], &order));
            let inputs = [last.as_str(), &name("order")];
            parts.push(node_field("Gather", &inputs, &name("ordered"), &[("axis", 3)]));
            last = name("ordered");
        }
        parts.push(node_field("Cast", &[&last], &name("cast"), &[("to", FLOAT)]));
        parts.push(node_field("Mul", &[&name("cast"), &name("scale")], &name("scaled"), &[]));
        parts.push(node_field("Sub", &[&name("scaled"), &name("mean")], &name("centred"), &[]));
        let planes = self.preprocessing.layout == Layout::Nchw;
        let divided = if planes { name("divided") } else { self.image.to_owned() };
        parts.push(node_field("Div", &[&name("centred"), &name("std")], &divided, &[]));
        if planes {
            let perm: (&str, &[i64]) = ("perm", &[0, 3, 1, 2]);
            parts.push(node_field_with_lists("Transpose", &[&divided], self.image, &[perm]));
        }
        parts
    }
}
