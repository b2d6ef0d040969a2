use proptest::prelude::*;

use super::*;
use crate::onnx::encode::{node_field, value_info_field};
use crate::onnx::wire::{Malformed, fields, put_bytes, put_int};
use crate::onnx::{Dim, FLOAT, Model, UINT8};

const BATCH: Dim<'_> = Dim::Named("N");

/// An ONNX file that is put together field by field.
#[derive(Clone)]
struct Onnx {
    ir_version: i64,
    graph: Vec<u8>,
}

impl Onnx {
    /// Takes `[batch, 3, 8, 8]` named `image`.
    fn new(batch: Dim<'_>) -> Self {
        let dims = [batch, Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
        Self { ir_version: 8, graph: value_info_field(11, "image", &dims) }
    }

    /// The network's body: a convolution to `width` channels, and global pooling into `pooled`.
    fn with_body(batch: Dim<'_>, width: i64) -> Self {
        Self::new(batch)
            .weights("conv.w", &[width, 3, 1, 1])
            .node("Conv", &["image", "conv.w"], "conv", &[])
            .node("Relu", &["conv"], "relu", &[])
            .node("GlobalAveragePool", &["relu"], "pooled", &[])
    }

    fn field(mut self, field: Vec<u8>) -> Self {
        self.graph.extend(field);
        self
    }

    fn node(self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> Self {
        self.field(node_field(op, inputs, output, attributes))
    }

    /// A node of ONNX Runtime's own domain.
    fn microsoft(self, op: &str, inputs: &[&str], output: &str) -> Self {
        let field = node_field(op, inputs, output, &[]);
        let mut node = fields(&field).next().unwrap().unwrap().bytes().unwrap().to_vec();
        put_bytes(&mut node, 7, b"com.microsoft");
        self.part(1, &node)
    }

    fn part(mut self, number: u32, content: &[u8]) -> Self {
        put_bytes(&mut self.graph, number, content);
        self
    }

    fn tensor(self, name: &str, data_type: i64, dims: &[i64], data: &[u8]) -> Self {
        let mut tensor = Vec::new();
        for dim in dims {
            put_int(&mut tensor, 1, *dim);
        }
        put_int(&mut tensor, 2, data_type);
        put_bytes(&mut tensor, 8, name.as_bytes());
        put_bytes(&mut tensor, 9, data);
        self.part(5, &tensor)
    }

    fn weights(self, name: &str, dims: &[i64]) -> Self {
        self.tensor(name, FLOAT, dims, &vec![0; dims.iter().product::<i64>() as usize * 4])
    }

    fn shape(self, name: &str, lengths: &[i64]) -> Self {
        let data: Vec<u8> = lengths.iter().flat_map(|length| length.to_le_bytes()).collect();
        self.tensor(name, 7, &[lengths.len() as i64], &data)
    }

    fn output(self, name: &str, dims: &[Dim<'_>]) -> Self {
        self.field(value_info_field(12, name, dims))
    }

    /// An output whose shape is not said.
    fn bare_output(self, name: &str) -> Self {
        let mut info = Vec::new();
        put_bytes(&mut info, 1, name.as_bytes());
        self.part(12, &info)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut model = Vec::new();
        put_int(&mut model, 1, self.ir_version);
        put_bytes(&mut model, 7, &self.graph);
        put_bytes(&mut model, 14, b"\x0a\x01k\x12\x01v");
        // No field of today's ONNX.
        put_bytes(&mut model, 4000, b"later");
        model
    }
}

fn pooled(file: &Onnx) -> Result<Cut, Unfit> {
    cut(file, FeatureRule::Pooled, None)
}

/// What remains of a file: the description, and the file itself.
#[derive(Debug)]
struct Cut {
    output: String,
    width: usize,
    removed: Vec<String>,
    file: Vec<u8>,
}

fn cut(file: &Onnx, rule: FeatureRule, stated: Option<usize>) -> Result<Cut, Unfit> {
    cut_and_pool(file, rule, None, stated)
}

fn cut_and_pool(
    file: &Onnx,
    rule: FeatureRule,
    pool: Option<Pool>,
    stated: Option<usize>,
) -> Result<Cut, Unfit> {
    let bytes = file.bytes();
    let graph = take_features(&bytes, &rule, pool, stated)?;
    let file = graph.pieces.concat();
    let FeatureGraph { output, width, removed, .. } = graph;
    Ok(Cut { output, width, removed, file })
}

impl Cut {
    /// The file as lines: nodes, weights, inputs, outputs.
    fn describe(&self) -> Vec<String> {
        let model = Model::parse(&self.file).unwrap();
        let shape = |info: &ValueInfo<'_>| {
            let dims = info.dims.as_deref().unwrap_or_default();
            let dim = |dim: &Dim<'_>| match dim {
                Dim::Fixed(length) => length.to_string(),
                Dim::Named(name) => (*name).to_owned(),
                Dim::Unknown => "?".into(),
            };
            format!("{} [{}]", info.name, dims.iter().map(dim).collect::<Vec<_>>().join(","))
        };
        let line = |part: &Part<'_>| match &part.kind {
            Kind::Node(node) => {
                format!("{}({}) -> {}", node.op, node.inputs.join(","), node.outputs.join(","))
            }
            Kind::Initializer(tensor) => format!("weights {}", tensor.name),
            Kind::About(name) => format!("about {name}"),
            Kind::Input(info) => format!("input {}", shape(info)),
            Kind::Output(info) => format!("output {}", shape(info)),
            Kind::ValueInfo(info) => format!("value {}", shape(info)),
            Kind::Other => "other".into(),
        };
        model.graph.parts.iter().map(line).collect()
    }
}

