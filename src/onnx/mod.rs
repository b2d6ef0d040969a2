//! An ONNX file as far as an edit must understand it: the graph's nodes, constants, inputs and
//! outputs, each with the bytes it came in. Field numbers are those of `onnx.proto`.

pub(crate) mod encode;
mod tensor;
pub(crate) mod wire;

use std::borrow::Cow;

use self::encode::opset_field;
pub(crate) use self::tensor::{Dim, Tensor, ValueInfo};
use self::wire::{Malformed, fields, put_int, put_length};

/// `TensorProto.DataType` of 32-bit floats.
pub(crate) const FLOAT: i64 = 1;
/// `TensorProto.DataType` of 16-bit floats.
pub(crate) const FLOAT16: i64 = 10;
/// `TensorProto.DataType` of unsigned 8-bit integers.
pub(crate) const UINT8: i64 = 2;
/// `TensorProto.DataType` of signed 8-bit integers.
pub(crate) const INT8: i64 = 3;
/// `TensorProto.DataType` of signed 32-bit integers.
pub(crate) const INT32: i64 = 6;
/// `TensorProto.DataType` of signed 64-bit integers.
pub(crate) const INT64: i64 = 7;

/// Many times what any published network has; keeps a hostile file from filling the memory with
/// empty nodes.
const MOST_PARTS: usize = 1_000_000;
/// Graphs inside `If` and `Loop` nodes, inside one another.
const MOST_NESTING: usize = 32;

/// A `ModelProto`: the graph, and everything else as it came.
pub(crate) struct Model<'a> {
    pub(crate) ir_version: i64,
    /// The version of the standard's operators that it uses; 1 where it does not say.
    pub(crate) opset: i64,
    pub(crate) graph: Graph<'a>,
    /// The fields before and behind the graph.
    before: Vec<&'a [u8]>,
    behind: Vec<&'a [u8]>,
}

/// A `GraphProto`.
#[derive(Default)]
pub(crate) struct Graph<'a> {
    pub(crate) parts: Vec<Part<'a>>,
}

/// One field of a `GraphProto`, with its bytes.
pub(crate) struct Part<'a> {
    pub(crate) raw: &'a [u8],
    pub(crate) kind: Kind<'a>,
}

