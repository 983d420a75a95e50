"""Shape inference: what an operation returns, from what it takes, or a reason to refuse it.

ONNX's own inference is part of the onnx package, which a device does not have, and leaves out what it cannot tell. Here
every side of every tensor is a known number or the number of images, or the file is refused. The definitions are those
of ONNX's operators (https://onnx.ai/onnx/operators, opset 18) and of onnxruntime's MatMulNBits.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mnist_edge.runtime.onnx_file.messages import INT64, LONGEST_SIDE, Dims, Images, Node, Tensor, described


class ShapeError(ValueError):
    """An operation's inputs do not fit it, or its result cannot be told from the file alone."""


class Call(NamedTuple):
    """An operation and what it is given."""

    node: Node
    inputs: Sequence[Tensor | None]
    """None for an optional one that is left out."""

    def optional(self, number: int) -> Tensor | None:
        """An input that may be left out."""
        return self.inputs[number] if number < len(self.inputs) else None

    def given(self, number: int) -> Tensor:
        """An input that must be there."""
        tensor = self.optional(number)
        if tensor is None:
            raise ShapeError(f"input {number} is missing")
        return tensor

    def number(self, name: str, default: int) -> int:
        """An attribute that is an integer."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise ShapeError(f"{name} is not an integer")
        return value

    def numbers(self, name: str, default: list[int]) -> list[int]:
        """An attribute that is a list of as many integers as its default."""
        value = self.node.attributes.get(name, default)
        values = [each for each in value if isinstance(each, int)] if isinstance(value, list) else []
        check(len(values) == len(default), f"{name} is not {len(default)} integers")
        return values


def check(holds: bool, reason: str) -> None:
    """Raise ShapeError unless a condition holds."""
    if not holds:
        raise ShapeError(reason)


def known(tensor: Tensor) -> tuple[float | Images, ...]:
    """The elements of a small tensor that does not depend on what is on the images."""
    if tensor.values is None:
        raise ShapeError("a shape or an axis that is computed from images")
    return tensor.values


def sides(tensor: Tensor) -> Dims:
    """The elements of a tensor that holds a shape."""
    check(tensor.type == INT64, "a shape of another type than int64")
    return tuple(value if isinstance(value, Images) else int(value) for value in known(tensor))


def integers(tensor: Tensor) -> list[int]:
    """The elements of a constant that holds axes, sizes or the like."""
    return [fixed(side) for side in sides(tensor)]


def small(numbers: Sequence[int]) -> bool:
    """Whether computing with numbers once cannot leave 64 bits."""
    return all(-LONGEST_SIDE <= number <= LONGEST_SIDE for number in numbers)


def outer(dims: Dims) -> int:
    """The product of what stands before the images: elements are laid out as ``outer`` × images × rest."""
    product = 1
    for side in dims:
        if isinstance(side, Images):
            return product * side.before
        product *= side
    return product


def axis_of(number: int, rank: int) -> int:
    """An axis counted from the first; negative ones count from the end."""
    check(-rank <= number < rank, f"axis {number} of {rank}")
    return number % rank


def fixed(side: int | Images) -> int:
    """A side that must not depend on the number of images."""
    if isinstance(side, Images):
        raise ShapeError("it mixes images")
    return side


def broadcast(*shapes: Dims) -> Dims:
    """The shape of an elementwise result (NumPy's rules)."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result: list[int | Images] = []
    for aligned in zip(*padded, strict=True):
        wide = {side for side in aligned if side != 1} or {1}
        check(len(wide) == 1, f"shapes that do not fit: {' and '.join(map(described, shapes))}")
        result.extend(wide)
    return tuple(result)
