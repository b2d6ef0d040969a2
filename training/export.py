"""Writes both branches and their projections as one ONNX file with weights of 8 bits."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import network
import patches


class Graph:
    """Nodes and initializers as they are added."""

    def __init__(self):
        self.nodes, self.initializers, self.shared = [], [], {}

    def name(self, stem):
        return f"{stem}_{len(self.nodes) + len(self.initializers)}"

    def add(self, op, *inputs, output=None, **attributes):
        output = output or self.name(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, array, dtype=np.float32):
        array = np.asarray(array, dtype=dtype)
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self.shared:
            self.shared[key] = self.name("constant")
            self.initializers.append(numpy_helper.from_array(array, self.shared[key]))
        return self.shared[key]

    def weight(self, array, axis):
        """8 bits and a factor for each index of `axis`; ONNX Runtime folds Cast and Mul when it loads."""
        others = tuple(i for i in range(array.ndim) if i != axis)
        factor = np.maximum(np.abs(array).max(others, keepdims=True) / 127, 1e-12).astype(np.float32)
        whole = np.clip(np.rint(array / factor), -127, 127)
        wide = self.add("Cast", self.constant(whole, np.int8), to=TensorProto.FLOAT)
        return self.add("Mul", wide, self.constant(factor))

    def half(self, array):
        """16 bits: for the few weights whose rounding would be felt."""
        return self.add("Cast", self.constant(array, np.float16), to=TensorProto.FLOAT)


def numpy(tensor):
    return tensor.detach().cpu().numpy().astype(np.float32)


def patch_scale(graph, x, scale):
    """As patches.Scale does it; `x` is already reduced."""
    stride = [scale.stride, scale.stride]
    x = graph.add("Mul", x, graph.constant(1 / 64))
    mean = graph.add("Conv", x, graph.constant(numpy(scale.box)), strides=stride)
    square = graph.add("Conv", graph.add("Mul", x, x), graph.constant(numpy(scale.box)), strides=stride)
    variance = graph.add("Relu", graph.add("Sub", square, graph.add("Mul", mean, mean)))
    deviation = graph.add("Sqrt", graph.add("Add", variance, graph.constant(patches.FLOOR / 64.0**2)))
    y = graph.add("Conv", x, graph.half(numpy(scale.filters)), strides=stride)
    y = graph.add("Sub", graph.add("Div", y, deviation), graph.constant(numpy(scale.offset)))
    least = graph.add("ReduceMean", graph.add("Abs", y), axes=[1], keepdims=1)
    least = graph.add("Mul", least, graph.constant(patches.THRESHOLD))
    side = patches.places(scale, SIZE)
    edge = side // 4
    pooled = []
    for signed in (y, graph.add("Neg", y)):
        part = graph.add("Relu", graph.add("Sub", signed, least))
        centre = graph.add(
            "Slice", part, *(graph.constant(v, np.int64) for v in ([edge, edge], [side - edge, side - edge], [2, 3]))
        )
        pooled += [graph.add("GlobalAveragePool", part), graph.add("GlobalAveragePool", centre)]
    pooled = graph.add("Flatten", graph.add("Concat", *pooled, axis=1), axis=1)
    return graph.add("Sqrt", graph.add("Add", pooled, graph.constant(1e-8)))


SIZE = 128


def patch_branch(graph, x, branch):
    grey = graph.add("Conv", x, graph.constant(np.array(patches.GREY).reshape(1, 3, 1, 1)))
    reduced = {}
    for scale in branch.scales:
        key = (scale.factor, scale.channels)
        if key not in reduced:
            side = [scale.factor, scale.factor]
            source = grey if scale.channels == 1 else x
            reduced[key] = graph.add("AveragePool", source, kernel_shape=side, strides=side)
    return graph.add(
        "Concat", *(patch_scale(graph, reduced[s.factor, s.channels], s) for s in branch.scales), axis=1
    )


def convolution(graph, x, conv, norm, relu):
    """A convolution with its normalisation folded in."""
    factor = numpy(norm.weight) / np.sqrt(numpy(norm.running_var) + norm.eps)
    weight = numpy(conv.weight) * factor.reshape(-1, 1, 1, 1)
    bias = numpy(norm.bias) - numpy(norm.running_mean) * factor
    pads = [conv.padding[0], conv.padding[1]] * 2
    y = graph.add(
        "Conv", x, graph.weight(weight, 0), graph.constant(bias), strides=list(conv.stride), pads=pads
    )
    return graph.add("Relu", y) if relu else y


def conv_branch(graph, x, branch):
    x = graph.add("Sub", x, graph.constant(network.MEAN))
    x = graph.add("Mul", x, graph.constant(1 / network.STD))
    x = convolution(graph, x, branch.stem, branch.bn, True)
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    maps = []
    for layer in branch.layers:
        y = convolution(graph, x, layer.conv1, layer.bn1, True)
        y = convolution(graph, y, layer.conv2, layer.bn2, False)
        skip = x
        if layer.skip is not None:
            if isinstance(layer.skip[0], torch.nn.AvgPool2d):
                skip = graph.add("AveragePool", skip, kernel_shape=[2, 2], strides=[2, 2])
            skip = convolution(graph, skip, layer.skip[1], layer.skip[2], False)
        x = graph.add("Relu", graph.add("Add", y, skip))
        maps.append(x)
    pooled = [graph.add("GlobalAveragePool", m) for m in (maps[-2], maps[-1])]
    pooled.append(graph.add("Sqrt", graph.add("GlobalAveragePool", graph.add("Mul", maps[-1], maps[-1]))))
    pooled = graph.add("Flatten", graph.add("Concat", *pooled, axis=1), axis=1)
    return graph.add("Sqrt", graph.add("Add", pooled, graph.constant(1e-8)))


def projected(graph, x, mean, matrix, share):
    """Projects, brings to length `share`."""
    y = graph.add("MatMul", x, graph.weight(matrix, 1))
    y = graph.add("Sub", y, graph.constant((mean @ matrix).reshape(1, -1)))
    length = graph.add("ReduceL2", y, axes=[1], keepdims=1)
    length = graph.add("Add", length, graph.constant(1e-9))
    return graph.add("Mul", graph.add("Div", y, length), graph.constant(share))


def write(out, parts):
    """`parts` is a list of (branch, mean, matrix, share). Writes `out`, opset 13: `photo` float
    [batch, 3, SIZE, SIZE], RGB in [0, 255], to `features` [batch, width]. Returns the width."""
    graph = Graph()
    built = []
    for branch, mean, matrix, share in parts:
        build = patch_branch if isinstance(branch, patches.PatchBranch) else conv_branch
        built.append(projected(graph, build(graph, "photo", branch), mean, matrix, share))
    graph.add("Concat", *built, output="features", axis=1)
    width = sum(matrix.shape[1] for _, _, matrix, _ in parts)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "starter",
            [helper.make_tensor_value_info("photo", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
        producer_name="likeness training",
        doc_string="Trained on Caltech-101 (Li, Andreeto, Ranzato, Perona; CC BY 4.0).",
    )
    helper.set_model_props(model, {"Image.BitmapPixelFormat": "Rgb8", "Image.NominalPixelRange": "NominalRange_0_255"})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)
    return width
