"""Count the pages of a TIFF file, and the values of its tags.

Pillow makes a Python object of each value, and compares each page with all before it: a minute for 100,000 of them.
"""

import struct
from typing import Final, NamedTuple

MAX_PAGES: Final = 1000
MAX_TAGS: Final = 1000
MAX_VALUES: Final = 65_536
"""Of a tag. Strips and tiles are listed in tags, too."""

_TEXT: Final = (1, 2, 6, 7)
"""Types of tags that Pillow keeps as bytes."""


class _Layout(NamedTuple):
    """Where a file has what, as formats of `struct`."""

    first: int
    """Where the address of the first directory is."""

    address: str
    entries: str
    """How many a directory has."""

    entry: str
    """Tag, type, number of values; the value or its address."""


_LAYOUTS: Final = {42: _Layout(4, "I", "H", "HHI4x"), 43: _Layout(8, "Q", "Q", "HHQ8x")}
_ORDERS: Final = {b"II": "<", b"MM": ">"}


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as TIFF files do."""
    order = _ORDERS.get(data[:2])
    return order is not None and len(data) >= 4 and struct.unpack_from(f"{order}H", data, 2)[0] in _LAYOUTS


def count_pages(data: bytes) -> int:
    """The number of pages in a file.

    Args:
        data: the file's content, for which `is_tiff`.

    Raises:
        ValueError: it has too many pages, tags or values, or is cut short.
    """
    order = _ORDERS[data[:2]]
    layout = _LAYOUTS[struct.unpack_from(f"{order}H", data, 2)[0]]
    pages = 0
    try:
        (address,) = struct.unpack_from(order + layout.address, data, layout.first)
        while address:
            if pages == MAX_PAGES:
                raise ValueError(f"has more than {MAX_PAGES:,} pages")
            address = _next_address(data, address, order, layout)
            pages += 1
    except struct.error:
        raise ValueError(f"is cut short within the list of tags of page {pages + 1}") from None
    return pages


def _next_address(data: bytes, address: int, order: str, layout: _Layout) -> int:
    (entries,) = struct.unpack_from(order + layout.entries, data, address)
    if entries > MAX_TAGS:
        raise ValueError(f"has {entries:,} tags on a page, more than {MAX_TAGS:,}")
    place = address + struct.calcsize(order + layout.entries)
    for _ in range(entries):
        tag, kind, values = struct.unpack_from(order + layout.entry, data, place)
        if kind not in _TEXT and values > MAX_VALUES:
            raise ValueError(f"has {values:,} values in tag {tag}, more than {MAX_VALUES:,}")
        place += struct.calcsize(order + layout.entry)
    return int(struct.unpack_from(order + layout.address, data, place)[0])
