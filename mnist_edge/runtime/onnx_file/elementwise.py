"""Operations that leave a tensor's shape as it is, or broadcast several."""

import math
import operator
from typing import Final

from mnist_edge.runtime.onnx_file.messages import BOOL, FLOAT, INT8, INT32, INT64, UINT8, Tensor
from mnist_edge.runtime.onnx_file.shapes import Call, axis_of, broadcast, check, fixed, integers, small


def elementwise(call: Call) -> list[Tensor]:
    """Of floats, to floats."""
    check(all(each is None or each.type == FLOAT for each in call.inputs), "it takes floats")
    return arithmetic(call)


_ARITHMETIC: Final = {"Add": operator.add, "Mul": operator.mul, "Sub": operator.sub}


def _floats(tensor: Tensor) -> list[Tensor]:
    check(tensor.type == FLOAT, "it takes floats")
    return [Tensor(FLOAT, tensor.dims)]


def arithmetic(call: Call) -> list[Tensor]:
    """Of numbers of one type, floats or the integers that are indices."""
    tensors = [each for each in call.inputs if each]
    kind = tensors[0].type if tensors else FLOAT
    check(kind in {FLOAT, INT64} and all(each.type == kind for each in tensors), "it takes numbers of one type")
    return [Tensor(kind, broadcast(*(each.dims for each in tensors)), _computed(call) if kind == INT64 else None)]


def _computed(call: Call) -> tuple[int, ...] | None:
    """The results of arithmetic with a shape's sides, as far as they are known."""
    tensors = call.given(0), call.given(1)
    if any(each.values is None or each.depends_on_their_number for each in tensors):
        return None
    left, right = map(integers, tensors)
    if 1 not in (len(left), len(right)) or not small((*left, *right)):
        return None
    compute = _ARITHMETIC[call.node.operator]
    return tuple(compute(one, other) for one in left for other in right)


def compare(call: Call) -> list[Tensor]:
    """Of two floats, or two integers, to booleans."""
    check(call.given(0).type == call.given(1).type, "two types")
    return [Tensor(BOOL, broadcast(call.given(0).dims, call.given(1).dims))]


def logical(call: Call) -> list[Tensor]:
    """Of booleans, to booleans."""
    tensors = [each for each in call.inputs if each]
    check(bool(tensors) and all(each.type == BOOL for each in tensors), "it takes booleans")
    return [Tensor(BOOL, broadcast(*(each.dims for each in tensors)))]


def where(call: Call) -> list[Tensor]:
    """One of two floats, by a boolean."""
    condition, *rest = (call.given(number) for number in range(3))
    check(condition.type == BOOL and all(each.type == FLOAT for each in rest), "it takes booleans and floats")
    return [Tensor(FLOAT, broadcast(condition.dims, *(each.dims for each in rest)))]


def same(call: Call) -> list[Tensor]:
    """The first input's type and shape."""
    return [call.given(0)]


def cast(call: Call) -> list[Tensor]:
    """Another type; of integers only the same one keeps known values."""
    tensor, kind = call.given(0), call.number("to", FLOAT)
    return [Tensor(kind, tensor.dims, tensor.values if kind == tensor.type else None)]


def along_axis(call: Call) -> list[Tensor]:
    """Softmax and the like: along an axis that is not that of the images."""
    tensor = call.given(0)
    fixed(tensor.dims[axis_of(call.number("axis", -1), len(tensor.dims))])
    return _floats(tensor)


def cumulated(call: Call) -> list[Tensor]:
    """A cumulative sum, along an axis that the second input names."""
    tensor, (axis,) = call.given(0), integers(call.given(1))
    fixed(tensor.dims[axis_of(axis, len(tensor.dims))])
    return _floats(tensor)


def triangle(call: Call) -> list[Tensor]:
    """The upper or lower triangle of matrices that do not lie across images."""
    tensor = call.given(0)
    check(len(tensor.dims) >= 2 and min(map(fixed, tensor.dims[-2:])) > 0, "it takes matrices")
    return _floats(tensor)


def layer_norm(call: Call) -> list[Tensor]:
    """Over all axes from one on; scale and bias have their shape."""
    tensor = call.given(0)
    sides = tensor.dims[axis_of(call.number("axis", -1), len(tensor.dims)) :]
    for each in call.inputs[1:]:
        check(each is None or (each.type == FLOAT and broadcast(sides, each.dims) == sides), "scale or bias")
    for side in sides:
        fixed(side)
    return _floats(tensor)


def channel_norm(call: Call) -> list[Tensor]:
    """Over channels, axis 1; scale, bias and the like have one element a channel."""
    tensor = call.given(0)
    check(len(tensor.dims) >= 2, "it takes images with channels")
    for side in tensor.dims[1:]:
        fixed(side)
    for each in call.inputs[1:]:
        check(each is not None and each.type == FLOAT and each.dims == tensor.dims[1:2], "not one a channel")
    return _floats(tensor)


def quantize(call: Call) -> list[Tensor]:
    """Floats to bytes."""
    zero = call.optional(2)
    check(call.given(0).type == FLOAT, "it takes floats")
    _check_steps(call)
    kind = zero.type if zero else UINT8
    check(kind in {UINT8, INT8}, "it returns bytes")
    return [Tensor(kind, call.given(0).dims)]


def dequantize(call: Call) -> list[Tensor]:
    """Bytes, or sums of their products, to floats."""
    tensor, zero = call.given(0), call.optional(2)
    check(tensor.type in {UINT8, INT8, INT32}, "it takes bytes or sums")
    check(zero is None or zero.type == tensor.type, "a zero point of another type")
    _check_steps(call)
    return [Tensor(FLOAT, tensor.dims)]


def _check_steps(call: Call) -> None:
    tensor, step, zero = call.given(0), call.given(1), call.optional(2)
    check(step.type == FLOAT and (zero is None or zero.dims == step.dims), "scale and zero point differ")
    if math.prod(map(fixed, step.dims)) > 1:
        axis = axis_of(call.number("axis", 1), len(tensor.dims))
        check(step.dims == (fixed(tensor.dims[axis]),), "not one scale a channel")
