"""What the readers of the various forms find, before it is checked and joined."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawSplit:
    """Images and labels as the files hold them."""

    images: NDArray[np.uint8]
    """[n, height, width]"""

    labels: NDArray[np.int64]
    """[n], the values in the file, not yet numbered from 0."""

    where: str
    """The path to name when something is wrong."""


@dataclass(frozen=True)
class RawData:
    """The splits of a source."""

    train: RawSplit
    test: RawSplit | None
    """None where the source has no test split of its own."""

    names: tuple[str, ...] | None
    """Label value k means ``names[k]``; None where the values are their own names."""

    notes: tuple[str, ...] = ()
    """What was done to the images, a line each."""
