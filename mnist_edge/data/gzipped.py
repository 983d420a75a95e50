"""Decompress gzip (RFC 1952). Unlike Python's module it also passes quickly over headers and members without end."""

import io
import zlib
from typing import BinaryIO, Final

MAGIC: Final = b"\x1f\x8b"

MAX_MEMBERS: Final = 100_000
"""Of a file: block gzip starts one for every 65,280 bytes, so that EMNIST's largest file would have 8,400."""

_BLOCK: Final = 1 << 14
_TRAILER: Final = 8
_GZIP: Final = 16 + zlib.MAX_WBITS


class Unzipped(io.RawIOBase):
    """What a gzipped file holds, all its members. `io.BufferedReader` reads it as it reads a file.

    Reading raises `zlib.error` where the data are damaged, and EOFError where they are cut short.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._members = 0
        self._waiting = b""
        self._start()

    def _start(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise zlib.error(f"more than {MAX_MEMBERS:,} members")
        self._stream = zlib.decompressobj(_GZIP)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]  # io's own is not public
        """Fill the buffer with some of the bytes; returns how many, 0 at the end."""
        while True:
            if self._stream.eof and not self._next_member():
                return 0
            block = self._waiting or self._read()
            if not block:
                raise EOFError("cut short within a member")
            data = self._stream.decompress(block, len(buffer))
            self._waiting = self._stream.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _next_member(self) -> bool:
        rest = self._stream.unused_data.lstrip(b"\0")  # files may be padded
        while not rest and (block := self._read()):
            rest = block.lstrip(b"\0")
        if rest:
            self._waiting = rest
            self._start()
        return bool(rest)

    def _read(self) -> bytes:
        # The file's last trailer comes alone, so that all data are given out before it may turn out to be wrong.
        left = self._size - _TRAILER - self._file.tell()
        return self._file.read(min(_BLOCK, left) if left > 0 else _TRAILER)
