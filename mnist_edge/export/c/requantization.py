"""The integers with which C code makes bytes of sums as onnxruntime does in float32.

onnxruntime rounds ``sum * m``, a product of float32 numbers, half to even. As m is a whole number of up to 24 bits over
a power of two, integers can hold the exact product. What lies within half a step of float32 from a tie, onnxruntime
takes for the tie: the C code does the same.

A function of sums, such as a sigmoid, becomes a list of the exact products at which its byte changes.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.errors import UnsupportedFormatError
from mnist_edge.export.c.layers import REMEDY, Function, Layer

MANTISSA: Final = 24
"""Bits of a float32 number."""

MOST_SHIFT: Final = 54
"""With a larger shift, 256 times it would not fit into 63 bits."""

FAR: Final = 2**62
"""Beyond every scaled sum."""

BAND: Final = 512
"""How many float32 numbers around a change of a function's byte may have other changes."""


@dataclass(frozen=True)
class Requantization:
    """The integers that turn a layer's sums into bytes."""

    scale: NDArray[np.int32]
    shift: NDArray[np.uint8]
    thresholds: NDArray[np.int64] | None = None
    """The scaled sums at which a function's byte changes; None if the bytes are the rounded sums."""

    table: NDArray[np.uint8] | None = None
    """What becomes of each rounded byte, or the bytes between thresholds; None if bytes stay as they are."""


def requantization(layer: Layer) -> Requantization:
    """The integers for a layer. Raises UnsupportedFormatError if they would not fit."""
    if layer.function is not None:
        return _of_function(layer, layer.function)
    assert layer.scale is not None
    scale, shift = _as_integers(layer, layer.step / layer.scale)
    fits = np.minimum(shift, MOST_SHIFT)
    return Requantization(scale >> (shift - fits).astype(np.int32), fits, table=layer.table)


def _as_integers(layer: Layer, factor: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Whole numbers of at most 24 bits, and the powers of two to divide them by."""
    mantissa, exponent = np.frexp(factor)
    shift = MANTISSA - exponent
    if not np.isfinite(factor).all() or shift.min() < 1 or shift.max() > 63 + MANTISSA:
        raise UnsupportedFormatError(f"the scales of its {layer.name} are too far apart for C: {REMEDY}")
    return (mantissa * np.float32(2**MANTISSA)).astype(np.int32), shift.astype(np.uint8)


def _of_function(layer: Layer, function: Function) -> Requantization:
    scale, shift = _as_integers(layer, layer.step)
    lift = shift.max() - shift
    low, high = layer.reach
    furthest = np.maximum(abs(low), abs(high)).astype(object) * scale * 2 ** lift.astype(object)
    if max(furthest) >= FAR:
        raise UnsupportedFormatError(f"the scales of its {layer.name} are too far apart for C: {REMEDY}")
    changes = _changes(function)
    levels = np.append(function(np.nextafter(changes[:1], -np.inf, dtype=np.float32)), function(changes))
    thresholds = np.array([_threshold(change, int(shift.max())) for change in changes], np.int64)
    return Requantization(scale, lift, thresholds, levels if layer.table is None else layer.table[levels])


def _changes(function: Function) -> NDArray[np.float32]:
    """The numbers at which a function's byte is another than that of the number before, in ascending order."""
    levels = np.arange(1, 256)
    largest = int(np.finfo(np.float32).max.view(np.int32))
    low, high = np.full(255, -largest), np.full(255, largest)
    while (low < high).any():
        middle = (low + high) // 2
        reached = function(_ordered(middle)) >= levels
        low, high = np.where(reached, low, np.minimum(middle + 1, high)), np.where(reached, middle, high)
    near = np.unique((high[:, None] + np.arange(-BAND, BAND)).clip(-largest, largest))
    bytes_ = function(_ordered(near))
    return _ordered(near[1:][bytes_[1:] != bytes_[:-1]])


def _ordered(number: NDArray[np.int64]) -> NDArray[np.float32]:
    """All float32 numbers in ascending order: 0 for zero, 1 for the smallest above it."""
    return np.copysign(abs(number).astype(np.int32).view(np.float32), np.where(number < 0, -1, 1).astype(np.float32))


def _threshold(change: np.float32, shift: int) -> int:
    """The smallest whole number that, over 2^shift, float32 rounds to a number of at least `change`."""
    before = np.nextafter(change, np.float32(-np.inf))
    tie = (Fraction(float(change)) + Fraction(float(before))) / 2 * 2**shift
    is_even = int(change.view(np.int32)) % 2 == 0
    least: int = math.ceil(tie) if is_even else math.floor(tie) + 1
    return max(-FAR, min(FAR, least))
