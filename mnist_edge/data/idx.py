"""The IDX file format that MNIST is distributed in (http://yann.lecun.com/exdb/mnist/), plain or gzipped.

A file is a big-endian header (two zero bytes, a type code, the number of dimensions, then each dimension as uint32)
followed by the values in C order. MNIST uses one type only, unsigned bytes, and so does this module.
"""

import contextlib
import hashlib
import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.data import gzipped
from mnist_edge.errors import DataFormatError

_UBYTE: Final = 0x08
_BLOCK: Final = 1 << 20

MOST: Final = 2_000_000_000
"""Bytes of a file, uncompressed: the largest of EMNIST's has 547 million."""

RATIO: Final = 100
"""How much larger than its gzipped file the content may be, beyond `FREE`. MNIST's is 5 times, a blank one 1,030."""

FREE: Final = 50_000_000
"""Bytes that any gzipped file may declare."""


def encode(array: NDArray[np.uint8]) -> bytes:
    """The uncompressed IDX form of an array of unsigned bytes."""
    return _header(array) + np.ascontiguousarray(array).tobytes()


def digest(array: NDArray[np.uint8]) -> str:
    """SHA-256, in hex, of the array's uncompressed IDX form: it does not depend on how the data were stored."""
    sha256 = hashlib.sha256(_header(array))
    sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def read(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes; gzip is detected from the content, not from the name.

    The header is checked against the file's size before memory is allocated for the values.

    Args:
        path: the file.
        dimensions: expected number of dimensions: 1 for labels, 3 for images.

    Returns:
        A read-only array, uint8, of `dimensions` dimensions.

    Raises:
        DataFormatError: wrong magic number, type or number of dimensions, missing or trailing bytes, or damaged gzip
            data.
    """
    with _opened(path) as (stream, size):
        shape = _shape(stream, path, dimensions, size)
        values = _values(stream, path, math.prod(shape))
        _require_end(stream, path)
        return values.reshape(shape)


def read_shape(path: Path, *, dimensions: int) -> tuple[int, ...]:
    """Read the shape only, and check it against the file's size. Raises as `read` does."""
    with _opened(path) as (stream, size):
        return _shape(stream, path, dimensions, size)


def read_in_chunks(path: Path, *, dimensions: int, chunk: int) -> Iterator[NDArray[np.uint8]]:
    """Yield what `read` returns, `chunk` rows at a time; errors after the header are raised when they are reached."""
    with _opened(path) as (stream, size):
        rows, *row = _shape(stream, path, dimensions, size)
        for start in range(0, rows, chunk):
            count = min(chunk, rows - start)
            yield _values(stream, path, count * math.prod(row)).reshape(count, *row)
        _require_end(stream, path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    # Yields the uncompressed stream and its size in bytes; None if that must be counted.
    with path.open("rb") as file:
        compressed = file.read(len(gzipped.MAGIC)) == gzipped.MAGIC
        file.seek(0)
        if not compressed:
            yield file, path.stat().st_size
            return
        try:
            yield _unzipped(file), None
        except (EOFError, zlib.error) as error:
            raise DataFormatError(f"{path}: damaged gzip data ({error}): fetch the file again") from error


def _unzipped(file: BinaryIO) -> BinaryIO:
    return io.BufferedReader(gzipped.Unzipped(file))


def _header(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, _UBYTE, array.ndim, *array.shape)


def _uncompressed_size(path: Path, declared: int) -> int:
    """The bytes in a gzipped file, counted to at most one block beyond `declared`."""
    size = path.stat().st_size
    if size > MOST or declared > RATIO * size + FREE:
        raise DataFormatError(
            f"{path}: its header declares {declared:,} bytes in {size:,} gzipped ones, which no images are: fetch it "
            "again, or unpack it"
        )
    # A gzip member ends with its uncompressed length modulo 2^32 (RFC 1952). A file may have several members.
    with path.open("rb") as file:
        file.seek(max(0, size - 4))
        last = int.from_bytes(file.read(4), "little")
        if last == declared:
            return last
        file.seek(0)
        stream, count = _unzipped(file), 0
        while count <= declared and (block := stream.read(_BLOCK)):
            count += len(block)
    return count


def _shape(stream: BinaryIO, path: Path, dimensions: int, size: int | None) -> tuple[int, ...]:
    magic = stream.read(4)
    expected_magic = bytes((0, 0, _UBYTE, dimensions))
    if magic != expected_magic:
        raise DataFormatError(
            f"{path}: starts with {magic.hex() or 'nothing'} instead of {expected_magic.hex()}: "
            f"not an IDX file of unsigned bytes with {dimensions} dimension(s)"
        )
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataFormatError(f"{path}: truncated within its header: fetch the file again")
    shape = struct.unpack(f">{dimensions}I", header)
    declared = 4 + len(header) + math.prod(shape)
    if declared > MOST:
        raise DataFormatError(
            f"{path}: its header declares {declared:,} bytes for shape {shape}, more than {MOST:,}: fetch it again"
        )
    size = _uncompressed_size(path, declared) if size is None else size
    if declared != size:
        raise DataFormatError(
            f"{path}: its header declares {declared:,} bytes for shape {shape}, the file has {size:,}: fetch it again"
        )
    return shape


def _values(stream: BinaryIO, path: Path, count: int) -> NDArray[np.uint8]:
    values = bytearray()
    # Block by block, so that no more memory is asked for than there are values.
    while len(values) < count and (block := stream.read(min(_BLOCK, count - len(values)))):
        values += block
    if len(values) != count:
        raise DataFormatError(f"{path}: holds fewer values than its header declares: fetch the file again")
    return np.frombuffer(values, dtype=np.uint8)


def _require_end(stream: BinaryIO, path: Path) -> None:
    # Reading past the end also makes gzip verify its checksum.
    if stream.read(1):
        raise DataFormatError(f"{path}: holds more values than its header declares: fetch the file again")
