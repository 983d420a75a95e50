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

Values that no ReLU has clipped, such as those of a tanh or a sum of branches, have a zero point of their own. What
follows the last layer, a softmax for example, stays in float32. Graphs with other operators before their last layer go
to onnxruntime's own quantizer (`int8_static_ort`).

Integer sums do not depend on their order, so an image's logits are the same in any batch.

Each chunk of images is computed on one thread, and results are combined in a fixed order: the file is the same for any
number of threads.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from mnist_edge.bundle.layout import Format
from mnist_edge.errors import ModelFormatError, ParityError, UnsupportedFormatError
from mnist_edge.export import blocks, int8_static_ort, metadata, parity
from mnist_edge.export.byte_plan import Plan, plan, rounded_padding
from mnist_edge.export.examples import Examples
from mnist_edge.export.onnx import variants
from mnist_edge.export.onnx_graph import initializers, require_any_batch
from mnist_edge.export.qdq import ACTIVATION_LIMIT, BIAS, BIAS_SCALE, SCALE, WEIGHT, Graph, Stored, by_channel, name_of
from mnist_edge.export.watching import inputs_of, ranges_of

TOLERANCE: Final = parity.INT8

__all__ = ["TOLERANCE", "check_weights", "convert", "variants"]

WEIGHT_LIMIT: Final = 63
"""Quantized weights lie within -63…63."""

ROUNDED_BY: Final = 1000
"""Adaptive rounding uses about this many of the images, evenly spaced. The scales are found on all of them."""

MEMORY: Final = 512_000_000
"""Adaptive rounding uses fewer images if the inputs of all layers would take more than this many bytes."""


def convert(examples: Examples) -> bytes:
    """The file's content. Raises UnsupportedFormatError if the model has no layer that integers can compute."""
    model = quantized(examples.graph(), examples.training, examples.extremes)
    onnx.checker.check_model(model, full_check=True)
    require_any_batch(model)
    return metadata.complete(model, Format.INT8_STATIC, examples)


def quantized(model: ModelProto, images: NDArray[np.uint8], extremes: NDArray[np.uint8]) -> ModelProto:
    """Quantize a float32 graph: our way if there is a plan, otherwise onnxruntime's. Takes the arguments of both."""
    quantizer = int8_static_ort.quantize if plan(model) is None else quantize
    return quantizer(model, images, extremes)


def quantize(model: ModelProto, images: NDArray[np.uint8], extremes: NDArray[np.uint8]) -> ModelProto:
    """Quantize every Conv and Gemm of a float32 graph that has a plan.

    Args:
        model: from `mnist_edge.export.onnx_graph.build`.
        images: used to find the scales and to round the weights, uint8 [n, 1, 28, 28].
        extremes: used for the scales only, uint8 [n, 1, 28, 28].

    Raises:
        UnsupportedFormatError: the graph has an operator that cannot be quantized.
    """
    planned = plan(model)
    if planned is None:
        raise UnsupportedFormatError("int8-static does not support this graph: leave the format out with --formats")
    few = _few(model, planned, images)
    ranges = ranges_of(model, [*planned.ranges.values()], np.concatenate([images, extremes]))
    float_inputs = inputs_of(model, planned.layers, few)
    constants = initializers(model)
    graph = Graph(model, few)
    stored: dict[str, Stored] = {}
    floats: dict[str, str] = {}
    last_use = {name: position for position, node in enumerate(model.graph.node) for name in node.input}
    for position, node in enumerate(model.graph.node):
        (result,) = node.output
        varying = [name for name in node.input if name and name not in constants]
        before = [stored[name] for name in varying if name in stored]
        match planned.kinds[result]:
            case "pixels":
                stored[result] = graph.pixels
            case "clipped":
                stored[result] = before[0]
            case "moved":
                stored[result] = graph.move(node, before[0], rounded_padding(node, constants))
            case "same range":
                value = graph.copy(node, [graph.read(before[0])], constants)
                stored[result] = graph.store(value, before[0].scale, before[0].zero)
            case "layer":
                number = planned.layers.index(node)
                weight, *bias = (constants[name] for name in node.input[1:] if name)
                floats[result] = graph.layer(
                    node, before[0], weight, next(iter(bias), None), WEIGHT_LIMIT, float_inputs[number]
                )
            case _:
                values = [graph.read(stored[name]) if name in stored else floats[name] for name in varying]
                floats[result] = graph.copy(node, values, constants)
        if result in planned.ranges:
            stored[result] = graph.store(floats[result], *_scale_and_zero(*ranges[planned.ranges[result]]))
        known = floats | {name: each.name for name, each in stored.items()}
        graph.keep(name for value, name in known.items() if last_use.get(value, -1) > position)
    output = model.graph.output[0].name
    return blocks.widen(graph.finish(floats[output] if output in floats else graph.read(stored[output])))


