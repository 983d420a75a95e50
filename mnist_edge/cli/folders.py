"""Folders that commands write to."""

import os
from collections.abc import Iterable
from pathlib import Path

from mnist_edge.errors import UsageError

Stamps = list[tuple[int, int] | None]


def check(folder: Path, option: str) -> None:
    """Raise UsageError, naming the command-line option, if a folder could not be made, and make nothing."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path())
    if not there.is_dir():
        raise UsageError(f"{there}: is not a folder: give {option} a new or existing folder")
    if not os.access(there, os.W_OK):
        raise UsageError(f"{there}: cannot be written to: choose another {option}")


def made(folder: Path, option: str) -> Path:
    """Make a folder unless it exists. Raises UsageError, naming the command-line option, if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder}: is not a folder: give {option} a new or existing folder") from error
    except OSError as error:
        raise UsageError(f"{folder}: cannot be created ({error.strerror}): choose another {option}") from error
    return folder


def stamps(folder: Path, names: Iterable[str]) -> Stamps:
    """What changes when one of these files is written, replaced or removed."""
    found = [path.stat() if (path := folder / name).exists() else None for name in names]
    return [each and (each.st_ino, each.st_mtime_ns) for each in found]
