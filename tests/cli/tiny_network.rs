//! A network of ResNet-50's shape, sixteen times narrower, with seeded weights: for machines where no
//! trained model is to be had. Written as a PyTorch export has it, classifier included, by code of its
//! own: what the tests read must not come from what they test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// Channels of the first stage's bottlenecks; ResNet-50 has 64.
const WIDTH: usize = 4;
/// Bottlenecks in each stage.
const STAGES: [usize; 4] = [3, 4, 6, 3];
/// How many times wider a bottleneck's output is.
const EXPANSION: usize = 4;
/// Components of the pooled features.
const FEATURES: usize = WIDTH * 8 * EXPANSION;
const CLASSES: usize = 10;
const SEED: u64 = 50;

/// A model mirror with the network, made once.
pub(crate) fn mirror() -> PathBuf {
    static MIRROR: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny-network");
        fs::create_dir_all(&folder).expect("a folder in the build folder");
        let bytes = network();
        let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        publish(&folder, "tiny.onnx", &bytes);
        let manifest = format!(
            r#"default = "tiny"

[[model]]
name = "tiny"
file = "tiny.onnx"
sha256 = "{sha256}"
bytes = {}
licence = "MIT OR Apache-2.0"
description = "ResNet-50's shape, seeded weights"

[model.input]
size = 224
resize = 256
filter = "bilinear"
channels = "rgb"
layout = "nchw"
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[model.output]
features = "pooled"
width = {FEATURES}
"#,
            bytes.len()
        );
        publish(&folder, "models.toml", manifest.as_bytes());
        folder
    };
    MIRROR.get_or_init(make).clone()
}

/// Other test processes may write the same bytes at the same time.
fn publish(folder: &Path, name: &str, bytes: &[u8]) {
    let temporary = folder.join(format!("{name}.{}", std::process::id()));
    fs::write(&temporary, bytes).expect("a file in the build folder");
    fs::rename(temporary, folder.join(name)).expect("the same folder");
}

/// The ONNX file: `input` `[batch, 3, 224, 224]` → `logits` `[batch, 10]`.
fn network() -> Vec<u8> {
    let mut graph = Graph { bytes: Vec::new(), nodes: 0, state: SEED };
    let mut at = graph.conv("input", (3, WIDTH), 7, 2);
    at = graph.relu(&at);
    let pool = [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
    at = graph.node("MaxPool", &[&at], &pool);
    let mut channels = WIDTH;
    for (stage, blocks) in STAGES.into_iter().enumerate() {
        let inner = WIDTH << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            at = graph.bottleneck(&at, (channels, inner), stride);
            channels = inner * EXPANSION;
        }
    }
    at = graph.node("GlobalAveragePool", &[&at], &[]);
    at = graph.node("Flatten", &[&at], &[int("axis", 1)]);
    let weight = graph.weights("fc.weight", &[CLASSES, FEATURES], 0.1);
    let bias = graph.weights("fc.bias", &[CLASSES], 0.1);
    let logits = graph.node("Gemm", &[&at, &weight, &bias], &[int("transB", 1)]);
    graph.bytes.extend(text(2, "tiny"));
    graph.bytes.extend(value(11, "input", &[None, Some(3), Some(224), Some(224)]));
    graph.bytes.extend(value(12, &logits, &[None, Some(CLASSES)]));

    // Older than what 8 bits need, as the Model Zoo's files are.
    let opset = [text(1, ""), number(2, 11)].concat();
    [number(1, 8), message(7, &graph.bytes), message(8, &opset)].concat()
}

/// A `GraphProto` as it grows; tensors are told by their names.
struct Graph {
    bytes: Vec<u8>,
    nodes: usize,
    state: u64,
}