def _few(model: ModelProto, planned: Plan, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images that adaptive rounding uses."""
    of_one = sum(inputs.nbytes for inputs in inputs_of(model, planned.layers, images[:1]))
    count = max(1, min(ROUNDED_BY, MEMORY // of_one))
    return images[:: max(1, len(images) // count)]


def _scale_and_zero(low: float, high: float) -> tuple[np.float32, int]:
    """The finest scale, and the zero point, with which bytes reach from `low` to `high`; zero has a byte of its own."""
    scale = np.float32((high - low) / ACTIVATION_LIMIT)
    return scale, round(-low / float(scale))


def check_weights(data: bytes, name: str, examples: Examples) -> None:
    """Check that every weight is within one step of the trained one, with the finest steps its range allows.

    Biases must be equal, or rounded to the step of the sums. Raises ParityError.
    """
    model = onnx.load_from_string(data)
    planned = plan(examples.graph())
    if planned is None:
        wrong = int8_static_ort.wrong_weight(initializers(model), examples.weights)
    else:
        wrong = _wrong_weight(model, examples.weights, planned)
    if wrong is not None:
        raise ParityError(f"{name}: its weight {wrong} is not the trained one, quantized")


def _wrong_weight(model: ModelProto, weights: Mapping[str, NDArray[Any]], planned: Plan) -> str | None:
    """The name of a constant that is not the trained one. Constants may be missing that bytes make superfluous."""
    places = {
        name: (check, name_of(node))
        for node in planned.layers
        for name, check in zip(node.input[1:], (_is_weight, _is_bias), strict=False)
    }
    try:
        stored = initializers(blocks.narrow(model, blocks.extent_of(planned.layers[0], weights)))
    except (ModelFormatError, ValueError):
        return str(planned.layers[0].input[1])
    for key, exact in weights.items():
        try:
            if key in places:
                check, layer = places[key]
                right = check(stored, layer, exact)
            else:
                right = key not in stored or np.array_equal(stored[key], _as_stored(exact, stored[key].dtype))
        except (KeyError, ValueError):
            right = False
        if not right:
            return key
    return None


def _as_stored(exact: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return exact.round() if dtype == np.uint8 else exact  # what a Pad pads with has become a byte


def _is_weight(stored: dict[str, NDArray[Any]], layer: str, exact: NDArray[np.float32]) -> bool:
    step = by_channel(stored[layer + SCALE].astype(np.float64), exact.ndim)
    peak = by_channel(np.abs(exact).reshape(len(exact), -1).max(axis=1), exact.ndim)
    return parity.is_quantized(stored[layer + WEIGHT] * step, step, exact, peak, WEIGHT_LIMIT, within=1.0)


def _is_bias(stored: dict[str, NDArray[Any]], layer: str, exact: NDArray[np.float32]) -> bool:
    value = stored[layer + BIAS]
    if value.dtype == np.float32:
        return np.array_equal(value, exact)
    # The step of the sums: weight scale times activation scale.
    step = stored[layer + BIAS_SCALE].astype(np.float64)
    activations = [scale for name, scale in stored.items() if name.endswith("/scale")]
    of_sums = any(np.allclose(step, stored[layer + SCALE] * scale, rtol=1e-6, atol=0) for scale in activations)
    return of_sums and parity.is_rounded(value * step, step, exact)
