use super::convolution::{Convolution, Method, Shape};
use super::{OPERATOR, rewritten};
use crate::onnx::encode::{node_field_with_lists, tensor_field, value_info_field};
use crate::onnx::wire::{fields, put_bytes};
use crate::onnx::{Dim, FLOAT, Model};
use crate::random::split_mix;

/// Values between -1 and 1.
fn noise(count: usize, state: &mut u64) -> Vec<f32> {
    (0..count).map(|_| (split_mix(state) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Where a value lies in pictures of `channels` with `lanes` side by side.
fn place(shape: &Shape, channels: usize, lanes: usize, at: [usize; 4]) -> usize {
    let [image, channel, row, column] = at;
    let block = image * (channels / lanes) + channel / lanes;
    ((block * shape.height + row) * shape.width + column) * lanes + channel % lanes
}

/// Sums of products, in 64 bits.
fn plain(lanes: usize, convolution: &Convolution<'_>, filters: &[f32]) -> Vec<f64> {
    let shape = convolution.shape;
    let mut output = vec![0.0; shape.output()];
    for image in 0..shape.images {
        for filter in 0..shape.filters {
            for row in 0..shape.height {
                for column in 0..shape.width {
                    let mut value = f64::from(convolution.bias[filter]);
                    for channel in 0..shape.channels {
                        for pixel in 0..9 {
                            let (y, x) = (row + pixel / 3, column + pixel % 3);
                            if (1..=shape.height).contains(&y) && (1..=shape.width).contains(&x) {
                                let from = [image, channel, y - 1, x - 1];
                                let from = place(&shape, shape.channels, lanes, from);
                                let factor =
                                    filters[(filter * shape.channels + channel) * 9 + pixel];
                                value += f64::from(convolution.input[from]) * f64::from(factor);
                            }
                        }
                    }
                    let to = place(&shape, shape.filters, lanes, [image, filter, row, column]);
                    value += convolution.sum.map_or(0.0, |sum| f64::from(sum[to]));
                    output[to] = if convolution.relu { value.max(0.0) } else { value };
                }
            }
        }
    }
    output
}

fn named(method: &Method) -> String {
    format!("tiles of {}, {} lanes", method.tile(), method.lanes)
}

/// Filters `[filters, channels, 3, 3]` as a method wants them.
fn laid_out(method: &Method, shape: &Shape, filters: &[f32]) -> Vec<f32> {
    method.filters(shape.filters, shape.channels, |filter, channel| {
        let first = (filter * shape.channels + channel) * 9;
        filters[first..first + 9].try_into().unwrap()
    })
}

/// What a method gives, on one thread.
fn run(method: &Method, convolution: &Convolution<'_>, scratch: &mut Vec<f32>) -> Vec<f32> {
    // Whatever is not written stays what no sum gives.
    let mut output = vec![f32::NAN; convolution.shape.output()];
    method.run(convolution, &mut output, scratch, |count, work| (0..count).for_each(work));
    output
}

#[test]
fn every_method_convolves() {
    let methods: Vec<_> = Method::every().collect();
    let mut scratch = vec![f32::NAN; 100];
    let mut state = 7;
    // Tiles that stand over, filters with a block without another, pictures smaller than a tile, more than one group.
    let shapes = [
        [2, 32, 48, 7, 9],
        [1, 16, 16, 5, 3],
        [3, 16, 32, 1, 1],
        [1, 32, 16, 40, 45],
        [5, 48, 32, 14, 14],
    ];
    for [images, channels, filters, height, width] in shapes {
        let shape = Shape { images, channels, filters, height, width };
        let input = noise(shape.input(), &mut state);
        let weights = noise(filters * channels * 9, &mut state);
        let bias = noise(filters, &mut state);
        let sum = noise(shape.output(), &mut state);
        for method in &methods {
            let transformed = laid_out(method, &shape, &weights);
            for (relu, sum) in [(true, None), (false, Some(&sum[..]))] {
                let (input, bias) = (&input[..], &bias[..]);
                let convolution =
                    Convolution { shape, input, filters: &transformed, bias, sum, relu };
                let wanted = plain(method.lanes, &convolution, &weights);
                let found = run(method, &convolution, &mut scratch);
                for (wanted, found) in wanted.iter().zip(&found) {
                    let off = (wanted - f64::from(*found)).abs();
                    // Sums of some hundred products of values up to 1.
                    assert!(off < 3e-4, "{shape:?}, {}: {found}, wanted {wanted}", named(method));
                }
            }
        }
    }
}

#[test]
fn a_picture_gives_the_same_bits_beside_any_others() {
    let mut state = 8;
    let shape = |images| Shape { images, channels: 32, filters: 32, height: 14, width: 14 };
    let input = noise(shape(9).input(), &mut state);
    let weights = noise(32 * 32 * 9, &mut state);
    let bias = noise(32, &mut state);
    for method in Method::every() {
        let filters = laid_out(&method, &shape(1), &weights);
        let convolved = |first: usize, images: usize| {
            let one = shape(1).input();
            let input = &input[first * one..][..images * one];
            let (shape, bias, sum, relu) = (shape(images), &bias[..], None, true);
            let convolution = Convolution { shape, input, filters: &filters, bias, sum, relu };
            run(&method, &convolution, &mut Vec::new())
        };
        let all = convolved(0, 9);
        for (image, together) in all.chunks(shape(1).output()).enumerate() {
            assert!(convolved(image, 1) == together, "image {image}, {}", named(&method));
        }
    }
}

#[test]
fn threads_write_to_places_of_their_own() {
    let mut state = 9;
    let shape = Shape { images: 2, channels: 16, filters: 48, height: 30, width: 31 };
    let input = noise(shape.input(), &mut state);
    let weights = noise(48 * 16 * 9, &mut state);
    let bias = noise(48, &mut state);
    for method in Method::every() {
        let filters = laid_out(&method, &shape, &weights);
        let (input, bias) = (&input[..], &bias[..]);
        let convolution =
            Convolution { shape, input, filters: &filters, bias, sum: None, relu: false };
        let alone = run(&method, &convolution, &mut Vec::new());
        let mut together = vec![f32::NAN; shape.output()];
        method.run(&convolution, &mut together, &mut Vec::new(), |count, work| {
            use rayon::iter::{IntoParallelIterator, ParallelIterator};
            (0..count).into_par_iter().for_each(work);
        });
        assert!(alone == together, "{}", named(&method));
    }
}

/// A convolution as ONNX Runtime writes it for blocks of channels.
fn blocked(inputs: &[&str], output: &str, lists: &[(&str, &[i64])]) -> Vec<u8> {
    let field = node_field_with_lists("Conv", inputs, output, lists);
    let mut node = fields(&field).next().unwrap().unwrap().bytes().unwrap().to_vec();
    put_bytes(&mut node, 7, b"com.microsoft.nchwc");
    let mut field = Vec::new();
    put_bytes(&mut field, 1, &node);
    field
}

#[test]
fn what_moves_by_one_pixel_is_taken_over_and_nothing_else() {
    let filters = |name, filters: i64, channels: i64| {
        let values = vec![0; (filters * channels * 9) as usize * size_of::<f32>()];
        tensor_field(name, FLOAT, &[filters, channels, 3, 3], &values)
    };
    let around: (&str, &[i64]) = ("pads", &[1, 1, 1, 1]);
    let graph = [
        value_info_field(11, "photo", &[Dim::Unknown]),
        blocked(&["photo", "few"], "a", &[around]),
        blocked(&["a", "one"], "b", &[around, ("kernel_shape", &[3, 3])]),
        // The shape of the kernel is that of the filters, where it is not said.
        blocked(&["b", "two", "bias", "a"], "c", &[around]),
        blocked(&["c", "three"], "d", &[around, ("strides", &[2, 2])]),
        blocked(&["d", "four"], "e", &[("pads", &[0, 0, 0, 0])]),
        blocked(&["e", "five"], "f", &[around, ("dilations", &[2, 2])]),
        blocked(&["f", "shared"], "g", &[around]),
        blocked(&["g", "shared"], "h", &[around]),
        filters("few", 32, 3),
        filters("shared", 32, 32),
        tensor_field("bias", FLOAT, &[32], &[0; 128]),
    ];
    let others = ["one", "two", "three", "four", "five"].map(|name| filters(name, 32, 32));
    let mut file = Vec::new();
    put_bytes(&mut file, 7, &[graph.concat(), others.concat()].concat());
    let model = Model::parse(&file).unwrap();
    let Some(parts) = rewritten(&model.graph, 28) else {
        assert!(Method::available().is_none(), "two are to be taken over");
        return;
    };

    let mut file = Vec::new();
    put_bytes(&mut file, 7, &parts.concat());
    let after = Model::parse(&file).unwrap();
    let taken: Vec<_> = after.graph.nodes().filter(|node| node.op == OPERATOR).collect();
    let inputs: Vec<_> = taken.iter().map(|node| &node.inputs[..]).collect();
    assert_eq!(
        inputs,
        [&["a", "one:winograd", "one:no-bias"][..], &["b", "two:winograd", "bias", "a"]]
    );
    assert_eq!(after.graph.nodes().count(), 8);
    let names: Vec<_> = after.graph.initializers().map(|tensor| tensor.name).collect();
    assert!(!names.contains(&"one") && names.contains(&"three"), "{names:?}");
    // Where a picture is so small that its filters outweigh it, nothing is.
    assert!(rewritten(&model.graph, 2).is_none());
}
