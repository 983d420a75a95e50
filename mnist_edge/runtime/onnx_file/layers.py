"""Operations that compute with weights or over windows: products, convolutions, pools, recurrent layers."""

import math

from mnist_edge.runtime.onnx_file.messages import FLOAT, INT8, UINT8, Dims, Tensor
from mnist_edge.runtime.onnx_file.shapes import Call, broadcast, check, fixed


def matmul(call: Call) -> list[Tensor]:
    """NumPy's matmul, of floats."""
    left, right = call.given(0), call.given(1)
    check(left.type == right.type == FLOAT, "it takes floats")
    check(len(left.dims) >= 2 and len(right.dims) >= 2, "it takes matrices")
    check(fixed(left.dims[-1]) == right.dims[-2], "sides that do not fit")
    stacked = broadcast(left.dims[:-2], right.dims[:-2])
    return [Tensor(FLOAT, (*stacked, left.dims[-2], fixed(right.dims[-1])))]


def gemm(call: Call) -> list[Tensor]:
    """A product of two matrices, perhaps transposed, and a sum."""
    (rows, inner), (other, columns) = (
        _matrix(call.given(number), call.number(name, 0)) for number, name in enumerate(("transA", "transB"))
    )
    check(fixed(inner) == other, "sides that do not fit")
    dims = (rows, fixed(columns))
    bias = call.optional(2)
    check(bias is None or (bias.type == FLOAT and broadcast(bias.dims, dims) == dims), "a bias that does not fit")
    return [Tensor(FLOAT, dims)]


def _matrix(tensor: Tensor, transposed: int) -> Dims:
    check(len(tensor.dims) == 2 and tensor.type == FLOAT, "it takes matrices of floats")
    return tensor.dims[::-1] if transposed else tensor.dims