const BODY: [&str; 5] = [
    "input image [N,3,8,8]",
    "weights conv.w",
    "Conv(image,conv.w) -> conv",
    "Relu(conv) -> relu",
    "GlobalAveragePool(relu) -> pooled",
];

/// Flatten → Gemm → Softmax behind the body, as torchvision and the zoo have it.
fn classifier() -> Onnx {
    Onnx::with_body(BATCH, 16)
        .node("Flatten", &["pooled"], "flat", &[("axis", 1)])
        .weights("fc.w", &[10, 16])
        .weights("fc.b", &[10])
        .node("Gemm", &["flat", "fc.w", "fc.b"], "logits", &[("transB", 1)])
        .node("Softmax", &["logits"], "probabilities", &[])
        .output("probabilities", &[BATCH, Dim::Fixed(10)])
}

#[test]
fn a_classifier_and_its_weights_disappear() {
    let cut = pooled(&classifier()).unwrap();
    let rest = ["Flatten(pooled) -> flat", "output flat [N,16]"];
    assert_eq!(cut.describe(), [&BODY[..], &rest].concat());
    assert_eq!((cut.width, cut.removed.join(" ")), (16, "Gemm Softmax".into()));
}

#[test]
fn what_stands_beside_the_graph_is_kept_to_the_byte() {
    let file = classifier();
    let cut = pooled(&file).unwrap();
    let beside = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let others = fields(bytes).map(Result::unwrap).filter(|field| field.number != 7);
        others.map(|field| field.raw.to_vec()).collect()
    };
    assert_eq!(beside(&cut.file), beside(&file.bytes()));
    assert_eq!(beside(&cut.file).len(), 3);
}

#[test]
fn a_network_without_classifier_stays_as_it_is() {
    let file = Onnx::with_body(BATCH, 16)
        .node("Flatten", &["pooled"], "flat", &[("axis", 1)])
        .output("flat", &[BATCH, Dim::Fixed(16)]);
    let cut = pooled(&file).unwrap();
    assert_eq!(cut.file, file.bytes());
    assert_eq!((cut.width, cut.removed.len()), (16, 0));
}

#[test]
fn a_network_that_ends_in_pooling_is_flattened() {
    let cut = pooled(&Onnx::with_body(BATCH, 16).bare_output("pooled")).unwrap();
    let rest = ["output likeness_features_0 [N,16]", "Flatten(pooled) -> likeness_features_0"];
    assert_eq!(cut.describe(), [&BODY[..], &rest].concat());
}

