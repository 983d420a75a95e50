"""Check the places to write to before slow work that will end in writing there. Nothing is made, nothing stays."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from mnist_edge.bundle.writing import temporary_name
from mnist_edge.errors import UsageError

LONGEST: Final = 255
"""The longest name of a file or folder on almost every file system, as `_length` counts."""

_PROBE: Final = 4096
"""Bytes that are written to see whether the disk is full."""


def require_folder(folder: Path, option: str) -> None:
    """Raise UsageError unless files can be written in a folder, which is there or can be made.

    Args:
        folder: the folder.
        option: what the user gave it with, such as ``--out``.
    """
    paths = (folder.absolute(), *folder.absolute().parents)
    nearest = next((path for path in paths if _is_there(path, option)), None)
    if nearest is None:  # on Windows, the drive may be missing
        raise UsageError(f"{folder}: there is no {folder.absolute().anchor}: choose another {option}")
    if not nearest.is_dir():
        what = "is a link that leads to no folder" if nearest.is_symlink() else "is not a folder"
        raise UsageError(f"{nearest}: {what}: give {option} a new or existing folder")
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(_PROBE))
    except OSError as error:
        raise UsageError(f"{nearest}: cannot be written to ({error.strerror}): choose another {option}") from error


def require_file(path: Path, option: str) -> None:
    """Raise UsageError unless a file can be written there, by way of a temporary one; see `require_folder`."""
    require_folder(path.parent, option)
    if _length(temporary_name(path.name)) > LONGEST:
        raise UsageError(f"{path}: its name is too long: choose another {option}")


def _length(name: str) -> int:
    """Bytes on POSIX, UTF-16 code units on Windows."""
    return len(os.fsencode(name)) if os.name == "posix" else len(name.encode("utf-16-le", "surrogatepass")) // 2


def _is_there(path: Path, option: str) -> bool:
    if _length(path.name) > LONGEST:
        raise UsageError(f"{path}: a name in it is too long: choose another {option}")
    try:
        path.lstat()
    except ValueError as error:  # NUL
        raise UsageError(f"{path}: not a path ({error}): choose another {option}") from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise UsageError(f"{path}: cannot be used ({error.strerror}): choose another {option}") from error
    return True
