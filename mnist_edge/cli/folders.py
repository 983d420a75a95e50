"""Folders that commands write files for people to."""

from pathlib import Path

from mnist_edge.errors import UsageError


def made(folder: Path, option: str) -> Path:
    """Make a folder unless it exists. Raises UsageError, naming the command-line option, if it is something else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder}: is not a folder: give {option} a new or existing folder") from error
    return folder
