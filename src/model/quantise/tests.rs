use super::*;
use crate::onnx::wire::{put_bytes, put_int};

/// A graph as ONNX Runtime folds it: two convolutions around a pooling, added to a shortcut.
struct Folded {
    opset: i64,
    graph: Vec<u8>,
}

impl Folded {
    fn new() -> Self {
        let dims = [Dim::Named("N"), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
        Self { opset: 11, graph: value_info_field(11, "image", &dims) }
            .weights("first.w", &[4, 3, 1, 1])
            .weights("first.b", &[4])
            .weights("second.w", &[4, 4, 1, 1])
            .node("Conv", &["image", "first.w", "first.b"], "first")
            .node("Relu", &["first"], "first_relu")
            .node("MaxPool", &["first_relu"], "pooled")
            .node("Conv", &["pooled", "second.w"], "second")
            .node("Add", &["second", "pooled"], "sum")
            .node("Relu", &["sum"], "sum_relu")
            .node("GlobalAveragePool", &["sum_relu"], "features")
    }

    fn weights(mut self, name: &str, dims: &[i64]) -> Self {
        let count = dims.iter().product::<i64>();
        let raw: Vec<u8> =
            (0..count).flat_map(|i| ((i * 37 % 19) as f32 - 9.0).to_le_bytes()).collect();
        self.graph.extend(tensor_field(name, FLOAT, dims, &raw));
        self
    }

    fn node(mut self, op: &str, inputs: &[&str], output: &str) -> Self {
        self.graph.extend(node_field(op, inputs, output, &[]));
        self
    }

    fn file(&self) -> Vec<u8> {
        let output = value_info_field(12, "features", &[Dim::Named("N"), Dim::Fixed(4)]);
        let mut opset = Vec::new();
        put_int(&mut opset, 2, self.opset);
        let mut file = Vec::new();
        put_int(&mut file, 1, 4);
        put_bytes(&mut file, 8, &opset);
        put_bytes(&mut file, 7, &[self.graph.as_slice(), output.as_slice()].concat());
        file
    }
}

/// What a network of [`Folded`] holds, each tensor with the same few values.
fn seen(quantiser: &Quantiser) -> HashMap<String, Activations> {
    let names = quantiser.observed().iter().cloned().chain([quantiser.image().to_owned()]);
    let mut values = Activations::default();
    values.add(&[1, 4, 1, 2], &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
    names.map(|name| (name, values.clone())).collect()
}

#[test]
fn what_convolutions_and_sums_take_and_give_is_rounded_behind_activations() {
    let quantiser = Quantiser::new(Folded::new().file()).unwrap();
    assert_eq!(quantiser.image(), "image");
    // What is pooled holds values of `first_relu` only, and shares its scale.
    assert_eq!(quantiser.observed(), ["first_relu", "second", "sum_relu"]);
    let observing = quantiser.observing();
    let model = Model::parse(&observing).unwrap();
    let outputs: Vec<_> = model.graph.outputs().map(|output| output.name).collect();
    assert_eq!(outputs, ["first_relu", "second", "sum_relu"]);
}

#[test]
fn the_graph_reads_rounded_tensors_and_8_bit_weights() {
    let quantiser = Quantiser::new(Folded::new().file()).unwrap();
    let bytes = quantiser.quantise(&seen(&quantiser), WeightBits::Eight);
    let model = Model::parse(&bytes).unwrap();
    assert_eq!((model.opset, model.ir_version), (OPSET, IR_VERSION));
    let trace = Trace::new(&model.graph).unwrap();
    let inputs = |tensor: &str| trace.maker(tensor).unwrap().inputs.clone();
    assert_eq!(
        inputs("second"),
        ["pooled_likeness_rounded", "second_likeness_weights", "second_likeness_bias"]
    );
    assert_eq!(inputs("sum"), ["second_likeness_rounded", "pooled_likeness_rounded"]);
    assert_eq!(inputs("sum_relu"), ["sum"]);
    assert_eq!(inputs("features"), ["sum_relu_likeness_rounded"]);
    assert!(!trace.has("first.w") && !trace.has("first.b") && !trace.has("second.w"));
    let scale =
        |tensor: &str| trace.constant(&format!("{tensor}_likeness_scale")).unwrap().floats();
    assert_eq!(scale("pooled"), scale("first_relu"));
    // Each tensor is made before it is used.
    let mut made: HashSet<&str> = model.graph.initializers().map(|tensor| tensor.name).collect();
    made.insert("image");
    for node in model.graph.nodes() {
        assert!(node.inputs.iter().all(|input| made.contains(input)), "{node:?}");
        made.extend(&node.outputs);
    }
}

#[test]
fn the_first_convolution_in_steps_of_two_goes_over_quarters_of_the_picture() {
    let network = |others: &[&str]| {
        let dims = [Dim::Named("N"), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
        let mut graph = value_info_field(11, "image", &dims);
        let lists = [("strides", &[2, 2][..]), ("pads", &[3, 3, 3, 3])];
        graph.extend(node_field_with_lists("Conv", &["image", "first.w"], "first", &lists));
        for other in others {
            graph.extend(node_field(other, &["image"], "other", &[]));
        }
        let folded = Folded { opset: 13, graph }.weights("first.w", &[4, 3, 7, 7]);
        let quantiser =
            Quantiser::new(folded.node("GlobalAveragePool", &["first"], "features").file());
        let quantiser = quantiser.unwrap();
        quantiser.quantise(&seen(&quantiser), WeightBits::Eight)
    };
    let bytes = network(&[]);
    let model = Model::parse(&bytes).unwrap();
    let trace = Trace::new(&model.graph).unwrap();
    let conv = trace.maker("first").unwrap();
    assert_eq!(conv.input(0), Some("image_likeness_rounded"));
    assert_eq!((conv.ints("strides"), conv.ints("pads")), (None, Some(&[2, 2, 1, 1][..])));
    let weights = trace.constant("first_likeness_weights_8bit").unwrap();
    assert_eq!(weights.dims, [4, 12, 4, 4]);
    let back = trace.maker("image_likeness_rounded").unwrap();
    let quarters = trace.maker(back.inputs[0]).unwrap();
    assert_eq!((quarters.op, quarters.int("blocksize", 0)), ("SpaceToDepth", 2));

    let bytes = network(&["Relu"]);
    let model = Model::parse(&bytes).unwrap();
    assert!(model.graph.nodes().all(|node| !node.is("SpaceToDepth")), "something else looks at it");
}

#[test]
fn what_is_left_of_folded_weights_is_no_input() {
    let mut folded = Folded::new();
    // As before file version 4: the weights that remain, and one that went.
    folded.graph.extend(value_info_field(11, "first.w", &[Dim::Fixed(4); 4]));
    folded.graph.extend(value_info_field(11, "bn.scale", &[Dim::Fixed(4)]));
    let quantiser = Quantiser::new(folded.file()).unwrap();
    assert_eq!(quantiser.image(), "image");
    let bytes = quantiser.quantise(&seen(&quantiser), WeightBits::Eight);
    let inputs = Model::parse(&bytes).unwrap();
    let inputs: Vec<_> = inputs.graph.inputs().map(|input| input.name).collect();
    assert_eq!(inputs, ["image"]);
}

#[test]
fn the_same_values_give_the_same_network() {
    let quantiser = Quantiser::new(Folded::new().file()).unwrap();
    let network = || quantiser.quantise(&seen(&quantiser), WeightBits::Eight);
    assert_eq!(network(), network());
    assert_ne!(network(), quantiser.quantise(&seen(&quantiser), WeightBits::Seven));
}

#[test]
fn what_cannot_be_quantised_is_refused_with_its_reason() {
    let refused = |folded: Folded| Quantiser::new(folded.file()).err().unwrap();
    let eight_bits = Folded::new().node("QuantizeLinear", &["features"], "rounded");
    assert_eq!(refused(eight_bits), "it computes in 8 bits already (QuantizeLinear)");
    let old = refused(Folded::new().node("Softmax", &["features"], "shares"));
    assert!(old.contains("Softmax of opset 11") && old.contains("opset 13 or later"), "{old}");
    let newer = Folded { opset: 17, ..Folded::new().node("Softmax", &["features"], "shares") };
    assert!(Quantiser::new(newer.file()).is_ok());
    let graph = value_info_field(11, "image", &[Dim::Unknown; 4]);
    let none = Folded { opset: 17, graph }.node("Relu", &["image"], "features");
    assert_eq!(refused(none), "it has no convolution with constant weights");
    assert!(Quantiser::new(vec![1, 2, 3]).is_err());
}

#[test]
fn a_tensor_with_a_name_of_ours_is_refused() {
    let reason = Quantiser::new(Folded::new().node("Relu", &["sum"], "a_likeness_b").file()).err();
    assert!(reason.unwrap().contains("a_likeness_b"));
}
