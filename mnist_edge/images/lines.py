"""Several digits in one picture: found, kept apart, in reading order.

What simple connected components allow: digits must be of about one size within a picture, upright, in straight
lines; a digit's pieces must overlap sideways or nearly touch; neighbours that touch are cut at the thinnest place
about where a digit's width suggests, which fails for digits that interlock or overlap by more than a stroke. Letters,
signs and decorations as large as digits are found as well: the classifier must refuse them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.errors import ImageFormatError
from mnist_edge.images.arrays import shrink, smooth
from mnist_edge.images.cleaning import Mask, outlines, without_lines
from mnist_edge.images.components import box as box_of
from mnist_edge.images.components import boxes_around, label, unite
from mnist_edge.images.ink import Ink, find_ink
from mnist_edge.images.preprocessing import alone, enlarged, place

Box = tuple[int, int, int, int]
Numbers = NDArray[np.int64]

OVERVIEW: Final = 1600
"""The longer side of the picture in which digits are sought: a line of ten takes ten times the width of one."""

LOWEST: Final = 0.45
"""Of the usual digit's height: a group of strokes that is lower is dirt, or a point."""

FAINT: Final = 0.1
"""Of the usual digit's ink: a group with less is dirt."""

OVERLAP: Final = 0.5
"""Pieces belong to one digit where that share of the narrower one's width lies over or under the other."""

GAP: Final = 0.4
"""Of the usual height: how far above another a digit's piece may lie."""

TALL: Final = 1.3
"""Times the usual height: pieces together are not taller, or they belong to two lines."""

SHORT: Final = 0.6
"""Of the usual height: a lower piece is no digit by itself and belongs to the one it nearly touches."""

BESIDE: Final = 0.12
"""Of the usual height: what nearly touches. And of a digit's height: what it shares with the next in its line."""

SPECK: Final = 0.04
"""Of the usual digit's ink: a component with less is dirt."""

MOST: Final = 2000
"""Marks of a digit's size in a picture, beyond which it is refused: a texture, or dirt all over."""

MANY: Final = 300
"""With more components outlines are not looked for: it is dirt that there is so much of."""

REACH: Final = 0.6
"""Of a piece's width: how far from even pieces a cut may be."""

NARROW: Final = 0.85
"""Of the usual height: what is narrower is one digit."""

CONTACT: Final = 1.6
"""Times their strokes' width: neighbours that share no more than that, in one place, are cut even where their width
does not ask for it; to cut a digit into two tall parts one mostly crosses two strokes."""

TALL_PART: Final = 0.7
"""Of the group's height: both parts are at least so high, or it was a digit's arm that was cut off."""

DETOUR: Final = 0.1
"""What a pixel of the cut costs at the end of its reach, where one through ink costs 1."""

RIM: Final = 3
"""Pixels around a digit in which its soft edge fades."""

WIDE: Final = 1.15
"""Times the usual height: what is wider is two digits or more that touch."""

USUAL_WIDTH: Final = 0.75
"""Of a digit, as a share of its height: as many pieces are cut from what is too wide as fit in."""


@dataclass(frozen=True)
class Found:
    """A digit in a picture of several."""

    box: Box
    """left, top, right, bottom, in the given picture's pixels; right and bottom exclusive."""

    image: NDArray[np.uint8]
    """[28, 28], canonical."""

    line: int
    """Which line of the picture it stands in, from 0 at the top."""


def find_digits(pixels: NDArray[np.uint8]) -> list[Found]:
    """Every digit of a picture.

    Args:
        pixels: uint8 [height, width].

    Returns:
        The digits in reading order: line by line, from left to right. Empty where nothing stands out.

    Raises:
        ImageFormatError: the picture is empty, or has more than `MOST` marks that could be digits.
    """
    if pixels.size == 0:
        raise ImageFormatError(f"a picture of {pixels.shape[1]}×{pixels.shape[0]} pixels is empty: give another")
    small, factor = shrink(pixels, OVERVIEW)
    view = enlarged(small)
    scale = factor * small.shape[1] / view.shape[1]
    ink = find_ink(smooth(view))
    strokes = _numbered_strokes(ink)
    return [
        Found(_scaled(box, scale, pixels.shape), _image(ink, strokes, number, box), line)
        for line, row in enumerate(_rows(_boxes(strokes)))
        for number, box in row
    ]


def _numbered_strokes(ink: Ink) -> Numbers:
    """Which digit each pixel belongs to, −1 for none: int [height, width]."""
    found = label(without_lines(ink.mask, fewest=1))
    if not len(found):
        return found.labels.astype(np.int64)
    sums = found.sums(ink.values)
    if len(found) < MANY and not (preprocessing := outlines(found)).all():
        sums[preprocessing] = 0
    large = sums >= FAINT * sums.max()
    usual, usual_ink = float(np.percentile(found.heights[large], 75)), float(np.median(sums[large]))
    marks = np.flatnonzero(sums >= SPECK * usual_ink)
    if len(marks) > MOST:
        raise ImageFormatError(
            f"the picture has {len(marks):,} marks that could be digits, more than {MOST:,}: crop it to the digits"
        )
    numbers = np.full(len(found) + 1, -1)  # a label of -1 finds the last
    numbers[marks] = _merged(found.boxes[marks], usual)
    strokes = numbers[found.labels]
    fresh = len(marks)
    waiting = list(_boxes(strokes).items())
    while waiting:
        number, (left, top, right, bottom) = waiting.pop()
        part = strokes[top:bottom, left:right]
        own = part == number
        if bottom - top < LOWEST * usual or ink.values[top:bottom, left:right][own].sum() < FAINT * usual_ink:
            part[own] = -1
        elif (path := _cut(own, usual)) is not None:
            part[own & (np.arange(right - left) >= path[:, None])] = fresh
            waiting += [(one, _shifted(box_of(part == one), left, top)) for one in (number, fresh)]
            fresh += 1
    return strokes


