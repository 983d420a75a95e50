"""Find straight lines that belong to the paper: ruled lines, squares, frames and cells, at any small angle.

A line is sought among the short runs of a mask's columns (for lines along the rows; the transposed mask finds the
others): their middles vote for slope and height (Hough 1962, Duda & Hart 1972), and the line is fitted to those near
the best one. What runs through the picture and past everything else on both sides is the paper's. A seven's bar, a
one's foot and a four's stem end where the digit ends.
"""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mnist_edge.images.arrays import framed, median
from mnist_edge.images.components import box

Mask = NDArray[np.bool_]

STEEPEST: Final = 0.19
"""The largest slope of a line, a little more than the tangent of 10°."""

THIN: Final = 0.06
"""The largest thickness of a line, as a share of the picture's shorter side."""

SHORTEST: Final = 0.4
"""The least length of a line, as a share of the picture's side along it."""

FILLED: Final = 0.85
"""The least share of a line that is in the mask."""

BOX: Final = 0.2
"""`SHORTEST` where several digits are written, in boxes perhaps."""

ALONE: Final = 0.5
"""The least length of a line there that does not end at others, as a share of the side."""

FULL: Final = 0.9
"""The same for one along the columns: ones stand upright."""

BREAK: Final = 0.03
"""The longest gap in a line, as a share of the picture's side along it."""

POINTS: Final = 20_000
"""Runs that vote; of more, those in every second, third … column."""

MOST: Final = 120
"""Lines in each direction, beyond which nothing more is sought."""

CROWDED: Final = 100
"""Runs in a column beyond which a picture is a texture, in which no lines are sought."""

ROUNDS: Final = 8
"""How often votes are counted. Each time all lines of the best slope are found: those of a paper are parallel."""

BORDER: Final = 0.05
"""How near the picture's border, or another line, an end must come to be no loose end, as a share of the side."""

PAST: Final = 1.15
"""A line is at least that many times as long as the longer side of what remains."""

CLEAR: Final = 3.0
"""A line with loose ends keeps at least that many pixels away from everything else."""

STEM: Final = 0.2
"""And one along the columns at least that share of the longer side of what remains: a four's stem is nearer."""

LOOSE: Final = 1.8
"""The same for a line with loose ends."""


class Rule(Struct, frozen=True):
    """A line along the rows of a mask: pixel rows ``height + slope * column``, from column `first` to `last`."""

    slope: float
    height: float
    thickness: float
    first: int
    last: int

    @property
    def length(self) -> int:
        """In columns."""
        return self.last - self.first + 1

    def at(self, column: float) -> float:
        """The row of the line's middle in a column."""
        return self.height + self.slope * column


def along_rows(mask: Mask, shortest: float = SHORTEST) -> list[Rule]:
    """The straight lines of a mask that run along its rows.

    Args:
        mask: bool [height, width].
        shortest: the least length of a line, as a share of the width.
    """
    height, width = mask.shape
    thickest = 2 + int(THIN * min(height, width))  # with the soft edges on both sides
    runs = _short_runs(mask, thickest)
    if len(runs) > CROWDED * width:  # a texture
        return []
    stride = 1 + len(runs) // POINTS
    runs = runs[runs[:, 0] % stride == 0]
    needed = shortest * width / stride
    slopes = np.linspace(-STEEPEST, STEEPEST, max(9, 2 * int(STEEPEST * width / 2.5) + 1))
    found: list[Rule] = []
    for _ in range(ROUNDS):
        if len(runs) < needed or len(found) > MOST:
            break
        slope, levels = _most_votes(runs, slopes, needed / 2)
        for level in levels:
            line = _fitted(runs, slope, level, 2.5 + thickest / 4)
            if line is None:
                continue
            near = abs(runs[:, 1] - line[1] - line[0] * runs[:, 0])
            if (rule := _extent(mask, *line, median(runs[near <= 1.25, 2]), shortest)) is not None:
                found.append(rule)
            runs = runs[near > 2.5 + thickest / 4]
        if not levels:
            break
    return found


