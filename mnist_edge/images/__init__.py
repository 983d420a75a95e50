"""From a picture to the canonical 28×28: what the runtime predicts on and what an image folder trains on.

It stands above both rooms, `runtime` and `training`, because the two must see the same pixels. Pillow is imported on
the first decoding, so that arrays can be classified without it.
"""

import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import Framing
from mnist_edge.images.canonical import frame, has_ink
from mnist_edge.images.files import SUFFIXES, decode, find, grey

__all__ = ["SUFFIXES", "decode", "find", "frame", "grey", "has_ink", "read"]


def read(source: str | os.PathLike[str] | BinaryIO, framing: Framing = Framing.MNIST) -> NDArray[np.uint8]:
    """Decode a picture and bring it to the canonical form: `frame` of `decode`, which tell what they take and raise.

    Returns:
        uint8 [28, 28], 0 = background, 255 = full ink.
    """
    return frame(decode(source), framing)
