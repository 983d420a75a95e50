"""Prove that the compiled C code makes onnxruntime's bytes of every sum that a layer can have.

Where a layer only rounds, neither the C code nor onnxruntime ever makes a smaller byte of a larger sum. Where they
agree at the sums at which the byte goes up, at those one below, and at both ends, they agree everywhere.

onnxruntime's sigmoid falls here and there, by its own rounding. So for functions the list of changes is compared with
what onnxruntime makes of all sums, and then the code is tried at all changes. A max pool may follow only where the
bytes never fall, because the C code takes the maximum of the sums.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.errors import ParityError
from mnist_edge.export.c.layers import REMEDY, Layer
from mnist_edge.export.c.requantization import Requantization, requantization

BLOCK: Final = 2**22
"""Sums that are compared at once."""

Rule = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""From sums, [n, outputs], to bytes."""


def prove(layer: Layer, rule: Rule) -> None:
    """Raise ParityError unless a rule gives onnxruntime's bytes for every sum that the layer can have."""
    if layer.function is not None:
        found = requantization(layer)
        _require_all_changes(layer, found)
        starts = np.stack([_starts(layer, found, output) for output in range(len(layer.bias))], axis=1)
    else:
        starts = _rises(layer)
    low, high = layer.reach
    tried = np.concatenate([starts, starts - 1, low[None], high[None]]).clip(low, high)
    given, wanted = rule(tried), layer.tabulated(layer.exact(tried))
    for row, output in np.argwhere(given != wanted):
        raise ParityError(_difference(layer, output, tried[row, output], given[row, output], wanted[row, output]))


def _rises(layer: Layer) -> NDArray[np.int64]:
    """The smallest sums of which onnxruntime makes 1, 2, … 255 or more, [255, outputs]."""
    low, high = layer.reach
    levels = np.arange(1, 256)[:, None]
    left, right = np.broadcast_to(low, (255, len(low))), np.broadcast_to(high + 1, (255, len(low)))
    while (left < right).any():
        middle = (left + right) // 2
        reached = layer.exact(middle) >= levels
        left, right = np.where(reached, left, np.minimum(middle + 1, right)), np.where(reached, middle, right)
    return left


def _starts(layer: Layer, found: Requantization, output: int) -> NDArray[np.int64]:
    """The smallest sums of an output that reach each of a function's thresholds."""
    assert found.thresholds is not None
    scale = int(found.scale[output]) << int(found.shift[output])
    low, high = (ends[output] for ends in layer.reach)
    return np.array([-(-int(threshold) // scale) for threshold in found.thresholds]).clip(low, high + 1)


def _require_all_changes(layer: Layer, found: Requantization) -> None:
    assert layer.function is not None
    assert found.table is not None
    for output, (low, high) in enumerate(zip(*layer.reach, strict=True)):
        starts, highest = _starts(layer, found, output), 0
        for first in range(low, high + 1, BLOCK):
            end = min(first + BLOCK, high + 1)
            sums = np.arange(first, end)
            rounded = layer.function(sums.astype(np.float32) * layer.step[output])
            wanted = layer.tabulated(rounded)
            given = np.repeat(found.table, np.diff([first, *starts.clip(first, end), end]))
            for place in np.flatnonzero(given != wanted):
                raise ParityError(_difference(layer, output, sums[place], given[place], wanted[place]))
            if layer.pool != (1, 1) and (rounded < np.maximum.accumulate(rounded).clip(highest)).any():
                raise ParityError(
                    f"model.h: the function after its {layer.name} falls somewhere, and a max pool follows: {REMEDY}"
                )
            highest = int(rounded.max())


def _difference(layer: Layer, output: int, number: int, given: int, wanted: int) -> str:
    return (
        f"model.h: its {layer.name} makes {given} of a sum of {number} of output {output}, onnxruntime {wanted}: "
        f"{REMEDY}, and report this"
    )
