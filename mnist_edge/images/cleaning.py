"""Keep the strokes that belong to a digit, and remove frames and specks."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.images.components import Components, label, unite

Mask = NDArray[np.bool_]

EDGE: Final = 0.12
"""Width of the margin along a box's sides, as a share of its size; a component entirely within it is an outline."""

SPECK: Final = 0.03
"""A component with less than this share of the main component's ink is dirt, wherever it lies."""

PIECE: Final = 0.1
"""A component with at least this share of the main component's ink belongs to the digit if it is within `NEAR`."""

OVERLAP: Final = 0.5
"""Pieces belong to one digit if at least this share of the narrower one's width lies above or below the other."""

GAP: Final = 0.4
"""Maximum vertical gap between pieces of a digit, as a share of the usual height."""

TALL: Final = 1.3
"""Pieces that are together more than this many usual heights tall belong to different lines."""

SHORT: Final = 0.6
"""A piece shorter than this share of the usual height is no digit by itself; it joins one that it nearly touches."""

BESIDE: Final = 0.12
"""Horizontal gap, as a share of the usual height, below which pieces nearly touch. Also the least vertical overlap of
neighbours in a line, as a share of the shorter one's height."""

BROKEN: Final = 2.2
"""The same in a picture of one digit, which may be broken in two: the usual height is that of its tallest piece."""

LEVEL: Final = 0.5
"""In a picture of one digit, marks beside each other that share less than this part of the shorter one's height are
pieces: a five's flag begins above the rest."""

UPRIGHT: Final = 0.65
"""Beside a digit, pieces at least this share of its height tall are another digit."""

ENOUGH: Final = 0.2
"""And have at least this share of its ink."""

NEAR: Final = 0.5
"""Maximum distance of a digit's pieces, as a share of the main component's longer side; a third of it for pieces
between `SPECK` and `PIECE`."""

TEXTURE: Final = 300
"""With more components than this the picture is a texture, and the digit must stand out of it in one piece."""

SHARE: Final = 0.25
"""The digit must hold at least this share of all ink; in pure noise no component does."""


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


def digit(mask: Mask, ink: NDArray[np.float32]) -> tuple[Mask, int]:
    """The strokes of the one digit in a picture.

    Args:
        mask: bool [height, width], the pixels of strokes.
        ink: float32 [height, width], the amount of ink.

    Returns:
        The part of the mask that is the digit, all False if nothing stands out; and how many digits there are, of which
        it is the one with the most ink.
    """
    found = label(mask)
    if len(found) <= 1:
        return mask, len(found)
    found = _without(found, outlines(found))
    sums = found.sums(ink)
    main = int(sums.argmax())
    chosen = belongs(found.boxes, sums, main)
    held = sums[main] if len(found) > TEXTURE else sums[chosen].sum()
    if held < SHARE * sums.sum():
        return np.zeros_like(mask), 0
    digits = _digits(found, sums)
    others = set(digits.tolist()) - {-1, int(digits[main])}
    return found.mask(chosen & ((digits == digits[main]) | (digits < 0))), 1 + len(others)


def _digits(found: Components, sums: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of the digits in a picture each component is part of; -1 for what is too small to be one: int64 [n]."""
    large = np.flatnonzero(sums >= PIECE * sums.max())
    usual = float(found.heights[large].max())
    groups = merged(found.boxes[large], usual, single=True)
    digits = np.full(len(found), -1)
    heaviest = np.bincount(groups, weights=sums[large]).max()
    for group in set(groups.tolist()):
        members = large[groups == group]
        boxes = found.boxes[members]
        height = boxes[:, 3].max() - boxes[:, 1].min()
        if height >= UPRIGHT * usual and sums[members].sum() >= ENOUGH * heaviest:
            digits[members] = group
    return digits


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


def merged(boxes: NDArray[np.int64], usual: float, *, single: bool = False) -> NDArray[np.int64]:
    """Number the marks with these boxes [n, 4] so that the pieces of a digit share a number below n: int64 [n].

    Args:
        boxes: left, top, right, bottom of each mark.
        usual: the usual height of a digit.
        single: whether the picture is expected to show one digit.
    """
    partners = [
        one + 1 + np.flatnonzero(_are_pieces(box, boxes[one + 1 :], usual, single)) for one, box in enumerate(boxes)
    ]
    ones = np.repeat(np.arange(len(boxes)), [len(others) for others in partners])
    return unite(len(boxes), ones, np.concatenate(partners))


def _are_pieces(one: NDArray[np.int64], others: NDArray[np.int64], usual: float, single: bool) -> NDArray[np.bool_]:
    """Which of the boxes `others` [n, 4] are pieces of the same digit as `one` [4]: bool [n]."""
    tall = BROKEN if single else TALL
    left, top, right, bottom = others.T
    overlap = np.minimum(right, one[2]) - np.maximum(left, one[0])
    gap = np.maximum(top, one[1]) - np.minimum(bottom, one[3])
    near = (gap <= GAP * usual) & (np.maximum(bottom, one[3]) - np.minimum(top, one[1]) <= tall * usual)
    shorter = np.minimum(bottom - top, one[3] - one[1])
    above = overlap >= OVERLAP * np.minimum(right - left, one[2] - one[0])
    piece = (shorter < SHORT * usual) | (single & (-gap < LEVEL * shorter))
    return np.asarray(near & (above | (piece & (-overlap < BESIDE * usual))))