impl Graph {
    fn bottleneck(&mut self, input: &str, (from, inner): (usize, usize), stride: usize) -> String {
        let to = inner * EXPANSION;
        let reduced = self.conv(input, (from, inner), 1, 1);
        let reduced = self.relu(&reduced);
        let seen = self.conv(&reduced, (inner, inner), 3, stride);
        let seen = self.relu(&seen);
        let expanded = self.conv(&seen, (inner, to), 1, 1);
        let shortcut = match from == to {
            true => input.to_owned(),
            false => self.conv(input, (from, to), 1, stride),
        };
        let sum = self.node("Add", &[&expanded, &shortcut], &[]);
        self.relu(&sum)
    }

    /// A convolution and its batch normalisation.
    fn conv(
        &mut self,
        input: &str,
        (from, to): (usize, usize),
        side: usize,
        stride: usize,
    ) -> String {
        let name = format!("conv{}", self.nodes);
        // He et al. 2015, for a uniform distribution.
        let range = (6.0 / (from * side * side) as f32).sqrt();
        let weight = self.weights(&format!("{name}.weight"), &[to, from, side, side], range);
        let attributes = [
            ints("kernel_shape", &[side; 2]),
            ints("strides", &[stride; 2]),
            ints("pads", &[side / 2; 4]),
        ];
        let out = self.node("Conv", &[input, &weight], &attributes);
        let scale = self.constant(&format!("{name}.scale"), to, 0.7);
        let bias = self.weights(&format!("{name}.bias"), &[to], 0.5);
        let mean = self.weights(&format!("{name}.mean"), &[to], 0.2);
        let variance = self.constant(&format!("{name}.variance"), to, 1.0);
        self.node("BatchNormalization", &[&out, &scale, &bias, &mean, &variance], &[])
    }

    fn relu(&mut self, input: &str) -> String {
        self.node("Relu", &[input], &[])
    }

    /// A `NodeProto`; returns the name of its output.
    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[Vec<u8>]) -> String {
        let output = format!("{op}_{}", self.nodes);
        self.nodes += 1;
        let mut node: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
        node.extend([text(2, &output), text(3, &output), text(4, op)].concat());
        node.extend(attributes.iter().flat_map(|attribute| message(5, attribute)));
        self.bytes.extend(message(1, &node));
        output
    }

    /// An initializer, uniform in ±`range`.
    fn weights(&mut self, name: &str, dims: &[usize], range: f32) -> String {
        let values = (0..dims.iter().product()).map(|_| range * self.random()).collect();
        self.initializer(name, dims, values)
    }

    fn constant(&mut self, name: &str, count: usize, value: f32) -> String {
        self.initializer(name, &[count], vec![value; count])
    }

    /// A `TensorProto` of f32.
    fn initializer(&mut self, name: &str, dims: &[usize], values: Vec<f32>) -> String {
        let mut tensor: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
        let raw: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        tensor.extend([number(2, 1), text(8, name), message(9, &raw)].concat());
        self.bytes.extend(message(5, &tensor));
        name.to_owned()
    }

    /// Uniform in [-1, 1), from Knuth's linear congruential generator.
    fn random(&mut self) -> f32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A `ValueInfoProto` of f32; axes without a length are named `batch`.
fn value(field: u64, name: &str, dims: &[Option<usize>]) -> Vec<u8> {
    let dim = |dim: &Option<usize>| match dim {
        Some(length) => message(1, &number(1, *length)),
        None => message(1, &text(2, "batch")),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, 1), message(2, &shape)].concat();
    message(field, &[text(1, name), message(2, &message(1, &tensor))].concat())
}

/// An `AttributeProto` of one integer.
fn int(name: &str, value: usize) -> Vec<u8> {
    [text(1, name), number(3, value), number(20, 2)].concat()
}

/// An `AttributeProto` of integers.
fn ints(name: &str, values: &[usize]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
    [text(1, name), values, number(20, 7)].concat()
}

// The wire format of Protocol Buffers.

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn text(field: u64, text: &str) -> Vec<u8> {
    message(field, text.as_bytes())
}
