"""Look into a JPEG file, for what takes long to decode."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

SIGNATURE: Final = b"\xff\xd8"

MAX_SCANS: Final = 100
"""The usual encoders write ten. Each may pass over the whole picture, however little it holds."""

MAX_EXIF: Final = 100
"""Segments of EXIF data, of at most 65,533 bytes; cameras write one. Pillow copies all before at each."""

_EXIF: Final = b"Exif\0\0"

_MARKER: Final = re.compile(rb"\xff+([^\0\x01\xd0-\xd8\xff])")
"""In compressed data 00 follows an FF that is a value, and D0…D7 one that starts an interval."""

_SCAN: Final = b"\xda"
_END: Final = b"\xd9"


def require_simple(data: bytes) -> None:
    """Raise ValueError where a file has more than `MAX_EXIF` segments of EXIF data."""
    if data.count(_EXIF) > MAX_EXIF:
        raise ValueError(f"has more than {MAX_EXIF} segments of EXIF data")


def has_many_scans(data: bytes) -> bool:
    """Whether a file has more than `MAX_SCANS`."""
    # The bytes of the marker also occur in what is not compressed, so that only many of them are counted exactly.
    return data.count(b"\xff" + _SCAN) > MAX_SCANS and len(list(islice(scans(data), MAX_SCANS + 1))) > MAX_SCANS


def scans(data: bytes) -> Iterator[int]:
    """Yield how many components each scan of a file has.

    >>> list(scans(bytes.fromhex("ffd8 ffda0008010100003f00 00 ffd9")))
    [1]
    """
    position = len(SIGNATURE)
    while (marker := _MARKER.search(data, position)) and marker[1] != _END:
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        if marker[1] == _SCAN:
            yield int.from_bytes(data[marker.end() + 2 : marker.end() + 3], "big")
        position = marker.end() + max(2, length)
