"""Folders of pictures, one folder per label: ``<label>/*.png``, optionally below ``train`` and ``test``."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mnist_edge import images
from mnist_edge.contract import HEIGHT, WIDTH
from mnist_edge.data.idx_folders import is_passed_over
from mnist_edge.data.raw import RawData, RawSplit
from mnist_edge.errors import DataFormatError, ImageFormatError

if TYPE_CHECKING:
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


def _read_images(folder: Path, names: tuple[str, ...]) -> tuple[RawSplit, tuple[str, ...]]:
    pictures: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    small: list[int] = []
    for label, name in enumerate(names):
        if not (folder / name).is_dir():  # a class without test images
            continue
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
    notes: tuple[str, ...] = ()
    # A set of 28×28 pictures was preprocessed by someone, in a way of its own. Among others they are treated alike.
    if len(small) < len(pictures):
        for index in small:
            pictures[index] = images.preprocess(pictures[index])
        others = f"{len(pictures) - len(small):,} of {len(pictures):,} pictures"
        done = "all were turned to grey, cropped to their ink and scaled as MNIST's digits are"
        notes = (f"{folder}: {others} are not {HEIGHT}×{WIDTH}: {done}",)
    return RawSplit(images=np.stack(pictures), labels=np.array(labels, dtype=np.int64), where=str(folder)), notes