def _stroke_width(mask: Mask) -> float:
    """Twice the area by the perimeter; π / 4 of a boundary's steps along rows and columns are its length."""
    padded = np.pad(mask, 1)
    steps = int((padded[1:] != padded[:-1]).sum()) + int((padded[:, 1:] != padded[:, :-1]).sum())
    return 2 * float(mask.sum()) / max(np.pi / 4 * steps, 1)


def _merged(boxes: NDArray[np.int64], usual: float) -> NDArray[np.int64]:
    """A number for every mark, below that of marks, shared by the pieces of a digit: int64 [n] of boxes [n, 4]."""
    partners = [one + 1 + np.flatnonzero(_are_pieces(box, boxes[one + 1 :], usual)) for one, box in enumerate(boxes)]
    ones = np.repeat(np.arange(len(boxes)), [len(others) for others in partners])
    return unite(len(boxes), ones, np.concatenate(partners))


def _are_pieces(one: NDArray[np.int64], others: NDArray[np.int64], usual: float) -> NDArray[np.bool_]:
    """Which of the others [n, 4] belong to one digit with the one [4]: bool [n]."""
    left, top, right, bottom = others.T
    overlap = np.minimum(right, one[2]) - np.maximum(left, one[0])
    gap = np.maximum(top, one[1]) - np.minimum(bottom, one[3])
    near = (gap <= GAP * usual) & (np.maximum(bottom, one[3]) - np.minimum(top, one[1]) <= TALL * usual)
    low = np.minimum(bottom - top, one[3] - one[1]) < SHORT * usual
    above = overlap >= OVERLAP * np.minimum(right - left, one[2] - one[0])
    return np.asarray(near & (above | (low & (-overlap < BESIDE * usual))))


def _cut(mask: Mask, usual: float) -> NDArray[np.int64] | None:
    """Where to cut a group of strokes in two: a column for every row, from which on all is the right part."""
    height, width = mask.shape
    if width < NARROW * usual:
        return None
    pieces = max(2, round(width / (USUAL_WIDTH * usual)))
    path = _path_of_least_ink(mask, width / pieces, REACH * width / pieces)
    if path is None:
        return None
    beyond = np.arange(width) >= path[:, None]
    heights = [_height(mask & ~beyond), _height(mask & beyond)]
    if min(heights) < LOWEST * usual:
        return None
    crossed = mask[np.arange(height), path]
    once = int((np.diff(np.pad(crossed, 1).astype(np.int8)) == 1).sum()) <= 1
    light = once and int(crossed.sum()) <= CONTACT * _stroke_width(mask) and min(heights) >= TALL_PART * height
    return path if light or width > WIDE * usual else None


def _height(mask: Mask) -> int:
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[-1] - rows[0]) + 1 if len(rows) else 0


def _path_of_least_ink(mask: Mask, expected: float, reach: float) -> NDArray[np.int64] | None:
    """A column for every row, from top to bottom, at most one column further each row: int [height]."""
    height, width = mask.shape
    away = abs(np.arange(width) - expected) / reach
    if (away > 1).all():
        return None
    total = mask + np.where(away <= 1, DETOUR * away**2, np.inf)
    for row in range(1, height):
        before = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(before[:-2], before[2:]), before[1:-1])
    path = np.empty(height, dtype=np.int64)
    path[-1] = int(total[-1].argmin())
    for row in range(height - 2, -1, -1):
        first = max(path[row + 1] - 1, 0)
        path[row] = first + int(total[row, first : path[row + 1] + 2].argmin())
    return path


def _boxes(strokes: Numbers) -> dict[int, Box]:
    rows, columns = np.nonzero(strokes >= 0)
    numbers, inverse = np.unique(strokes[rows, columns], return_inverse=True)
    boxes = boxes_around(len(numbers), inverse, rows, columns, columns + 1).tolist()
    return {
        number: (left, top, right, bottom)
        for number, (left, top, right, bottom) in zip(numbers.tolist(), boxes, strict=True)
    }


def _shifted(box: Box, x: int, y: int) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _rows(boxes: dict[int, Box]) -> list[list[tuple[int, Box]]]:
    """From left to right every digit joins the line whose last digit stands beside it; lines from top to bottom."""
    rows: list[list[tuple[int, Box]]] = []
    for number, box in sorted(boxes.items(), key=lambda item: item[1][0] + item[1][2]):
        beside = [row for row in rows if _beside(row[-1][1], box) >= BESIDE]
        if beside:
            max(beside, key=lambda row: _beside(row[-1][1], box)).append((number, box))
        else:
            rows.append([(number, box)])
    return sorted(rows, key=lambda row: float(np.mean([box[1] + box[3] for _, box in row])))


def _beside(one: Box, other: Box) -> float:
    common = min(one[3], other[3]) - max(one[1], other[1])
    return common / min(one[3] - one[1], other[3] - other[1])


def _image(ink: Ink, strokes: Numbers, number: int, box: Box) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    part = slice(max(0, top - RIM), bottom + RIM), slice(max(0, left - RIM), right + RIM)
    others = (strokes[part] >= 0) & (strokes[part] != number)
    return place(alone(np.where(others, 0, ink.values[part]).astype(np.float32), strokes[part] == number))


def _scaled(box: Box, scale: float, shape: tuple[int, ...]) -> Box:
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return left, top, min(right, shape[1]), min(bottom, shape[0])
