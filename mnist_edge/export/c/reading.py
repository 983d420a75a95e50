"""Read the layers of an int8-static file: a chain in QDQ form, as `int8_static` writes it."""

import dataclasses
import math
from typing import Any, Final, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_edge.contract import HEIGHT, INPUT_NAME, OUTPUT_NAME, WHITE, WIDTH
from mnist_edge.errors import UnsupportedFormatError
from mnist_edge.export import blocks
from mnist_edge.export.byte_plan import FUNCTIONS
from mnist_edge.export.c.layers import REMEDY, Function, Layer
from mnist_edge.export.onnx_graph import initializers
from mnist_edge.runtime.session import Session

_FLATTENING: Final = {"Flatten", "Reshape"}

_MOVING: Final = {"Conv", "Gemm", "MaxPool"}

_USUAL: Final = {
    "group": 1,
    "alpha": 1.0,
    "dilations": [1, 1],
    "auto_pad": b"NOTSET",
    "ceil_mode": 0,
    "beta": 1.0,
    "transA": 0,
}
"""What the C code takes for granted of these."""


def layers(content: bytes) -> list[Layer]:
    """The layers of an int8-static file. Raises UnsupportedFormatError if it is no chain of those that C can have."""
    model = blocks.narrow(onnx.load_from_string(content))
    reader = _Reader(model)
    for node in model.graph.node:
        reader.read(node)
    return reader.finish(model.graph.node[-1])


def _refuse(node: NodeProto, why: str) -> NoReturn:
    raise UnsupportedFormatError(f"its {node.op_type} cannot become C: {why}: {REMEDY}")


def _attributes(node: NodeProto) -> dict[str, Any]:
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    for name, usual in _USUAL.items() if node.op_type in _MOVING else ():
        if attributes.get(name, usual) != usual:
            _refuse(node, f"its {name} is {attributes[name]}")
    return attributes