def matmul_nbits(call: Call) -> list[Tensor]:
    """A product with a matrix of bytes, which are scaled in blocks."""
    tensor, weights, scales = (call.given(number) for number in range(3))
    inner, outer = call.number("K", 0), call.number("N", 0)
    size, bits = call.number("block_size", 0), call.number("bits", 4)
    check(size in {16, 32, 64, 128, 256} and bits == 8, "blocks that are not written")
    blocks = -(-inner // size)
    check(tensor.type == FLOAT and tensor.dims[-1:] == (inner,), "columns that do not fit")
    check(weights.type == UINT8 and weights.dims == (outer, blocks, size), "weights that do not fit")
    check(scales.type == FLOAT and math.prod(map(fixed, scales.dims)) == outer * blocks, "scales that do not fit")
    zeros = call.optional(3)
    check(zeros is None or (zeros.type == UINT8 and math.prod(map(fixed, zeros.dims)) == outer * blocks), "zero points")
    return [Tensor(FLOAT, (*tensor.dims[:-1], outer))]


# Windows


def conv(call: Call) -> list[Tensor]:
    """A convolution."""
    tensor, weights, kernel = _windowed(call)
    group = call.number("group", 1)
    outer, inner = fixed(weights.dims[0]), fixed(weights.dims[1])
    check(tensor.dims[1] == inner * group and outer % group == 0, "channels that do not fit")
    _check_bias(call, outer)
    return [Tensor(FLOAT, (tensor.dims[0], outer, *_windows(call, tensor, kernel)))]


def conv_transpose(call: Call) -> list[Tensor]:
    """A transposed convolution."""
    tensor, weights, kernel = _windowed(call)
    group = call.number("group", 1)
    outer = fixed(weights.dims[1]) * group
    check(tensor.dims[1] == weights.dims[0] and fixed(weights.dims[0]) % group == 0, "channels that do not fit")
    _check_bias(call, outer)
    ones, zeros = [1] * len(kernel), [0] * len(kernel)
    strides, dilations = call.numbers("strides", ones), call.numbers("dilations", ones)
    pads, more = call.numbers("pads", zeros + zeros), call.numbers("output_padding", zeros)
    sides = [
        stride * (fixed(side) - 1) + extra + dilation * (length - 1) + 1 - before - after
        for side, length, stride, dilation, extra, before, after in zip(
            tensor.dims[2:], kernel, strides, dilations, more, pads[: len(kernel)], pads[len(kernel) :], strict=True
        )
    ]
    check(all(side > 0 for side in sides), "nothing is left")
    return [Tensor(FLOAT, (tensor.dims[0], outer, *sides))]


def _windowed(call: Call) -> tuple[Tensor, Tensor, list[int]]:
    """Images, weights and the sides of a window."""
    tensor, weights = call.given(0), call.given(1)
    check(tensor.type == weights.type == FLOAT, "it takes floats")
    check(3 <= len(tensor.dims) == len(weights.dims) <= 5, "it takes images with channels")
    kernel = [fixed(side) for side in weights.dims[2:]]
    check(call.numbers("kernel_shape", kernel) == kernel, "a window that its weights do not have")
    return tensor, weights, kernel


def _check_bias(call: Call, channels: int) -> None:
    bias = call.optional(2)
    check(bias is None or (bias.type == FLOAT and bias.dims == (channels,)), "a bias that does not fit")


def pool(call: Call) -> list[Tensor]:
    """A pool over windows; the largest byte too."""
    tensor = call.given(0)
    check(3 <= len(tensor.dims) <= 5, "it takes images with channels")
    check(tensor.type == FLOAT or (call.node.operator == "MaxPool" and tensor.type in {UINT8, INT8}), "of that type")
    ones = [1] * (len(tensor.dims) - 2)
    kernel = call.numbers("kernel_shape", ones)
    pads = call.numbers("pads", [0] * 2 * len(kernel))
    check(all(pad < length for pad, length in zip(pads, kernel * 2, strict=True)), "padding wider than a window")
    return [Tensor(tensor.type, (*tensor.dims[:2], *_windows(call, tensor, kernel)))]


def _windows(call: Call, tensor: Tensor, kernel: list[int]) -> list[int]:
    """How often a window fits, per side."""
    ones, count = [1] * len(kernel), len(kernel)
    strides, dilations = call.numbers("strides", ones), call.numbers("dilations", ones)
    pads = call.numbers("pads", [0] * 2 * count)
    fits = []
    for side, length, stride, dilation, before, after in zip(
        tensor.dims[2:], kernel, strides, dilations, pads[:count], pads[count:], strict=True
    ):
        room = fixed(side) + before + after - dilation * (length - 1) - 1
        check(room >= 0, "a window larger than the image")
        fitting = room // stride + 1
        if call.number("ceil_mode", 0) and room % stride and fitting * stride < fixed(side) + before:
            fitting += 1
        fits.append(fitting)
    return fits


def global_pool(call: Call) -> list[Tensor]:
    """One number a channel."""
    tensor = call.given(0)
    check(tensor.type == FLOAT, "it takes floats")
    check(len(tensor.dims) >= 3 and min(map(fixed, tensor.dims[1:])) > 0, "it takes images with channels")
    return [Tensor(tensor.type, (*tensor.dims[:2], *[1] * (len(tensor.dims) - 2)))]


# Recurrence


def recurrent(call: Call) -> list[Tensor]:
    """LSTM, GRU or RNN; sequences come first, then images."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[call.node.operator]
    tensor, weights, again = (call.given(number) for number in range(3))
    directions = 2 if call.node.attributes.get("direction") == "bidirectional" else 1
    hidden = call.number("hidden_size", 0)
    check(len(tensor.dims) == 3 and tensor.type == FLOAT, "it takes sequences")
    length, images, width = fixed(tensor.dims[0]), tensor.dims[1], fixed(tensor.dims[2])
    check(weights.dims == (directions, gates * hidden, width), "weights that do not fit")
    check(again.dims == (directions, gates * hidden, hidden), "weights that do not fit")
    bias, lengths, *states = (call.optional(number) for number in range(3, 7))
    check(bias is None or bias.dims == (directions, 2 * gates * hidden), "a bias that does not fit")
    check(lengths is None, "sequences of several lengths")
    check(all(each is None or each.dims == (directions, images, hidden) for each in states), "a state that does not")
    check(all(each is None or each.type == FLOAT for each in call.inputs), "it takes floats")
    last = Tensor(FLOAT, (directions, images, hidden))
    return [Tensor(FLOAT, (length, directions, images, hidden)), last, last]


# Work


def scratch(call: Call, outputs: list[Tensor]) -> int:
    """How many elements an operation needs beside its results: windows side by side, or weights as floats."""
    match call.node.operator:
        case "Conv":
            weights = call.given(1)
            return weights.elements // fixed(weights.dims[0]) * Tensor(FLOAT, outputs[0].dims[2:]).elements
        case "ConvTranspose":
            weights = call.given(1)
            return weights.elements // fixed(weights.dims[0]) * Tensor(FLOAT, call.given(0).dims[2:]).elements
        case "com.microsoft.MatMulNBits":
            return call.given(1).elements
    return 0


def multiplications(call: Call, outputs: list[Tensor]) -> int:
    """How many products an operation computes per image, about; for others than the above, all elements."""
    results = sum(each.elements for each in outputs)
    match call.node.operator:
        case "Conv" | "Gemm":
            work = results * call.given(1).elements // fixed(outputs[0].dims[1])
        case "ConvTranspose":
            work = call.given(0).elements * call.given(1).elements // fixed(call.given(1).dims[0])
        case "MatMul" | "com.microsoft.MatMulNBits":
            work = results * fixed(call.given(0).dims[-1])
        case "LSTM" | "GRU" | "RNN":
            work = fixed(call.given(0).dims[0]) * (call.given(1).elements + call.given(2).elements)
        case "MaxPool" | "AveragePool" | "LpPool":
            work = results * math.prod(call.numbers("kernel_shape", [1] * (len(outputs[0].dims) - 2)))
        case _:
            work = results
    return work + sum(each.elements for each in call.inputs if each)
