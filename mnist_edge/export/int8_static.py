"""ONNX in int8 throughout: weights and activations, with fixed scales found on training images.

The graph is in ONNX's QDQ form: QuantizeLinear and DequantizeLinear around float32 operators, which onnxruntime fuses
into integer operators. Every choice was measured (``scripts/compare_int8.py``):

* The raw pixels are the quantized input of the first layer, at scale 1: nothing is lost and nothing computed.
* Activations are uint8 with zero point 0. The lower end of that range does the work of the ReLU, and pools run on
  bytes. The upper end is the largest activation on any training image, a full image or noise.
* Weights have one scale per output channel and seven bits, -63…63. Processors without VNNI add two products of an
  unsigned and a signed byte in 16 bits and saturate. 2 · 255 · 63 is below 2¹⁵, so every processor gets the same sums.
  Adaptive rounding (`rounding`) makes up for the eighth bit.
* A convolution keeps its float32 bias, which onnxruntime (since 1.22 at the latest) rounds to the step of the sums. For
  the last layer it does not, so linear layers store their bias rounded.
* The last layer returns float32 from 32-bit sums. (onnxruntime's own ``quantize_static`` rounds the logits themselves
  to 256 levels.)

Integer sums do not depend on their order, so an image's logits are the same in any batch.

Each chunk of images is computed on one thread, and results are combined in a fixed order: the file is the same for any
number of threads.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from mnist_edge.bundle.layout import Format
from mnist_edge.contract import INPUT_NAME, OPSET
from mnist_edge.errors import ModelFormatError, ParityError
from mnist_edge.export import metadata, parity, rounding
from mnist_edge.export.examples import Examples
from mnist_edge.export.onnx import variants
from mnist_edge.export.onnx_graph import initializers, weights
from mnist_edge.export.threads import in_threads
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.session import Session
from mnist_edge.training.checkpoint import Trained

TOLERANCE: Final = parity.INT8

__all__ = ["TOLERANCE", "check_weights", "convert", "variants"]

ACTIVATION_LIMIT: Final = 255
"""Quantized pixels and activations lie within 0…255."""

WEIGHT_LIMIT: Final = 63
"""Quantized weights lie within -63…63."""

ROUNDED_BY: Final = 1000
"""Adaptive rounding uses about this many of the images, evenly spaced. The scales are found on all of them."""


def convert(examples: Examples) -> bytes:
    """The file's content."""
    model = quantize(examples.graph(), examples.training, examples.extremes)
    onnx.checker.check_model(model, full_check=True)
    return metadata.complete(model, Format.INT8_STATIC, examples)


