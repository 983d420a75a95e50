"""Find what a graph computes as ``scale * x + shift`` with constants: normalization, whatever operators spell it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.float64]

_REORDERING: Final = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that move values without changing them."""


@dataclass(frozen=True)
class Affine:
    """``scale * x + shift``, broadcast as ONNX and numpy do."""

    scale: Array
    shift: Array

    def then(self, other: "Affine") -> "Affine":
        """Both, the other one last."""
        return Affine(self.scale * other.scale, self.shift * other.scale + other.shift)

    @property
    def is_scalar(self) -> bool:
        """Whether it treats all values alike."""
        return self.scale.size == self.shift.size == 1


IDENTITY: Final = Affine(np.ones(()), np.zeros(()))


def of(node: ir.Node) -> Affine | None:
    """What a node computes of its only varying input; None if it is not affine."""
    if node.op_type == "BatchNormalization":
        return _of_batch_norm(node)
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    left, right = (constant(each) for each in node.inputs)
    if (left is None) == (right is None):
        return None
    number = np.asarray(right if left is None else left)
    one, zero = IDENTITY.scale, IDENTITY.shift
    found = {
        "Add": (one, number),
        "Mul": (number, zero),
        "Sub": (one, -number) if left is None else (-one, number),
        "Div": (1 / number, zero) if left is None and number.all() else None,
    }[node.op_type]
    return None if found is None else Affine(*found)


def _of_batch_norm(node: ir.Node) -> Affine | None:
    image = node.inputs[0]
    numbers = [constant(each) for each in node.inputs[1:]]
    in_training = node.attributes.get_int("training_mode", 0)
    if in_training or image is None or image.shape is None or any(number is None for number in numbers):
        return None
    # The batch axis is none of a channel's.
    by_channel = (-1, *[1] * (len(image.shape) - 2))
    gamma, beta, mean, variance = (np.asarray(number).reshape(by_channel) for number in numbers)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return Affine(scale, beta - mean * scale)


def constant(value: ir.Value | None) -> Array | None:
    """The value of a float constant; None if it is not one."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return tensor.numpy() if tensor is not None and tensor.dtype is ir.DataType.DOUBLE else None


def varying(node: ir.Node) -> ir.Value:
    """The input of an affine or reordering node that is not a constant."""
    value = next(each for each in node.inputs if each is not None and constant(each) is None)
    assert value is not None
    return value


def used_once(value: ir.Value) -> bool:
    """Whether a value goes to a single input, and is not an output of the graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def run_before(value: ir.Value) -> tuple[list[ir.Node], Affine]:
    """The affine nodes that lead to a value, the last first, and what they compute together.

    Reordering nodes may stand between them, if what precedes treats all values alike. All but the last node serve no
    other purpose.
    """
    nodes: list[ir.Node] = []
    total, reordered = IDENTITY, False
    while (node := value.producer()) is not None:
        found = of(node)
        if found is not None and (found.is_scalar or not reordered):
            nodes.append(node)
            total = found.then(total)
        elif node.op_type in _REORDERING:
            reordered = True
        else:
            break
        value = varying(node)
        if not used_once(value):
            break
    return nodes, total


def by_channel(numbers: Array, rank: int, axis: int, channels: int) -> Array | None:
    """Constants as one number per channel, [channels]; None if they differ along another axis.

    Args:
        numbers: broadcast to a value.
        rank: of that value.
        axis: of its channels.
        channels: how many there are.
    """
    shape = [1] * (rank - numbers.ndim) + list(numbers.shape)
    size = shape.pop(axis) if numbers.ndim <= rank else 0
    if size not in (1, channels) or any(other != 1 for other in shape):
        return None
    return np.broadcast_to(numbers.reshape(-1), (channels,))
