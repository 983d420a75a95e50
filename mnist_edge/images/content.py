"""Read what somebody named as a picture: a regular file or a pipe, and never more of it than a picture may have."""

import inspect
import os
import stat
from typing import BinaryIO, Final

from mnist_edge.errors import ImageFormatError, ImageNotFoundError

MOST: Final = 100_000_000
"""Bytes of a file: a photograph of 48 megapixels has about 25 million as JPEG."""

_BLOCK: Final = 1 << 16


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

MOST_NAME: Final = 200
"""Characters of a file object's name in an error message: strangers choose the names of what they upload."""


def name_of(source: Source) -> str:
    """What an error calls a source.

    What web frameworks give has the name of the uploaded file as ``filename``. Temporary files have a number or None as
    their ``name``, files in memory have none.
    """
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the given bytes"
    for name in (getattr(source, "filename", None), getattr(source, "name", None)):
        if isinstance(name, (str, os.PathLike)) and (text := os.fspath(name)) and isinstance(text, str):
            text = text if len(text) <= MOST_NAME else f"{text[:MOST_NAME]}…"
            return text if text.isprintable() else ascii(text)[1:-1]
    return "the uploaded file"


def read(source: Source, name: str) -> bytes:
    """The content of a path or of a binary file object, or the bytes given; `name` is for error messages.

    Raises:
        ImageNotFoundError: there is no file at that path.
        ImageFormatError: it is a folder or a device, is empty, has more than `MOST` bytes or cannot be read.
    """
    try:
        data = _content(source, name)
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"{name}: no such file: check the path") from error
    except IsADirectoryError as error:
        raise ImageFormatError(f"{name}: is a folder: name a picture in it") from error
    except UnicodeDecodeError as error:
        raise ImageFormatError(f"{name}: opened as text: open the file in binary mode") from error
    except ImageFormatError:
        raise
    except (OSError, ValueError) as error:
        raise ImageFormatError(f"{name}: cannot be read ({error}): check the path") from error
    if inspect.iscoroutine(data):
        data.close()
        raise ImageFormatError(f"{name}: its read() must be awaited: give the bytes that it returns")
    if not isinstance(data, bytes):
        raise ImageFormatError(f"{name}: read() returns {type(data).__name__}, not bytes: open the file in binary mode")
    if not data:
        raise ImageFormatError(f"{name}: is empty: save or fetch the picture again")
    if len(data) > MOST:
        raise _too_large(name)
    return data


def _content(source: Source, name: str) -> bytes:
    if isinstance(source, (str, os.PathLike)):
        return _of_path(source, name)
    return bytes(source) if isinstance(source, (bytes, bytearray, memoryview)) else source.read(MOST + 1)


def _of_path(path: str | os.PathLike[str], name: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # takes half as long as Path.open on small files
        found = os.fstat(file.fileno())
        regular = stat.S_ISREG(found.st_mode)
        if not (regular or stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)):
            raise ImageFormatError(f"{name}: is a device, not a picture: check the path")
        if regular and found.st_size > MOST:
            raise _too_large(name)
        # Of a regular file no more is read than it has: those of /proc have no bytes, and some of them no end.
        most, block = (found.st_size, found.st_size) if regular else (MOST + 1, _BLOCK)
        parts, size = [], 0
        while size < most and (part := file.read(min(block, most - size))):
            parts.append(part)
            size += len(part)
        return b"".join(parts)


def _too_large(name: str) -> ImageFormatError:
    return ImageFormatError(f"{name}: more than {MOST:,} bytes: scale the picture down")
