"""Check that a PNG file is complete. Pillow silently fills the missing rows of a truncated one with black."""

import struct
import zlib
from itertools import starmap
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel, by colour type."""

_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced file: first column, first row, column step, row step."""


def is_whole(data: bytes) -> bool:
    """Whether a PNG has its end chunk and pixels for all rows; other defects are left to the decoder.

    Args:
        data: the file's content, beginning with `SIGNATURE`.
    """
    position, header, pixels = len(SIGNATURE), b"", []
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        position += 12 + length
        if kind == b"IHDR":
            header = content
        elif kind == b"IDAT":
            pixels.append(content)
        elif kind == b"IEND":
            return position <= len(data) and (len(header) != 13 or _has_all_rows(header, b"".join(pixels)))
    return False


def _has_all_rows(header: bytes, compressed: bytes) -> bool:
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _SAMPLES.get(colour, 1)
    sizes = [(width, height)]
    if interlaced:
        sizes = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in _PASSES]
    expected = sum(starmap(lambda w, h: h * (1 + -(-w * bits // 8)) if w > 0 else 0, sizes))
    stream = zlib.decompressobj()
    try:
        found = 0
        while found < expected and compressed:
            found += len(stream.decompress(compressed, 1 << 20))
            compressed = stream.unconsumed_tail
    except zlib.error:
        return True
    return found >= expected
