"""Basic image filters on float32 arrays [height, width]."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


def quantile(values: NDArray[Any], share: float) -> float:
    """As `numpy.quantile`, which would import masked arrays first: 8 ms of a cold start."""
    position = share * (values.size - 1)
    low = int(position)
    high = min(low + 1, values.size - 1)
    parted = np.partition(values, (low, high), axis=None)
    return float(parted[low] + (position - low) * (float(parted[high]) - float(parted[low])))


def median(values: NDArray[Any]) -> float:
    """The median of an array that is not empty."""
    return quantile(values, 0.5)


def shrink(pixels: NDArray[np.uint8], longest: int) -> tuple[Array, int]:
    """Reduce by an integer factor, averaging blocks of pixels, so that no side exceeds `longest`.

    Args:
        pixels: uint8 [height, width].
        longest: maximum side of the result, in pixels.

    Returns:
        float32 [⌈height / factor⌉, ⌈width / factor⌉], and the factor.
    """
    height, width = pixels.shape
    factor = -(-max(height, width) // longest)
    if factor == 1:
        return pixels.astype(np.float32), 1
    # A side that is shorter than the factor becomes one pixel.
    down, across = min(factor, height), min(factor, width)
    missing = (-height % down, -width % across)
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1])), mode="edge")
    # Adding slices is many times faster than taking the mean of a reshaped array.
    rows = sum((pixels[k::down].astype(np.uint32) for k in range(1, down)), pixels[::down].astype(np.uint32))
    total = sum((rows[:, k::across] for k in range(1, across)), rows[:, ::across])
    return (total / (down * across)).astype(np.float32), factor


def resample(values: Array, shape: tuple[int, int], step: float, origin: tuple[float, float]) -> Array:
    """Scale and shift in one pass: area averaging when reducing, bilinear interpolation when enlarging.

    Args:
        values: [height, width]; zero outside.
        shape: of the result.
        step: pixels of `values` per pixel of the result.
        origin: y and x of the result's top left corner in `values`, where pixel centres are at + 0.5.

    Returns:
        float32, of that shape.
    """
    rows = _averaged(values, shape[0], step, origin[0])
    return np.ascontiguousarray(_averaged(np.ascontiguousarray(rows.T), shape[1], step, origin[1]).T)


def _averaged(values: Array, count: int, step: float, origin: float) -> Array:
    """The mean over `count` windows along the first axis, from running sums: a product would wake a pool of threads."""
    width = max(step, 1.0)  # at exactly one pixel this is linear interpolation
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    centres = origin + (np.arange(count) + 0.5) * step
    low, high = ((centres + edge * width / 2).clip(0, len(values)) for edge in (-1, 1))
    return ((_between(sums, high) - _between(sums, low)) / width).astype(np.float32)


def _between(sums: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of an array at positions between whole ones."""
    whole = np.minimum(positions.astype(np.int64), len(sums) - 2)
    part = (positions - whole)[:, None]
    return np.asarray(sums[whole] + part * (sums[whole + 1] - sums[whole]))


def resized(values: Array, height: int, width: int) -> Array:
    """The whole of a picture at another size: a weighted mean when reducing, linear interpolation when enlarging."""
    if values.shape == (height, width):
        return values
    from PIL import Image  # many times faster here than numpy, and on one thread

    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


def blur(values: Array, radius: int) -> Array:
    """The mean over a square of side 2 · radius + 1, or what of it lies within the picture; `values` is [n, h, w]."""
    for _ in range(2):
        count, size, other = values.shape
        sums = np.zeros((count, size + 1, other), dtype=np.float32)
        np.cumsum(values, axis=1, out=sums[:, 1:])
        places = np.arange(size)
        low, high = (places - radius).clip(0), (places + radius + 1).clip(None, size)
        means = (sums.take(high, axis=1) - sums.take(low, axis=1)) / (high - low)[:, None].astype(np.float32)
        values = np.ascontiguousarray(means.swapaxes(1, 2))
    return values


def extended(values: Array, margin: int) -> Array:
    """The picture with its edge repeated that many pixels outwards; `numpy.pad` takes five times as long for it."""
    rows, columns = (np.arange(-margin, side + margin).clip(0, side - 1) for side in values.shape)
    return values.take(rows, axis=0).take(columns, axis=1)


def framed(values: NDArray[Scalar], rows: int, columns: int) -> NDArray[Scalar]:
    """The picture with that many rows and columns of zeros on either side; faster than `numpy.pad`, too."""
    height, width = values.shape
    larger = np.zeros((height + 2 * rows, width + 2 * columns), values.dtype)
    larger[rows : rows + height, columns : columns + width] = values
    return larger


def smooth(values: Array) -> Array:
    """The mean over 3×3 pixels, with the edge repeated outside."""
    padded = extended(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9, dtype=np.float32)


def grow(values: Array, radius: int) -> Array:
    """Dilate: the maximum over a square of side 2 · radius + 1, ignoring what lies outside the array."""
    return _greatest(values, radius)


def erode(values: Array, radius: int) -> Array:
    """Erode: the minimum over a square of side 2 · radius + 1, ignoring what lies outside the array."""
    return -_greatest(-values, radius)


def _greatest(values: Array, radius: int) -> Array:
    for _ in range(2):
        # Along the first axis, where numpy compares whole rows.
        window = 2 * radius + 1
        best = np.full((len(values) + 2 * radius, values.shape[1]), -np.inf, np.float32)
        best[radius : radius + len(values)] = values
        reach = 1
        while 2 * reach <= window:  # windows of 2, 4, 8 …: the logarithm of the size in passes
            best = np.maximum(best[:-reach], best[reach:])
            reach *= 2
        if rest := window - reach:
            best = np.maximum(best[:-rest], best[rest:])
        values = np.ascontiguousarray(best.T)
    return values


def halo(values: Array, radius: float) -> Array:
    """Dilate by a disc; pixels on its rim are weighted by how far the disc reaches into them.

    Args:
        values: 0…1.
        radius: in pixels.

    Returns:
        float32, of the same shape.
    """
    reach = int(np.ceil(radius))
    padded = framed(values, reach, reach)
    height, width = values.shape
    best = values.copy()
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            weight = min(1.0, radius + 1 - float(np.hypot(x, y)))
            if weight > 0 and (x or y):
                shifted = padded[reach + y : reach + y + height, reach + x : reach + x + width]
                np.maximum(best, shifted * np.float32(weight), out=best)
    return best
