"""Build a quantized graph operator by operator, and run images through it as it grows."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_edge.contract import INPUT_NAME, OPSET
from mnist_edge.export import rounding
from mnist_edge.export.threads import in_threads
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.session import Session

ACTIVATION_LIMIT: Final = 255
"""Quantized pixels and activations lie within 0…255."""

WEIGHT, SCALE, BIAS, BIAS_SCALE = "/weight", "/weight_scale", "/bias", "/bias_scale"
"""What follows a layer's name in the names of its constants."""


@dataclass(frozen=True)
class Stored:
    """A value in bytes: ``scale * (byte - zero)``."""

    name: str
    scale: np.float32
    zero: int
    parameters: tuple[str, str]
    """The names of the constants that hold scale and zero."""


class Graph:
    """A quantized graph.

    Nodes and values are named after the nodes of the float32 graph, with ``/q`` for QuantizeLinear and ``/dq`` for
    DequantizeLinear; a layer's constants are ``features.0/weight`` and so on.

    Args:
        model: the float32 graph, which provides input, output and opset.
        images: run through the graph as it grows, uint8 [n, 1, 28, 28].
    """

    def __init__(self, model: ModelProto, images: NDArray[np.uint8]) -> None:
        self._model = model
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._read: set[str] = set()
        self._carried = {INPUT_NAME: images}
        """The values in bytes, by name, computed for all images: uint8 [n, …]."""

    @property
    def pixels(self) -> Stored:
        """The graph's input."""
        return _stored(INPUT_NAME, INPUT_NAME, np.float32(1), 0)

    def finish(self, last: str) -> ModelProto:
        """The finished graph as a model, whose output is the value named `last`."""
        output = self._model.graph.output[0].name
        for node in self._nodes:
            node.output[:] = [output if name == last else name for name in node.output]
            node.input[:] = [output if name == last else name for name in node.input]
        return self._as_model(self._nodes, self._model.graph.input, self._model.graph.output)

    def add(self, name: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator, and return its name, which is also that of its output."""
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Any, dtype: type[np.generic]) -> str:
        """Store a constant and return its name."""
        self._constants[name] = np.asarray(value, dtype)
        return name

    def copy(self, node: NodeProto, values: Sequence[str], constants: dict[str, NDArray[Any]]) -> str:
        """Append a copy of `node` that takes `values` instead of its varying inputs, and the same constants."""
        for name in node.input:
            if name in constants:
                self._constants[name] = constants[name]
        rest = iter(values)
        inputs = (name if name in constants or not name else next(rest) for name in node.input)
        copied = self.add(name_of(node), node.op_type, *inputs)
        self._nodes[-1].attribute.extend(essential(node))
        return copied

    def read(self, stored: Stored) -> str:
        """The name of a value in bytes after a DequantizeLinear."""
        name = f"{stored.name.removesuffix('/q')}/dq"
        if name not in self._read:
            self._read.add(name)
            self._write(stored)
            self.add(name, "DequantizeLinear", stored.name, *stored.parameters)
        return name

    def store(self, value: str, scale: np.float32, zero: int) -> Stored:
        """Append a QuantizeLinear to bytes."""
        stored = _stored(f"{value}/q", value, scale, zero)
        self._write(stored)
        self.add(stored.name, "QuantizeLinear", value, *stored.parameters)
        self._carry_on(stored)
        return stored

    def move(self, node: NodeProto, stored: Stored, constants: dict[str, NDArray[Any]]) -> Stored:
        """Append a copy of a node that moves values, and runs on the bytes themselves."""
        moved = dataclasses.replace(stored, name=self.copy(node, [stored.name], constants))
        self._carry_on(moved)
        return moved

    def _write(self, stored: Stored) -> None:
        scale, zero = stored.parameters
        self.constant(scale, stored.scale, np.float32)
        self.constant(zero, stored.zero, np.uint8)

    def keep(self, wanted: Iterable[str]) -> None:
        """Forget what the images made of all values in bytes that lead to none of those named."""
        _, names = self._from_bytes({*wanted})
        self._carried = {name: carried for name, carried in self._carried.items() if name in names}

    def _carry_on(self, stored: Stored) -> None:
        """Run the images on to a value in bytes. onnxruntime fuses this part as it will fuse the whole."""
        nodes, names = self._from_bytes({stored.name})
        given = {name: carried for name, carried in self._carried.items() if name in names}
        ends = (
            [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in names]
            for names in (given, [stored.name])
        )
        session = Session(self._as_model(nodes, *ends).SerializeToString())
        count = len(next(iter(given.values())))
        parts = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]

        def run(part: slice) -> NDArray[np.uint8]:
            result: NDArray[np.uint8] = session.run(
                [stored.name], {name: carried[part] for name, carried in given.items()}
            )[0]
            return result

        self._carried[stored.name] = np.concatenate(in_threads(run, parts))

    def _from_bytes(self, names: set[str]) -> tuple[list[NodeProto], set[str]]:
        """The nodes that lead to the named values from values that the images were carried to, and those names too."""
        needed, nodes = set(names), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output) and node.output[0] not in self._carried:
                nodes.append(node)
                needed.update(node.input)
        return nodes[::-1], needed

    def _as_model(
        self,
        nodes: Sequence[NodeProto],
        inputs: Iterable[onnx.ValueInfoProto],
        outputs: Iterable[onnx.ValueInfoProto],
    ) -> ModelProto:
        used = {name for node in nodes for name in node.input}
        constants = [numpy_helper.from_array(array, name) for name, array in self._constants.items() if name in used]
        graph = helper.make_graph(nodes, self._model.graph.name, [*inputs], [*outputs], constants)
        return helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)

    def layer(
        self,
        node: NodeProto,
        stored: Stored,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        limit: int,
        float_inputs: NDArray[np.float32],
    ) -> str:
        """Append a Conv or Gemm with int8 weights, -limit…limit; a Gemm's bias becomes int32.

        The weights are rounded to minimise the output error on the images, given the layer's quantized inputs and
        `float_inputs`, its inputs in the float32 graph.
        """
        name, value = name_of(node), self.read(stored)
        peaks = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        step = np.where(peaks > 0, peaks / limit, 1).astype(np.float32)
        in_steps = weight / by_channel(step.astype(np.float64), weight.ndim)
        carried = self._carried[stored.name]
        exact_inputs = carried.astype(np.float32) - np.float32(stored.zero) if stored.zero else carried
        rounded = rounding.up_or_down(node, in_steps, limit, exact_inputs, float_inputs / stored.scale)
        names = [self.constant(name + WEIGHT, rounded, np.int8), self.constant(name + SCALE, step, np.float32)]
        added = []
        if node.op_type == "Gemm":  # onnxruntime fuses it only with an explicit zero point
            names.append(self.constant(f"{name}/weight_zero", np.zeros(len(step)), np.int8))
        if node.op_type == "Gemm" and bias is not None:
            bias_step = step * stored.scale
            rounded_bias = self.constant(name + BIAS, np.round(bias / bias_step.astype(np.float64)), np.int32)
            bias_scale = self.constant(name + BIAS_SCALE, bias_step, np.float32)
            added = [self.add(f"{name}/bias_dq", "DequantizeLinear", rounded_bias, bias_scale, axis=0)]
        elif bias is not None:
            added = [self.constant(name + BIAS, bias, np.float32)]
        weights = self.add(f"{name}/weight_dq", "DequantizeLinear", *names, axis=0)
        product = self.add(name, node.op_type, value, weights, *added)
        self._nodes[-1].attribute.extend(essential(node))
        return product


def _stored(name: str, value: str, scale: np.float32, zero: int) -> Stored:
    """A value's bytes under that name; files share the constants of equal zero points."""
    return Stored(name, scale, zero, (f"{value}/scale", f"zero/{zero}"))


def name_of(node: NodeProto) -> str:
    """What a node of the float32 graph and all that becomes of it is named after."""
    return str(node.name or node.output[0])


def essential(node: NodeProto) -> list[AttributeProto]:
    """A node's attributes without those that equal their defaults, which would be a tenth of a small file."""
    schema = onnx.defs.get_schema(node.op_type, OPSET).attributes
    neutral = {"strides": 1, "dilations": 1, "pads": 0}

    def says_something(attribute: AttributeProto) -> bool:
        value = helper.get_attribute_value(attribute)
        if attribute.name in neutral:
            return any(number != neutral[attribute.name] for number in value)
        default = schema[attribute.name].default_value
        is_implied = node.op_type == "Conv" and attribute.name == "kernel_shape"  # by the shape of the weights
        return not is_implied and (not default.name or value != helper.get_attribute_value(default))

    return [attribute for attribute in node.attribute if says_something(attribute)]


def by_channel(scale: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """Numbers of output channels, in a shape that broadcasts to weights."""
    return scale.reshape(-1, *[1] * (dimensions - 1))