class _Reader:
    """Follows the one value that leads from the pixels to the logits."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.constants = initializers(model)
        self.dequantized: dict[str, list[NDArray[Any]]] = {}
        self.name = INPUT_NAME
        self.state = "bytes"
        """What it is: bytes, the numbers that these stand for, or the sums of a layer."""

        self.scale, self.zero = np.float32(1), 0
        self.size = HEIGHT, WIDTH, 1
        self.is_flat = False
        self.functions: list[NodeProto] = []
        """Applied to it since the last layer or rounding."""

        self.layers: list[Layer] = []

    def read(self, node: NodeProto) -> None:
        """Go on by one node."""
        kind = node.op_type
        if kind == "DequantizeLinear" and node.input[0] in self.constants:
            self.dequantized[node.output[0]] = [self.constants[name] for name in node.input]
            return
        known = self.constants.keys() | self.dequantized.keys()
        if [name for name in node.input if name and name not in known] != [self.name]:
            _refuse(node, "its input is not the output of the operator before it")
        attributes = _attributes(node)
        if kind == "DequantizeLinear" and self.state == "bytes" and self._scale_in(node) == (self.scale, self.zero):
            self.state = "numbers"
        elif kind == "QuantizeLinear" and self.state != "bytes":
            self._round(node)
        elif kind in ("Conv", "Gemm") and self.state == "numbers" and not self.functions:
            self._add_layer(node, attributes)
        elif kind == "MaxPool" and self.layers and self.state != "sums" and not self.functions:
            self._pool(node, attributes)
        elif kind in _FLATTENING and self.state != "sums" and not self.functions:
            self._flatten(node, attributes)
        elif kind == "HardSwish" and self.state == "sums":
            _refuse(node, "it falls before it rises")
        elif kind in FUNCTIONS and self.layers and self.state != "bytes":
            self.functions.append(node)
        else:
            _refuse(node, "onnxruntime computes it in float32")
        self.name = node.output[0]

    def finish(self, last: NodeProto) -> list[Layer]:
        """All layers, once every node has been read."""
        if self.state != "sums" or self.functions or self.name != OUTPUT_NAME or not self.layers[-1].is_linear:
            _refuse(last, "onnxruntime computes it in float32" if self.state == "sums" else "it is no linear layer")
        for layer in self.layers:
            low, high = layer.reach
            fits = low.min() >= -(2**31) and high.max() < 2**31 and max(*layer.size, *layer.result) < 2**16
            if not fits:
                raise UnsupportedFormatError(f"its {layer.name} is too large for C: {REMEDY}")
        return self.layers

    def _add_layer(self, node: NodeProto, attributes: dict[str, Any]) -> None:
        height, width, channels = self.size
        if node.input[1] not in self.dequantized:
            _refuse(node, "its weights are not quantized")
        weights, step, *zeros = self.dequantized[node.input[1]]
        if any(zero.any() for zero in zeros):
            _refuse(node, "its weights have zero points")
        whole = math.prod(self.size)
        if node.op_type == "Conv" and weights.ndim == 4 and not self.is_flat:
            weights = weights.transpose(0, 2, 3, 1)
        elif node.op_type == "Gemm" and weights.shape[1] == whole and self.is_flat and attributes.get("transB", 0):
            weights = weights.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        else:
            _refuse(node, "it does not take an image, or all of one, flattened")
        sum_step = np.broadcast_to(self.scale * step, len(weights))
        layer = Layer(
            name=f"{node.op_type.lower().replace('gemm', 'linear')}{len(self.layers) + 1}",
            size=self.size,
            weights=np.ascontiguousarray(weights),
            bias=self._bias(node, sum_step) - self.zero * weights.sum(axis=(1, 2, 3), dtype=np.int32),
            step=sum_step,
            zero_in=self.zero,
            stride=tuple(attributes.get("strides", (1, 1))),
            padding=tuple(attributes.get("pads", (0, 0, 0, 0))),
        )
        self.layers.append(layer)
        self.size, self.is_flat, self.state = layer.result, node.op_type == "Gemm", "sums"

    def _bias(self, node: NodeProto, step: NDArray[np.float32]) -> NDArray[np.int32]:
        """A layer's bias in steps: as stored, or as onnxruntime rounds it."""
        name = node.input[2] if len(node.input) > 2 else ""
        if not name:
            return np.zeros(len(step), np.int32)
        if name in self.dequantized:
            return self.dequantized[name][0]
        return np.rint(self.constants[name] / step).astype(np.int32)

    def _pool(self, node: NodeProto, attributes: dict[str, Any]) -> None:
        layer, shape = self.layers[-1], tuple(attributes["kernel_shape"])
        if attributes.get("strides", [1, 1]) != [*shape] or any(attributes.get("pads", ())) or layer.pool != (1, 1):
            _refuse(node, "it overlaps, is padded or follows another")
        if layer.table is not None and (np.diff(layer.table.astype(int)) < 0).any():
            _refuse(node, "it follows a function that falls")
        self.layers[-1] = dataclasses.replace(layer, pool=shape)
        self.size = self.layers[-1].result

    def _flatten(self, node: NodeProto, attributes: dict[str, Any]) -> None:
        shape = [*self.constants[node.input[1]]] if node.op_type == "Reshape" else [-1, math.prod(self.size)]
        if len(shape) != 2 or shape[1] not in (-1, math.prod(self.size)) or attributes.get("axis", 1) != 1:
            _refuse(node, "it does not flatten an image")
        self.is_flat = True

    def _scale_in(self, node: NodeProto) -> tuple[np.float32, int]:
        zero = self.constants[node.input[2]] if len(node.input) > 2 else 0
        return np.float32(self.constants[node.input[1]]), int(zero)

    def _round(self, node: NodeProto) -> None:
        """Round sums, or what functions made of numbers, to bytes."""
        scale, zero = self._scale_in(node)
        if self.state == "sums":
            rounded = dataclasses.replace(self.layers[-1], scale=scale, zero_out=zero)
            if self.functions:
                rounded = dataclasses.replace(rounded, function=self._function(node))
            self.layers[-1] = rounded
        elif self.functions:
            layer = self.layers[-1]
            table = self._function(node, of_bytes=True)(np.arange(WHITE + 1, dtype=np.uint8))
            self.layers[-1] = dataclasses.replace(layer, table=table if layer.table is None else table[layer.table])
        elif (scale, zero) != (self.scale, self.zero):
            _refuse(node, "it changes the scale of bytes")
        self.scale, self.zero, self.state, self.functions = scale, zero, "bytes", []

    def _function(self, last: NodeProto, *, of_bytes: bool = False) -> Function:
        """What onnxruntime computes between the sums, or the bytes before, and the bytes that `last` rounds to."""
        nodes = [*self.functions, last]
        constants = {name: self.constants[name] for node in nodes for name in node.input if name in self.constants}
        start, kind = self.functions[0].input[0], TensorProto.FLOAT
        if of_bytes:
            constants |= {"scale": np.asarray(self.scale), "zero": np.asarray(self.zero, np.uint8)}
            nodes.insert(0, helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], [start]))
            start, kind = "bytes", TensorProto.UINT8
        graph = helper.make_graph(
            nodes,
            "function",
            [helper.make_tensor_value_info(start, kind, None)],
            [helper.make_tensor_value_info(last.output[0], TensorProto.UINT8, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        session = Session(model.SerializeToString())

        def run(numbers: NDArray[Any]) -> NDArray[np.uint8]:
            (rounded,) = session.run(None, {start: numbers.ravel()})
            return np.reshape(rounded, numbers.shape)

        return run
