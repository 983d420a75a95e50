"""Read what somebody named as a picture: a regular file or a pipe, and never more of it than a picture may have."""

import os
import stat
from typing import BinaryIO, Final

from mnist_edge.errors import ImageFormatError, ImageNotFoundError

MOST: Final = 100_000_000
"""Bytes of a file: a photograph of 48 megapixels has about 25 million as JPEG."""

_BLOCK: Final = 1 << 16


def read(source: str | os.PathLike[str] | BinaryIO, name: str) -> bytes:
    """The content of a path or of a binary file object; `name` is for error messages.

    Raises:
        ImageNotFoundError: there is no file at that path.
        ImageFormatError: it is a folder or a device, is empty, has more than `MOST` bytes or cannot be read.
    """
    try:
        data = _of_path(source, name) if isinstance(source, (str, os.PathLike)) else source.read(MOST + 1)
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
    if not isinstance(data, bytes):
        raise ImageFormatError(f"{name}: read() returns {type(data).__name__}, not bytes: open the file in binary mode")
    if not data:
        raise ImageFormatError(f"{name}: is empty: save or fetch the picture again")
    if len(data) > MOST:
        raise _too_large(name)
    return data


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
