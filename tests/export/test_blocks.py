"""The first convolution over blocks of pixels gives the same bytes, and nothing in it can be changed unseen."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mnist_edge.bundle.layout import Format
from mnist_edge.errors import ModelFormatError, ParityError
from mnist_edge.export import blocks, int8_static
from mnist_edge.export.c import reading
from mnist_edge.runtime.session import Session
from mnist_edge.training import checkpoint
from tests.helpers import given

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 1, 28, 28), dtype=np.uint8)

FIRST = "image/blocks"
"""The first node of a graph that reads blocks."""


def network(outputs, kernel, pads=(0, 0, 0, 0), **attributes):
    """A float32 graph: a convolution with random weights, its ReLU, and a linear layer."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(outputs, 1, *kernel)).astype(np.float32)
    steps, apart = (attributes.get(name, (1, 1)) for name in ("strides", "dilations"))
    reach = [apart[axis] * (kernel[axis] - 1) for axis in (0, 1)]
    sides = ((27 + pads[axis] + pads[axis + 2] - reach[axis]) // steps[axis] + 1 for axis in (0, 1))
    constants = {
        "first.weight": weight,
        "first.bias": rng.normal(size=outputs).astype(np.float32),
        "last.weight": rng.normal(size=(10, outputs * np.prod([*sides]))).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["cast", "first.weight", "first.bias"], ["first"], "first", pads=pads, **attributes),
        helper.make_node("Relu", ["first"], ["relu"], "relu"),
        helper.make_node("Flatten", ["relu"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "last.weight"], ["logits"], "last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def quantized(*arguments, **attributes):
    return int8_static.quantize(network(*arguments, **attributes), IMAGES, IMAGES[:1])


def logits(model):
    return Session(model.SerializeToString()).run(["logits"], {"image": IMAGES})[0]


def by_reference(model):
    """By ONNX's own implementation; it needs opset 19, in which these operators are what they are in 18."""
    newer = onnx.ModelProto.FromString(model.SerializeToString())
    newer.opset_import[0].version = 19
    return ReferenceEvaluator(newer).run(["logits"], {"image": IMAGES})[0]


def constants_of(model):
    return {tensor.name: tensor for tensor in model.graph.initializer}


def changed(model, name, place):
    """A copy of a model with one number of a constant changed."""
    copied = onnx.ModelProto.FromString(model.SerializeToString())
    tensor = constants_of(copied)[name]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[place] += 1
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copied


@pytest.mark.parametrize(
    ("outputs", "kernel", "pads"),
    [
        (16, (3, 3), (1, 1, 1, 1)),
        (4, (5, 5), (0, 0, 0, 0)),
        (8, (5, 5), (2, 2, 2, 2)),
        (4, (1, 1), (0, 0, 0, 0)),
        (4, (2, 6), (0, 3, 1, 2)),
        (4, (4, 9), (3, 0, 0, 0)),
        (4, (3, 13), (1, 6, 1, 6)),
    ],
)
def test_blocks_give_the_same_logits(outputs, kernel, pads):
    wide = quantized(outputs, kernel, pads)
    assert wide.graph.node[0].name == FIRST
    onnx.checker.check_model(wide, full_check=True)
    plain = blocks.narrow(wide)
    assert FIRST not in {node.name for node in plain.graph.node}
    weight = numpy_helper.to_array(constants_of(plain)["first/weight"])
    assert weight.shape == (outputs, 1, *kernel)
    np.testing.assert_array_equal(logits(wide), logits(plain))
    np.testing.assert_array_equal(by_reference(wide), by_reference(plain))
    assert logits(wide).std() > 0


@pytest.mark.parametrize(
    ("outputs", "kernel", "attributes"),
    [
        (6, (5, 5), {}),  # 24 outputs are no multiple of 16
        (16, (3, 3), {}),  # 26 columns are no whole blocks
        (16, (2, 2), {"strides": (2, 2)}),
        (16, (2, 3), {"dilations": (1, 2)}),
    ],
)
def test_other_layers_stay_as_they_are(outputs, kernel, attributes):
    assert quantized(outputs, kernel, **attributes).graph.node[0].name != FIRST


def test_columns_of_zeros_are_kept_or_left_out_as_asked():
    model = network(4, (3, 5), (1, 2, 1, 2))
    tensor = constants_of(model)["first.weight"]
    weight = numpy_helper.to_array(tensor).copy()
    weight[..., 0], weight[..., 3:] = 0, 0
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    wide = int8_static.quantize(model, IMAGES, IMAGES[:1])
    for extent, width in ((None, 3), ((2, 5), 5)):
        plain = blocks.narrow(wide, extent)
        assert numpy_helper.to_array(constants_of(plain)["first/weight"]).shape == (4, 1, 3, width)
        np.testing.assert_array_equal(logits(plain), logits(wide))


@pytest.mark.parametrize("name", ["features.0/weight", "features.0/weight_scale", "features.0/bias"])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_no_number_can_be_changed_unseen(bundle_dir, name, place):
    """In a kernel over blocks the first number is zero and stays it, others stand for one and the same weight."""
    model = onnx.load(bundle_dir / Format.INT8_STATIC.file_name)
    assert model.graph.node[0].name == FIRST
    trained = checkpoint.load(bundle_dir)
    int8_static.check_weights(model.SerializeToString(), "file", given(trained))
    edited = changed(model, name, place)
    with pytest.raises(ParityError, match="is not the trained one, quantized"):
        int8_static.check_weights(edited.SerializeToString(), "file", given(trained))
    with pytest.raises(ModelFormatError, match="contradicts itself"):
        reading.layers(edited.SerializeToString())


def renamed(model):
    (conv,) = (node for node in model.graph.node if node.name == "features.0")
    conv.name = "another"


def without_shape(model):
    (shape,) = (tensor for tensor in model.graph.initializer if tensor.name == "features.0/q/shape")
    model.graph.initializer.remove(shape)


def flattened(model):
    tensor = constants_of(model)["features.0/weight"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).ravel(), tensor.name))


@pytest.mark.parametrize("change", [renamed, without_shape, flattened])
def test_what_is_no_such_graph_is_refused_in_one_line(bundle_dir, change):
    model = onnx.load(bundle_dir / Format.INT8_STATIC.file_name)
    change(model)
    with pytest.raises(ParityError, match="is not the trained one, quantized"):
        int8_static.check_weights(model.SerializeToString(), "file", given(checkpoint.load(bundle_dir)))
    with pytest.raises(ModelFormatError, match="contradicts itself"):
        reading.layers(model.SerializeToString())
