"""ONNX with int8 weights; linear layers also quantize their activations, at run time.

onnxruntime's own ``quantize_dynamic`` was measured and rejected (``scripts/compare_int8.py``; onnxruntime 1.32, AVX-512
with VNNI, one thread):

* It scales activations by the range of the whole batch, so an image's logits depend on the rest of its batch: by 0.12
  for `simple-nn`, 0.05 for `cnn`. A device that batches would answer differently from one that does not.
* It turns Conv into ConvInteger, which has no fast kernel: 492 µs per image, against 92 in float32.

Instead:

* Linear layers become ``MatMulNBits`` with 8 bits, symmetric blocks of 64 and ``accuracy_level`` 4, which quantizes the
  activations row by row, block by block. Logits do not depend on the batch (0.0 measured), the size is 0.28 of
  float32's, and `simple-nn` takes 21 µs per image instead of 37.
* Convolutions keep float32 activations. Their weights are stored as int8 with one scale per output channel. A Cast and
  a Mul turn them back into floats, and onnxruntime folds both into float32 constants at load: a third of the size, at
  the speed of float32. (DequantizeLinear is not folded at load; with it an image took 195 µs.)
"""

from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_edge.bundle.layout import Format
from mnist_edge.errors import ParityError, UnsupportedFormatError
from mnist_edge.export import metadata, parity
from mnist_edge.export.examples import Examples
from mnist_edge.export.onnx import variants
from mnist_edge.export.onnx_graph import initializers, require_any_batch

TOLERANCE: Final = parity.INT8

__all__ = ["TOLERANCE", "check_weights", "convert", "variants"]

BLOCK: Final = 64
"""Weights per scale in a linear layer. With 128, logits depended on the batch in onnxruntime 1.32."""

INT8_ACTIVATIONS: Final = 4
"""The ``accuracy_level`` at which MatMulNBits computes with int8 activations."""

LIMIT: Final = 127
"""Quantized weights lie within -127…127, so that zero is exact and the range symmetric."""

ZERO_POINT: Final = 128
"""MatMulNBits' default zero point for its unsigned 8-bit weights."""

_QUANTIZED, _SCALE = "_int8", "_scale"


def convert(examples: Examples) -> bytes:
    """The file's content. Raises UnsupportedFormatError if there is nothing to quantize."""
    model = quantize(examples.graph())
    require_any_batch(model)
    return metadata.complete(model, Format.INT8_DYNAMIC, examples)


