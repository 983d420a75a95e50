"""Folders of pictures, one folder per label: ``<label>/*.png``, optionally below ``train`` and ``test``."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from mnist_edge import images
from mnist_edge.contract import HEIGHT, WIDTH
from mnist_edge.data.idx_folders import is_passed_over
from mnist_edge.data.raw import RawData, RawSplit
from mnist_edge.errors import DataFormatError, ImageFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SPLIT_FOLDERS: Final = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}
"""What the parts of an image folder may be called, in the order of preference."""


def read(folder: Path) -> RawData:
    """The data in a folder of label folders.

    Raises:
        DataFormatError: a label without images, or an image that cannot be read.
    """
    parts = {
        split: next((folder / name for name in names if (folder / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    train, test = parts["train"] or folder, parts["test"] if parts["train"] else None
    names = label_folders(train)
    if test and (extra := set(label_folders(test)) - set(names)):
        raise DataFormatError(f"{test}: label {min(extra)!r} has no folder under {train}: add one, or remove this")
    split, notes = _read_images(train, names)
    if empty := set(range(len(names))) - set(split.labels.tolist()):
        raise DataFormatError(f"{train / names[min(empty)]}: holds no images: expected {train / '<label>' / '*.png'}")
    if not test:
        return RawData(split, None, names, notes)
    test_split, test_notes = _read_images(test, names)
    return RawData(split, test_split, names, notes + test_notes)


def label_folders(folder: Path) -> tuple[str, ...]:
    """The names of the label folders: numbers in their order, then words in theirs."""
    names = [child.name for child in folder.iterdir() if child.is_dir() and not is_passed_over(child.name)]
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


class _Picture(NamedTuple):
    """A picture of a data set, 28×28, and what it was."""

    pixels: "NDArray[np.uint8]"
    label: int
    is_small: bool
    """Whether it was 28×28 from the beginning and has not been preprocessed."""
    is_coloured: bool


def _read_images(folder: Path, names: tuple[str, ...]) -> tuple[RawSplit, tuple[str, ...]]:
    pictures = list(_pictures(folder, names))
    if not pictures:
        raise DataFormatError(f"{folder}: its label folders hold no images: expected {folder / '<label>' / '*.png'}")
    notes: tuple[str, ...] = ()
    if coloured := sum(picture.is_coloured for picture in pictures):
        notes += (f"{folder}: {coloured:,} of {len(pictures):,} pictures are in colour: they were turned to grey",)
    # A set of 28×28 pictures was preprocessed by someone, in a way of its own. Among others they are treated alike.
    large = sum(not picture.is_small for picture in pictures)
    if large:
        done = "all were cropped to their ink and scaled as MNIST's digits are"
        notes += (f"{folder}: {large:,} of {len(pictures):,} pictures are not {HEIGHT}×{WIDTH}: {done}",)
    pixels = np.stack([images.preprocess(each.pixels) if large and each.is_small else each.pixels for each in pictures])
    labels = np.array([picture.label for picture in pictures], dtype=np.int64)
    return RawSplit(images=pixels, labels=labels, where=str(folder)), notes


def _pictures(folder: Path, names: tuple[str, ...]) -> "Iterator[_Picture]":
    for label, name in enumerate(names):
        if not (folder / name).is_dir():  # a class without test images
            continue
        for path in map(Path, images.find(folder / name)):
            if path.parent != folder / name:
                raise DataFormatError(f"{path}: lies deeper than {folder / '<label>' / '*.png'}: move the images up")
            try:
                picture = images.decode_scaled(path)
                is_small = picture.pixels.shape == (HEIGHT, WIDTH)
                pixels = picture.pixels if is_small else images.preprocess(picture.pixels)
            except ImageFormatError as error:
                raise DataFormatError(str(error)) from error
            yield _Picture(pixels, label, is_small, picture.coloured)
