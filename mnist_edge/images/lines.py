"""Find several digits in one picture, separate them, and put them in reading order.

The method is connected components, with their limits. The digits of a picture must be upright, in straight lines and of
about the same size. The pieces of a digit must overlap horizontally or nearly touch. Digits that touch are cut apart
along a straight line (`mnist_edge.images.cuts`), which fails if they interlock or overlap by more than a stroke.
Letters, signs and decorations as large as digits are found as well: the classifier must reject them.
"""

import math
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from mnist_edge.errors import ImageFormatError
from mnist_edge.images.arrays import median, quantile, shrink, smooth
from mnist_edge.images.cleaning import BESIDE, merged, outlines
from mnist_edge.images.components import Box, boxes_around, label
from mnist_edge.images.components import box as box_of
from mnist_edge.images.cuts import cut
from mnist_edge.images.ink import Ink, find_ink
from mnist_edge.images.preprocessing import alone, enlarged, place
from mnist_edge.images.rules import under_many
from mnist_edge.images.sheets import sheet_of

Numbers = NDArray[np.int64]

OVERVIEW: Final = 1600
"""Maximum side of the picture in which digits are located; a line of ten digits is ten times as wide as one."""

LOWEST: Final = 0.45
"""A group of strokes shorter than this share of the usual height is dirt, or a dot."""

FAINT: Final = 0.1
"""A group of strokes with less than this share of the usual digit's ink is dirt."""

SPECK: Final = 0.04
"""A component with less than this share of the usual digit's ink is dirt."""

MOST: Final = 2000
"""Maximum number of marks that could be digits: a picture with more is a texture, or dirt all over, and is refused."""

OVERLAP: Final = 8
"""How many times the picture's area the boxes of all digits may have: more are around one another, as in a spiral or a
target, and each costs as much as the whole picture."""

MANY: Final = 300
"""With this many components or more, outlines are not searched for: so many are dirt."""

RIM: Final = 3
"""Pixels kept around a digit for its soft edge."""


class Found(Struct, frozen=True):
    """A digit found in a picture."""

    box: Box
    """Left, top, right, bottom, in pixels of the given picture; right and bottom exclusive."""

    image: NDArray[np.uint8]
    """[28, 28], canonical."""

    line: int
    """The line it stands in, counted from 0 at the top."""


def find_digits(pixels: NDArray[np.uint8]) -> list[Found]:
    """Find all digits in a picture.

    Args:
        pixels: uint8 [height, width].

    Returns:
        The digits in reading order: line by line, from left to right. Empty if nothing stands out.

    Raises:
        ImageFormatError: the picture is empty, has more than `MOST` marks that could be digits, or has many around one
            another.
    """
    if pixels.size == 0:
        raise ImageFormatError(f"a picture of {pixels.shape[1]}×{pixels.shape[0]} pixels is empty: give another")
    small, factor = shrink(pixels, OVERVIEW)
    if (sheet := sheet_of(small)) is not None:
        left, top, right, bottom = (factor * edge for edge in sheet)
        inside = find_digits(pixels[top:bottom, left:right])
        if inside:
            return [replace(found, box=_shifted(found.box, left, top)) for found in inside]
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
    """The number of the digit that each pixel belongs to, −1 for none: int64 [height, width]."""
    paper = under_many(ink.marks)
    if paper.any():
        ink = replace(ink, values=np.where(paper, 0, ink.values).astype(np.float32))
    found = label(ink.strokes(ink.marks))
    if not len(found):
        return found.labels.astype(np.int64)
    sums = found.sums(ink.values)
    if len(found) < MANY and not (frames := outlines(found)).all():
        sums[frames] = 0
    large = sums >= FAINT * sums.max()
    usual, usual_ink = quantile(found.heights[large], 0.75), median(sums[large])
    marks = np.flatnonzero(sums >= SPECK * usual_ink)
    _require_few(len(marks))
    numbers = np.full(len(found) + 1, -1)  # label -1 indexes the last, which stays -1
    numbers[marks] = merged(found.boxes[marks], usual)
    strokes = numbers[found.labels]
    fresh = len(marks)
    waiting = list(_boxes(strokes).items())
    _require_apart([box for _, box in waiting], strokes.size)
    while waiting:
        number, (left, top, right, bottom) = waiting.pop()
        part = strokes[top:bottom, left:right]
        own = part == number
        if bottom - top < LOWEST * usual or ink.values[top:bottom, left:right][own].sum() < FAINT * usual_ink:
            part[own] = -1
        elif (path := cut(own, usual)) is not None:
            part[own & (np.arange(right - left) >= path[:, None])] = fresh
            waiting += [(one, _shifted(box_of(part == one), left, top)) for one in (number, fresh)]
            fresh += 1
            _require_few(fresh)
    return strokes


def _require_few(marks: int) -> None:
    if marks > MOST:
        raise ImageFormatError(
            f"the picture has {marks:,} marks that could be digits, more than {MOST:,}: crop it to the digits"
        )


def _require_apart(boxes: list[Box], area: int) -> None:
    if sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) > OVERLAP * area:
        raise ImageFormatError(f"the picture has {len(boxes):,} marks around one another: crop it to the digits")


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
    """Group digits into lines, top to bottom: from left to right, each joins the line whose last digit is beside it."""
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
    # Outwards: in a picture that was enlarged, a box may be narrower than a pixel.
    left, top = (math.floor(edge * scale) for edge in box[:2])
    right, bottom = (math.ceil(edge * scale) for edge in box[2:])
    return left, top, min(right, shape[1]), min(bottom, shape[0])
