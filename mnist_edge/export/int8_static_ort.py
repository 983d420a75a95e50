"""int8 for graphs of any kind, by onnxruntime's own static quantizer, told what this package found out.

* Weights have one scale per output channel and seven bits, so that no processor saturates (see `int8_static`).
* Activations are uint8; their range is the one seen on training images, a full image and noise.
* Convolutions, linear layers, and what runs on bytes between them are quantized. Softmax, normalization, recurrent
  layers and everything else stay in float32.
* So do convolutions before a normalization.
* What a linear layer gives to a float32 operator, or as the logits, is not rounded to bytes.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from mnist_edge.contract import INPUT_NAME
from mnist_edge.errors import UnsupportedFormatError
from mnist_edge.export import parity
from mnist_edge.export.byte_plan import NORMALIZING
from mnist_edge.export.onnx_graph import initializers
from mnist_edge.export.refusals import refusals_of
from mnist_edge.runtime.classifier import CHUNK

IMAGES: Final = 1000
"""The ranges are found on about this many of the images, evenly spaced, and on all extremes."""

WEIGHT_LIMIT: Final = 64
"""Quantized weights lie within -64…64: 2 · 255 · 64 is below 2¹⁵."""

REMEDY: Final = "leave int8-static out with --formats"

LAYERS: Final = {"Conv", "Gemm", "MatMul"}

JOINING: Final = {"Add", "Concat"}

PASSING: Final = {
    "AveragePool",
    "Clip",
    "Flatten",
    "GlobalAveragePool",
    "MaxPool",
    "Relu",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
"""Operators of one input that onnxruntime computes on bytes."""


def quantize(model: ModelProto, images: NDArray[np.uint8], extremes: NDArray[np.uint8]) -> ModelProto:
    """Quantize a float32 graph.

    Args:
        model: from `mnist_edge.export.onnx_graph.build`.
        images: used to find the ranges, uint8 [n, 1, 28, 28].
        extremes: used for them too, uint8 [n, 1, 28, 28].

    Raises:
        UnsupportedFormatError: onnxruntime's quantizer does not take it, or finds nothing to quantize.
    """
    chosen = {node.name: node.output[0] for node in _chosen(model)}
    if not chosen:
        raise UnsupportedFormatError(f"int8-static has no integer operator for anything in this model: {REMEDY}")
    every = max(1, len(images) // IMAGES)
    with refusals_of("onnxruntime's quantizer", REMEDY):
        quantized = _tidy(_quantized(model, list(chosen), np.concatenate([images[::every], extremes])), chosen)
        onnx.checker.check_model(quantized, full_check=True)
    return quantized


def wrong_weight(stored: Mapping[str, NDArray[Any]], weights: Mapping[str, NDArray[Any]]) -> str | None:
    """The name of a constant that is neither the trained one nor rounded to the finest steps its range allows.

    Single numbers may be missing, such as the limits of a Clip that rounding to bytes replaces.
    """
    for key, exact in weights.items():
        if key in stored:
            right = np.array_equal(stored[key], exact)
        elif f"{key}_quantized" in stored:
            right = (_is_weight if exact.ndim > 1 else _is_bias)(stored, key, exact)
        else:
            right = exact.ndim == 0
        if not right:
            return key
    return None


def _is_weight(stored: Mapping[str, NDArray[Any]], key: str, exact: NDArray[np.float32]) -> bool:
    quantized, scale = stored[f"{key}_quantized"], stored[f"{key}_scale"].astype(np.float64)
    # Outputs come first, but in a MatMul or a Gemm that does not transpose its weight.
    axes = [axis for axis in (0, exact.ndim - 1) if quantized.shape == exact.shape and exact.shape[axis] == len(scale)]
    return any(
        parity.is_quantized(np.moveaxis(quantized, axis, -1) * scale, scale, by_output, peak, WEIGHT_LIMIT)
        for axis in axes
        for by_output in [np.moveaxis(exact, axis, -1)]
        for peak in [np.abs(by_output).reshape(-1, len(scale)).max(axis=0)]
    )


def _is_bias(stored: Mapping[str, NDArray[Any]], key: str, exact: NDArray[np.float32]) -> bool:
    step = stored[f"{key}_quantized_scale"].astype(np.float64)
    return parity.is_rounded(stored[f"{key}_quantized"] * step, step, exact)


def _chosen(model: ModelProto) -> Iterator[NodeProto]:
    """The nodes to quantize: layers with constant weights, and what stands among them and can run on bytes.

    A convolution is not, if a normalization follows: where that divides by almost nothing, as on a blank image, it
    would magnify the rounding to bytes.
    """
    constants = initializers(model)
    magnified: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in NORMALIZING or (node.op_type in PASSING and magnified.intersection(node.output)):
            magnified.add(node.input[0])
    in_bytes: set[str] = set()
    for node in model.graph.node:
        varying = [name for name in node.input if name and name not in constants]
        is_layer = node.op_type in LAYERS and len(varying) == 1 and constants[node.input[1]].ndim > 1
        joins = node.op_type in JOINING and len(varying) == len(node.input)
        is_magnified = node.op_type == "Conv" and node.output[0] in magnified
        if (is_layer and not is_magnified) or ((joins or node.op_type in PASSING) and in_bytes.issuperset(varying)):
            in_bytes.update(node.output)
            yield node


def _quantized(model: ModelProto, chosen: list[str], images: NDArray[np.uint8]) -> ModelProto:
    # Imported here, after `mnist_edge.runtime.session` has switched telemetry off.
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            self.rest = iter(np.array_split(images, -(-len(images) // CHUNK)))

        def get_next(self) -> dict[str, Any] | None:
            chunk = next(self.rest, None)
            return None if chunk is None else {INPUT_NAME: chunk}

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        quantize_static(
            model,
            file,
            Images(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted(LAYERS | JOINING | PASSING),
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "QDQDisableWeightAdjustForInt32Bias": True},
        )
        return onnx.load(file)


def _tidy(model: ModelProto, outputs: Mapping[str, str]) -> ModelProto:
    """Without the roundings that serve no integer operator, and in an order that is always the same.

    Args:
        model: from onnxruntime's quantizer.
        outputs: of the nodes to quantize, before they were, by the node's name.
    """
    found = ir.from_proto(model)
    graph = found.graph
    for node in reversed(graph):
        if node.op_type == "DequantizeLinear" and (exact := _needlessly_rounded(node, outputs)) is not None:
            output = node.outputs[0]
            name, output.name = output.name, None
            output.replace_all_uses_with(exact, replace_graph_outputs=True)
            exact.name, exact.type, exact.shape = name, output.type, output.shape
            graph.remove(node, safe=True)
    ordered = sorted(graph.initializers.items())
    graph.initializers.clear()
    graph.initializers.update(ordered)
    passes.RemoveUnusedNodesPass()(found)
    passes.RemoveUnusedOpsetsPass()(found)
    passes.ClearMetadataAndDocStringPass()(found)
    graph.sort()
    tidied = ir.to_proto(found)
    tidied.graph.name, tidied.producer_name, tidied.producer_version = "mnist-edge", "", ""
    del tidied.graph.value_info[:]
    return tidied


def _needlessly_rounded(dequantize: ir.Node, outputs: Mapping[str, str]) -> ir.Value | None:
    """What a linear layer gave before it was rounded to bytes, if float32 operators read it; None otherwise."""
    rounding = None if dequantize.inputs[0] is None else dequantize.inputs[0].producer()
    exact = None if rounding is None else rounding.inputs[0]
    layer = None if exact is None else exact.producer()
    own = None if layer is None else outputs.get(str(layer.name))
    if exact is None or layer is None or own is None or layer.op_type == "Conv":
        return None
    # Where a ReLU followed, rounding to bytes does its work: the layer gives what the ReLU gave.
    is_its_own = layer.op_type in LAYERS and exact.name in (own, f"{own}_QuantizeLinear_Input")
    readers = [node for node, _ in dequantize.outputs[0].uses()]
    if not is_its_own or any(node.name in outputs for node in readers):
        return None
    return exact
