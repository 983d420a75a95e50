"""Which graphs onnxruntime gets to see: those whose shapes are known, and are the ones that onnxruntime computes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mnist_edge.contract import INPUT_NAME, OPSET, OUTPUT_NAME
from mnist_edge.runtime.onnx_file import admission
from mnist_edge.runtime.onnx_file.admission import VersionError, admit
from mnist_edge.runtime.onnx_file.messages import Images, read_model
from mnist_edge.runtime.onnx_file.operators import OPERATORS
from mnist_edge.runtime.onnx_file.shapes import ShapeError
from mnist_edge.runtime.session import ort

node = helper.make_node
F = np.float32
DRAW = np.random.default_rng(20)


def floats(*sides):
    return DRAW.uniform(0.1, 0.9, sides).astype(F)


def ints(*values):
    return np.array(values, np.int64)


IMAGE, ROWS, SEQUENCE = "x4", "x2", "x3"
"""Values that every graph of these tests has: [N, 4, 14, 14], [N, 784], and [28, N, 28]."""

HEAD = [
    node("Cast", [INPUT_NAME], ["x"], to=1),
    node("Reshape", ["x", "to_image"], [IMAGE]),
    node("Reshape", ["x", "to_rows"], [ROWS]),
    node("Reshape", ["x", "to_sequence"], ["by_image"]),
    node("Transpose", ["by_image"], [SEQUENCE], perm=[1, 0, 2]),
    node("Gemm", [ROWS, "weight"], [OUTPUT_NAME]),
]
HEAD_CONSTANTS = {
    "to_image": ints(-1, 4, 14, 14),
    "to_rows": ints(-1, 784),
    "to_sequence": ints(0, 28, 28),
    "weight": floats(784, 10),
}


def unary(*names, **attributes):
    return [(name, [IMAGE], attributes) for name in names]


def window(name, weights, **attributes):
    return (name, [IMAGE, floats(*weights)], attributes)


SCALE, ZERO = np.array(0.02, F), np.array(3, np.uint8)

CASES = [
    *unary("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor"),
    *unary("HardSwish", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh"),
    *unary("Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "Celu", "Elu", "LeakyRelu", "Selu"),
    *unary("ThresholdedRelu", "HardSigmoid", "Shrink", "Identity", "GlobalAveragePool", "GlobalMaxPool", "Shape"),
    *(
        (name, [IMAGE, other], {})
        for name in ("Add", "Div", "Mul", "Pow", "Sub", "Max", "Mean", "Min", "Sum")
        for other in (IMAGE, floats(4, 1, 1), floats(1), floats(3, 1, 1, 1, 1))
    ),
    ("PRelu", [IMAGE, floats(4, 1, 1)], {}),
    ("Clip", [IMAGE, np.array(0.2, F), np.array(0.7, F)], {}),
    ("Clip", [IMAGE, "", np.array(0.7, F)], {}),
    *((name, [IMAGE, floats(14)], {}) for name in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]),
    *((name, ["bools", np.array([True])], {}) for name in ("And", "Or", "Xor")),
    ("Not", ["bools"], {}),
    ("Where", ["bools", IMAGE, floats(1)], {}),
    *(("Cast", [IMAGE], {"to": kind}) for kind in (1, 6, 7, 9)),
    ("CumSum", [IMAGE, np.array(3)], {"reverse": 1}),
    ("Trilu", [IMAGE, np.array(1)], {"upper": 0}),
    *((name, [IMAGE], {"axis": axis}) for name in ("Softmax", "LogSoftmax") for axis in (-1, 1)),
    ("LpNormalization", [IMAGE], {"axis": 1, "p": 1}),
    ("LayerNormalization", [IMAGE, floats(14, 14), floats(14, 14)], {"axis": -2}),
    ("BatchNormalization", [IMAGE, *(floats(4) for _ in range(4))], {}),
    ("InstanceNormalization", [IMAGE, floats(4), floats(4)], {}),
    ("LRN", [IMAGE], {"size": 3}),
    ("QuantizeLinear", [IMAGE, SCALE, ZERO], {}),
    ("QuantizeLinear", [IMAGE, SCALE], {}),
    ("QuantizeLinear", [IMAGE, floats(4), np.zeros(4, np.int8)], {"axis": 1}),
    ("DequantizeLinear", ["bytes", SCALE, ZERO], {}),
    ("DequantizeLinear", [np.ones((3, 4), np.int8), floats(3)], {"axis": 0}),
    ("DequantizeLinear", [np.ones((3, 4), np.int32), SCALE], {}),
    ("MatMul", [ROWS, floats(784, 3)], {}),
    ("MatMul", [IMAGE, floats(14, 5)], {}),
    ("MatMul", [IMAGE, IMAGE], {}),
    ("MatMul", [SEQUENCE, floats(28, 2)], {}),
    ("Gemm", [ROWS, floats(784, 3), floats(3)], {}),
    ("Gemm", [ROWS, floats(3, 784)], {"transB": 1, "alpha": 0.5}),
    (
        "com.microsoft.MatMulNBits",
        [ROWS, np.ones((3, 13, 64), np.uint8), floats(39)],
        {"K": 784, "N": 3, "bits": 8, "block_size": 64, "accuracy_level": 4},
    ),
    window("Conv", (6, 4, 3, 3), pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]),
    window("Conv", (8, 1, 3, 3), group=4),
    window("ConvTranspose", (4, 3, 3, 2), strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0]),
    window("ConvTranspose", (4, 2, 3, 3), group=2, dilations=[2, 1]),
    *(
        (name, [IMAGE], {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 0, 1, 1], "ceil_mode": mode})
        for name in ("MaxPool", "AveragePool")
        for mode in (0, 1)
    ),
    ("MaxPool", ["bytes"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 3], "strides": [3, 3], "ceil_mode": 1}),
    ("LpPool", [IMAGE], {"kernel_shape": [2, 2], "p": 2}),
    *(
        (
            name,
            [SEQUENCE, floats(directions, gates * 5, 28), floats(directions, gates * 5, 5)],
            {"hidden_size": 5, "direction": "bidirectional" if directions == 2 else "forward"},
        )
        for name, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
        for directions in (1, 2)
    ),
    ("Shape", [IMAGE], {"start": 1, "end": 3}),
    ("Range", [np.array(2), np.array(11), np.array(4)], {}),
    *(
        ("Reshape", [IMAGE, shape], {})
        for shape in (
            ints(-1, 784),
            ints(0, -1),
            ints(0, 0, -1),
            ints(-1, 98),
            ints(0, 4, 7, 2, 14),
            ints(1, -1),
        )
    ),
    ("Reshape", [floats(4, 6), ints(-1, 3)], {}),
    ("Reshape", ["turned_halves", ints(2, -1, 14, 28)], {}),
    ("Reshape", ["turned_halves", ints(-1, 392)], {}),
    *(("Flatten", [IMAGE], {"axis": axis}) for axis in (1, 2, 4, -1)),
    ("Transpose", [IMAGE], {"perm": [2, 0, 3, 1]}),
    ("Transpose", [IMAGE], {}),
    ("Squeeze", ["x", ints(1)], {}),
    ("Squeeze", ["x", ints(-3)], {}),
    ("Unsqueeze", [IMAGE, ints(0, -1)], {}),
    ("Concat", [IMAGE, IMAGE], {"axis": 1}),
    ("Concat", [IMAGE, IMAGE, IMAGE], {"axis": -1}),
    ("Split", [IMAGE, ints(1, 3)], {"axis": 1}),
    ("Split", [IMAGE, ""], {"axis": 2, "num_outputs": 2}),
    ("Slice", [IMAGE, ints(1), ints(2**62), ints(1)], {}),
    ("Slice", [IMAGE, ints(-1, 3), ints(-(2**62), -2), ints(3, 2), ints(-2, 3)], {}),
    ("Slice", [IMAGE, ints(0, 1), ints(2**62, 3)], {}),
    ("Gather", [IMAGE, ints(1, 0, 3)], {"axis": 1}),
    ("Gather", [IMAGE, np.array([[0, 1], [2, 3]])], {"axis": -1}),
    ("Gather", [IMAGE, np.array(2)], {"axis": 2}),
    ("Gather", [floats(256, 3), "whole"], {"axis": 0}),
    ("GatherND", [SEQUENCE, np.array([[0], [2], [5]])], {}),
    ("Expand", [floats(4, 1, 3), ints(2, 1, 5, 1)], {}),
    ("Expand", [floats(1, 3), "batch_and_three"], {}),
    ("Tile", [IMAGE, ints(1, 2, 1, 3)], {}),
    ("Pad", [IMAGE, ints(0, 1, 2, 3, 0, 0, 1, -1)], {"mode": "constant"}),
    *(("Pad", [IMAGE, ints(0, 1, 2, 3, 0, 0, 1, 13)], {"mode": mode}) for mode in ("edge", "reflect")),
    ("Pad", [IMAGE, ints(1, 2), "", ints(3)], {"mode": "wrap"}),
    ("Resize", [IMAGE, "", np.array([1, 1, 2.5, 0.6], F)], {"mode": "nearest"}),
    ("Resize", [IMAGE, "", "", "batch_and_image"], {"mode": "linear"}),
    ("DepthToSpace", [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [IMAGE], {"blocksize": 7}),
    *(
        (f"Reduce{name}", [IMAGE, ints(1, -1)], {"keepdims": keep})
        for name in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
        for keep in (0, 1)
    ),
    *((name, [IMAGE], {"axis": 1, "keepdims": keep}) for name in ("ArgMax", "ArgMin") for keep in (0, 1)),
    ("TopK", [IMAGE, ints(3)], {"axis": -2}),
]
OUTPUTS = {"Split": 2, "TopK": 2, "LSTM": 3, "GRU": 2, "RNN": 2}

MORE = [
    node("Greater", [IMAGE, "half"], ["bools"]),
    node("QuantizeLinear", [IMAGE, "scale", "zero"], ["bytes"]),
    node("Cast", [ROWS], ["whole"], to=7),
    node("Transpose", [ROWS], ["turned"], perm=[1, 0]),
    node("Shape", [IMAGE], ["batch"], start=0, end=1),
    node("Reshape", [ROWS, "to_halves"], ["halves"]),
    node("Transpose", ["halves"], ["turned_halves"], perm=[1, 0, 2]),
    node("Reshape", [ROWS, "to_six"], ["x6"]),
    node("Expand", ["small_window", "to_window"], ["wide_window"]),
    node("Concat", ["batch", "three"], ["batch_and_three"], axis=0),
    node("Concat", ["batch", "image_sides"], ["batch_and_image"], axis=0),
]
MORE_CONSTANTS = {
    "half": np.array(0.5, F),
    "to_halves": ints(-1, 2, 392),
    "to_six": ints(-1, 1, 7, 7, 4, 4),
    "small_window": floats(4, 1, 1, 1),
    "to_window": ints(1, 1, 2000, 2000),
    "scale": SCALE,
    "zero": ZERO,
    "three": ints(3),
    "image_sides": ints(4, 9, 30),
}


def graph(nodes, constants):
    """A model whose logits are there whatever the other nodes compute."""
    made = helper.make_graph(
        [*HEAD, *nodes],
        "mnist-edge",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in (HEAD_CONSTANTS | constants).items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def case_graph(name, inputs, attributes):
    constants, names = {}, []
    for number, given in enumerate(inputs):
        names.append(given if isinstance(given, str) else f"c{number}")
        if not isinstance(given, str):
            constants[f"c{number}"] = given
    domain, _, operator = name.rpartition(".")
    outputs = [f"y{number}" for number in range(OUTPUTS.get(name, 1))]
    return graph([*MORE, node(operator, names, outputs, domain=domain, **attributes)], MORE_CONSTANTS | constants)


def named(case):
    name, inputs, attributes = case
    return f"{name}-{len(inputs)}-{'-'.join(f'{key}{value}' for key, value in attributes.items())}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_shapes_and_types_are_those_that_onnxruntime_computes(case):
    model = case_graph(*case)
    values = admit(read_model(model.SerializeToString())).values
    computed = [name for each in model.graph.node for name in each.output]
    assert {*computed} <= {*values}
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    for images in (1, 3):
        found = session.run(computed, {INPUT_NAME: np.zeros((images, 1, 28, 28), np.uint8)})
        for name, array in zip(computed, found, strict=True):
            sides = [each.times * images if isinstance(each, Images) else each for each in values[name].dims]
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            assert ([*array.shape], kind) == (sides, values[name].type), name


def test_every_operator_has_a_case():
    assert {name for name, _, _ in CASES} == {*OPERATORS}


WRONG = [
    ("Add", [IMAGE, SEQUENCE], {}),
    ("Add", [IMAGE, "whole"], {}),
    ("Div", ["whole", ints(0)], {}),
    ("And", ["bools", IMAGE], {}),
    ("Equal", [IMAGE, "whole"], {}),
    ("Where", [IMAGE, IMAGE, IMAGE], {}),
    ("Softmax", [IMAGE], {"axis": 0}),
    ("Softmax", [IMAGE], {"axis": 4}),
    ("LayerNormalization", [IMAGE, floats(13)], {}),
    ("LayerNormalization", [IMAGE, floats(4)], {"axis": 0}),
    ("BatchNormalization", [IMAGE, *(floats(3) for _ in range(4))], {}),
    ("InstanceNormalization", [IMAGE, floats(4)], {"epsilon": float("nan")}),
    ("QuantizeLinear", [IMAGE, floats(3)], {"axis": 1}),
    ("QuantizeLinear", [IMAGE, SCALE, np.zeros(4, np.uint8)], {}),
    ("DequantizeLinear", [IMAGE, SCALE], {}),
    ("DequantizeLinear", ["bytes", SCALE, np.array(0, np.int8)], {}),
    ("MatMul", [ROWS, floats(783, 3)], {}),
    ("MatMul", [ROWS, floats(784)], {}),
    ("MatMul", [floats(3, 784), "turned"], {}),
    ("Gemm", [ROWS, floats(784, 3), floats(4)], {}),
    ("Gemm", [ROWS, floats(784, 3)], {"transA": 1}),
    (
        "com.microsoft.MatMulNBits",
        [ROWS, np.ones((3, 13, 32), np.uint8), floats(39)],
        {"K": 784, "N": 3, "bits": 8, "block_size": 64},
    ),
    (
        "com.microsoft.MatMulNBits",
        [ROWS, np.ones((3, 13, 64), np.uint8), floats(38)],
        {"K": 784, "N": 3, "bits": 8, "block_size": 64},
    ),
    (
        "com.microsoft.MatMulNBits",
        [ROWS, np.ones((3, 13, 64), np.uint8), floats(39)],
        {"K": 784, "N": 4, "bits": 8, "block_size": 64},
    ),
    (
        "com.microsoft.MatMulNBits",
        [ROWS, np.ones((3, 13, 64), np.uint8), floats(39)],
        {"K": 783, "N": 3, "bits": 8, "block_size": 64},
    ),
    window("Conv", (6, 3, 3, 3)),
    window("Conv", (6, 4, 15, 3)),
    window("Conv", (6, 1, 3, 3), group=4),
    ("Conv", [IMAGE, floats(6, 4, 3, 3), floats(5)], {}),
    ("Conv", ["by_image", floats(6, 28, 3, 3)], {}),
    window("ConvTranspose", (4, 3, 1, 1), pads=[7, 7, 7, 7]),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "pads": [2, 2, 2, 2]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2]}),
    ("AveragePool", ["bytes"], {"kernel_shape": [2, 2]}),
    ("LSTM", [SEQUENCE, floats(1, 20, 28), floats(1, 20, 6)], {"hidden_size": 5}),
    ("LSTM", [SEQUENCE, floats(1, 20, 27), floats(1, 20, 5)], {"hidden_size": 5}),
    ("LSTM", ["by_image", floats(1, 20, 28), floats(1, 20, 5)], {"hidden_size": 5, "layout": 1}),
    ("LSTM", [SEQUENCE, floats(1, 20, 28), floats(1, 20, 5), "", ints(3)], {"hidden_size": 5}),
    ("Reshape", [IMAGE, ints(-1, 785)], {}),
    ("Reshape", [IMAGE, ints(4, -1, 196)], {}),
    ("Reshape", [IMAGE, ints(-1, -1)], {}),
    ("Reshape", [IMAGE, ints(3, 784)], {}),
    ("Reshape", [IMAGE, ints(0, 0, 0, 0, 0)], {}),
    ("Reshape", [IMAGE, "whole"], {}),
    ("Flatten", [IMAGE], {"axis": 0}),
    ("Transpose", [IMAGE], {"perm": [0, 1, 2, 2]}),
    ("Squeeze", [IMAGE], {}),
    ("Squeeze", [IMAGE, ints(0)], {}),
    ("Concat", [IMAGE, IMAGE], {"axis": 0}),
    ("Concat", [IMAGE, ROWS], {"axis": 1}),
    ("Split", [IMAGE, ints(1, 4)], {"axis": 1}),
    ("Split", [IMAGE, ints(1, 1)], {"axis": 0}),
    ("Slice", [IMAGE, ints(0), ints(1)], {}),
    ("Slice", [IMAGE, ints(5), ints(5), ints(2)], {}),
    ("Slice", [IMAGE, ints(0), ints(5), ints(2), ints(0)], {}),
    ("Gather", [IMAGE, ints(0)], {"axis": 0}),
    ("GatherND", [IMAGE, np.array([[0]])], {}),
    ("Expand", [IMAGE, "whole"], {}),
    ("Tile", [IMAGE, ints(2, 1, 1, 1)], {}),
    ("Tile", [IMAGE, ints(1, 0, 1, 1)], {}),
    ("Pad", [IMAGE, ints(1, 0, 0, 0, 0, 0, 0, 0)], {}),
    ("Pad", [IMAGE, ints(0, 0, 14, 0, 0, 0, 0, 0)], {"mode": "reflect"}),
    ("Pad", [IMAGE, ints(0, 0, -14, 0, 0, 0, 0, 0)], {}),
    ("Pad", [IMAGE, ints(0, 0, 5, 0, 0, 0, -1, 0)], {"mode": "reflect"}),
    ("Cast", ["batch"], {"to": 1}),
    ("Range", [np.array(-(2**63)), np.array(2**63 - 1), np.array(1)], {}),
    ("Unsqueeze", [IMAGE, ints(*range(5))], {}),
    ("Reshape", ["turned_halves", ints(-1, 784)], {}),
    ("Sum", [floats(2**11, 2**11)] + [IMAGE] * 3, {}),
    ("Conv", ["x6", floats(1, 1, 3, 3, 3, 3)], {}),
    ("ConvTranspose", [IMAGE, "wide_window"], {}),
    ("Resize", [IMAGE, "", np.array([2, 1, 1, 1], F)], {}),
    ("Resize", [IMAGE, "", np.array([1, 1, 0, 1], F)], {}),
    ("Resize", [IMAGE, "", np.array([1, 1, np.nan, 1], F)], {}),
    ("DepthToSpace", [IMAGE], {"blocksize": 3}),
    ("SpaceToDepth", [IMAGE], {"blocksize": 4}),
    ("ReduceMean", [IMAGE, ints(0)], {}),
    ("ReduceMean", [IMAGE], {}),
    ("ReduceSum", [IMAGE, ints(1, 1)], {}),
    ("ArgMax", [IMAGE], {"axis": 0}),
    ("TopK", [IMAGE, ints(15)], {}),
    ("Range", [np.array(0), np.array(10), np.array(0)], {}),
    ("CumSum", [IMAGE, np.array(0)], {}),
    ("Cast", [IMAGE], {"to": 11}),
]


@pytest.mark.parametrize("case", WRONG, ids=named)
def test_what_does_not_fit_is_refused(case):
    with pytest.raises(ValueError, match=r"node '' \('|not finite"):
        admit(read_model(case_graph(*case).SerializeToString()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: setattr(model, "ir_version", 11), "IR version 11, not 10"),
        (lambda model: setattr(model, "ir_version", 2), "IR version 2, not 10"),
        (lambda model: model.opset_import.pop(0), "opset 0, not 18"),
        (lambda model: setattr(model.opset_import[0], "version", 21), "opset 21, not 18"),
        (lambda model: model.opset_import.add(domain="ai.onnx.ml", version=3), "operators of 'ai.onnx.ml'"),
    ],
)
def test_versions_that_are_not_ours(change, words):
    model = graph([], {})
    change(model)
    with pytest.raises(VersionError, match=words):
        admit(read_model(model.SerializeToString()))


def test_sizes_and_work_add_up(monkeypatch):
    nodes = [node("Gemm", [ROWS, "wide"], [f"y{number}"]) for number in range(5)]
    model = read_model(graph(nodes, {"wide": floats(784, 100)}).SerializeToString())
    elements = 5 * 784 + 10 + 5 * 100
    # Products and, for the others, results; and all inputs.
    work = 5 * 784 + 784 * 10 + 5 * 784 * 100
    work += 5 * 784 + 4 + 2 + 3 + 784 + 784 * 10 + 5 * (784 + 784 * 100)
    monkeypatch.setattr(admission, "MOST_ELEMENTS", elements)
    monkeypatch.setattr(admission, "MOST_WORK", work)
    admit(model)
    monkeypatch.setattr(admission, "MOST_ELEMENTS", elements - 1)
    with pytest.raises(ShapeError, match="elements for an image"):
        admit(model)
    monkeypatch.setattr(admission, "MOST_ELEMENTS", elements)
    monkeypatch.setattr(admission, "MOST_WORK", work - 1)
    with pytest.raises(ShapeError, match="products for an image"):
        admit(model)


def test_memory_for_each_image_is_that_of_all_computed_values():
    small = admit(read_model(graph([], {}).SerializeToString()))
    more = admit(read_model(graph([node("Relu", [ROWS], ["y"])], {}).SerializeToString()))
    assert small.bytes_per_image == 4 * (5 * 784 + 10)
    assert more.bytes_per_image == small.bytes_per_image + 4 * 784