#[test]
fn a_product_and_a_bias_are_a_classifier_too() {
    let file = Onnx::with_body(BATCH, 16)
        .node("Squeeze", &["pooled"], "flat", &[])
        .node("Dropout", &["flat"], "dropped", &[])
        .weights("fc.w", &[16, 10])
        .weights("fc.b", &[10])
        .node("MatMul", &["dropped", "fc.w"], "product", &[])
        .node("Add", &["fc.b", "product"], "logits", &[])
        .bare_output("logits");
    let cut = pooled(&file).unwrap();
    let rest = [
        "Squeeze(pooled) -> flat",
        "output likeness_features_0 [N,16]",
        "Flatten(flat) -> likeness_features_0",
    ];
    assert_eq!(cut.describe(), [&BODY[..], &rest].concat());
    assert_eq!(cut.removed.join(" "), "Dropout MatMul Add");
}

#[test]
fn weights_that_the_graph_computes_tell_the_width() {
    let file = Onnx::with_body(BATCH, 16)
        .node("Flatten", &["pooled"], "flat", &[("axis", 1)])
        .tensor("codes", UINT8, &[160], &[0; 160])
        .shape("fc.shape", &[16, 10])
        .node("Cast", &["codes"], "decoded", &[("to", FLOAT)])
        .node("Reshape", &["decoded", "fc.shape"], "shaped", &[])
        .node("Transpose", &["shaped"], "fc.w", &[])
        .node("Gemm", &["flat", "fc.w"], "logits", &[("transB", 1)])
        .bare_output("logits");
    let cut = pooled(&file).unwrap();
    assert_eq!(cut.width, 16);
    assert_eq!(cut.removed.join(" "), "Cast Reshape Transpose Gemm");
    assert_eq!(cut.describe().last().unwrap(), "output flat [N,16]");
}

#[test]
fn a_width_that_is_not_the_stated_one_is_refused() {
    let wrong = cut(&classifier(), FeatureRule::Pooled, Some(2048)).unwrap_err();
    assert_eq!(wrong, Unfit::Width { stated: 2048, found: 16 });
    // The last convolution tells it where there is no linear layer.
    let headless = Onnx::with_body(BATCH, 16).bare_output("pooled");
    let wrong = cut(&headless, FeatureRule::Pooled, Some(17)).unwrap_err();
    assert_eq!(wrong, Unfit::Width { stated: 17, found: 16 });
}

#[test]
fn a_width_that_nobody_tells_must_be_stated() {
    let file = Onnx::new(BATCH).node("AveragePool", &["image"], "small", &[]).bare_output("small");
    assert_eq!(pooled(&file).unwrap_err(), Unfit::UnknownWidth { tensor: "small".into() });
    assert_eq!(cut(&file, FeatureRule::Pooled, Some(12)).unwrap().width, 12);
}

#[test]
fn weights_listed_as_inputs_go_with_the_classifier() {
    let listed =
        |ir_version| {
            let file = classifier()
                .field(value_info_field(11, "conv.w", &[]))
                .field(value_info_field(11, "fc.w", &[]));
            let cut = pooled(&Onnx { ir_version, ..file }).unwrap();
            cut.describe().into_iter().filter(|line| line.starts_with("input")).collect::<Vec<_>>()
        };
    assert_eq!(listed(3), ["input image [N,3,8,8]", "input conv.w []"]);
    // Later, such an input would only keep ONNX Runtime from folding the weights.
    assert_eq!(listed(8), ["input image [N,3,8,8]"]);
}

#[test]
fn declarations_and_annotations_go_with_their_tensors() {
    let mut about = Vec::new();
    put_bytes(&mut about, 1, b"logits");
    let file = classifier()
        .field(value_info_field(13, "logits", &[BATCH, Dim::Fixed(10)]))
        .field(value_info_field(13, "conv", &[BATCH, Dim::Fixed(16)]))
        .part(14, &about)
        .part(10, b"what it is for");
    let described = pooled(&file).unwrap().describe();
    let rest = ["Flatten(pooled) -> flat", "output flat [N,16]", "value conv [N,16]", "other"];
    assert_eq!(described, [&BODY[..], &rest].concat());
}