def _short_runs(mask: Mask, longest: int) -> NDArray[np.float64]:
    """The runs in the mask's columns that are no longer than that, [n, 3]: column, middle row and length."""
    edges = np.diff(framed(mask.T, 0, 1).view(np.int8), axis=1)
    columns, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = np.stack([columns, (starts + ends - 1) / 2, ends - starts], axis=1)
    return runs[runs[:, 2] <= longest]


def _most_votes(runs: NDArray[np.float64], slopes: NDArray[np.float64], needed: float) -> tuple[float, list[float]]:
    """The slope with the most votes for one level, and the levels at that slope that have enough, the best first."""
    levels = runs[:, 1] - slopes[:, None] * runs[:, 0]
    lowest = levels.min()
    bins = ((levels - lowest) / 2).astype(np.int64)
    count = int(bins.max()) + 2
    votes = np.bincount((bins + count * np.arange(len(slopes))[:, None]).ravel(), minlength=count * len(slopes))
    votes = votes.reshape(len(slopes), count)
    together = votes[:, :-1] + votes[:, 1:]
    best = int(together.max(axis=1).argmax())
    row = together[best]
    peaks = np.flatnonzero((row >= needed) & (row >= np.roll(row, 1)) & (row >= np.roll(row, -1)))
    return float(slopes[best]), [float(lowest + 2 * (peak + 1)) for peak in peaks[np.argsort(-row[peaks])]]


def _fitted(runs: NDArray[np.float64], slope: float, level: float, tolerance: float) -> tuple[float, float] | None:
    """The line through the runs near a line, as slope and level; None where there are too few."""
    for within in (tolerance, 1.25):
        near = runs[abs(runs[:, 1] - level - slope * runs[:, 0]) <= within]
        if len(near) < 3:
            return None
        x, y = near[:, 0].mean(), near[:, 1].mean()
        spread = float(((near[:, 0] - x) ** 2).sum())
        slope = float(((near[:, 0] - x) * (near[:, 1] - y)).sum()) / spread if spread else 0.0
        level = float(y - slope * x)
    return slope, level


def _extent(mask: Mask, slope: float, level: float, thickness: float, shortest: float) -> Rule | None:
    height, width = mask.shape
    columns = np.arange(width)
    rows = np.rint(level + slope * columns).astype(np.int64)
    inside = (rows >= 0) & (rows < height)
    filled = np.zeros(width, dtype=bool)
    for shift in (-1, 0, 1):
        shifted = (rows + shift).clip(0, height - 1)
        filled |= inside & mask[shifted, columns]
    lit = np.flatnonzero(filled)
    if len(lit) == 0:
        return None
    breaks = np.flatnonzero(np.diff(lit) > 1 + BREAK * width)
    firsts, lasts = lit[np.r_[0, breaks + 1]], lit[np.r_[breaks, len(lit) - 1]]
    best = int((lasts - firsts).argmax())
    first, last = int(firsts[best]), int(lasts[best])
    long = last - first + 1 >= shortest * width
    return Rule(slope, level, thickness, first, last) if long and filled[first : last + 1].mean() >= FILLED else None


def covered(shape: tuple[int, ...], rules: list[Rule], spare: float) -> Mask:
    """The pixels of lines along the rows, and of that much beyond either side: bool [height, width]."""
    found = np.zeros(shape, dtype=bool)
    for rule in rules:
        further = 2 + int(BORDER * shape[1])  # where a line leaves the picture it tapers off
        columns = np.arange(max(0, rule.first - further), min(shape[1], rule.last + 1 + further))
        middles = rule.height + rule.slope * columns
        reach = rule.thickness / 2 + spare
        top, bottom = (int(edge.clip(0, shape[0])) for edge in (middles.min() - reach, middles.max() + reach + 2))
        found[top:bottom, columns] |= abs(np.arange(top, bottom)[:, None] - middles) <= reach
    return found