/// What a field of a graph is.
pub(crate) enum Kind<'a> {
    Node(Node<'a>),
    Initializer(Tensor<'a>),
    /// A sparse initializer, or a quantisation annotation: it belongs to the tensor of this name.
    About(&'a str),
    Input(ValueInfo<'a>),
    Output(ValueInfo<'a>),
    ValueInfo(ValueInfo<'a>),
    Other,
}

/// A `NodeProto`.
#[derive(Debug, Default)]
pub(crate) struct Node<'a> {
    pub(crate) op: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) name: &'a str,
    pub(crate) inputs: Vec<&'a str>,
    pub(crate) outputs: Vec<&'a str>,
    /// Tensors of this graph that graphs inside the node (`If`, `Loop`) may use: every name they
    /// mention, so rather too many than too few.
    pub(crate) captured: Vec<&'a str>,
    attributes: Vec<Attribute<'a>>,
}

/// An `AttributeProto`, as far as the attributes asked for go.
#[derive(Debug, Default)]
struct Attribute<'a> {
    name: &'a str,
    int: i64,
    ints: Vec<i64>,
    text: Option<&'a str>,
    tensor: Option<Tensor<'a>>,
}

impl<'a> Model<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut ir_version, mut opset) = (0, 1);
        let mut graph = None;
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                7 if graph.is_some() => return Err(Malformed::TwoGraphs),
                7 => graph = Some(Graph::parse(field.bytes()?)?),
                // Training graphs refer to weights that the edit may remove.
                20 => {}
                number => {
                    match number {
                        1 => ir_version = field.int()?,
                        8 => opset = standard_opset(field.bytes()?)?.unwrap_or(opset),
                        _ => {}
                    }
                    if graph.is_none() { &mut before } else { &mut behind }.push(field.raw);
                }
            }
        }
        Ok(Self { ir_version, opset, graph: graph.ok_or(Malformed::NoGraph)?, before, behind })
    }

    /// What its author says of it: keys and values.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        const METADATA: u32 = 14;
        let known =
            self.before.iter().chain(&self.behind).filter_map(|raw| fields(raw).next()?.ok());
        known
            .filter(|field| field.number == METADATA)
            .filter_map(|field| entry(field.bytes().ok()?).ok())
    }

    /// The file with `graph` in the place of its own: slices to write one after the other.
    pub(crate) fn with_graph(&self, graph: Vec<Cow<'a, [u8]>>) -> Vec<Cow<'a, [u8]>> {
        self.around(graph, Cow::Borrowed)
    }

    /// The same, in which nodes of another `domain` may stand.
    pub(crate) fn with_graph_and_domain(
        &self,
        graph: Vec<Cow<'a, [u8]>>,
        domain: &str,
        version: i64,
    ) -> Vec<Cow<'a, [u8]>> {
        let mut pieces = self.with_graph(graph);
        pieces.push(Cow::Owned(opset_field(domain, version)));
        pieces
    }

    /// The same as [`Model::with_graph`], as a file of version `ir_version` that uses the operators of version `opset`.
    pub(crate) fn with_graph_of_version(
        &self,
        graph: Vec<Cow<'a, [u8]>>,
        ir_version: i64,
        opset: i64,
    ) -> Vec<Cow<'a, [u8]>> {
        self.around(graph, |raw| {
            let field = fields(raw).next().and_then(Result::ok).expect("it was read before");
            let is_standard = |message| matches!(standard_opset(message), Ok(Some(_)));
            let mut replaced = Vec::new();
            match (field.number, field.bytes()) {
                (1, _) => put_int(&mut replaced, 1, ir_version),
                (8, Ok(message)) if is_standard(message) => replaced = opset_field("", opset),
                _ => return Cow::Borrowed(raw),
            }
            Cow::Owned(replaced)
        })
    }

    fn around(
        &self,
        graph: Vec<Cow<'a, [u8]>>,
        other: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
    ) -> Vec<Cow<'a, [u8]>> {
        let mut key = Vec::new();
        put_length(&mut key, 7, graph.iter().map(|piece| piece.len()).sum());
        let mut pieces: Vec<_> = self.before.iter().map(|raw| other(raw)).collect();
        pieces.push(Cow::Owned(key));
        pieces.extend(graph);
        pieces.extend(self.behind.iter().map(|raw| other(raw)));
        pieces
    }
}

/// A `StringStringEntryProto`.
fn entry(message: &[u8]) -> Result<(&str, &str), Malformed> {
    Ok((name_in(message, 1)?, name_in(message, 2)?))
}

/// The version in an `OperatorSetIdProto`, when it is that of the standard's operators.
fn standard_opset(message: &[u8]) -> Result<Option<i64>, Malformed> {
    let (mut domain, mut version) = ("", 1);
    for field in fields(message) {
        let field = field?;
        match field.number {
            1 => domain = field.text()?,
            2 => version = field.int()?,
            _ => {}
        }
    }
    Ok(matches!(domain, "" | "ai.onnx").then_some(version))
}

impl<'a> Graph<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut parts = Vec::new();
        for field in fields(bytes) {
            let field = field?;
            let kind = match field.number {
                1 => Kind::Node(Node::parse(field.bytes()?, 0)?),
                5 => Kind::Initializer(Tensor::parse(field.bytes()?)?),
                11 => Kind::Input(ValueInfo::parse(field.bytes()?)?),
                12 => Kind::Output(ValueInfo::parse(field.bytes()?)?),
                13 => Kind::ValueInfo(ValueInfo::parse(field.bytes()?)?),
                14 => Kind::About(name_in(field.bytes()?, 1)?),
                15 => Kind::About(sparse_name(field.bytes()?)?),
                _ => Kind::Other,
            };
            if parts.len() == MOST_PARTS {
                return Err(Malformed::TooManyParts(MOST_PARTS));
            }
            parts.push(Part { raw: field.raw, kind });
        }
        Ok(Self { parts })
    }

    pub(crate) fn nodes(&self) -> impl DoubleEndedIterator<Item = &Node<'a>> {
        self.parts.iter().filter_map(|part| match &part.kind {
            Kind::Node(node) => Some(node),
            _ => None,
        })
    }

    pub(crate) fn initializers(&self) -> impl Iterator<Item = &Tensor<'a>> {
        self.parts.iter().filter_map(|part| match &part.kind {
            Kind::Initializer(tensor) => Some(tensor),
            _ => None,
        })
    }

    pub(crate) fn inputs(&self) -> impl Iterator<Item = &ValueInfo<'a>> {
        self.parts.iter().filter_map(|part| match &part.kind {
            Kind::Input(info) => Some(info),
            _ => None,
        })
    }

    pub(crate) fn outputs(&self) -> impl Iterator<Item = &ValueInfo<'a>> {
        self.parts.iter().filter_map(|part| match &part.kind {
            Kind::Output(info) => Some(info),
            _ => None,
        })
    }

    /// What the file declares of tensors between input and output.
    pub(crate) fn value_infos(&self) -> impl Iterator<Item = &ValueInfo<'a>> {
        self.parts.iter().filter_map(|part| match &part.kind {
            Kind::ValueInfo(info) => Some(info),
            _ => None,
        })
    }
}

