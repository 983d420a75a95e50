"""Count the scans of a JPEG file: each of them may pass over the whole picture, however little it holds."""

import re
from collections.abc import Iterator
from typing import Final

_MARKER: Final = re.compile(rb"\xff+([^\0\x01\xd0-\xd8\xff])")
"""In compressed data 00 follows an FF that is a value, and D0…D7 one that starts an interval."""

_SCAN: Final = b"\xda"
_END: Final = b"\xd9"


def scans(data: bytes) -> Iterator[int]:
    """Yield how many components each scan of a file has.

    >>> list(scans(bytes.fromhex("ffd8 ffda0008010100003f00 00 ffd9")))
    [1]
    """
    position = 2
    while (marker := _MARKER.search(data, position)) and marker[1] != _END:
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        if marker[1] == _SCAN:
            yield int.from_bytes(data[marker.end() + 2 : marker.end() + 3], "big")
        position = marker.end() + max(2, length)