def tall(mask: Mask, length: int) -> Mask:
    """The pixels that belong to a vertical run of at least that length."""
    if length > len(mask):
        return np.zeros_like(mask)
    total = np.pad(mask, ((1, 0), (0, 0))).cumsum(axis=0)
    full = (total[length:] - total[:-length]) == length
    padded = np.pad(full, ((length, length), (0, 0))).cumsum(axis=0)
    found: Mask = (padded[length : length + len(mask)] - padded[: len(mask)]) > 0
    return found


def of_the_paper(mask: Mask) -> Mask:
    """The lines of the paper and their soft edges in a picture of one digit: bool [height, width]."""
    across, down = along_rows(mask), along_rows(mask.T)
    if not across and not down:
        return np.zeros_like(mask)
    for _ in range(2):  # what belongs to the digit after all counts when the others are judged again
        rest = mask & ~taken(mask, across, down)
        across, down = (
            [rule for rule in across if _is_papers(rule, rest, down, 0)],
            [rule for rule in down if _is_papers(rule, rest.T, across, STEM)],
        )
    return taken(mask, across, down, spare=1.5)


def under_many(mask: Mask) -> Mask:
    """The same where several digits are written: ruled lines, squares, the sides of boxes."""
    across, down = along_rows(mask, BOX), along_rows(mask.T, BOX)
    height, width = mask.shape
    thickest = 1 + 1.6 * min((rule.thickness for rule in across), default=0.0)
    down = [rule for rule in down if rule.thickness <= thickest]
    count = -1
    while count != (count := len(across) + len(down)):  # a side goes with the lines that it ended at
        across = [rule for rule in across if rule.length >= ALONE * width or _closed_by(rule, down, width) == 2]
        down = [rule for rule in down if rule.length >= FULL * height or _closed_by(rule, across, height) == 2]
    if not across:
        return np.zeros_like(mask)
    return taken(mask, across, down, spare=1.5)


def _closed_by(rule: Rule, others: list[Rule], side: int) -> int:
    """How many ends of a line lie on lines across it."""
    return sum(_is_met(rule, end, others, BORDER * side + 2) for end in (rule.first, rule.last))


def _is_met(rule: Rule, end: int, others: list[Rule], reach: float) -> bool:
    return any(abs(other.at(rule.at(end)) - end) <= reach for other in others)


def taken(mask: Mask, across: list[Rule], down: list[Rule], spare: float = 1.0) -> Mask:
    """The pixels of lines along the rows and along the columns, but for strokes that cross them."""
    rows, columns = covered(mask.shape, across, spare), covered(mask.T.shape, down, spare).T
    thick = 3 + int(1.6 * max((rule.thickness for rule in (*across, *down)), default=0))
    strokes_down, strokes_across = tall(mask & ~columns, thick), tall((mask & ~rows).T, thick).T
    found: Mask = (rows & ~strokes_down) | (columns & ~strokes_across) | (rows & columns)
    return found


def _is_papers(rule: Rule, rest: Mask, others: list[Rule], apart: float) -> bool:
    """Whether a line along the rows belongs to the paper.

    Args:
        rule: the line.
        rest: the mask without any lines.
        others: the lines across it.
        apart: how far from the rest it must be if it has loose ends, as a share of the rest's longer side.
    """
    height, width = rest.shape
    if not rest.any():
        return False
    left, top, right, bottom = box(rest)
    reach = BORDER * width + 2 + width // 100

    def is_closed(end: int) -> bool:
        row = rule.at(end)
        at_border = min(end, width - 1 - end) <= reach or min(row, height - 1 - row) <= reach
        return at_border or _is_met(rule, end, others, reach)

    def is_joined(end: int) -> bool:
        near = int(rule.thickness) + 2
        y, x = max(0, round(rule.at(end)) - near), max(0, end - near)
        return bool(rest[y : y + 2 * near + 1, x : x + 2 * near + 1].any())

    if is_joined(rule.first) or is_joined(rule.last):
        return False
    closed = is_closed(rule.first) and is_closed(rule.last)
    size = max(right - left, bottom - top)
    if not closed and (rest & covered(rest.shape, [rule], max(CLEAR, apart * size))).any():
        return False
    past = rule.first < left - 1 and rule.last > right
    return past and rule.length >= (PAST if closed else LOOSE) * size
