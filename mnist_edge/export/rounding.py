"""Which way a layer's weights are rounded: so that what the layer sums up changes least, not the weights themselves.

A layer's inputs move together, for neighbouring pixels are alike, and so the errors of weights that were each rounded
to the nearest step add up or cancel by chance. Here each weight goes to the step above or below it (Nagel et al. 2020,
"Up or Down? Adaptive Rounding for Post-Training Quantization"), chosen by coordinate descent on the layer's squared
error over training images. That error is of second order in the weights, so that two products of the inputs with
themselves are all that is needed of the images (as in Frantar et al. 2022, "GPTQ"). The inputs are those that the
quantized layers before this one give, held against the sums of the exact ones, so that it makes good for them.

Over five seeds of `cnn-nano`, whose layers are the narrowest, it halves the root mean square of Δlogit on the test set,
from 0.031 to 0.016, and takes the largest on golden vectors from 0.25 to 0.10.
"""

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper
from torch import Tensor
from torch.nn import functional

SWEEPS: Final = 20
"""Passes over a layer's weights at most; mostly nothing moves after eight."""

CHUNK: Final = 50
"""Images at a time: a convolution's patches are nine times as large as its input."""

Array = NDArray[np.float64]


def up_or_down(node: NodeProto, weight: Array, limit: int, given: NDArray[Any], meant: NDArray[Any]) -> Array:
    """A layer's weights as whole numbers of steps.

    Args:
        node: a Conv or Gemm, with its attributes.
        weight: in steps, [outputs, …].
        limit: the most steps that a weight may be away from zero.
        given: what the layer is given by the quantized ones before it, [n, …].
        meant: what it would be given by the exact ones, of the same shape.

    Returns:
        float64, of the weight's shape; each the next whole number above or below, within the limit.
    """
    exact = weight.reshape(len(weight), -1).T
    rounded = exact.round().clip(-limit, limit)
    if _attributes(node).get("group", 1) != 1:
        return rounded.T.reshape(weight.shape)
    square, product = _moments(node, weight.shape, given, meant)
    gradient = square @ rounded - product @ exact
    for _ in range(SWEEPS):
        moved = False
        for row, curvature in enumerate(square.diagonal()):
            step = np.where(rounded[row] > exact[row], -1.0, 1.0)
            there = rounded[row] + step
            wanted = (2 * step * gradient[row] + curvature < 0) & (abs(there - exact[row]) < 1) & (abs(there) <= limit)
            if wanted.any():
                step[~wanted] = 0
                rounded[row] += step
                gradient += np.outer(square[row], step)
                moved = True
        if not moved:
            break
    return rounded.T.reshape(weight.shape)


def _moments(node: NodeProto, shape: tuple[int, ...], given: NDArray[Any], meant: NDArray[Any]) -> tuple[Array, Array]:
    """The given inputs' products with themselves and with the meant ones, summed: float64 [k, k], k weights an output.

    In float64 they do not depend on the number of threads by as much as would turn a weight.
    """
    size = math.prod(shape[1:])
    square, product = (torch.zeros(size, size, dtype=torch.float64) for _ in range(2))
    for start in range(0, len(given), CHUNK):
        here, there = (
            _patches(node, shape, torch.tensor(inputs[start : start + CHUNK]).double()) for inputs in (given, meant)
        )
        square += here @ here.T
        product += here @ there.T
    return square.numpy(), product.numpy()


def _patches(node: NodeProto, shape: tuple[int, ...], inputs: Tensor) -> Tensor:
    """What each of a layer's sums is over: [k, sums]."""
    if node.op_type == "Gemm":
        return inputs.T
    attributes = _attributes(node)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    columns = functional.unfold(
        functional.pad(inputs, (left, right, top, bottom)),
        shape[2:],
        dilation=tuple(attributes.get("dilations", (1, 1))),
        stride=tuple(attributes.get("strides", (1, 1))),
    )
    return columns.transpose(0, 1).flatten(1)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
