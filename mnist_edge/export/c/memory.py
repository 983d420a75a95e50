"""Where each layer's output lies in the arena: as far as possible on top of its own input."""

import math
from collections.abc import Sequence

import numpy as np

from mnist_edge.export.c.layers import Layer


def places(layers: Sequence[Layer]) -> tuple[list[int], int]:
    """The place of each layer's output, but the last one's, and the bytes that they take in all."""
    if len(layers) == 1:
        return [], 0
    found, low, high = [0], 0, _size(layers[0])
    for layer in layers[1:-1]:
        start, end = found[-1], found[-1] + math.prod(layer.size)
        below = start - min(_lag(layer), _size(layer))
        # Behind its input, if that takes no more room.
        place = end if max(high, end + _size(layer)) - low <= high - min(low, below) else below
        found.append(place)
        low, high = min(low, place), max(high, place + _size(layer))
    return [place - low for place in found], high - low


def _size(layer: Layer) -> int:
    return math.prod(layer.result)


def _lag(layer: Layer) -> int:
    """How far before its input a layer's output must begin, so that nothing is written that is still to be read.

    The C code reads all that an output, or two neighbouring ones without a pool, need before it writes them.
    """
    if layer.is_linear:
        return _size(layer)
    (rows, columns, outputs), (_, width, channels) = layer.result, layer.size
    at_once = 1 if layer.pool != (1, 1) else 2
    pixels = np.arange(rows * columns)
    y, x = pixels // columns * layer.pool[0] * layer.stride[0], pixels % columns * layer.pool[1] * layer.stride[1]
    first_read = ((y - layer.padding[0]).clip(0) * width + (x - layer.padding[1]).clip(0)) * channels
    read_later = np.minimum.accumulate(first_read[::-1])[::-1][at_once::at_once]
    written = np.minimum(pixels[::at_once] + at_once, rows * columns)[: len(read_later)] * outputs
    return max(0, int((written - read_later).max(initial=0)))
