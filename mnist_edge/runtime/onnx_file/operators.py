"""The operators that an exported file may hold, with their attributes and the rule for the result of each.

These are what torch's exporter, the quantizers and this package write for image classifiers. What is missing either
runs other code (subgraphs, functions), computes shapes from images, or has crashed a runtime: integer arithmetic
divides by zero. ``tests/export/test_admission.py`` exports networks of all kinds and compares the shapes with ONNX's.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from mnist_edge.runtime.onnx_file import arrangement, elementwise, layers
from mnist_edge.runtime.onnx_file.messages import BOOL, FLOAT, INT32, INT64, Attribute, Tensor
from mnist_edge.runtime.onnx_file.shapes import Call

Rule = Callable[[Call], list[Tensor]]


class Operator(NamedTuple):
    """What is known of an operator."""

    rule: Rule
    most: int
    """How many inputs it takes at most."""

    attributes: frozenset[str]


_MANY: Final = 1024


def _operator(rule: Rule, most: int, attributes: str = "") -> Operator:
    return Operator(rule, most, frozenset(attributes.split()))


_WINDOW: Final = "auto_pad dilations kernel_shape pads strides"

_OF_ONE_FLOAT: Final = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor"),
    *("HardSwish", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus"),
    *("Softsign", "Sqrt", "Tan", "Tanh"),
)

OPERATORS: Final = {
    **{name: _operator(elementwise.elementwise, 1) for name in _OF_ONE_FLOAT},
    **{
        name: _operator(elementwise.elementwise, 1, "alpha") for name in ("Celu", "Elu", "LeakyRelu", "ThresholdedRelu")
    },
    "Selu": _operator(elementwise.elementwise, 1, "alpha gamma"),
    "HardSigmoid": _operator(elementwise.elementwise, 1, "alpha beta"),
    "Shrink": _operator(elementwise.elementwise, 1, "bias lambd"),
    **{name: _operator(elementwise.elementwise, 2) for name in ("Div", "PRelu", "Pow")},
    **{name: _operator(elementwise.arithmetic, 2) for name in ("Add", "Mul", "Sub")},
    "Clip": _operator(elementwise.elementwise, 3),
    **{name: _operator(elementwise.elementwise, _MANY) for name in ("Max", "Mean", "Min", "Sum")},
    **{
        name: _operator(elementwise.compare, 2)
        for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    },
    **{name: _operator(elementwise.logical, 2) for name in ("And", "Or", "Xor")},
    "Not": _operator(elementwise.logical, 1),
    "Where": _operator(elementwise.where, 3),
    "Identity": _operator(elementwise.same, 1),
    "Cast": _operator(elementwise.cast, 1, "to"),
    "CumSum": _operator(elementwise.cumulated, 2, "exclusive reverse"),
    "Trilu": _operator(elementwise.triangle, 2, "upper"),
    "Softmax": _operator(elementwise.along_axis, 1, "axis"),
    "LogSoftmax": _operator(elementwise.along_axis, 1, "axis"),
    "LpNormalization": _operator(elementwise.along_axis, 1, "axis p"),
    "LayerNormalization": _operator(elementwise.layer_norm, 3, "axis epsilon stash_type"),
    "BatchNormalization": _operator(elementwise.channel_norm, 5, "epsilon momentum training_mode"),
    "InstanceNormalization": _operator(elementwise.channel_norm, 3, "epsilon"),
    "LRN": _operator(elementwise.channel_norm, 1, "alpha beta bias size"),
    "QuantizeLinear": _operator(elementwise.quantize, 3, "axis"),
    "DequantizeLinear": _operator(elementwise.dequantize, 3, "axis"),
    "MatMul": _operator(layers.matmul, 2),
    "Gemm": _operator(layers.gemm, 3, "alpha beta transA transB"),
    "com.microsoft.MatMulNBits": _operator(layers.matmul_nbits, 4, "K N accuracy_level bits block_size"),
    "Conv": _operator(layers.conv, 3, f"{_WINDOW} group"),
    "ConvTranspose": _operator(layers.conv_transpose, 3, f"{_WINDOW} group output_padding"),
    "MaxPool": _operator(layers.pool, 1, f"{_WINDOW} ceil_mode storage_order"),
    "AveragePool": _operator(layers.pool, 1, f"{_WINDOW} ceil_mode count_include_pad"),
    "LpPool": _operator(layers.pool, 1, f"{_WINDOW} ceil_mode p"),
    "GlobalAveragePool": _operator(layers.global_pool, 1),
    "GlobalMaxPool": _operator(layers.global_pool, 1),
    "LSTM": _operator(layers.recurrent, 7, "direction hidden_size input_forget layout"),
    "GRU": _operator(layers.recurrent, 6, "direction hidden_size layout linear_before_reset"),
    "RNN": _operator(layers.recurrent, 6, "activations direction hidden_size layout"),
    "Shape": _operator(arrangement.shape, 1, "end start"),
    "Range": _operator(arrangement.range_, 3),
    "Reshape": _operator(arrangement.reshape, 2, "allowzero"),
    "Flatten": _operator(arrangement.flatten, 1, "axis"),
    "Transpose": _operator(arrangement.transpose, 1, "perm"),
    "Squeeze": _operator(arrangement.squeeze, 2),
    "Unsqueeze": _operator(arrangement.unsqueeze, 2),
    "Concat": _operator(arrangement.concat, _MANY, "axis"),
    "Split": _operator(arrangement.split, 2, "axis num_outputs"),
    "Slice": _operator(arrangement.slice_, 5),
    "Gather": _operator(arrangement.gather, 2, "axis"),
    "GatherND": _operator(arrangement.gather_nd, 2, "batch_dims"),
    "Expand": _operator(arrangement.expand, 2),
    "Tile": _operator(arrangement.tile, 2),
    "Pad": _operator(arrangement.pad, 4, "mode"),
    "Resize": _operator(
        arrangement.resize,
        4,
        "antialias coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value "
        "keep_aspect_ratio_policy mode nearest_mode",
    ),
    "DepthToSpace": _operator(arrangement.depth_to_space, 1, "blocksize mode"),
    "SpaceToDepth": _operator(arrangement.space_to_depth, 1, "blocksize"),
    **{
        f"Reduce{name}": _operator(arrangement.reduce, 2, "keepdims noop_with_empty_axes")
        for name in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    },
    **{name: _operator(arrangement.arg_reduce, 1, "axis keepdims select_last_index") for name in ("ArgMax", "ArgMin")},
    "TopK": _operator(arrangement.top_k, 2, "axis largest sorted"),
}
"""By name; all but one of ONNX's own domain."""

