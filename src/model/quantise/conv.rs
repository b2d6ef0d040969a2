//! A convolution with its weights in 8 bits.

use super::MARK;
use super::activations::Scale;
use super::stem::Stem;
use crate::model::trace::Trace;
use crate::onnx::encode::{node_field, tensor_field};
use crate::onnx::{FLOAT, INT8, INT32, Node};

/// How many bits weights are rounded to, sign included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightBits {
    /// For processors that multiply 8 bits without overflow: x86-64 with VNNI, ARM.
    Eight,
    /// For other x86-64 ones, which add two products in 16 bits.
    Seven,
}

impl WeightBits {
    /// The largest weight.
    fn limit(self) -> f64 {
        match self {
            WeightBits::Eight => 127.0,
            WeightBits::Seven => 63.0,
        }
    }
}

/// A convolution whose weights are known.
pub(super) struct Conv<'a> {
    pub(super) input: &'a str,
    pub(super) weights: &'a str,
    pub(super) bias: Option<&'a str>,
    output: &'a str,
    /// `[outputs, inputs of a group, height, width]`.
    shape: [usize; 4],
    groups: usize,
    /// Where it is computed over quarters of the picture.
    pub(super) stem: Option<Stem>,
    values: Vec<f32>,
    bias_values: Vec<f32>,
}

/// Graph fields that make a convolution's weights and bias of integers, and the names of the two.
pub(super) struct Rounded {
    pub(super) fields: Vec<Vec<u8>>,
    pub(super) inputs: [String; 2],
}

impl<'a> Conv<'a> {
    /// The convolution that `node` is, when its weights are constants in the file. `alone` says that nothing else looks at
    /// what goes in.
    pub(super) fn of(node: &Node<'a>, trace: &Trace<'_, 'a>, alone: bool) -> Option<Self> {
        if !node.is("Conv") {
            return None;
        }
        let (input, weights, bias) = (node.input(0)?, node.input(1)?, node.input(2));
        let constant = trace.constant(weights)?;
        let shape: Vec<usize> =
            constant.dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<_>>()?;
        let shape = <[usize; 4]>::try_from(shape).ok()?;
        let groups = usize::try_from(node.int("group", 1)).ok()?;
        let values = constant.floats()?;
        let bias_values = match bias {
            Some(bias) => trace.constant(bias)?.floats()?,
            None => vec![0.0; shape[0]],
        };
        let sound = values.iter().chain(&bias_values).all(|value| value.is_finite())
            && !values.is_empty()
            && bias_values.len() == shape[0]
            && groups > 0
            && shape[0] % groups == 0;
        let output = *node.outputs.first()?;
        let stem = Stem::of(node, shape, trace).filter(|_| alone);
        let conv = Self { input, weights, bias, output, shape, groups, stem, values, bias_values };
        (sound && trace.is_dynamic(input)).then_some(conv)
    }

    /// Rounds each output channel's weights with a scale of its own, and the bias to what the products are
    /// counted in. `means` are those of the input's channels.
    pub(super) fn round(&self, input: &Scale, means: &[f64], bits: WeightBits) -> Rounded {
        let [outputs, inputs, height, width] = self.shape;
        let (area, limit) = (height * width, bits.limit());
        let mut weights = Vec::with_capacity(self.values.len());
        let (mut scales, mut bias, mut bias_scales) = (vec![], vec![], vec![]);
        for (output, channel) in self.values.chunks_exact(inputs * area).enumerate() {
            let largest = channel.iter().fold(0f64, |most, value| most.max(f64::from(value.abs())));
            let own_bias = f64::from(self.bias_values[output]);
            let unit = f64::from(input.scale);
            // A channel of tiny weights beside a large bias: so that the bias fits into 32 bits.
            let least = own_bias.abs() / (unit * f64::from(1 << 30));
            let scale = (largest / limit).max(least).max(f64::from(f32::MIN_POSITIVE)) as f32;
            let first_input = output / (outputs / self.groups) * inputs;
            let mut shift = 0.0;
            for (i, values) in channel.chunks_exact(area).enumerate() {
                let mut added = 0.0;
                for value in values {
                    let rounded = (value / scale).round().clamp(-limit as f32, limit as f32);
                    weights.push(rounded as i8 as u8);
                    added += f64::from(rounded) * f64::from(scale) - f64::from(*value);
                }
                let mean = means.get(first_input + i).copied().filter(|mean| mean.is_finite());
                shift += added * mean.unwrap_or_default();
            }
            let bias_scale = input.scale * scale;
            bias.push(((own_bias - shift) / f64::from(bias_scale)).round() as i32);
            scales.push(scale);
            bias_scales.push(bias_scale);
        }
        self.written(&weights, &scales, &bias, &bias_scales)
    }

