"""Folding on hand-built graphs: each computes the same before and after, by ONNX's reference implementation."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mnist_edge.export import folding


class Graph:
    """Builds a graph that reads `x` and returns what was added last."""

    def __init__(self, *shape, pixels=False):
        self.shape, self.pixels = shape, pixels
        self.nodes, self.constants = [], {}
        self.random = np.random.default_rng(0)
        self.names = (f"n{number}" for number in itertools.count())

    def constant(self, value):
        name = next(self.names)
        self.constants[name] = np.asarray(value, None if isinstance(value, np.ndarray) else np.float32)
        return name

    def weight(self, *shape):
        return self.constant(self.random.normal(size=shape).astype(np.float32))

    def add(self, kind, *inputs, **attributes):
        name = next(self.names)
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def batch_norm(self, value, channels, gamma=None):
        gamma = self.random.uniform(0.5, 2, channels) if gamma is None else np.array(gamma)
        numbers = (gamma, self.random.normal(size=channels), self.random.normal(size=channels), np.ones(channels) * 2)
        constants = [self.constant(each.astype(np.float32)) for each in numbers]
        return self.add("BatchNormalization", value, *constants)

    def model(self, output):
        for node in self.nodes:
            node.output[:] = ["y" if name == output else name for name in node.output]
            node.input[:] = ["y" if name == output else name for name in node.input]
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.UINT8 if self.pixels else TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)

    def images(self):
        shape = [3 if side == "N" else side for side in self.shape]
        if self.pixels:
            return self.random.integers(0, 256, shape, dtype=np.uint8)
        return self.random.normal(size=shape).astype(np.float32)


def folded(graph, output):
    """The folded graph, after checking that it computes the same."""
    before = graph.model(output)
    after = folding.fold(before)
    onnx.checker.check_model(after, full_check=True)
    images = graph.images()
    (expected,), (actual,) = (ReferenceEvaluator(model).run(None, {"x": images}) for model in (before, after))
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())
    assert actual.dtype == np.float32
    assert all(tensor.data_type != TensorProto.DOUBLE for tensor in after.graph.initializer)
    assert after.SerializeToString() == folding.fold(before).SerializeToString()
    return after


def kinds(graph, output):
    return [node.op_type for node in folded(graph, output).graph.node]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("group", "inputs"), [(1, 4), (2, 2), (4, 1)])
def test_batch_norm_after_a_convolution(bias, group, inputs):
    graph = Graph("N", 4, 6, 6)
    biases = [graph.weight(8)] if bias else []
    value = graph.add("Conv", "x", graph.weight(8, inputs, 3, 3), *biases, pads=[1, 1, 1, 1], group=group)
    assert kinds(graph, graph.batch_norm(value, 8)) == ["Conv"]


def test_batch_norm_after_a_convolution_in_one_dimension():
    graph = Graph("N", 4, 9)
    value = graph.add("Conv", "x", graph.weight(8, 4, 3), strides=[2])
    assert kinds(graph, graph.batch_norm(value, 8)) == ["Conv"]


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [([1, 2, 0.5], ["Conv", "MaxPool"]), ([1, -2, 0.5], ["Conv", "MaxPool", "Mul", "Add"])],
    ids=["positive", "one negative"],
)
def test_batch_norm_after_a_pool(gamma, expected):
    """A negative scale turns the maximum into a minimum."""
    graph = Graph("N", 2, 6, 6)
    value = graph.add("Conv", "x", graph.weight(3, 2, 3, 3))
    value = graph.add("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    assert kinds(graph, graph.batch_norm(value, 3, gamma)) == expected


@pytest.mark.parametrize(("group", "inputs"), [(1, 4), (2, 2)])
def test_batch_norm_before_a_convolution(group, inputs):
    graph = Graph("N", 4, 6, 6)
    value = graph.batch_norm(graph.add("Relu", "x"), 4, [1, -2, 3, 0])
    value = graph.add("Conv", value, graph.weight(8, inputs, 3, 3), graph.weight(8), group=group)
    assert kinds(graph, value) == ["Relu", "Conv"]


def test_batch_norm_before_a_convolution_that_pads():
    """The padding comes after it, so it is not shifted."""
    graph = Graph("N", 2, 6, 6)
    value = graph.add("Conv", graph.batch_norm("x", 2), graph.weight(3, 2, 3, 3), pads=[1, 0, 1, 2])
    assert kinds(graph, value) == ["Mul", "Add", "Conv"]


def test_batch_norm_of_one_channel_before_a_convolution_that_pads():
    graph = Graph("N", 1, 6, 6)
    value = graph.add("Conv", graph.batch_norm("x", 1), graph.weight(3, 1, 3, 3), pads=[1, 0, 1, 2])
    assert kinds(graph, value) == ["Pad", "Conv"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_batch_norm_around_a_gemm(transposed):
    graph = Graph("N", 5)
    weight = graph.weight(*((4, 5) if transposed else (5, 4)))
    value = graph.batch_norm(graph.add("Relu", "x"), 5, [1, -2, 3, 0, 1])
    value = graph.add("Gemm", value, weight, graph.weight(4), transB=transposed, alpha=0.5, beta=3.0)
    assert kinds(graph, graph.batch_norm(value, 4)) == ["Relu", "Gemm"]


def test_what_surrounds_a_matmul():
    graph = Graph("N", 3, 5)
    value = graph.add("Add", graph.add("Mul", "x", graph.weight(5)), graph.weight(5))
    value = graph.add("Add", graph.add("MatMul", value, graph.weight(5, 4)), graph.weight(4))
    assert kinds(graph, graph.add("Mul", value, graph.weight(4))) == ["MatMul", "Add"]


def test_what_differs_from_place_to_place_stays():
    """As position embeddings do."""
    graph = Graph("N", 3, 5)
    value = graph.add("Add", graph.add("MatMul", "x", graph.weight(5, 4)), graph.weight(1, 3, 4))
    value = graph.add("MatMul", graph.add("Mul", value, graph.weight(3, 1)), graph.weight(4, 2))
    assert kinds(graph, value) == ["MatMul", "Add", "Mul", "MatMul"]


def normalized(graph, mean, *, inverted=False, transposed=False):
    value = graph.add("Cast", "x", to=TensorProto.FLOAT)
    value = graph.add("Sub", graph.constant(255), value) if inverted else value
    value = graph.add("Transpose", value, perm=[0, 1, 3, 2]) if transposed else value
    value = graph.add("Sub", graph.add("Div", value, graph.constant(255)), graph.constant(mean))
    return graph.add("Div", value, graph.constant(0.3081))


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    ("mean", "pads", "expected"),
    [
        (0.0, [1] * 4, "Conv"),
        (0.1307, [0] * 4, "Conv"),
        (0.1307, [1] * 4, "Pad Conv"),
        (0.1307, [0, 1, 2, 3], "Pad Conv"),
    ],
)
def test_the_pixels_normalization_before_a_convolution(mean, pads, expected, inverted):
    graph = Graph("N", 1, 8, 8, pixels=True)
    weight = graph.weight(4, 1, 3, 3)
    value = graph.add("Conv", normalized(graph, mean, inverted=inverted), weight, pads=pads)
    if inverted and any(pads):
        expected = "Pad Conv"  # white is what the padding was
    assert kinds(graph, graph.add("Relu", value)) == ["Cast", *expected.split(), "Relu"]


@pytest.mark.parametrize(
    "arranged", [{}, {"inverted": True}, {"transposed": True}, {"inverted": True, "transposed": True}]
)
def test_the_pixels_normalization_before_a_linear_layer(arranged):
    graph = Graph("N", 1, 4, 5, pixels=True)
    value = graph.add("Flatten", normalized(graph, 0.5, **arranged))
    value = graph.add("Gemm", value, graph.weight(3, 20), graph.weight(3), transB=1)
    transposed = ["Transpose"] if "transposed" in arranged else []
    found = kinds(graph, value)
    assert [kind for kind in found if kind not in ("Flatten", "Reshape")] == ["Cast", *transposed, "Gemm"]


def test_the_pixels_normalization_before_patches():
    graph = Graph("N", 1, 4, 4, pixels=True)
    value = graph.add("Reshape", normalized(graph, 0.5), graph.constant(np.array([-1, 2, 2, 2, 2])))
    value = graph.add("Transpose", value, perm=[0, 1, 3, 2, 4])
    value = graph.add("Reshape", value, graph.constant(np.array([-1, 4, 4])))
    value = graph.add("MatMul", value, graph.weight(4, 3))
    assert kinds(graph, value) == ["Cast", "Reshape", "Transpose", "Reshape", "MatMul", "Add"]


def test_a_normalization_that_several_read_is_one_multiplication_and_one_addition():
    graph = Graph("N", 1, 8, 8, pixels=True)
    value = normalized(graph, 0.1307)
    branches = [graph.add("Conv", value, graph.weight(2, 1, side, side), pads=[side // 2] * 4) for side in (1, 3)]
    assert kinds(graph, graph.add("Concat", *branches, axis=1)) == ["Cast", "Mul", "Add", "Conv", "Conv", "Concat"]


def test_a_shared_weight_is_not_folded_into():
    graph = Graph("N", 2, 6, 6)
    weight = graph.weight(2, 2, 1, 1)
    first = graph.batch_norm(graph.add("Conv", "x", weight), 2)
    second = graph.batch_norm(graph.add("Conv", first, weight), 2)
    assert sorted(kinds(graph, second)) == ["Add", "Add", "Conv", "Conv", "Mul", "Mul"]


def test_a_shared_bias_is_not_changed_for_the_other_layer():
    graph = Graph("N", 2, 6, 6)
    bias = graph.weight(2)
    first = graph.add("Conv", graph.batch_norm("x", 2), graph.weight(2, 2, 3, 3), bias)
    assert kinds(graph, graph.add("Conv", first, graph.weight(2, 2, 3, 3), bias)) == ["Conv", "Conv"]


def test_a_convolution_with_another_reader_is_not_folded_into():
    graph = Graph("N", 2, 6, 6)
    value = graph.add("Conv", "x", graph.weight(2, 2, 1, 1))
    assert sorted(kinds(graph, graph.add("Add", graph.batch_norm(value, 2), value))) == ["Add", "Add", "Conv", "Mul"]


def test_a_bias_that_is_computed_is_no_constant():
    graph = Graph("N", 2, 6, 6)
    bias = graph.add("Reshape", graph.add("ReduceMean", "x", keepdims=0), graph.constant(np.array([1])))
    value = graph.add("Conv", "x", graph.weight(1, 2, 3, 3), bias)
    assert "Mul" in kinds(graph, graph.add("Mul", value, graph.weight(1, 1, 1)))


def test_what_does_nothing_is_removed():
    graph = Graph("N", 2, 6, 6)
    value = graph.add("Dropout", graph.add("Identity", "x"))
    value = graph.add("Transpose", graph.add("Transpose", value, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    value = graph.add("Cast", graph.add("Relu", value), to=TensorProto.FLOAT)
    assert kinds(graph, value) == ["Relu"]


def test_single_operations_are_left_to_fusions_of_the_runtime():
    """onnxruntime knows a GELU by its division."""
    graph = Graph("N", 2, 6, 6)
    value = graph.add("Erf", graph.add("Div", graph.add("Relu", "x"), graph.constant(1.4142135)))
    assert kinds(graph, value) == ["Relu", "Div", "Erf"]


@pytest.mark.parametrize(("kind", "pool"), [("ReduceMean", "GlobalAveragePool"), ("ReduceMax", "MaxPool")])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_pools_over_whole_images(kind, pool, keepdims, axes):
    graph = Graph("N", 2, 6, 5)
    value = graph.add(kind, graph.add("Relu", "x"), graph.constant(np.array(axes)), keepdims=keepdims)
    assert kinds(graph, value) == ["Relu", pool] + ["Flatten"] * (not keepdims)


@pytest.mark.parametrize("axes", [[1, 2], [3]])
def test_other_means_are_no_pools(axes):
    graph = Graph("N", 2, 6, 5)
    value = graph.add("ReduceMean", graph.add("Relu", "x"), graph.constant(np.array(axes)))
    assert kinds(graph, value) == ["Relu", "ReduceMean"]


def test_folding_is_rounded_only_once():
    """In float32 from step to step, the product of these scales would be off in its last bits."""
    graph = Graph("N", 1)
    scales = [np.float32(value) for value in (1.1, 0.7, 3.3, 0.123)]
    value = graph.add("MatMul", "x", graph.constant(np.ones((1, 1), np.float32)))
    for scale in scales:
        value = graph.add("Mul", value, graph.constant(scale))
    (tensor,) = folded(graph, value).graph.initializer
    assert numpy_helper.to_array(tensor).item() == np.float32(np.prod([float(scale) for scale in scales]))
