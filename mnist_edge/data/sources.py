"""The forms in which people keep a labelled set of 28×28 images, told apart: IDX files, image folders, CSV files.

`mnist_edge.data.datasets` checks and joins what `read` finds.
"""

from pathlib import Path

from mnist_edge.data import csv_files, emnist, idx_folders, image_folders
from mnist_edge.data.raw import RawData
from mnist_edge.errors import DataFormatError, DataNotFoundError


def read(path: Path) -> RawData:
    """Read the data at a path in whichever of the forms it is.

    Raises:
        DataNotFoundError: nothing there that looks like a data set.
        OSError: it cannot be read.
        DataFormatError: a file is malformed.
    """
    if not path.is_dir():
        if path.suffix.lower() != ".csv" or not path.is_file():
            raise DataFormatError(f"{path}: not a .csv file: give an IDX folder, an image folder or a CSV file")
        return _from_csv(path, None)
    if files := idx_folders.find(path):
        return idx_folders.read(path, files)
    if train := _csv_of(path, "train"):
        return _from_csv(train, _csv_of(path, "test"))
    if image_folders.label_folders(path):
        return image_folders.read(path)
    raise DataNotFoundError(
        f"{path}: holds no data set: expected {idx_folders.IDX_FILES['train'][0]} and so on, train.csv, or one "
        "folder per label: rename what is there"
    )


def _csv_of(folder: Path, split: str) -> Path | None:
    """A folder's ``train.csv`` or ``test.csv``, or the only file whose name has that word in it."""
    if (exact := folder / f"{split}.csv").is_file():
        return exact
    found = [path for path in folder.glob("*.csv") if split in path.name.lower() and path.is_file()]
    if len(found) > 1:
        names = ", ".join(sorted(path.name for path in found))
        raise DataFormatError(f"{folder}: holds several files for {split} ({names}): name the one to take {split}.csv")
    return found[0] if found else None


def _from_csv(train: Path, test: Path | None) -> RawData:
    split = csv_files.read(train)
    if split is None:
        raise DataFormatError(f"{train}: has no column of labels: the file to train on needs one, called label")
    names = emnist.classes(train.name)
    notes = (emnist.STORED_BY_COLUMN,) if names else ()
    return RawData(train=split, test=csv_files.read(test) if test else None, names=names, notes=notes)
