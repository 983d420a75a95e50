"""Connected components of a mask in pure numpy: a device has neither scipy nor OpenCV."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mnist_edge.images.arrays import framed

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom exclusive."""


class Components(Struct, frozen=True):
    """The connected components of a mask, numbered from 0 in reading order of their first pixels."""

    labels: NDArray[np.int32]
    """[height, width], the component of each pixel; −1 outside the mask."""

    boxes: NDArray[np.int64]
    """[n, 4]: left, top, right, bottom; right and bottom exclusive."""

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def heights(self) -> NDArray[np.int64]:
        """Heights of the boxes: [n]."""
        return self.boxes[:, 3] - self.boxes[:, 1]

    def sums(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """The sum of `values` [height, width] over each component: float64 [n]."""
        inside = self.labels >= 0
        return np.bincount(self.labels[inside], weights=values[inside], minlength=len(self)).astype(np.float64)

    def mask(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The pixels of the components for which `chosen` [n] is true: bool [height, width]."""
        return np.append(chosen, False)[self.labels]  # label -1 indexes the appended False


def box(mask: NDArray[np.bool_]) -> Box:
    """The bounding box of a mask that is not empty: left, top, right, bottom; right and bottom exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def label(mask: NDArray[np.bool_]) -> Components:
    """Find the 8-connected components of a mask.

    The runs of each row are united with the runs that they touch in the next (He, Chao & Suzuki 2008), for all rows at
    once (`unite`).

    Args:
        mask: bool [height, width].

    Returns:
        The components.
    """
    height, width = mask.shape
    edges = np.diff(framed(mask, 0, 1).view(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    roots = unite(len(rows), *_touching_runs(rows, starts, ends, width))
    first = roots == np.arange(len(roots))
    numbers, count = (np.cumsum(first) - 1)[roots], int(first.sum())
    labels = np.full((height, width), -1, dtype=np.int32)
    labels[mask] = np.repeat(numbers, ends - starts)
    return Components(labels, boxes_around(count, numbers, rows, starts, ends))


def boxes_around(
    count: int,
    numbers: NDArray[np.int64],
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The bounding boxes of `count` groups of runs: int64 [count, 4].

    Args:
        count: how many groups.
        numbers: [r], the group of each run.
        rows: [r], its row.
        starts: [r], its first column.
        ends: [r], its last column + 1.
    """
    boxes = np.zeros((count, 4), dtype=np.int64)
    boxes[:, :2] = np.iinfo(np.int64).max
    np.minimum.at(boxes[:, 0], numbers, starts)
    np.minimum.at(boxes[:, 1], numbers, rows)
    np.maximum.at(boxes[:, 2], numbers, ends)
    np.maximum.at(boxes[:, 3], numbers, rows + 1)
    return boxes


def _touching_runs(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # One key orders all runs. A run in the row below touches unless it ends before our start or starts after our end.
    stride = width + 2
    below = (rows + 1) * stride
    first = np.searchsorted(rows * stride + ends, below + starts)
    last = np.searchsorted(rows * stride + starts, below + ends, side="right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(rows)), counts)
    offset = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(first, counts) + offset


def unite(count: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lowest member of each element's group, int64 [count]; `one` [p] and `other` [p] are pairs that share a group.

    Each round links the two groups of every pair to the lower one, then flattens the links by pointer jumping, until
    nothing changes.
    """
    parents = np.arange(count)
    while True:
        low = np.minimum(parents[one], parents[other])
        before = parents.copy()
        np.minimum.at(parents, before[one], low)
        np.minimum.at(parents, before[other], low)
        while (parents != parents[parents]).any():
            parents = parents[parents]
        if (parents == before).all():
            return parents
