"""Check that a PNG file is simple, and complete: Pillow silently fills a truncated one's missing rows with black."""

import struct
import zlib
from collections.abc import Iterator
from itertools import starmap
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

MAX_CHUNKS: Final = 100_000
"""Chunks of a file: of 100 million bytes in the usual 8,192 a chunk there are 12,207."""

MAX_OTHER: Final = 20_000_000
"""Bytes beside the pixels: Pillow makes several copies of them."""

_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel, by colour type."""

_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced file: first column, first row, column step, row step."""

_FRAME: Final = struct.Struct(">I4s")
_CHECKSUM: Final = 4
_HEADER: Final = struct.Struct(">4x4sIIBBBBB")


def size(data: bytes) -> int:
    """The bytes that a file's pixels take uncompressed, as its header says; 0 where it has none."""
    if len(data) < len(SIGNATURE) + _HEADER.size:
        return 0
    kind, width, height, depth, colour, _, _, interlaced = _HEADER.unpack_from(data, len(SIGNATURE))
    if kind != b"IHDR":
        return 0
    bits = depth * _SAMPLES.get(colour, 1)
    sizes = [(width, height)]
    if interlaced:
        sizes = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in _PASSES]
    return sum(starmap(lambda w, h: h * (1 + -(-w * bits // 8)) if w > 0 else 0, sizes))


def require_simple(data: bytes) -> None:
    """Raise ValueError where a file has more than `MAX_CHUNKS`, or more than `MAX_OTHER` bytes beside its pixels."""
    other = 0
    for count, (kind, start, end) in enumerate(_chunks(data), start=1):
        other += 0 if kind == b"IDAT" else end - start
        if count > MAX_CHUNKS:
            raise ValueError(f"has more than {MAX_CHUNKS:,} chunks")
        if other > MAX_OTHER:
            raise ValueError(f"has more than {MAX_OTHER:,} bytes beside its pixels")


def is_whole(data: bytes) -> bool:
    """Whether a PNG has its end chunk and pixels for all rows; other defects are left to the decoder.

    Args:
        data: the file's content, beginning with `SIGNATURE`.
    """
    pixels = []
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            pixels.append(data[start:end])
        elif kind == b"IEND":
            return end + _CHECKSUM <= len(data) and _has_all_rows(size(data), b"".join(pixels))
    return False


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk, and where its content begins and ends."""
    position = len(SIGNATURE)
    while position + _FRAME.size + _CHECKSUM <= len(data):
        length, kind = _FRAME.unpack_from(data, position)
        start = position + _FRAME.size
        yield kind, start, start + length
        position = start + length + _CHECKSUM


def _has_all_rows(expected: int, compressed: bytes) -> bool:
    stream = zlib.decompressobj()
    try:
        found = 0
        while found < expected and compressed:
            found += len(stream.decompress(compressed, 1 << 20))
            compressed = stream.unconsumed_tail
    except zlib.error:
        return True
    return found >= expected
