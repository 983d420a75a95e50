"""Find a sheet of paper that lies on a table, or any other upright rectangle that holds the digit."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.images.arrays import Array
from mnist_edge.images.background import border, reduced, two_levels
from mnist_edge.images.components import Box, box, label

SMALLEST: Final = 64
"""The shorter side, in pixels, of the smallest picture in which a sheet is sought."""

LARGE: Final = 0.1
"""The least share of the picture that a sheet takes."""

NARROWEST: Final = 0.2
"""The least side of a sheet, as a share of the picture's longer side."""

CUT: Final = 2
"""A sheet is cut off by at most that many of the picture's sides; half a picture may be in a shadow."""

RIM: Final = 0.04
"""Width of a sheet's rim, as a share of its shorter side."""

FILLED: Final = 0.7
"""A sheet fills at least this share of its bounding box's rim on each side; a digit leaves the corners empty."""

SOLID: Final = 0.5
"""The least share of a sheet that is blank; a frame is not filled."""

WITHIN: Final = 0.95
"""The least share of a sheet's pixels that lie within its sides."""


def sheet_of(picture: Array) -> Box | None:
    """Find a sheet.

    Args:
        picture: grey values [height, width].

    Returns:
        The part of the picture that is certainly the sheet's: left, top, right, bottom; None if there is no sheet.
    """
    if min(picture.shape) < SMALLEST:
        return None
    view = reduced(picture)
    low, high = two_levels(view)
    light = view > (low + high) / 2
    mask = light if border(light) < 0.5 else ~light
    if not LARGE <= mask.mean() < 1:
        return None
    found = label(mask)
    largest = found.labels == np.bincount(found.labels[mask]).argmax()
    left, top, right, bottom = _trimmed(largest)
    part = largest[top:bottom, left:right]
    if part.mean() < SOLID:
        return None
    at_border = (left == 0) + (top == 0) + (right == view.shape[1]) + (bottom == view.shape[0])
    if at_border > CUT or min(part.shape) < NARROWEST * max(view.shape) or part.sum() < WITHIN * largest.sum():
        return None
    rim = 1 + int(RIM * min(part.shape))
    if min(float(side.mean()) for side in (part[:rim], part[-rim:], part[:, :rim], part[:, -rim:])) < FILLED:
        return None
    scale = len(picture) / len(view)
    edges = (left + rim, top + rim, right - rim, bottom - rim)
    return round(scale * edges[0]), round(scale * edges[1]), round(scale * edges[2]), round(scale * edges[3])


def _trimmed(mask: NDArray[np.bool_]) -> Box:
    """The bounding box of the rows and columns that are at least half as full as the fullest: without ragged edges."""
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    return box((2 * rows >= rows.max())[:, None] & (2 * columns >= columns.max()))
