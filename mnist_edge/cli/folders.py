"""Folders that commands write to."""

from collections.abc import Iterable
from pathlib import Path

from mnist_edge.bundle.places import require_folder
from mnist_edge.errors import UsageError

Stamps = list[tuple[int, int] | None]


def made(folder: Path, option: str) -> Path:
    """Make a folder unless it exists. Raises UsageError, naming the command-line option, if that is impossible."""
    require_folder(folder, option)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be created ({error.strerror}): choose another {option}") from error
    return folder


def stamps(folder: Path, names: Iterable[str]) -> Stamps:
    """What changes when one of these files is written, replaced or removed."""
    found = [path.stat() if (path := folder / name).exists() else None for name in names]
    return [each and (each.st_ino, each.st_mtime_ns) for each in found]