#[test]
fn a_fixed_batch_is_freed() {
    // Caffe2's export: one picture, and a reshape that says so.
    let file = Onnx::with_body(Dim::Fixed(1), 16)
        .shape("flat.shape", &[1, 16])
        .node("Reshape", &["pooled", "flat.shape"], "flat", &[])
        .weights("fc.w", &[10, 16])
        .node("Gemm", &["flat", "fc.w"], "logits", &[("transB", 1)])
        .node("Softmax", &["logits"], "probabilities", &[])
        .field(value_info_field(13, "conv", &[Dim::Fixed(1), Dim::Fixed(16)]))
        .output("probabilities", &[Dim::Fixed(1), Dim::Fixed(10)]);
    let cut = pooled(&file).unwrap();
    let mut expected = [
        &BODY[..],
        &["output likeness_features_0 [batch,16]", "Flatten(pooled) -> likeness_features_0"],
    ]
    .concat();
    expected[0] = "input image [batch,3,8,8]";
    assert_eq!(cut.describe(), expected);
    assert_eq!(cut.removed.join(" "), "Reshape Gemm Softmax");
}

#[test]
fn a_batch_that_the_body_fixes_is_refused() {
    let file = Onnx::new(Dim::Fixed(4))
        .shape("groups", &[4, 2, 3, 16])
        .node("Reshape", &["image", "groups"], "grouped", &[])
        .node("GlobalAveragePool", &["grouped"], "pooled", &[])
        .bare_output("pooled");
    let refused = cut(&file, FeatureRule::Pooled, Some(2)).unwrap_err();
    let reason = "it takes exactly 4 pictures at once (`grouped` is reshaped to that number); \
                  export it with a free batch axis";
    assert_eq!(refused, Unfit::Network(reason.into()));
}

#[test]
fn a_body_that_takes_one_picture_is_given_one_at_a_time() {
    let file = Onnx::new(Dim::Fixed(1))
        .shape("groups", &[1, 2, 3, 16])
        .node("Reshape", &["image", "groups"], "grouped", &[])
        .node("GlobalAveragePool", &["grouped"], "pooled", &[])
        .bare_output("pooled");
    let described = cut(&file, FeatureRule::Pooled, Some(2)).unwrap().describe();
    assert_eq!(described[0], "input image [1,3,8,8]");
    assert!(described.contains(&"output likeness_features_0 [1,2]".to_owned()), "{described:?}");
}

#[test]
fn features_are_pooled_otherwise_where_that_is_wanted() {
    let pooled = |pool| cut_and_pool(&classifier(), FeatureRule::Pooled, Some(pool), None).unwrap();
    let max = pooled(Pool::Max);
    let rest = [
        "output likeness_features_1 [N,16]",
        "GlobalMaxPool(relu) -> likeness_features_0",
        "Flatten(likeness_features_0) -> likeness_features_1",
    ];
    assert_eq!(max.describe(), [&BODY[..4], &rest].concat());
    assert_eq!(max.removed.join(" "), "GlobalAveragePool Flatten Gemm Softmax");
    let gem = pooled(Pool::Gem).describe();
    let rest = [
        "Relu(relu) -> likeness_features_0",
        "Mul(likeness_features_0,likeness_features_0) -> likeness_features_1",
        "Mul(likeness_features_1,likeness_features_0) -> likeness_features_2",
        "GlobalAveragePool(likeness_features_2) -> likeness_features_3",
        "weights likeness_features_3_third",
        "Pow(likeness_features_3,likeness_features_3_third) -> likeness_features_4",
        "Flatten(likeness_features_4) -> likeness_features_6",
    ];
    assert_eq!(gem[5..], rest);
}

