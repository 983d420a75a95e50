"""Keep the strokes that belong to a digit, and remove frames, ruled lines and specks."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.images.components import Components, box, label

Mask = NDArray[np.bool_]

LONG: Final = 0.8
"""A ruled line crosses at least this share of the picture."""

THIN: Final = 0.06
"""Maximum thickness of a ruled line, as a share of the picture's size across the line."""

EDGE: Final = 0.12
"""Width of the margin along a box's sides, as a share of its size; a component entirely within it is an outline."""

SHEET_EDGE: Final = 0.04
"""Width of the rim of a sheet of paper, as a share of its shorter side."""

SHEET: Final = 0.85
"""A sheet fills at least this share of its bounding box's rim; a digit leaves at least the corners empty."""

SPECK: Final = 0.03
"""A component with less than this share of the main component's ink is dirt, wherever it lies."""

PIECE: Final = 0.1
"""A component with at least this share of the main component's ink belongs to the digit if it is within `NEAR`."""

NEAR: Final = 0.5
"""Maximum distance of a digit's pieces, as a share of the main component's longer side; a third of it for pieces
between `SPECK` and `PIECE`."""

SHARE: Final = 0.25
"""The digit must hold at least this share of all ink; in pure noise no component does."""


def without_lines(mask: Mask, fewest: int = 2) -> Mask:
    """The mask without the ruled lines and frames that cross it from side to side; strokes across them stay whole.

    Args:
        mask: bool [height, width].
        fewest: with fewer lines none is removed. In the picture of one digit, a single one may be the bar of a seven.
    """
    across, down = _lines(mask), _lines(mask.T).T
    if _count(across) + _count(down.T) < fewest:
        return mask
    return mask & ~across & ~down


def _lines(mask: Mask) -> Mask:
    """The pixels of thin horizontal lines, which may be slightly slanted."""
    height = len(mask)
    thick = max(2, int(THIN * height))
    thin = mask & ~_tall(mask, thick + 1)
    slack = max(1, height // 100)
    band = np.any([np.roll(thin, -k, axis=0) for k in range(slack + 1)], axis=0)
    crossing = band.mean(axis=1) >= LONG
    covered = np.any([np.roll(crossing, k) for k in range(slack + 1)], axis=0)
    lines: Mask = covered[:, None] & thin
    return lines


def _tall(mask: Mask, length: int) -> Mask:
    """The pixels in vertical runs of at least `length`."""
    if length > len(mask):
        return np.zeros_like(mask)
    total = np.pad(mask, ((1, 0), (0, 0))).cumsum(axis=0)
    full = (total[length:] - total[:-length]) == length
    padded = np.pad(full, ((length, length), (0, 0))).cumsum(axis=0)
    tall: Mask = (padded[length : length + len(mask)] - padded[: len(mask)]) > 0
    return tall


def _count(lines: Mask) -> int:
    rows = np.pad(lines.any(axis=1), 1).astype(np.int8)
    return int((np.diff(rows) == 1).sum())


def outlines(found: Components) -> NDArray[np.bool_]:
    """Which components are the outline of a rectangle, or lie along the picture's border: bool [n]."""
    height, width = found.labels.shape
    return np.array([_is_outline(found, number, height, width) for number in range(len(found))], dtype=bool)


def _is_outline(found: Components, number: int, height: int, width: int) -> bool:
    left, top, right, bottom = found.boxes[number]
    wide, high = right - left, bottom - top
    if max(wide / width, high / height) < 0.25:
        return False
    part = found.labels[top:bottom, left:right] == number
    inner = found.labels[
        int(EDGE * height) : height - int(EDGE * height), int(EDGE * width) : width - int(EDGE * width)
    ]
    hugs = not (inner == number).any()
    if hugs and max(wide / width, high / height) > 0.5:
        return True
    y, x = max(1, int(EDGE * high)), max(1, int(EDGE * wide))
    hollow = part[y : high - y, x : wide - x].mean() < 0.02 if high > 2 * y and wide > 2 * x else False
    corners = [part[:y, :x], part[:y, -x:], part[-y:, :x], part[-y:, -x:]]
    return bool(hollow and sum(corner.any() for corner in corners) >= 3)


def digit(mask: Mask, ink: NDArray[np.float32]) -> Mask:
    """The strokes of the one digit in a picture.

    Args:
        mask: bool [height, width], the pixels of strokes.
        ink: float32 [height, width], the amount of ink.

    Returns:
        The part of the mask that is the digit; all False if nothing stands out.
    """
    found = label(without_lines(mask))
    if len(found):
        found = _without(found, outlines(found))
    if not len(found):
        found = label(mask)
    if not len(found):
        return mask
    sums = found.sums(ink)
    main = int(sums.argmax())
    chosen = belongs(found.boxes, sums, main)
    if sums[chosen].sum() < SHARE * sums.sum():
        return np.zeros_like(mask)
    return found.mask(chosen)


def _without(found: Components, unwanted: NDArray[np.bool_]) -> Components:
    return label(found.mask(~unwanted)) if unwanted.any() and not unwanted.all() else found


def belongs(boxes: NDArray[np.int64], sums: NDArray[np.float64], main: int) -> NDArray[np.bool_]:
    """Which components are pieces of the same digit as the main one: bool [n]."""
    left, top, right, bottom = boxes[main]
    aside = np.maximum(np.maximum(left - boxes[:, 2], boxes[:, 0] - right), 0)
    above = np.maximum(np.maximum(top - boxes[:, 3], boxes[:, 1] - bottom), 0)
    distance = np.maximum(aside, above) / max(right - left, bottom - top)
    share = sums / sums[main]
    pieces: NDArray[np.bool_] = ((share >= PIECE) & (distance <= NEAR)) | ((share >= SPECK) & (distance <= NEAR / 3))
    return pieces


def is_sheet(mask: Mask) -> bool:
    """Whether a mask, bool [height, width], is not a digit but a sheet of paper on a table, which may bear one."""
    left, top, right, bottom = box(mask)
    part = mask[top:bottom, left:right]
    height, width = part.shape
    if min(height, width) < 0.2 * max(mask.shape):
        return False
    rim = 1 + int(SHEET_EDGE * min(height, width))
    sides = (part[:rim], part[-rim:], part[:, :rim], part[:, -rim:])
    return min(float(side.mean()) for side in sides) >= SHEET
