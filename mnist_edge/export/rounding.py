"""Adaptive rounding that minimises each layer's output error, rather than the error of each weight.

A layer's inputs are correlated, since neighbouring pixels are alike. If every weight is rounded to the nearest step,
their errors add up or cancel by chance. Here each weight goes to the step above or below it (Nagel et al. 2020, "Up or
Down? Adaptive Rounding for Post-Training Quantization"), chosen by coordinate descent on the layer's squared output
error over training images. That error is quadratic in the weights, so only two matrices are needed from the images: the
products of the inputs with themselves and with their own errors (as in Frantar et al. 2022, "GPTQ"). The inputs come
from the quantized layers before this one, the target from the float32 graph, so each layer also compensates for the
errors of those before it.

Over five seeds of `cnn-nano`, which has the narrowest layers, this halves the root mean square of Δlogit on the test
set, from 0.031 to 0.016, and lowers the largest Δlogit on golden vectors from 0.25 to 0.10.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from mnist_edge.contract import OPSET
from mnist_edge.export.threads import in_threads
from mnist_edge.runtime.session import Session

SWEEPS: Final = 20
"""Maximum number of passes over a layer's weights. Usually nothing changes after eight."""

MOST_INPUTS: Final = 2048
"""Above that, the products of the inputs take too much memory and time."""

CHUNK: Final = 8192
"""Approximate number of patches (see `_patches`) per chunk, which bounds the memory."""

Array = NDArray[np.float64]


def up_or_down(
    node: NodeProto, weight: Array, limit: int, quantized_inputs: NDArray[Any], float_inputs: NDArray[Any]
) -> Array:
    """Round a layer's weights up or down to whole steps.

    Those of a grouped convolution, and of a layer with more than `MOST_INPUTS`, go to the nearest.

    Args:
        node: the layer, a Conv or Gemm.
        weight: its exact weights in steps, [outputs, …].
        limit: the largest magnitude of a rounded weight, in steps.
        quantized_inputs: the layer's inputs from the quantized layers before it, [n, …].
        float_inputs: its inputs in the float32 graph, of the same shape and in the same unit.

    Returns:
        float64, of the shape of `weight`: for each weight the whole number above or below it, within the limit.
    """
    exact = weight.reshape(len(weight), -1).T
    rounded = exact.round().clip(-limit, limit)
    if _attributes(node).get("group", 1) != 1 or len(exact) > MOST_INPUTS:
        return rounded.T.reshape(weight.shape)
    square, lacking = _moments(node, weight.shape, quantized_inputs, float_inputs)
    gradient = square @ (rounded - exact) - lacking @ exact
    for _ in range(SWEEPS):
        moved = False
        for row, curvature in enumerate(square.diagonal()):
            step = np.where(rounded[row] > exact[row], -1.0, 1.0)
            there = rounded[row] + step
            wanted = (2 * step * gradient[row] + curvature < 0) & (abs(there - exact[row]) < 1) & (abs(there) <= limit)
            if wanted.any():
                rounded[row, wanted] += step[wanted]
                gradient[:, wanted] += np.outer(square[row], step[wanted])
                moved = True
        if not moved:
            break
    return rounded.T.reshape(weight.shape)


def _moments(
    node: NodeProto, shape: tuple[int, ...], quantized_inputs: NDArray[Any], float_inputs: NDArray[Any]
) -> tuple[Array, Array]:
    """The products of the quantized inputs with themselves and with their errors (float32 minus quantized), summed.

    Both are float64 [k, k], for k weights per output. float32 is exact enough for each chunk's products, as they are
    not subtracted from one another. Each chunk is computed on one thread and chunks are added in order, so the result
    does not depend on the number of threads.
    """
    patches = math.prod(quantized_inputs.shape[2:])
    images = max(1, CHUNK // patches)
    products = _products()

    def moments(start: int) -> list[NDArray[np.float32]]:
        part = quantized_inputs[start : start + images].astype(np.float32)
        lacks = float_inputs[start : start + images].astype(np.float32) - part
        inputs = {"inputs": _patches(node, shape, part), "lacks": _patches(node, shape, lacks)}
        return products.run(["square", "lacking"], inputs)

    size = math.prod(shape[1:])
    square, lacking = np.zeros((size, size)), np.zeros((size, size))
    for of_square, of_lacking in in_threads(moments, range(0, len(quantized_inputs), images)):
        square += of_square
        lacking += of_lacking
    return square, lacking


def _products() -> Session:
    """Computes both products of [k, patches] arrays on one thread; numpy's and torch's depend on the thread count."""
    names = ("inputs", "lacks")
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["inputs", other], [product], transB=1)
            for other, product in zip(names, ("square", "lacking"), strict=True)
        ],
        "products",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in names],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in ("square", "lacking")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return Session(model.SerializeToString())


def _patches(node: NodeProto, shape: tuple[int, ...], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The k inputs of every output position, unfolded (im2col): [k, patches]."""
    if node.op_type == "Gemm":
        return np.ascontiguousarray(inputs.T)
    attributes = _attributes(node)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    dilations, strides = attributes.get("dilations", (1, 1)), attributes.get("strides", (1, 1))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, right))),
        [1 + dilation * (side - 1) for dilation, side in zip(dilations, shape[2:], strict=True)],
        axis=(2, 3),
    )
    chosen = windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    return chosen.transpose(1, 4, 5, 0, 2, 3).reshape(math.prod(shape[1:]), -1)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
