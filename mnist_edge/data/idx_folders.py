"""Folders of IDX files, under the names that they go by.

These are MNIST's own, perhaps with dots for dashes or behind a set's name, gzipped or not; each file may lie in a
folder of its own, as some archives unpack, or all in torchvision's ``MNIST/raw``.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from mnist_edge.contract import DIGITS
from mnist_edge.data import emnist, idx
from mnist_edge.data.raw import RawData, RawSplit
from mnist_edge.errors import DataFormatError, DataNotFoundError
from mnist_edge.images.files import is_file

LABELS_FILE: Final = "labels.txt"
"""Beside IDX files: the name of class k on line k, where the classes are not the digits."""

MOST: Final = 100_000
"""Bytes of the file of names."""

IDX_FILES: Final = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""MNIST's file names, images and labels of each split; each may end in ``.gz``."""

_NAME: Final = re.compile(
    r"(.*[-_.])?(?P<split>train|t10k|test)[-_.](?P<kind>images|labels)[-_.]idx[13][-_.]ubyte(\.gz)?", re.IGNORECASE
)

DEPTH: Final = 2
"""Folders below the given one that are searched: ``MNIST/raw``."""

PASSED_OVER: Final = "__MACOSX"
"""What macOS adds to zip archives: as little part of the data as hidden files."""

Files = dict[tuple[str, str], Path]
"""By split and kind, "train" or "test" and "images" or "labels"."""


def find(folder: Path) -> Files:
    """The IDX files of a data set.

    Raises:
        DataFormatError: there are those of several sets.
    """
    candidates: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in _files(folder, DEPTH):
        if match := _NAME.fullmatch(path.name):
            split = "train" if match["split"].lower() == "train" else "test"
            candidates[split, match["kind"].lower()].append(path)
    found = {}
    for (split, kind), paths in candidates.items():
        # The one and the same file may lie there unpacked, too.
        different = {
            path.with_suffix("") if path.suffix.lower() == ".gz" else path: path for path in sorted(paths)[::-1]
        }
        if len(different) > 1:
            one, other, *_ = sorted(different.values())
            raise DataFormatError(
                f"{folder}: holds {split} {kind} of more than one data set, {one.relative_to(folder)} and "
                f"{other.relative_to(folder)}: give the folder of one, or move the others out"
            )
        found[split, kind] = next(iter(different.values()))
    return found


def read(folder: Path, files: Files) -> RawData:
    """The data in the files that `find` found.

    Raises:
        DataNotFoundError: images without labels, or labels without images.
        DataFormatError: a file is malformed.
    """
    splits: dict[str, RawSplit] = {}
    for split, expected in IDX_FILES.items():
        if split == "test" and not any(part == "test" for part, _ in files):
            continue  # a part of the training images becomes the test set
        for kind, name in zip(("images", "labels"), expected, strict=True):
            if (split, kind) not in files:
                raise DataNotFoundError(f"{folder}: has no {name} or {name}.gz: images and labels go together")
        splits[split] = _read_split(files[split, "images"], files[split, "labels"])
    of_emnist = emnist.classes(files["train", "images"].name)
    names_file = folder / LABELS_FILE
    names = _read_names(names_file) if names_file.is_file() else of_emnist
    if names is None and all(split.labels.max(initial=0) < len(DIGITS) for split in splits.values()):
        names = DIGITS
    notes = (emnist.STORED_BY_COLUMN,) if of_emnist else ()
    return RawData(train=splits["train"], test=splits.get("test"), names=names, notes=notes)


def _read_split(images_file: Path, labels_file: Path) -> RawSplit:
    images = idx.read(images_file, dimensions=3)
    if emnist.classes(images_file.name):
        images = images.transpose(0, 2, 1)
    labels = idx.read(labels_file, dimensions=1).astype(np.int64)
    return RawSplit(images=images, labels=labels, where=str(labels_file))


def _files(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as listing:
        entries = [entry for entry in listing if not is_passed_over(entry.name)]
    for entry in entries:
        if is_file(entry):
            yield Path(entry.path)
        elif depth and entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), depth - 1)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of that name is no part of a data set."""
    return name.startswith(".") or name == PASSED_OVER


def _read_names(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        content = file.read(MOST + 1)
    if len(content) > MOST:
        raise DataFormatError(f"{path}: more than {MOST:,} bytes: write one label name per line")
    try:
        names = tuple(line.strip() for line in content.decode().splitlines())
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path}: is not UTF-8 text: write one label name per line") from error
    if "" in names or len(set(names)) < len(names) or not names:
        raise DataFormatError(f"{path}: label names must be neither empty nor repeated: write one per line")
    return names
