"""What is particular to EMNIST (Cohen et al. 2017, "EMNIST: an extension of MNIST to handwritten letters").

Its files, IDX and CSV alike, store images column by column and name no classes: only the file name says what they hold.
"""

import re
import string
from typing import Final

from mnist_edge.contract import DIGITS

_MERGED: Final = "abdefghnqrt"
"""Lower-case letters that keep a class of their own where look-alikes are merged with their capitals."""

CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "byclass": (*DIGITS, *string.ascii_uppercase, *string.ascii_lowercase),
    "bymerge": (*DIGITS, *string.ascii_uppercase, *_MERGED),
    "balanced": (*DIGITS, *string.ascii_uppercase, *_MERGED),
    "letters": ("none", *string.ascii_lowercase),  # counted from 1
    "digits": DIGITS,
    "mnist": DIGITS,
}
"""The name of label k of each of its sets, as torchvision has them."""

STORED_BY_COLUMN: Final = "EMNIST stores its images column by column: they were transposed"

_NAME: Final = re.compile(rf"emnist[-_]({'|'.join(CLASSES)})\b", re.IGNORECASE)


def classes(file_name: str) -> tuple[str, ...] | None:
    """The names of the classes in a file of EMNIST; None where the name is not that of one.

    >>> classes("emnist-letters-train-images-idx3-ubyte.gz")[26]
    'z'
    """
    match = _NAME.match(file_name)
    return CLASSES[match[1].lower()] if match else None
