"""Readers for labelled 28×28 images: IDX files, image folders and Kaggle's CSV.

Each returns the splits as the files hold them; `mnist_edge.data.datasets` checks and assembles them.
"""

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge import images
from mnist_edge.contract import DIGITS, HEIGHT, PIXELS, WHITE, WIDTH
from mnist_edge.data import idx
from mnist_edge.errors import DataFormatError, DataNotFoundError, ImageFormatError

LABELS_FILE: Final = "labels.txt"
"""Next to IDX files whose classes are not the digits: one class name per line, starting with class 0."""

IDX_FILES: Final = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""MNIST's file names, images and labels of each split; each may end in ``.gz``."""


_PIXEL_COLUMNS: Final = [[f"pixel{k}" for k in range(first, first + PIXELS)] for first in (0, 1)]
"""Some of Kaggle's data sets number the pixels from 0, others from 1."""

SPLIT_FOLDERS: Final = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}
"""Accepted names for the subfolders of an image folder, in order of preference."""


@dataclass(frozen=True)
class RawSplit:
    """Images and labels as the files hold them."""

    images: NDArray[np.uint8]
    """[n, height, width]"""

    labels: NDArray[np.int64]
    """[n], the values in the file, not yet class indices."""

    where: str
    """The path to name in error messages."""


@dataclass(frozen=True)
class RawData:
    """What a reader found."""

    train: RawSplit
    test: RawSplit | None
    """None if the source has no labelled test split."""

    names: tuple[str, ...] | None
    """Label value k means ``names[k]``; None if the values themselves are the names."""


def read(path: Path) -> RawData:
    """Read the data set at a path, detecting its format.

    Raises:
        DataNotFoundError: the folder holds no data set, or lacks one of a pair of IDX files.
        OSError: it cannot be read.
        DataFormatError: a file is malformed.
    """
    if not path.is_dir():
        if path.suffix.lower() != ".csv":
            raise DataFormatError(f"{path}: not a .csv file: give an IDX folder, an image folder or a CSV file")
        return RawData(train=_read_csv(path), test=None, names=None)
    if _is_idx_folder(path):
        return _read_idx_folder(path)
    if (path / "train.csv").is_file():
        return RawData(train=_read_csv(path / "train.csv"), test=_read_test_csv(path / "test.csv"), names=None)
    if any(child.is_dir() and not child.name.startswith(".") for child in path.iterdir()):
        return _read_image_folder(path)
    raise DataNotFoundError(
        f"{path}: holds no data set: expected {IDX_FILES['train'][0]} and so on, train.csv, or one folder per label"
    )


def _is_idx_folder(path: Path) -> bool:
    return any(_idx_file(path, name) is not None for files in IDX_FILES.values() for name in files)


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((folder / file for file in (name, f"{name}.gz") if (folder / file).is_file()), None)


def _read_idx_folder(folder: Path) -> RawData:
    splits: dict[str, RawSplit] = {}
    for split, names in IDX_FILES.items():
        if split == "test" and not any(_idx_file(folder, name) for name in names):
            continue  # `datasets` splits off part of the training images instead
        paths = [_idx_file(folder, name) for name in names]
        for name, path in zip(names, paths, strict=True):
            if path is None:
                raise DataNotFoundError(f"{folder}: has no {name} or {name}.gz: images and labels go together")
        image_path, label_path = paths
        assert image_path is not None
        assert label_path is not None
        splits[split] = RawSplit(
            images=idx.read(image_path, dimensions=3),
            labels=idx.read(label_path, dimensions=1).astype(np.int64),
            where=str(label_path),
        )
    return RawData(train=splits["train"], test=splits.get("test"), names=_read_names(folder / LABELS_FILE))


def _read_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return DIGITS
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path}: is not UTF-8 text: write one label name per line") from error
    if "" in names or len(set(names)) < len(names) or not names:
        raise DataFormatError(f"{path}: label names must be neither empty nor repeated: write one per line")
    return names


def _read_test_csv(path: Path) -> RawSplit | None:
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        if next(csv.reader(file), []) in _PIXEL_COLUMNS:  # Kaggle does not publish its test labels
            return None
    return _read_csv(path)


def _read_csv(path: Path) -> RawSplit:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
            if header[:1] != ["label"] or header[1:] not in _PIXEL_COLUMNS:
                raise DataFormatError(
                    f"{path}: its first line is not label,pixel0,…,pixel{PIXELS - 1}: not a CSV file in Kaggle's format"
                )
            first_line = file.readline()
            if not first_line.strip():
                raise DataFormatError(f"{path}: holds no images below its header")
            lines = itertools.chain([first_line], file)
            values = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2, quotechar='"', comments=None)
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path}: is not UTF-8 text: save the file as UTF-8") from error
    except (ValueError, csv.Error) as error:
        if isinstance(error, DataFormatError):
            raise
        raise DataFormatError(f"{path}: {_one_line(error)}: each line is a label and {PIXELS} whole numbers") from error
    if values.shape[1] != 1 + PIXELS:
        raise DataFormatError(f"{path}: its lines have {values.shape[1]} values instead of {1 + PIXELS}")
    labels, pixels = values[:, 0], values[:, 1:]
    _require_bytes(labels, path, "label")
    _require_bytes(pixels, path, "pixel")
    return RawSplit(images=pixels.astype(np.uint8).reshape(-1, HEIGHT, WIDTH), labels=labels, where=str(path))


def _require_bytes(values: NDArray[np.int64], path: Path, what: str) -> None:
    wrong = (values < 0) | (values > WHITE)
    if wrong.any():
        line = int(np.argwhere(wrong)[0][0]) + 2
        raise DataFormatError(f"{path}, line {line}: {what} {values[wrong][0]} is not within 0…{WHITE}")


def _read_image_folder(folder: Path) -> RawData:
    parts = {
        split: next((folder / name for name in names if (folder / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    train, test = parts["train"] or folder, parts["test"] if parts["train"] else None
    names = _label_folders(train)
    if test and (extra := set(_label_folders(test)) - set(names)):
        raise DataFormatError(f"{test}: label {min(extra)!r} has no folder under {train}")
    split = _read_images(train, names)
    if empty := set(range(len(names))) - set(split.labels.tolist()):
        raise DataFormatError(f"{train / names[min(empty)]}: holds no images: expected {train / '<label>' / '*.png'}")
    return RawData(split, _read_images(test, names) if test else None, names)


def _label_folders(folder: Path) -> tuple[str, ...]:
    names = [child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def _read_images(folder: Path, names: tuple[str, ...]) -> RawSplit:
    pictures: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    small: list[int] = []
    for label, name in enumerate(names):
        for path in map(Path, images.find(folder / name)):
            if path.parent != folder / name:
                raise DataFormatError(f"{path}: lies deeper than {folder / '<label>' / '*.png'}: move the images up")
            try:
                pixels = images.decode(path)
                if pixels.shape == (HEIGHT, WIDTH):
                    small.append(len(pictures))
                    pictures.append(pixels)
                else:
                    pictures.append(images.preprocess(pixels))
            except ImageFormatError as error:
                raise DataFormatError(str(error)) from error
            labels.append(label)
    if not pictures:
        raise DataFormatError(f"{folder}: its label folders hold no images: expected {folder / '<label>' / '*.png'}")
    # If all images are 28×28, they stay as they are; if only some are, those are preprocessed like the rest.
    if len(small) < len(pictures):
        for index in small:
            pictures[index] = images.preprocess(pictures[index])
    return RawSplit(images=np.stack(pictures), labels=np.array(labels, dtype=np.int64), where=str(folder))


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".;: ")
