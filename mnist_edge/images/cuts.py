"""Cut a group of strokes in two where it looks like two digits that touch.

A cut is a straight line, upright or slanted as handwriting is. Every such line is scored by what is left and right of
it: two digits are together wide, each is about as tall as the others and not too narrow, and they face each other
across a narrow gap along much of their height. A single digit that is wide (the flag of a 5, the bar of a 4, a round 0)
leaves a low or a narrow part, or a wide gap: its inside. All lengths are shares of the usual height of the picture's
digits.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Whole = NDArray[np.int64]
Real = NDArray[np.float64]

SLANTS: Final = (-0.2, 0.0, 0.2, 0.4, 0.6)
"""The slants that are tried: how far a cut moves to the right per pixel upwards."""

NARROW: Final = 0.75
"""A group narrower than this share of the usual height is one digit."""

TALL: Final = 2.0
"""A group taller than this many usual heights is no row of digits, and is left whole."""

WINDOW: Final = 3.0
"""Only this many usual heights of a group are looked at, from the left: so a long row takes time in proportion."""

FINE: Final = 60
"""Pixels of the usual height that suffice to find a cut: larger groups are thinned out."""

LOWEST: Final = 0.45
"""A part lower than this is dirt, or the arm of a digit: no cut."""

REACH: Final = 0.3
"""Width of the gap from which two parts no longer face each other; a row with a narrower one counts in part."""

AMPLE: Final = 0.65
"""A part this wide, or wider, is wide enough for a digit."""

FULL: Final = 0.9
"""A part this tall, or taller, is tall enough for a digit."""

HEIGHT: Final = 2.0
"""Weight of the lower part's height, where the weights of the group's width and of the narrower part's are 1."""

FACING: Final = 3.0
"""Weight of the height along which the parts face each other."""

ENOUGH: Final = 3.65
"""The least score at which a group is cut. Higher leaves more digits that touch together, lower cuts more single ones.
Chosen with the weights on 3,000 drawn lines of MNIST training digits: of 14,522 single digits 16 are cut, of 1,005
groups that touch 173 are not."""


def cut(mask: Mask, usual: float) -> Whole | None:
    """Where to cut a group of strokes in two: the right part's first column in each row; None to leave it whole.

    Args:
        mask: bool [height, width], the strokes of the group.
        usual: the usual height of the picture's digits, in pixels.

    Returns:
        int64 [height], or None.
    """
    height, width = mask.shape
    if width < max(2, NARROW * usual) or height > TALL * usual:
        return None
    step = max(1, int(usual / FINE))
    thin = mask[::step, : max(2, int(WINDOW * usual)) : step]
    if not thin.any():  # a hairline can fall between the rows and columns that are kept
        return None
    score, column, shifts = max(
        (_best(thin, shifts, usual / step) for shifts in (_shifts(len(thin), slant) for slant in SLANTS)),
        key=lambda found: found[0],
    )
    return step * (column - shifts[np.arange(height) // step]) if score > ENOUGH else None


def _shifts(height: int, slant: float) -> Whole:
    """How far to the right each row must move for the slanted cuts to be upright: int64 [height], 0 or more."""
    shifts = np.round(slant * np.arange(height)).astype(np.int64)
    return np.asarray(shifts - shifts.min())


def _best(mask: Mask, shifts: Whole, usual: float) -> tuple[float, int, Whole]:
    """The best score of the cuts of a slant, the column before which it cuts the shifted rows, and `shifts`."""
    height, width = mask.shape
    upright = np.zeros((height, width + int(shifts.max())), dtype=bool)
    upright[np.arange(height)[:, None], np.arange(width) + shifts[:, None]] = mask
    scores = width / usual + _scores(upright, usual)
    column = int(scores.argmax())
    return float(scores[column]), column + 1, shifts


def _scores(mask: Mask, usual: float) -> Real:
    """The scores of the upright cuts before each column but the first, without the group's width."""
    widths, heights = _sizes(mask)
    through = mask[:, :-1] & mask[:, 1:]
    near = np.where(through, 0, 1 - _gaps(mask) / (REACH * usual)).clip(0).sum(axis=0)
    scores = np.minimum(widths / usual, AMPLE) + HEIGHT * np.minimum(heights / usual, FULL)
    scores += (FACING * near - _inside(through)) / usual
    return np.where(heights >= LOWEST * usual, scores, -np.inf)


def _sizes(mask: Mask) -> tuple[Whole, Whole]:
    """The narrower part's width and the lower part's height, of each cut."""
    height, width = mask.shape
    inked = mask.any(axis=0)
    columns = np.flatnonzero(inked)
    cuts = np.arange(1, width)
    tops = np.where(inked, mask.argmax(axis=0), height)
    bottoms = np.where(inked, height - mask[::-1].argmax(axis=0), 0)
    left = np.maximum.accumulate(bottoms) - np.minimum.accumulate(tops)
    right = np.maximum.accumulate(bottoms[::-1])[::-1] - np.minimum.accumulate(tops[::-1])[::-1]
    return np.minimum(cuts - columns[0], columns[-1] + 1 - cuts), np.minimum(left[:-1], right[1:])


def _gaps(mask: Mask) -> NDArray[np.int32]:
    """The pixels between the parts of each cut in each row, very many where one of them is not in the row."""
    columns, none = np.arange(mask.shape[1], dtype=np.int32), 1 << 29
    before = np.maximum.accumulate(np.where(mask, columns, -none), axis=1)
    after = np.minimum.accumulate(np.where(mask, columns, none)[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(after[:, 1:] - before[:, :-1] - 1)


def _inside(through: Mask) -> Whole:
    """The white pixels of each cut between the first and the last that goes through ink: a loop, or a bay."""
    height = len(through)
    span = np.where(through.any(axis=0), height - through.argmax(axis=0) - through[::-1].argmax(axis=0), 0)
    return np.asarray(span - through.sum(axis=0))
