//! Which tensors of a network are rounded to 8 bits.

use std::collections::{HashMap, HashSet};

use super::conv::Conv;
use crate::model::trace::Trace;
use crate::onnx::{Graph, Node};

/// What is rounded.
pub(super) struct Plan<'a> {
    /// Tensors, in the order of the graph, each once.
    pub(super) points: Vec<Point<'a>>,
    /// Convolutions, by what they give.
    pub(super) convs: HashMap<&'a str, Conv<'a>>,
    /// Weights and biases that nothing uses any more.
    replaced: HashSet<&'a str>,
}

/// A tensor that is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point<'a> {
    pub(super) tensor: &'a str,
    /// The one whose scale it shares, where it holds values of that one only.
    pub(super) like: Option<&'a str>,
}

/// Whether a node adds two tensors; Caffe2's exports say Sum.
pub(super) fn is_addition(node: &Node<'_>) -> bool {
    node.is("Add") || node.is("Sum") && node.inputs.len() == 2
}

impl<'a> Plan<'a> {
    /// What goes into and comes out of convolutions, and of the additions and poolings among them. What goes
    /// through an activation at once is rounded behind it: the two become one operator, and what is below
    /// zero takes up none of the 255 steps.
    pub(super) fn of(graph: &Graph<'a>, trace: &Trace<'_, 'a>) -> Self {
        let mut uses: HashMap<&str, Vec<&Node<'a>>> = HashMap::new();
        for node in graph.nodes() {
            for input in node.inputs.iter().chain(&node.captured) {
                uses.entry(input).or_default().push(node);
            }
        }
        let outputs: HashSet<&str> = graph.outputs().map(|output| output.name).collect();
        let behind_activation = |output: &'a str| match uses.get(output).map(Vec::as_slice) {
            Some([only]) if (only.is("Relu") || only.is("Clip")) && !outputs.contains(output) => {
                only.outputs.first().copied().unwrap_or(output)
            }
            _ => output,
        };
        let mut plan = Self { points: vec![], convs: HashMap::new(), replaced: HashSet::new() };
        for node in graph.nodes() {
            let Some(&output) = node.outputs.first() else { continue };
            let known = |name: &&str| plan.points.iter().any(|point| point.tensor == *name);
            let alone =
                node.input(0).and_then(|input| uses.get(input)).is_some_and(|all| all.len() == 1);
            if let Some(conv) = Conv::of(node, trace, alone) {
                plan.round(conv.input, None);
                plan.round(behind_activation(output), None);
                plan.convs.insert(output, conv);
            } else if is_addition(node)
                && node.inputs.iter().all(|name| trace.is_dynamic(name))
                && node.inputs.iter().any(known)
            {
                node.inputs.iter().for_each(|input| plan.round(input, None));
                plan.round(behind_activation(output), None);
            } else if node.is("MaxPool")
                && let [input] = node.inputs[..]
                && let Some(point) = plan.points.iter().find(|point| point.tensor == input)
            {
                let like = point.like.unwrap_or(input);
                plan.round(output, Some(like));
            }
        }
        let plain =
            |node: &&Node<'a>| !plan.convs.contains_key(node.outputs.first().unwrap_or(&""));
        let still_used: HashSet<&str> = (graph.nodes().filter(plain))
            .flat_map(|node| node.inputs.iter().chain(&node.captured).copied())
            .collect();
        let constants = plan.convs.values().flat_map(|conv| [Some(conv.weights), conv.bias]);
        plan.replaced = constants.flatten().filter(|name| !still_used.contains(name)).collect();
        plan
    }

    fn round(&mut self, tensor: &'a str, like: Option<&'a str>) {
        if self.points.iter().all(|point| point.tensor != tensor) {
            self.points.push(Point { tensor, like });
        }
    }

    /// Whether a constant is needed no more.
    pub(super) fn is_replaced(&self, constant: &str) -> bool {
        self.replaced.contains(constant)
    }
}
