"""Plan which values of a float32 graph become bytes: those up to its last layer, if every layer can read bytes."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from mnist_edge.contract import INPUT_NAME, WHITE
from mnist_edge.export.onnx_graph import initializers

Kind = Literal["pixels", "moved", "same range", "clipped", "layer", "float"]

NORMALIZING: Final = {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization"}
"""Operators that magnify the rounding to bytes where they divide by almost nothing, as on a blank image."""

_WEIGHTED: Final = {"Conv", "ConvTranspose", "Gemm", "MatMul"}

_MOVING: Final = {"Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that run on bytes as they are. A Pad does too, if it pads the pixels with a pixel's value."""

_SAME_RANGE: Final = {"AveragePool", "GlobalAveragePool"}
"""Operators that onnxruntime fuses with the DequantizeLinear and QuantizeLinear around them."""

_JOINING: Final = {"Add", "Concat"}

FUNCTIONS: Final = {
    "Clip",
    "Elu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Tanh",
}
"""Functions of single numbers. They are computed in float32, and rounded to bytes for the next layer."""


@dataclass(frozen=True)
class Plan:
    """How each value of a graph is quantized."""

    kinds: Mapping[str, Kind]
    """What becomes of each node, by the name of its output."""

    ranges: Mapping[str, str]
    """The values that are rounded to bytes anew, each with the value whose range its bytes have: its own, or that of
    the ReLU that follows, whose work the lower end of the range does."""

    layers: list[NodeProto]
    """The convolutions and linear layers, in order."""


def plan(model: ModelProto) -> Plan | None:
    """Plan the quantization of a graph; None if it has no layer, or one that cannot read bytes."""
    graph = _Reader(model)
    layers = [node for node in model.graph.node if graph.is_layer(node)]
    kinds: dict[str, Kind] = {}
    ranges: dict[str, str] = {}
    in_bytes: set[str] = set()
    for node in model.graph.node:
        result = node.output[0]
        left = [layer for layer in layers if layer.output[0] not in kinds]
        in_tail = not left and all(target in kinds for target in ranges.values())
        kind = graph.kind(node, kinds, in_bytes, is_clipped=result in ranges.values(), in_tail=in_tail)
        stays_float = kind != "layer" and (node.op_type in _WEIGHTED or (node.op_type in NORMALIZING and not in_tail))
        if len(node.output) != 1 or stays_float:
            return None
        kinds[result] = kind
        if kind == "layer" or (not in_tail and node.op_type in _JOINING | FUNCTIONS and kind == "float"):
            is_last = kind == "layer" and left == [node]
            target = graph.range_after(node, is_last=is_last)
            ranges |= {} if target is None else {result: target}
        if kind not in ("layer", "float") or result in ranges:
            in_bytes.add(result)
    return Plan(kinds, ranges, layers) if layers else None


class _Reader:
    """What the planning needs to know of a graph."""

    def __init__(self, model: ModelProto) -> None:
        self.constants = initializers(model)
        self.readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def varying(self, node: NodeProto) -> list[str]:
        """The inputs of a node that are no constants."""
        return [name for name in node.input if name and name not in self.constants]

    def is_layer(self, node: NodeProto) -> bool:
        """Whether a node multiplies its input with a constant weight, that is its own, as integers can."""
        attributes = _attributes(node)
        if node.op_type not in ("Conv", "Gemm") or len(self.varying(node)) != 1 or node.input[0] in self.constants:
            return False
        is_own = len(self.readers[node.input[1]]) == 1
        rank = self.constants[node.input[1]].ndim
        if node.op_type == "Conv":
            return is_own and rank == 4 and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        usual = [attributes.get(name, default) for name, default in (("alpha", 1), ("beta", 1), ("transA", 0))]
        return is_own and rank == 2 and usual == [1, 1, 0] and attributes.get("transB", 0) == 1

    def kind(
        self, node: NodeProto, kinds: Mapping[str, Kind], in_bytes: set[str], *, is_clipped: bool, in_tail: bool
    ) -> Kind:
        """What becomes of a node, given what becomes of those before it."""
        varying = self.varying(node)
        found: Kind = "float"
        if node.op_type == "Cast" and varying == [INPUT_NAME]:
            found = "pixels"
        elif is_clipped:
            found = "clipped"
        elif in_tail or not varying or not in_bytes.issuperset(varying):
            pass
        elif node.op_type in _MOVING or (node.op_type == "Pad" and self._pads_pixels(node, kinds)):
            found = "moved"
        elif node.op_type in _SAME_RANGE:
            found = "same range"
        elif self.is_layer(node):
            found = "layer"
        return found

    def _pads_pixels(self, node: NodeProto, kinds: Mapping[str, Kind]) -> bool:
        value = self.constants.get(node.input[2], np.zeros(())) if len(node.input) > 2 else np.zeros(())
        is_constant = _attributes(node).get("mode", b"constant") == b"constant"
        return is_constant and kinds[node.input[0]] in ("pixels", "moved") and 0 <= float(value.item()) <= WHITE

    def range_after(self, node: NodeProto, *, is_last: bool) -> str | None:
        """The value whose range a node's bytes have: its own, or that of the ReLU after it, also after max pools.

        None if the node stays in float32: a linear layer of which only functions, or the rest of the graph, read.
        """
        own = value = str(node.output[0])
        is_linear = node.op_type == "Gemm"
        if is_linear and is_last:
            return None
        while len(self.readers[value]) == 1 and node.op_type not in FUNCTIONS:
            (reader,) = self.readers[value]
            if self._is_relu(reader):
                return str(reader.output[0])
            if reader.op_type != "MaxPool":
                break
            value = str(reader.output[0])
        return None if is_linear and all(reader.op_type in FUNCTIONS for reader in self.readers[own]) else own

    def _is_relu(self, node: NodeProto) -> bool:
        if node.op_type == "Clip" and len(node.input) > 1 and node.input[1] in self.constants:
            return float(self.constants[node.input[1]].item()) == 0
        return node.op_type == "Relu"


def rounded_padding(node: NodeProto, constants: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The constants of a node that is moved to bytes: what a Pad pads with becomes a byte."""
    changed = dict(constants)
    if node.op_type == "Pad" and len(node.input) > 2:
        changed[node.input[2]] = constants[node.input[2]].round().astype(np.uint8)
    return changed


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
