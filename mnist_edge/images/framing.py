"""Recognising pictures that are framed as MNIST's digits are."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, WHITE, WIDTH

INK: Final = 0.25 * WHITE
"""Pixels above are ink when a digit's box is sought."""

OFF_CENTRE: Final = 1.0
"""How far from 14.0, MNIST's mean index, the centre of mass may lie, in pixels; in MNIST itself 0.5."""

LONGER_SIDE: Final = (16, 21)
"""Of the ink's box, in pixels. In MNIST 20, less what is fainter than `INK`."""


def is_mnist_framed(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which images are light ink on a dark ground, of MNIST's size and in MNIST's place.

    Args:
        images: uint8 [n, 28, 28].

    Returns:
        bool [n].
    """
    ink = images > INK
    longer = np.maximum(_extent(ink.any(axis=2)), _extent(ink.any(axis=1)))
    mass = images.sum(axis=(1, 2), dtype=np.int64).clip(1)
    y = images.sum(axis=2, dtype=np.int64) @ np.arange(HEIGHT) / mass
    x = images.sum(axis=1, dtype=np.int64) @ np.arange(WIDTH) / mass
    centred = (abs(y - HEIGHT / 2) <= OFF_CENTRE) & (abs(x - WIDTH / 2) <= OFF_CENTRE)
    framed: NDArray[np.bool_] = (LONGER_SIDE[0] <= longer) & (longer <= LONGER_SIDE[1]) & centred
    return framed


def _extent(lit: Any) -> Any:
    # From the first to the last lit index of each row, both included; nonsense where none is lit.
    return lit.shape[1] - lit[:, ::-1].argmax(axis=1) - lit.argmax(axis=1)