#[test]
fn a_network_that_ends_in_a_map_is_pooled_on_request() {
    let file = Onnx::with_body(BATCH, 16).bare_output("relu");
    assert!(matches!(pooled(&file), Err(Unfit::Head { .. })));
    let found = cut_and_pool(&file, FeatureRule::Pooled, Some(Pool::Average), None).unwrap();
    assert_eq!(found.width, 16);
    assert_eq!(found.describe()[5], "GlobalAveragePool(relu) -> likeness_features_0");
}

#[test]
fn a_map_that_is_pooled_counts_by_its_channels_whatever_size_is_declared() {
    let map = [BATCH, Dim::Fixed(16), Dim::Fixed(8), Dim::Fixed(8)];
    let body = Onnx::with_body(BATCH, 16).output("relu", &map);
    let rules = [FeatureRule::Pooled, FeatureRule::Tensor("relu".into())];
    for pool in [Pool::Average, Pool::Max, Pool::Gem] {
        for rule in &rules {
            let found = cut_and_pool(&body, rule.clone(), Some(pool), None).unwrap();
            assert_eq!(found.width, 16, "{pool:?} {rule:?}");
        }
    }
    // Without pooling, each place counts.
    assert_eq!(cut(&body, rules[1].clone(), None).unwrap().width, 16 * 64);
    // Where the network pools it, what is declared of the map before says no more.
    let inner = Onnx::with_body(BATCH, 16).field(value_info_field(13, "relu", &map));
    assert_eq!(pooled(&inner.bare_output("pooled")).unwrap().width, 16);
}

#[test]
fn a_linear_layer_over_places_does_not_tell_the_channels() {
    // VGG and its like pool to several places, which the linear layer takes all.
    let file = Onnx::new(BATCH)
        .weights("conv.w", &[16, 3, 1, 1])
        .node("Conv", &["image", "conv.w"], "conv", &[])
        .node("MaxPool", &["conv"], "small", &[])
        .node("Flatten", &["small"], "flat", &[("axis", 1)])
        .weights("fc.w", &[10, 64])
        .node("Gemm", &["flat", "fc.w"], "logits", &[("transB", 1)])
        .bare_output("logits");
    assert_eq!(pooled(&file).unwrap().width, 64);
    let found = cut_and_pool(&file, FeatureRule::Pooled, Some(Pool::Gem), None).unwrap();
    assert_eq!(found.width, 16);
}