_ANY_FLOAT: Final = frozenset(
    ["alpha", "beta", "bias", "cubic_coeff_a", "epsilon", "extrapolation_value", "gamma", "lambd", "momentum"]
)
_FLAGS: Final = (
    *("allowzero", "ceil_mode", "count_include_pad", "exclude_outside", "exclusive", "keepdims", "largest"),
    *("linear_before_reset", "noop_with_empty_axes", "reverse", "select_last_index", "sorted", "stash_type"),
    *("storage_order", "transA", "transB", "upper"),
)
_INTEGERS: Final = {
    **dict.fromkeys(_FLAGS, range(2)),
    **dict.fromkeys(["antialias", "batch_dims", "input_forget", "layout", "training_mode"], range(1)),
    **dict.fromkeys(["axis", "start", "end", "perm"], range(-8, 9)),
    **dict.fromkeys(["kernel_shape", "strides", "dilations", "size"], range(1, 2**12 + 1)),
    **dict.fromkeys(["pads", "output_padding"], range(2**12 + 1)),
    **dict.fromkeys(["group", "hidden_size", "K", "N", "block_size", "num_outputs"], range(1, 2**20 + 1)),
    "blocksize": range(1, 29),
    "p": range(1, 3),
    "bits": range(8, 9),
    "accuracy_level": range(5),
    "to": (FLOAT, INT32, INT64, BOOL),
}
"""What integers may be, and each of a list of them."""

_TEXTS: Final = {
    "auto_pad": {"NOTSET"},
    "activations": {"Tanh", "Relu"},
    "direction": {"forward", "reverse", "bidirectional"},
    "mode": {"constant", "edge", "reflect", "wrap", "nearest", "linear", "cubic", "DCR", "CRD"},
    "coordinate_transformation_mode": {
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    },
    "nearest_mode": {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"},
    "keep_aspect_ratio_policy": {"stretch"},
}


def is_allowed(name: str, value: Attribute) -> bool:
    """Whether an attribute has a value that exporters write."""
    values = value if isinstance(value, list) else [value]
    if name in _TEXTS:
        return all(each in _TEXTS[name] for each in values)
    if name in _INTEGERS:
        return all(isinstance(each, int) and each in _INTEGERS[name] for each in values)
    return name in _ANY_FLOAT and isinstance(value, float)
