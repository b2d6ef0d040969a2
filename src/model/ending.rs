//! What is put behind the features of a network that was cut.

use std::borrow::Cow;

use super::head::Features;
use super::manifest::Pool;
use super::trace::Trace;
use crate::onnx::encode::{node_field, tensor_field, value_info_field};
use crate::onnx::{Dim, FLOAT, FLOAT16, Graph, Kind, UINT8};

/// What is put behind the features so that they come out as 32-bit floats `[batch, width]`.
pub(super) struct Ending<'a> {
    /// Graph fields: the nodes, first to last, and their constants.
    pub(super) nodes: Vec<Vec<u8>>,
    /// The tensors of the graph that the ending, or the output itself, needs.
    pub(super) roots: Vec<&'a str>,
    pub(super) output: String,
}

impl<'a> Ending<'a> {
    pub(super) fn after(features: &Features<'a>, trace: &Trace<'_, 'a>) -> Result<Self, String> {
        let mut ending =
            Self { nodes: vec![], roots: vec![features.tensor], output: features.tensor.into() };
        const DOUBLE: i64 = 11;
        const BFLOAT16: i64 = 16;
        if let Some((scale, zero_point)) = features.quantised {
            let scaling = [Some(scale), zero_point];
            ending.append(trace, "DequantizeLinear", scaling.into_iter().flatten(), &[]);
        } else {
            match trace.elem_type(features.tensor) {
                FLOAT => {}
                FLOAT16 | DOUBLE | BFLOAT16 => {
                    ending.append(trace, "Cast", [].into_iter(), &[("to", FLOAT)]);
                }
                UINT8 => {
                    return Err(format!(
                        "the tensor `{}` holds quantised integers, expected floats",
                        features.tensor
                    ));
                }
                other => {
                    return Err(format!(
                        "the tensor `{}` holds values of ONNX type {other}, expected floats",
                        features.tensor
                    ));
                }
            }
        }
        if let Some(pool) = features.pool {
            ending.pool(pool, trace);
        }
        if !features.flat {
            ending.append(trace, "Flatten", [].into_iter(), &[("axis", 1)]);
        }
        Ok(ending)
    }

    /// Makes one value of each channel of a map `[batch, channels, rows, columns]`.
    fn pool(&mut self, pool: Pool, trace: &Trace<'_, 'a>) {
        let [average, max] = ["GlobalAveragePool", "GlobalMaxPool"];
        match pool {
            Pool::Average => self.append(trace, average, [].into_iter(), &[]),
            Pool::Max => self.append(trace, max, [].into_iter(), &[]),
            Pool::Gem => {
                self.append(trace, "Relu", [].into_iter(), &[]);
                let values = self.output.clone();
                for _ in 0..2 {
                    let name = self.fresh(trace);
                    self.nodes.push(node_field("Mul", &[&self.output, &values], &name, &[]));
                    self.output = name;
                }
                self.append(trace, average, [].into_iter(), &[]);
                let (third, name) = (format!("{}_third", self.output), self.fresh(trace));
                self.nodes.push(tensor_field(&third, FLOAT, &[], &(1f32 / 3.0).to_le_bytes()));
                self.nodes.push(node_field("Pow", &[&self.output, &third], &name, &[]));
                self.output = name;
            }
        }
    }

    /// A name that no tensor has.
    fn fresh(&self, trace: &Trace<'_, 'a>) -> String {
        let mut name = format!("likeness_features_{}", self.nodes.len());
        while trace.has(&name) {
            name.push('_');
        }
        name
    }

    fn append(
        &mut self,
        trace: &Trace<'_, 'a>,
        op: &str,
        constants: impl Iterator<Item = &'a str>,
        attributes: &[(&str, i64)],
    ) {
        let name = self.fresh(trace);
        let constants: Vec<_> = constants.collect();
        let inputs: Vec<_> =
            [self.output.as_str()].into_iter().chain(constants.iter().copied()).collect();
        self.nodes.push(node_field(op, &inputs, &name, attributes));
        self.roots.extend(constants);
        self.output = name;
    }

    /// The graph's output; as the file has it when that says the same.
    pub(super) fn output_field(
        &self,
        graph: &Graph<'a>,
        batch: Dim<'a>,
        width: usize,
    ) -> Cow<'a, [u8]> {
        let width = i64::try_from(width).unwrap_or(i64::MAX);
        let declared = graph.parts.iter().find(|part| {
            matches!(&part.kind, Kind::Output(info) if info.name == self.output
                && info.elem_type == FLOAT
                && matches!(info.dims.as_deref(),
                    Some(&[Dim::Named(_) | Dim::Unknown, Dim::Fixed(length)]) if length == width))
        });
        match declared {
            Some(part) => Cow::Borrowed(part.raw),
            None => {
                let dims = [batch, Dim::Fixed(width)];
                Cow::Owned(value_info_field(12, &self.output, &dims))
            }
        }
    }
}