    fn written(
        &self,
        weights: &[u8],
        scales: &[f32],
        bias: &[i32],
        bias_scales: &[f32],
    ) -> Rounded {
        let name = |what: &str| format!("{}{MARK}{what}", self.output);
        let floats =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let integers: Vec<u8> = bias.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (shape, weights) = match &self.stem {
            Some(stem) => stem.weights(self.shape, weights),
            None => (self.shape, weights.to_vec()),
        };
        let shape = shape.map(|length| length as i64);
        let (outputs, zeros) = ([shape[0]], vec![0; 4 * bias.len()]);
        let mut fields = Vec::new();
        let mut dequantised = |what: &str, data_type, dims: &[i64], raw: &[u8], scale: &[f32]| {
            let names = ["8bit", "scale", "zero"].map(|part| name(&format!("{what}_{part}")));
            let zero = &zeros[..zeros.len() / if data_type == INT8 { 4 } else { 1 }];
            fields.push(tensor_field(&names[0], data_type, dims, raw));
            fields.push(tensor_field(&names[1], FLOAT, &outputs, &floats(scale)));
            fields.push(tensor_field(&names[2], data_type, &outputs, zero));
            let made = name(what);
            let inputs = names.each_ref().map(String::as_str);
            fields.push(node_field("DequantizeLinear", &inputs, &made, &[("axis", 0)]));
            made
        };
        let inputs = [
            dequantised("weights", INT8, &shape, &weights, scales),
            dequantised("bias", INT32, &outputs, &integers, bias_scales),
        ];
        Rounded { fields, inputs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::split_mix;

    /// Two groups of two inputs, three outputs each, 3 x 3.
    fn conv() -> Conv<'static> {
        let mut state = 3;
        let mut even = || (split_mix(&mut state) as f64 / u64::MAX as f64 - 0.5) as f32;
        Conv {
            input: "in",
            weights: "w",
            bias: Some("b"),
            output: "out",
            shape: [6, 2, 3, 3],
            groups: 2,
            stem: None,
            values: (0..6 * 2 * 9).map(|_| even()).collect(),
            bias_values: vec![0.25, -0.5, 1e12, 0.0, 3.0, -7.0],
        }
    }

    /// What [`Conv::round`] wrote: weights and bias as floats.
    fn read(rounded: &Rounded) -> (Vec<f64>, Vec<f64>) {
        let graph = rounded.fields.concat();
        let mut model = Vec::new();
        crate::onnx::wire::put_bytes(&mut model, 7, &graph);
        let model = crate::onnx::Model::parse(&model).unwrap();
        let raw = |name: &str| {
            let tensor = model.graph.initializers().find(|tensor| tensor.name == name).unwrap();
            tensor.raw().unwrap()
        };
        let floats = |name: &str| -> Vec<f64> {
            let (values, _) = raw(name).as_chunks::<4>();
            values.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect()
        };
        let scales = floats("out_likeness_weights_scale");
        let weights = raw("out_likeness_weights_8bit").iter().enumerate();
        let weights = weights.map(|(i, w)| f64::from(*w as i8) * scales[i / 18]).collect();
        let (bias, _) = raw("out_likeness_bias_8bit").as_chunks::<4>();
        let bias = bias.iter().zip(floats("out_likeness_bias_scale"));
        (weights, bias.map(|(b, scale)| f64::from(i32::from_le_bytes(*b)) * scale).collect())
    }

    #[test]
    fn weights_are_rounded_to_the_nearest_step_of_their_channel() {
        let conv = conv();
        let input = Scale { scale: 0.1, zero_point: 3 };
        for (bits, limit) in [(WeightBits::Eight, 127.0), (WeightBits::Seven, 63.0)] {
            let (weights, _) = read(&conv.round(&input, &[0.0; 4], bits));
            for (output, channel) in conv.values.chunks_exact(18).enumerate().filter(|c| c.0 != 2) {
                let step = channel.iter().fold(0f32, |most, w| most.max(w.abs())) / limit;
                for (rounded, value) in weights[18 * output..].iter().zip(channel) {
                    assert!((rounded - f64::from(*value)).abs() <= f64::from(step) * 0.5001);
                }
            }
        }
    }

    #[test]
    fn a_large_bias_fits_into_32_bits() {
        let (_, bias) =
            read(&conv().round(&Scale { scale: 0.1, zero_point: 3 }, &[], WeightBits::Eight));
        assert!((bias[2] / 1e12 - 1.0).abs() < 1e-6, "{}", bias[2]);
    }

    #[test]
    fn rounding_does_not_move_the_mean() {
        let conv = conv();
        let means = [2.0, -3.0, 0.5, 8.0];
        let input = Scale { scale: 0.1, zero_point: 3 };
        let (weights, bias) = read(&conv.round(&input, &means, WeightBits::Seven));
        let mean_of = |weights: &[f64], bias: f64, output: usize| {
            let first = output / 3 * 2;
            let sums = weights.chunks_exact(9).map(|area| area.iter().sum::<f64>());
            bias + sums.zip(&means[first..]).map(|(sum, mean)| sum * mean).sum::<f64>()
        };
        let values: Vec<f64> = conv.values.iter().map(|value| f64::from(*value)).collect();
        for output in [0, 1, 3, 4, 5] {
            let channel = 18 * output..18 * (output + 1);
            let ours = mean_of(&weights[channel.clone()], bias[output], output);
            let theirs = mean_of(&values[channel], conv.bias_values[output].into(), output);
            // What the bias itself is rounded by.
            assert!((ours - theirs).abs() < 1e-3, "{output}: {ours} {theirs}");
        }
    }
}