def quantize(model: ModelProto, images: NDArray[np.uint8], extremes: NDArray[np.uint8]) -> ModelProto:
    """Quantize every Conv and Gemm of a float32 graph, which must be a chain of operators.

    Args:
        model: from `mnist_edge.export.onnx_graph.build`.
        images: used to find the scales and to round the weights, uint8 [n, 1, 28, 28].
        extremes: used for the scales only, uint8 [n, 1, 28, 28].

    Raises:
        ModelFormatError: the graph has an operator that cannot be quantized.
    """
    nodes = list(model.graph.node)
    few = images[:: max(1, len(images) // ROUNDED_BY)]
    largest = _largest_activations(model, np.concatenate([images, extremes]))
    float_inputs = _layer_inputs(model, few)
    constants = initializers(model)
    graph = _Graph(model, few)
    value, scale, layer = INPUT_NAME, np.float32(1), 0
    for position, node in enumerate(nodes):
        match node.op_type:
            case "Cast":
                value = graph.dequantize(value, scale)
            case "Conv" | "Gemm":
                weight, bias = (constants[name] for name in node.input[1:])
                value = graph.layer(node, value, scale, weight, bias, layer, float_inputs[node.input[0]])
                layer += 1
                activation = _activation_after(nodes[position + 1 :])
                if activation is not None:
                    scale = np.float32(largest[activation] / ACTIVATION_LIMIT)
                    value = graph.quantize(value, scale)
            case "Relu":
                pass  # quantizing its input to uint8 has clipped it at zero
            case "MaxPool" | "Reshape":
                value = graph.quantize(graph.copy(node, value, constants), scale)
            case "Sigmoid":
                scale = np.float32(largest[node.output[0]] / ACTIVATION_LIMIT)
                value = graph.quantize(graph.copy(node, value, constants), scale)
            case kind:
                raise ModelFormatError(f"int8-static does not support {kind}: leave the format out with --formats")
    return graph.finish()


def check_weights(data: bytes, name: str, trained: Trained) -> None:
    """Check that every weight is within one step of the trained one, with the finest steps its range allows.

    Biases must be equal, or rounded to the step of the sums. Raises ParityError.
    """
    stored = initializers(onnx.load_from_string(data))
    for index, (key, exact) in enumerate(weights(trained).items()):
        is_right = _is_weight if exact.ndim > 1 else _is_bias
        try:
            right = is_right(stored, index // 2, exact)
        except (KeyError, ValueError):
            right = False
        if not right:
            raise ParityError(f"{name}: its weight {key} is not the trained one, quantized")


def _is_weight(stored: dict[str, NDArray[Any]], layer: int, exact: NDArray[np.float32]) -> bool:
    step = _by_channel(stored[f"s{layer}"].astype(np.float64), exact.ndim)
    peak = _by_channel(np.abs(exact).reshape(len(exact), -1).max(axis=1), exact.ndim)
    return parity.is_quantized(stored[f"w{layer}"] * step, step, exact, peak, WEIGHT_LIMIT, within=1.0)


def _is_bias(stored: dict[str, NDArray[Any]], layer: int, exact: NDArray[np.float32]) -> bool:
    value = stored[f"b{layer}"]
    if value.dtype == np.float32:
        return np.array_equal(value, exact)
    # The step of the sums: weight scale times activation scale.
    step = stored[f"t{layer}"].astype(np.float64)
    activations = [scale for name, scale in stored.items() if name.startswith("a")]
    of_sums = any(np.allclose(step, stored[f"s{layer}"] * scale, rtol=1e-6, atol=0) for scale in activations)
    return of_sums and parity.is_rounded(value * step, step, exact)


class _Graph:
    """A quantized graph, built operator by operator. Values are named by number, to keep files small.

    Args:
        model: the float32 graph, which provides input, output and opset.
        images: run through the graph as it grows, uint8 [n, 1, 28, 28].
    """

    def __init__(self, model: ModelProto, images: NDArray[np.uint8]) -> None:
        self._model = model
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._carried = images
        """The last quantized value, computed for all images: uint8 [n, …]."""

        self._last = INPUT_NAME, 0
        """That value's name, and the number of nodes before it."""

    def finish(self) -> ModelProto:
        """The finished graph as a model."""
        self.nodes[-1].output[0] = self._model.graph.output[0].name
        return self._as_model(self.nodes, self._model.graph.input, self._model.graph.output)

    def _as_model(
        self, nodes: Sequence[NodeProto], inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> ModelProto:
        used = {name for node in nodes for name in node.input}
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in used]
        graph = helper.make_graph(nodes, self._model.graph.name, inputs, outputs, constants)
        return helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)

    def _carry_on(self, value: str) -> None:
        """Run the images on to the quantized `value`. onnxruntime fuses this part as it will fuse the whole."""
        name, start = self._last
        ends = ([helper.make_tensor_value_info(end, TensorProto.UINT8, None)] for end in (name, value))
        session = Session(self._as_model(self.nodes[start:], *ends).SerializeToString())
        parts = [self._carried[start : start + CHUNK] for start in range(0, len(self._carried), CHUNK)]
        self._carried = np.concatenate(in_threads(lambda part: session.run([value], {name: part})[0], parts))
        self._last = value, len(self.nodes)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator and return the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: Any, dtype: type[np.generic]) -> str:
        """Store a constant and return its name."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def copy(self, node: NodeProto, value: str, constants: dict[str, NDArray[Any]]) -> str:
        """Append a copy of `node` that takes `value` as its input."""
        for name in node.input[1:]:
            self.constants[name] = constants[name]
        copied = self.add(node.op_type, value, *node.input[1:])
        self.nodes[-1].attribute.extend(_essential(node))
        return copied

    def quantize(self, value: str, scale: np.float32) -> str:
        """Append a QuantizeLinear to uint8 and a DequantizeLinear."""
        quantized = self.add("QuantizeLinear", value, *self._parameters(scale))
        self._carry_on(quantized)
        return self.dequantize(quantized, scale)

    def dequantize(self, value: str, scale: np.float32) -> str:
        """Append a DequantizeLinear from uint8."""
        return self.add("DequantizeLinear", value, *self._parameters(scale))

    def _parameters(self, scale: np.float32) -> tuple[str, str]:
        for name, known in self.constants.items():
            if name.startswith("a") and known == scale:
                return name, "zero"
        self.constant("zero", 0, np.uint8)
        return self.constant(f"a{len(self.constants)}", scale, np.float32), "zero"

    def layer(
        self,
        node: NodeProto,
        value: str,
        scale: np.float32,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        number: int,
        float_inputs: NDArray[np.float32],
    ) -> str:
        """Append a Conv or Gemm with int8 weights; a Gemm's bias becomes int32.

        The weights are rounded to minimise the output error on the images, given the layer's quantized inputs and
        `float_inputs`, its inputs in the float32 graph.
        """
        peaks = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        step = np.where(peaks > 0, peaks / WEIGHT_LIMIT, 1).astype(np.float32)
        in_steps = weight / _by_channel(step.astype(np.float64), weight.ndim)
        rounded = rounding.up_or_down(node, in_steps, WEIGHT_LIMIT, self._carried, float_inputs / scale)
        stored = [self.constant(f"w{number}", rounded, np.int8), self.constant(f"s{number}", step, np.float32)]
        if node.op_type == "Gemm":  # onnxruntime fuses it only with an explicit zero point
            stored.append(self.constant(f"z{number}", np.zeros(len(step)), np.int8))
            bias_step = step * scale
            rounded_bias = self.constant(f"b{number}", np.round(bias / bias_step.astype(np.float64)), np.int32)
            bias_scale = self.constant(f"t{number}", bias_step, np.float32)
            added = self.add("DequantizeLinear", rounded_bias, bias_scale, axis=0)
        else:
            added = self.constant(f"b{number}", bias, np.float32)
        weights = self.add("DequantizeLinear", *stored, axis=0)
        product = self.add(node.op_type, value, weights, added)
        self.nodes[-1].attribute.extend(_essential(node))
        return product


def _essential(node: NodeProto) -> list[AttributeProto]:
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


def _by_channel(scale: NDArray[Any], dimensions: int) -> NDArray[Any]:
    return scale.reshape(-1, *[1] * (dimensions - 1))


def _activation_after(nodes: Sequence[NodeProto]) -> str | None:
    """The output of the ReLU that follows, directly or after max pools; None if another operator follows."""
    for node in nodes:
        if node.op_type == "Relu":
            return str(node.output[0])
        if node.op_type != "MaxPool":
            break
    return None


def _largest_activations(model: ModelProto, images: NDArray[np.uint8]) -> dict[str, float]:
    """The largest output of each Relu and Sigmoid over all images, by the output's name; 1 where it is always zero."""
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Relu", "Sigmoid")]
    chunks = _watch(model, names, images, lambda array: float(array.max()))
    return {name: max(values) or 1.0 for name, *values in zip(names, *chunks, strict=True)}


def _layer_inputs(model: ModelProto, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The inputs of every Conv and Gemm for the images, by the value's name."""
    names = [node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    chunks = _watch(model, names, images, lambda array: array)
    return {name: np.concatenate(arrays) for name, *arrays in zip(names, *chunks, strict=True)}


def _watch(
    model: ModelProto, names: list[str], images: NDArray[np.uint8], keep: Callable[[NDArray[np.float32]], Any]
) -> list[list[Any]]:
    """Run the images in chunks of `CHUNK`, and apply `keep` to every named value: one list per chunk."""
    if not names:  # onnxruntime would return all outputs
        return []
    watched = ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    session = Session(watched.SerializeToString())
    chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    return in_threads(lambda chunk: [keep(array) for array in session.run(names, {INPUT_NAME: chunk})], chunks)
