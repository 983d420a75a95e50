"""Operations that arrange elements anew, reduce them, or compute with shapes."""

import math
import struct
from collections.abc import Sequence
from itertools import pairwise

from mnist_edge.runtime.onnx_file.messages import FLOAT, INT64, MOST_VALUES, Dims, Images, Tensor
from mnist_edge.runtime.onnx_file.shapes import (
    Call,
    ShapeError,
    axis_of,
    broadcast,
    check,
    fixed,
    integers,
    known,
    outer,
    sides,
    small,
)

MOST_PADDING = 4096
"""Elements at each end of a side."""


def shape(call: Call) -> list[Tensor]:
    """A tensor's sides as a tensor."""
    dims = call.given(0).dims
    taken = dims[call.number("start", 0) : call.number("end", len(dims))]
    check(len(taken) > 0, "nothing is left")
    return [Tensor(INT64, (len(taken),), taken)]


def range_(call: Call) -> list[Tensor]:
    """Equidistant integers."""
    ends = [integers(call.given(number)) for number in range(3)]
    check(all(len(each) == 1 for each in ends) and ends[2] != [0], "it takes three integers")
    (start,), (end,), (step,) = ends
    check(small((start, end, step)), "an integer that is too large")
    count = len(range(start, end, step))
    check(count > 0, "nothing is left")
    return [Tensor(INT64, (count,))]


def reshape(call: Call) -> list[Tensor]:
    """Another shape for the same elements; 0 keeps a side, -1 stands for what is left."""
    tensor, wanted = call.given(0), sides(call.given(1))
    if call.number("allowzero", 0) == 0:
        check(all(each != 0 or at < len(tensor.dims) for at, each in enumerate(wanted)), "a side that is not there")
        wanted = tuple(tensor.dims[at] if each == 0 else each for at, each in enumerate(wanted))
    fitted = [side for side in wanted if side != -1]
    product, images = Tensor(tensor.type, tuple(fitted)).elements, tensor.images - _images(fitted)
    check(all(isinstance(side, Images) or side > 0 for side in fitted), "a side that is not positive")
    check(len(wanted) - len(fitted) <= 1 and tensor.elements % product == 0, "sides that do not fit")
    left = tensor.elements // product
    if len(fitted) == len(wanted):
        check(left == 1 and images == 0, "sides that do not fit")
    check(images in (0, 1), "it mixes images")
    rest = Images(left) if images else left
    return [_rearranged(tensor, tuple(rest if side == -1 else side for side in wanted))]


def flatten(call: Call) -> list[Tensor]:
    """A matrix; the images must be its rows."""
    tensor = call.given(0)
    axis, rank = call.number("axis", 1), len(tensor.dims)
    axis = rank if axis == rank else axis_of(axis, rank)
    before, after = tensor.dims[:axis], tensor.dims[axis:]
    rows = Tensor(tensor.type, before).elements
    return [_rearranged(tensor, (Images(rows) if _images(before) else rows, math.prod(map(fixed, after))))]


def _images(sides: Sequence[int | Images]) -> int:
    return sum(isinstance(side, Images) for side in sides)


def _rearranged(tensor: Tensor, dims: Dims) -> Tensor:
    for place, side in enumerate(dims):
        if isinstance(side, Images):
            before, rest = divmod(outer(tensor.dims), math.prod(map(fixed, dims[:place])))
            check(rest == 0 and side.times % before == 0, "it mixes images")
            dims = (*dims[:place], Images(side.times, before), *dims[place + 1 :])
    return Tensor(tensor.type, dims, tensor.values)


def transpose(call: Call) -> list[Tensor]:
    """Axes in another order."""
    tensor = call.given(0)
    order = call.numbers("perm", [*range(len(tensor.dims))][::-1])
    check(sorted(order) == [*range(len(tensor.dims))], f"no order of axes: {order}")
    return [Tensor(tensor.type, tuple(tensor.dims[axis] for axis in order))]


def squeeze(call: Call) -> list[Tensor]:
    """Without sides of one."""
    tensor = call.given(0)
    axes = _axes(call.optional(1), len(tensor.dims))
    check(all(tensor.dims[axis] == 1 for axis in axes), "a side that is not one")
    return [_rearranged(tensor, tuple(side for axis, side in enumerate(tensor.dims) if axis not in axes))]


def unsqueeze(call: Call) -> list[Tensor]:
    """With more sides of one."""
    tensor = call.given(0)
    wanted = integers(call.given(1))
    rank = len(tensor.dims) + len(wanted)
    axes = {axis_of(axis, rank) for axis in wanted}
    check(len(axes) == len(wanted), "an axis twice")
    old = iter(tensor.dims)
    return [_rearranged(tensor, tuple(1 if axis in axes else next(old) for axis in range(rank)))]