#[test]
fn what_is_no_map_cannot_be_pooled() {
    let refused = |file: &Onnx| {
        let found = cut_and_pool(file, FeatureRule::Pooled, Some(Pool::Gem), None);
        match found.unwrap_err() {
            Unfit::Network(reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    let tokens = [BATCH, Dim::Fixed(50), Dim::Fixed(16)];
    let reason = refused(&Onnx::with_body(BATCH, 16).output("relu", &tokens));
    assert!(reason.starts_with("the tensor `relu` has 3 axes and cannot be pooled"), "{reason}");
    // A linear layer before the last one.
    let rows = Onnx::with_body(BATCH, 16)
        .weights("a.w", &[16, 12])
        .node("Gemm", &["pooled", "a.w"], "a", &[])
        .weights("b.w", &[12, 10])
        .node("Gemm", &["a", "b.w"], "b", &[])
        .bare_output("b");
    assert!(refused(&rows).starts_with("the tensor `a` has 2 axes"), "{}", refused(&rows));
    // A transformer's mean, whose tokens the file does not declare.
    let mean = Onnx::with_body(BATCH, 16)
        .shape("axes", &[1])
        .node("ReduceMean", &["relu", "axes"], "mean", &[])
        .bare_output("mean");
    assert!(refused(&mean).contains("`mean` is pooled from tokens"), "{}", refused(&mean));
}

#[test]
fn a_mean_over_tokens_does_not_tell_the_width() {
    let file = Onnx::with_body(BATCH, 16)
        .field(value_info_field(
            13,
            "relu",
            &[BATCH, Dim::Fixed(50), Dim::Fixed(16), Dim::Fixed(1)],
        ))
        .shape("axes", &[1])
        .node("ReduceMean", &["relu", "axes"], "mean", &[])
        .bare_output("mean");
    assert_eq!(pooled(&file).unwrap_err(), Unfit::UnknownWidth { tensor: "mean".into() });
}

#[test]
fn classes_that_are_pooled_are_no_features() {
    // SqueezeNet.
    let file = Onnx::new(BATCH)
        .weights("conv.w", &[16, 3, 1, 1])
        .node("Conv", &["image", "conv.w"], "conv", &[])
        .weights("fc.w", &[10, 16, 1, 1])
        .node("Conv", &["conv", "fc.w"], "scores", &[])
        .node("Relu", &["scores"], "relu", &[])
        .node("GlobalAveragePool", &["relu"], "pooled", &[])
        .node("Softmax", &["pooled"], "probabilities", &[])
        .bare_output("probabilities");
    let cut = pooled(&file).unwrap();
    assert_eq!(cut.width, 16);
    assert_eq!(cut.removed.join(" "), "Conv Relu GlobalAveragePool Softmax");
    assert_eq!(cut.describe()[4], "GlobalAveragePool(conv) -> likeness_features_0");
}

#[test]
fn weights_that_the_graph_fills_in_tell_the_width() {
    let file = Onnx::with_body(BATCH, 16)
        .shape("fc.shape", &[16, 10])
        .node("ConstantOfShape", &["fc.shape"], "fc.w", &[])
        .node("MatMul", &["pooled", "fc.w"], "logits", &[])
        .bare_output("logits");
    assert_eq!(pooled(&file).unwrap().width, 16);
}

#[test]
fn a_network_of_16_bit_floats_is_given_32() {
    let dims = [BATCH, Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
    // The type stands before the shape: its number is that of 32-bit floats, 1.
    let mut graph = value_info_field(11, "image", &dims);
    let at = graph.windows(2).rposition(|pair| pair == [8, 1]).unwrap();
    let at = graph[..at].windows(2).position(|pair| pair == [8, 1]).unwrap_or(at);
    graph[at + 1] = 10;
    let file = Onnx { ir_version: 8, graph }
        .tensor("conv.w", 10, &[16, 3, 1, 1], &[0; 96])
        .node("Conv", &["image", "conv.w"], "conv", &[])
        .node("GlobalAveragePool", &["conv"], "pooled", &[])
        .bare_output("pooled");
    let described = pooled(&file).unwrap().describe();
    assert_eq!(described[0], "Cast(image_likeness_32bit) -> image");
    assert_eq!(described[1], "input image_likeness_32bit [N,3,8,8]");
    assert!(described.iter().any(|line| line.starts_with("Cast(pooled)")), "{described:?}");
}

#[test]
fn a_convolution_over_pooled_features_is_a_classifier() {
    let file = Onnx::with_body(BATCH, 16)
        .weights("fc.w", &[10, 16, 1, 1])
        .node("Conv", &["pooled", "fc.w"], "scores", &[])
        .node("Flatten", &["scores"], "logits", &[("axis", 1)])
        .bare_output("logits");
    let cut = pooled(&file).unwrap();
    assert_eq!(cut.removed.join(" "), "Conv Flatten");
    assert_eq!(cut.describe().last().unwrap(), "Flatten(pooled) -> likeness_features_0");
}

#[test]
fn features_between_quantise_steps_are_taken_before_the_rounding() {
    let file = Onnx::with_body(BATCH, 16)
        .weights("s", &[])
        .tensor("z", UINT8, &[], &[0])
        .node("Flatten", &["pooled"], "flat", &[("axis", 1)])
        .node("QuantizeLinear", &["flat", "s", "z"], "flat.q", &[])
        .node("DequantizeLinear", &["flat.q", "s", "z"], "flat.dq", &[])
        .tensor("fc.q", 3, &[10, 16], &[0; 160])
        .node("DequantizeLinear", &["fc.q", "s"], "fc.w", &[])
        .node("Gemm", &["flat.dq", "fc.w"], "logits", &[("transB", 1)])
        .bare_output("logits");
    let cut = pooled(&file).unwrap();
    let rest = ["Flatten(pooled) -> flat", "output flat [N,16]"];
    assert_eq!(cut.describe(), [&BODY[..], &rest].concat());
}

#[test]
fn quantised_features_are_dequantised() {
    let body = || {
        Onnx::with_body(BATCH, 16)
            .weights("s", &[])
            .tensor("z", UINT8, &[], &[0])
            .tensor("fc.q", 3, &[16, 10], &[0; 160])
            .node("QuantizeLinear", &["pooled", "s", "z"], "pooled.q", &[])
    };
    let head = ["flat.q", "s", "z", "fc.q", "s", "z", "s", "z"];
    let matmul = body()
        .node("Reshape", &["pooled.q", "any"], "flat.q", &[])
        .node("QLinearMatMul", &head, "product", &[])
        .microsoft("QLinearAdd", &["product", "s", "z", "b", "s", "z", "s", "z"], "sum")
        .node("DequantizeLinear", &["sum", "s", "z"], "logits", &[])
        .bare_output("logits");
    let described = pooled(&matmul).unwrap().describe();
    let rest = [
        "weights s",
        "weights z",
        "QuantizeLinear(pooled,s,z) -> pooled.q",
        "Reshape(pooled.q,any) -> flat.q",
        "output likeness_features_1 [N,16]",
        "DequantizeLinear(flat.q,s,z) -> likeness_features_0",
        "Flatten(likeness_features_0) -> likeness_features_1",
    ];
    assert_eq!(described, [&BODY[..], &rest].concat());

    // Nothing between the rounding and the layer: the floats before it are there to be had.
    let head = ["pooled.q", "s", "z", "fc.q", "s", "z", "", "s", "z"];
    let gemm = body().microsoft("QGemm", &head, "logits").bare_output("logits");
    let cut = pooled(&gemm).unwrap();
    assert_eq!((cut.output.as_str(), cut.width), ("pooled", 16));
}

#[test]
fn half_precision_features_become_floats() {
    let file = Onnx::new(BATCH)
        .node("Cast", &["image"], "half", &[("to", 10)])
        .node("GlobalAveragePool", &["half"], "pooled", &[])
        .node("Flatten", &["pooled"], "flat", &[("axis", 1)])
        .tensor("fc.w", 10, &[10, 3], &[0; 60])
        .node("Gemm", &["flat", "fc.w"], "logits", &[("transB", 1)])
        .bare_output("logits");
    let described = pooled(&file).unwrap().describe();
    assert_eq!(described.last().unwrap(), "Cast(flat) -> likeness_features_0");
}

#[test]
fn a_named_tensor_is_taken() {
    let rule = |name: &str| FeatureRule::Tensor(name.into());
    let found = cut(&classifier(), rule("pooled"), None).unwrap();
    assert_eq!((found.output.as_str(), found.width), ("likeness_features_0", 16));
    assert_eq!(found.removed.join(" "), "Flatten Gemm Softmax");
    let missing = cut(&classifier(), rule("fc.w"), None).unwrap_err();
    let tail = [
        "Conv → conv",
        "Relu → relu",
        "GlobalAveragePool → pooled",
        "Flatten → flat",
        "Gemm → logits",
        "Softmax → probabilities",
    ];
    let tail = tail.map(str::to_owned).to_vec();
    assert_eq!(missing, Unfit::NoTensor { tensor: "fc.w".into(), tail });
}

#[test]
fn an_end_that_is_not_understood_is_shown() {
    let file = Onnx::with_body(BATCH, 16).node("TopK", &["pooled"], "top", &[]).bare_output("top");
    let refused = pooled(&file).unwrap_err();
    let Unfit::Head { reason, tail } = refused else { panic!("{refused:?}") };
    assert_eq!(reason, "a TopK stands where a linear layer or a pooling layer was expected");
    assert_eq!(tail.last().unwrap(), "TopK → top");
}

#[test]
fn what_an_inner_graph_uses_is_kept() {
    // The branch of an If uses `outer`, which nothing else does.
    let mut branch = node_field("Relu", &["outer"], "inner", &[]);
    branch.extend(value_info_field(12, "inner", &[]));
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, b"then_branch");
    put_bytes(&mut attribute, 6, &branch);
    let mut node = Vec::new();
    put_bytes(&mut node, 1, b"condition");
    put_bytes(&mut node, 2, b"chosen");
    put_bytes(&mut node, 4, b"If");
    put_bytes(&mut node, 5, &attribute);
    let file = Onnx::new(BATCH)
        .weights("condition", &[])
        .node("Relu", &["image"], "outer", &[])
        .part(1, &node)
        .node("GlobalAveragePool", &["chosen"], "pooled", &[])
        .bare_output("pooled");
    let cut = cut(&file, FeatureRule::Pooled, Some(3)).unwrap();
    assert!(cut.describe().contains(&"Relu(image) -> outer".into()), "{:?}", cut.describe());
}

#[test]
fn a_network_that_takes_something_else_is_refused() {
    let refused = |file: &Onnx| match pooled(file).unwrap_err() {
        Unfit::Network(reason) => reason,
        other => panic!("{other:?}"),
    };
    let dims = [BATCH, Dim::Fixed(1), Dim::Fixed(8), Dim::Fixed(8)];
    let input = |dims: &[Dim<'_>]| Onnx { ir_version: 8, graph: value_info_field(11, "x", dims) };
    assert_eq!(refused(&input(&dims)), "its input `x` does not take 3 colour channels");
    assert_eq!(refused(&input(&dims[..2])), "its input `x` has 2 axes, expected 4");
    let wide = [BATCH, Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(9)];
    assert_eq!(refused(&input(&wide)), "its input `x` takes 9 × 8 pixels, expected a square");
    let two = classifier().field(value_info_field(11, "mask", &[]));
    assert_eq!(refused(&two), "it has 2 inputs (image, mask), expected 1");
    let twice = classifier().node("Relu", &["conv"], "relu", &[]);
    assert_eq!(refused(&twice), "the tensor `relu` is made twice");
    let mut external = Vec::new();
    put_int(&mut external, 2, FLOAT);
    put_bytes(&mut external, 8, b"far");
    put_int(&mut external, 14, 1);
    let far = Onnx::with_body(BATCH, 3).part(5, &external);
    let far = far.node("Add", &["pooled", "far"], "sum", &[]).bare_output("sum");
    assert_eq!(
        refused(&far),
        "the weights `far` lie in another file; `likeness model import` brings them in"
    );
}

#[test]
fn a_graph_that_bites_its_own_tail_ends() {
    let file = Onnx::new(BATCH)
        .node("Add", &["image", "b"], "a", &[])
        .node("Identity", &["a"], "b", &[])
        .bare_output("b");
    assert!(matches!(pooled(&file), Err(Unfit::Head { .. })));
    let named = cut(&file, FeatureRule::Tensor("b".into()), None).unwrap_err();
    assert_eq!(named, Unfit::UnknownWidth { tensor: "b".into() });
}

#[test]
fn a_file_of_another_kind_is_malformed() {
    let first = |bytes: &[u8]| take_features(bytes, &FeatureRule::Pooled, None, None).unwrap_err();
    assert_eq!(first(b""), Unfit::Malformed(Malformed::NoGraph));
    assert_eq!(first(b"version https://git-lfs"), Unfit::Malformed(Malformed::WireType(6)));
    let whole = classifier().bytes();
    assert_eq!(first(&whole[..whole.len() / 2]), Unfit::Malformed(Malformed::Truncated));
    let twice = [whole.clone(), whole].concat();
    assert_eq!(first(&twice), Unfit::Malformed(Malformed::TwoGraphs));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((0usize..2000, any::<u8>()), 0..6),
        length in 0usize..4000,
    ) {
        let mut bytes = classifier().bytes();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(length.max(1));
        for rule in [FeatureRule::Pooled, FeatureRule::Tensor("relu".into())] {
            if let Ok(graph) = take_features(&bytes, &rule, None, None) {
                // What is made of it can be read again.
                let file = graph.pieces.concat();
                prop_assert!(Model::parse(&file).is_ok());
            }
        }
    }
}