def quantize(model: ModelProto) -> ModelProto:
    """Quantize the weights of all Gemm, MatMul and Conv nodes to int8. Changes `model` and returns it.

    A weight stays as it is where other nodes use it too, or where int8 would not be smaller.

    Raises:
        UnsupportedFormatError: there is nothing to quantize.
    """
    constants: dict[str, NDArray[Any]] = initializers(model)
    chosen = _weights(model, constants)
    if not chosen:
        raise UnsupportedFormatError(
            "int8-dynamic has no weight of a convolution or linear layer to make smaller: "
            "leave the format out with --formats"
        )
    nodes: list[NodeProto] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for node in model.graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        if weight not in chosen:
            nodes.append(node)
            continue
        is_new = weight not in shapes
        if is_new:
            values = _outputs_first(node, constants.pop(weight))
            shapes[weight] = values.shape
            stored = _quantize_channels(values) if node.op_type == "Conv" else _quantize_blocks(values)
            constants[weight + _QUANTIZED], constants[weight + _SCALE] = stored
        if node.op_type != "Conv":
            nodes += _linear(node, shapes[weight])
        else:
            nodes += [*(_dequantized_weight(weight) if is_new else []), node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    if any(node.domain == "com.microsoft" for node in nodes):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def check_weights(data: bytes, name: str, examples: Examples) -> None:
    """Check that every weight is the trained one, or rounded to the finest steps its range allows.

    Raises:
        ParityError: a weight is not.
    """
    model = onnx.load_from_string(data)
    stored = initializers(model)
    for key, exact in examples.weights.items():
        try:
            right = np.array_equal(stored[key], exact) if key in stored else _is_quantized(stored, key, exact)
        except (KeyError, ValueError):
            right = False
        if not right:
            raise ParityError(f"{name}: its weight {key} is not the trained one, quantized")


def _is_quantized(stored: dict[str, NDArray[Any]], key: str, exact: NDArray[np.float32]) -> bool:
    # MatMulNBits stores the outputs first; the weights of a MatMul have them last.
    candidates = (exact, exact.T) if exact.ndim == 2 else (exact,)
    return any(
        parity.is_quantized(
            _dequantized(stored, key, each.shape), _step(stored, key, each.shape), each, _peak(each), LIMIT
        )
        for each in candidates
        if exact.ndim != 2 or stored[key + _SCALE].shape == (len(each), -(-each.shape[1] // BLOCK))
    )


def _dequantized(stored: dict[str, NDArray[Any]], key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    quantized = stored[key + _QUANTIZED].astype(np.float64)
    if len(shape) == 2:
        quantized = (quantized - ZERO_POINT).reshape(shape[0], -1)[:, : shape[1]]
    return quantized * _step(stored, key, shape)


def _step(stored: dict[str, NDArray[Any]], key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    scale = stored[key + _SCALE].astype(np.float64)
    return np.repeat(scale, BLOCK, axis=1)[:, : shape[1]] if len(shape) == 2 else scale


def _peak(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest magnitude among the weights that share a scale, in a shape that broadcasts to the weights'."""
    magnitude = np.abs(weight)
    if weight.ndim != 2:
        return np.asarray(magnitude.max(axis=tuple(range(1, weight.ndim)), keepdims=True))
    peaks = np.maximum.reduceat(magnitude, np.arange(0, weight.shape[1], BLOCK), axis=1)
    return np.repeat(peaks, BLOCK, axis=1)[:, : weight.shape[1]]


def _weights(model: ModelProto, constants: dict[str, NDArray[Any]]) -> set[str]:
    """The constants that are quantized: weights of layers, all of one kind, and of nothing else."""
    uses: dict[str, set[str]] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            uses.setdefault(name, set()).add(_kind(node, constants) if position == 1 else "")
    return {name for name, kinds in uses.items() if name in constants and len(kinds) == 1 and "" not in kinds}


def _kind(node: NodeProto, constants: dict[str, NDArray[Any]]) -> str:
    """How a node uses its weight; empty if the weight is none, or is not quantized."""
    weight = constants.get(node.input[1], np.zeros(()))
    told = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    match node.op_type:
        case "Conv" if weight.ndim > 2:
            return "Conv"
        case "Gemm" | "MatMul" if weight.ndim == 2 and _is_smaller(_outputs_first(node, weight)):
            plain = (told.get("alpha", 1), told.get("beta", 1), told.get("transA", 0)) == (1, 1, 0)
            return str(_outputs_last(node)) if plain else ""
    return ""


def _is_smaller(weight: NDArray[np.float32]) -> bool:
    """Whether whole blocks and their scales take less than the weight itself: [outputs, inputs]."""
    inputs = weight.shape[1]
    return bool(-(-inputs // BLOCK) * (BLOCK + 4) < 4 * inputs)


def _outputs_last(node: NodeProto) -> bool:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return node.op_type != "Conv" and not transposed


def _outputs_first(node: NodeProto, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return weight.T if _outputs_last(node) else weight


def _linear(node: NodeProto, shape: tuple[int, ...]) -> list[NodeProto]:
    """A Gemm or MatMul with the quantized weight, whose shape is [outputs, inputs]."""
    features, weight, *bias = node.input
    outputs, inputs = shape
    product = f"{node.output[0]}_product" if bias else node.output[0]
    multiply = helper.make_node(
        "MatMulNBits",
        [features, weight + _QUANTIZED, weight + _SCALE],
        [product],
        name=f"{node.name}_product",
        domain="com.microsoft",
        K=inputs,
        N=outputs,
        bits=8,
        block_size=BLOCK,
        accuracy_level=INT8_ACTIVATIONS,
    )
    return (
        [multiply, helper.make_node("Add", [product, *bias], list(node.output), name=node.name)] if bias else [multiply]
    )


def _dequantized_weight(weight: str) -> list[NodeProto]:
    return [
        helper.make_node(
            "Cast", [weight + _QUANTIZED], [f"{weight}_cast"], name=f"{weight}_cast", to=TensorProto.FLOAT
        ),
        helper.make_node("Mul", [f"{weight}_cast", weight + _SCALE], [weight], name=f"{weight}_dequantize"),
    ]


def _quantize_blocks(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    # MatMulNBits takes weights as [outputs, blocks, BLOCK], padded to whole blocks, and scales as [outputs, blocks].
    outputs, inputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.pad(weight, ((0, 0), (0, blocks * BLOCK - inputs))).reshape(outputs, blocks, BLOCK)
    quantized, scale = _quantize(padded, axes=(2,))
    return (quantized + ZERO_POINT).astype(np.uint8), scale.reshape(outputs, blocks)


def _quantize_channels(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    quantized, scale = _quantize(weight, axes=tuple(range(1, weight.ndim)))
    return quantized.astype(np.int8), scale


def _quantize(weight: NDArray[np.float32], axes: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    largest = np.abs(weight).max(axis=axes, keepdims=True)
    scale = np.where(largest > 0, largest / LIMIT, 1).astype(np.float32)
    return np.round(weight / scale).clip(-LIMIT, LIMIT), scale