def _axes(named: Tensor | None, rank: int) -> set[int]:
    if named is None:
        raise ShapeError("axes that are not named")
    axes = [axis_of(axis, rank) for axis in integers(named)]
    check(len({*axes}) == len(axes), "an axis twice")
    return {*axes}


def concat(call: Call) -> list[Tensor]:
    """One tensor after the other."""
    tensors = [each for each in call.inputs if each]
    check(len(tensors) == len(call.inputs) > 0, "an input is missing")
    first = tensors[0]
    axis = axis_of(call.number("axis", 0), len(first.dims))
    others = [(each.type, each.dims[:axis], each.dims[axis + 1 :], len(each.dims)) for each in tensors]
    check(all(before == after for before, after in pairwise(others)), "sides that do not fit")
    total = sum(fixed(each.dims[axis]) for each in tensors)
    dims = (*first.dims[:axis], total, *first.dims[axis + 1 :])
    if len(dims) > 1 or total > MOST_VALUES or any(each.values is None for each in tensors):
        return [Tensor(first.type, dims)]
    values = tuple(value for each in tensors for value in known(each))
    return [Tensor(first.type, dims, values)]


def split(call: Call) -> list[Tensor]:
    """Several parts of a tensor."""
    tensor, sizes = call.given(0), call.optional(1)
    axis = axis_of(call.number("axis", 0), len(tensor.dims))
    side, count = fixed(tensor.dims[axis]), len(call.node.outputs)
    if sizes:
        lengths = integers(sizes)
    else:
        check(call.number("num_outputs", count) == count, "another number of parts")
        each = -(-side // count)
        lengths = [each] * (count - 1) + [side - each * (count - 1)]
    check(len(lengths) == count and sum(lengths) == side and min(lengths) > 0, "parts that do not fit")
    return [Tensor(tensor.type, (*tensor.dims[:axis], length, *tensor.dims[axis + 1 :])) for length in lengths]


def slice_(call: Call) -> list[Tensor]:
    """A part of a tensor, as a Python slice; whole along the images."""
    tensor = call.given(0)
    starts, ends = integers(call.given(1)), integers(call.given(2))
    axes_given, steps_given = call.optional(3), call.optional(4)
    axes = integers(axes_given) if axes_given else [*range(len(starts))]
    steps = integers(steps_given) if steps_given else [1] * len(starts)
    check(len(starts) == len(ends) == len(axes) == len(steps) and 0 not in steps, "starts, ends, axes and steps")
    dims, values = [*tensor.dims], tensor.values
    axes = [axis_of(axis, len(dims)) for axis in axes]
    check(len({*axes}) == len(axes), "an axis twice")
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        side = dims[axis]
        if isinstance(side, Images):
            check((start, step) == (0, 1) and end >= 2**31 - 1, "it mixes images")
            continue
        taken = _taken(side, start, end, step)
        check(len(taken) > 0, "nothing is left")
        dims[axis] = len(taken)
        values = tuple(values[at] for at in taken) if values is not None and len(dims) == 1 else None
    return [Tensor(tensor.type, tuple(dims), values)]


def _taken(side: int, start: int, end: int, step: int) -> range:
    """The indices of a slice. ONNX clamps as Python does, but counts negative ones from the end before it does."""
    return range(side)[start : None if step < 0 and end < -side else end : step]


def gather(call: Call) -> list[Tensor]:
    """The elements at some indices, which onnxruntime checks."""
    tensor, indices = call.given(0), call.given(1)
    axis = axis_of(call.number("axis", 0), len(tensor.dims))
    side = fixed(tensor.dims[axis])
    values = None
    if len(tensor.dims) == 1 and tensor.values is not None and indices.values is not None:
        places = integers(indices)
        check(all(-side <= place < side for place in places), "an index that is not there")
        values = tuple(tensor.values[place] for place in places)
    return [Tensor(tensor.type, (*tensor.dims[:axis], *indices.dims, *tensor.dims[axis + 1 :]), values)]


def gather_nd(call: Call) -> list[Tensor]:
    """The slices at some indices, which onnxruntime checks."""
    tensor, indices = call.given(0), call.given(1)
    check(len(indices.dims) > 0 and indices.type == INT64, "indices that do not fit")
    length = fixed(indices.dims[-1])
    check(length <= len(tensor.dims) and min(map(fixed, tensor.dims[:length])) > 0, "indices that do not fit")
    return [Tensor(tensor.type, (*indices.dims[:-1], *tensor.dims[length:]))]


def expand(call: Call) -> list[Tensor]:
    """Repeated by broadcasting."""
    tensor, wanted = call.given(0), sides(call.given(1))
    check(all(isinstance(side, Images) or side > 0 for side in wanted), "a side that is not positive")
    return [Tensor(tensor.type, broadcast(tensor.dims, wanted))]


def tile(call: Call) -> list[Tensor]:
    """Repeated along each axis."""
    tensor, times = call.given(0), integers(call.given(1))
    check(len(times) == len(tensor.dims) and min(times, default=1) > 0, "repeats that do not fit")
    dims = [side if count == 1 else fixed(side) * count for side, count in zip(tensor.dims, times, strict=True)]
    return [Tensor(tensor.type, tuple(dims))]


def pad(call: Call) -> list[Tensor]:
    """Wider or, with negative padding, narrower."""
    tensor, widths, named = call.given(0), integers(call.given(1)), call.optional(3)
    axes = [axis_of(axis, len(tensor.dims)) for axis in integers(named)] if named else [*range(len(tensor.dims))]
    check(len(widths) == 2 * len(axes) and len({*axes}) == len(axes), "padding that does not fit")
    dims = [*tensor.dims]
    for axis, before, after in zip(axes, widths[: len(axes)], widths[len(axes) :], strict=True):
        if before or after:
            side = fixed(dims[axis])
            constant = call.node.attributes.get("mode", "constant") == "constant"
            least, most = (-side, MOST_PADDING) if constant else (0, side - 1)
            check(least <= min(before, after) and max(before, after) <= most, "padding that is too wide")
            dims[axis] = side + before + after
            check(side + before + after > 0, "nothing is left")
    return [Tensor(tensor.type, tuple(dims))]


def resize(call: Call) -> list[Tensor]:
    """Images of another size, which is given, or by how much each side is scaled."""
    tensor, scales, sizes = call.given(0), call.optional(2), call.optional(3)
    check(tensor.type == FLOAT and call.optional(1) is None, "it takes floats")
    if sizes:
        dims = sides(sizes)
    else:
        factors = [factor for factor in known(call.given(2)) if not isinstance(factor, Images)]
        check(len(factors) == len(tensor.dims) and 0 < min(factors) <= max(factors) < 2**12, "scales that do not fit")
        dims = tuple(
            side if factor == 1 else _scaled(fixed(side), factor)
            for side, factor in zip(tensor.dims, factors, strict=True)
        )
    check(scales is None or sizes is None, "both scales and sizes")
    check(len(dims) == 4 and dims[:2] == tensor.dims[:2], "it takes images with channels")
    check(all(fixed(side) > 0 for side in dims[2:]), "a side that is not positive")
    return [Tensor(FLOAT, dims)]


def _scaled(side: int, factor: float) -> int:
    """As onnxruntime computes it: in float32, then rounded down."""
    check(side < 2**24, "a side that is too long")
    (product,) = struct.unpack("<f", struct.pack("<f", side * factor))
    return int(product)


def depth_to_space(call: Call) -> list[Tensor]:
    """Channels to pixels."""
    tensor, block = call.given(0), call.number("blocksize", 1)
    check(len(tensor.dims) == 4, "it takes images with channels")
    channels, height, width = map(fixed, tensor.dims[1:])
    check(channels % block**2 == 0, "channels that do not fit")
    return [Tensor(tensor.type, (tensor.dims[0], channels // block**2, height * block, width * block))]


def space_to_depth(call: Call) -> list[Tensor]:
    """Pixels to channels."""
    tensor, block = call.given(0), call.number("blocksize", 1)
    check(len(tensor.dims) == 4, "it takes images with channels")
    channels, height, width = map(fixed, tensor.dims[1:])
    check(height % block == 0 and width % block == 0, "pixels that do not fit")
    return [Tensor(tensor.type, (tensor.dims[0], channels * block**2, height // block, width // block))]


def reduce(call: Call) -> list[Tensor]:
    """A sum, a mean or the like over some axes, never over images."""
    tensor = call.given(0)
    check(tensor.type == FLOAT, "it takes floats")
    return [Tensor(FLOAT, _reduced(call, tensor, _axes(call.optional(1), len(tensor.dims))))]


def arg_reduce(call: Call) -> list[Tensor]:
    """The index of the largest or smallest element along an axis."""
    tensor = call.given(0)
    return [Tensor(INT64, _reduced(call, tensor, {axis_of(call.number("axis", 0), len(tensor.dims))}))]


def _reduced(call: Call, tensor: Tensor, axes: set[int]) -> Dims:
    for axis in axes:
        fixed(tensor.dims[axis])
    kept: list[int | Images] = [1] if call.number("keepdims", 1) else []
    parts = [kept if axis in axes else [side] for axis, side in enumerate(tensor.dims)]
    return tuple(side for part in parts for side in part)


def top_k(call: Call) -> list[Tensor]:
    """The largest elements along an axis, and their indices."""
    tensor, (count,) = call.given(0), integers(call.given(1))
    check(tensor.type == FLOAT, "it takes floats")
    axis = axis_of(call.number("axis", -1), len(tensor.dims))
    check(0 < count <= fixed(tensor.dims[axis]), "more elements than there are")
    dims = (*tensor.dims[:axis], count, *tensor.dims[axis + 1 :])
    return [Tensor(FLOAT, dims), Tensor(INT64, dims)]