impl<'a> Node<'a> {
    fn parse(bytes: &'a [u8], depth: usize) -> Result<Self, Malformed> {
        let mut node = Self::default();
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => node.inputs.push(field.text()?),
                2 => node.outputs.push(field.text()?),
                3 => node.name = field.text()?,
                4 => node.op = field.text()?,
                5 => {
                    let attribute = Attribute::parse(field.bytes()?, &mut node.captured, depth)?;
                    node.attributes.push(attribute);
                }
                7 => node.domain = field.text()?,
                _ => {}
            }
        }
        Ok(node)
    }

    /// Whether this is the ONNX standard's operator `op`.
    pub(crate) fn is(&self, op: &str) -> bool {
        self.op == op && matches!(self.domain, "" | "ai.onnx")
    }

    /// Whether this is an operator of ONNX Runtime's own domain.
    pub(crate) fn is_microsoft(&self, op: &str) -> bool {
        self.op == op && self.domain == "com.microsoft"
    }

    /// The input at `index`, `None` where it is left out.
    pub(crate) fn input(&self, index: usize) -> Option<&'a str> {
        self.inputs.get(index).copied().filter(|name| !name.is_empty())
    }

    /// An integer attribute, `default` where it is left out.
    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.int)
    }

    /// An attribute that is a list of integers.
    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        Some(&self.attribute(name)?.ints)
    }

    /// An attribute that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.attribute(name)?.text
    }

    /// An attribute that is a tensor.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor<'a>> {
        self.attribute(name)?.tensor.as_ref()
    }

    fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

impl<'a> Attribute<'a> {
    fn parse(
        bytes: &'a [u8],
        captured: &mut Vec<&'a str>,
        depth: usize,
    ) -> Result<Self, Malformed> {
        let mut attribute = Self::default();
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => attribute.name = field.text()?,
                3 => attribute.int = field.int()?,
                // Any bytes; only text is asked for.
                4 => attribute.text = field.text().ok(),
                8 => field.ints(&mut attribute.ints)?,
                5 => attribute.tensor = Some(Tensor::parse(field.bytes()?)?),
                // A graph, or one of several.
                6 | 11 => names_mentioned(field.bytes()?, captured, depth + 1)?,
                _ => {}
            }
        }
        Ok(attribute)
    }
}

/// Collects what the nodes and outputs of an inner graph refer to.
fn names_mentioned<'a>(
    graph: &'a [u8],
    names: &mut Vec<&'a str>,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > MOST_NESTING {
        return Err(Malformed::TooDeep(MOST_NESTING));
    }
    for field in fields(graph) {
        let field = field?;
        match field.number {
            1 => {
                let node = Node::parse(field.bytes()?, depth)?;
                names.extend(node.inputs);
                names.extend(node.captured);
            }
            // A branch may hand out a tensor of the outer graph as it is.
            12 => names.push(name_in(field.bytes()?, 1)?),
            _ => {}
        }
    }
    Ok(())
}

/// The last string field `number` of a message.
fn name_in(message: &[u8], number: u32) -> Result<&str, Malformed> {
    let mut name = "";
    for field in fields(message) {
        let field = field?;
        if field.number == number {
            name = field.text()?;
        }
    }
    Ok(name)
}

/// The name of a `SparseTensorProto`: that of its values.
fn sparse_name(message: &[u8]) -> Result<&str, Malformed> {
    let mut name = "";
    for field in fields(message) {
        let field = field?;
        if field.number == 1 {
            name = name_in(field.bytes()?, 8)?;
        }
    }
    Ok(name)
}
