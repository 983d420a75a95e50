"""The data sets that torchvision knows in MNIST's form, fetched once and kept as IDX folders in the user's cache."""

import gzip
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from mnist_edge.bundle import write_atomically
from mnist_edge.contract import DIGITS
from mnist_edge.errors import DataNotFoundError
from mnist_edge.extras import require
from mnist_edge.training import idx
from mnist_edge.training.sources import IDX_FILES, LABELS_FILE

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

NAMES: Final = ("mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-digits")
"""What `datasets.load` takes as a name."""


def cache_folder(name: str) -> Path:
    """Where the data set of that name is kept once it was fetched: below the platform's folder for caches."""
    platformdirs = require("platformdirs", extra="train")
    return Path(platformdirs.user_cache_dir("mnist-edge", appauthor=False)) / "datasets" / name


def ensure(name: str) -> Path:
    """The cached IDX folder of a named data set, fetched first where it is not there yet.

    Raises:
        DataNotFoundError: it is not in the cache and cannot be fetched.
        MissingExtraError: torchvision is not installed.
    """
    folder = cache_folder(name)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            complete = Path(scratch) / name
            _fetch(name, Path(scratch) / "torchvision", complete)
            try:
                complete.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster, and its copy is as good
                    raise
    return folder


def _fetch(name: str, root: Path, folder: Path) -> None:
    datasets = require("torchvision.datasets", extra="train")
    folder.mkdir()
    for split, (images_file, labels_file) in IDX_FILES.items():
        try:
            data = _open(datasets, name, root=root, train=split == "train", download=True)
        except (RuntimeError, OSError, HTTPException, BadZipFile) as error:  # no mirror, or a broken answer
            raise DataNotFoundError(
                f"{name}: not in the cache and not to be downloaded ({str(error).splitlines()[0].rstrip(':')}): "
                "connect to the network once, or give --data with a folder that holds the four IDX files"
            ) from error
        images, labels = data.data.numpy(), data.targets.numpy()
        if labels.ndim == 2:  # QMNIST: the class comes first, then writer and origin
            labels = labels[:, 0]
        if name == "emnist-digits":  # EMNIST stores its images column by column
            images = images.transpose(0, 2, 1)
        for file, array in ((images_file, images), (labels_file, labels.astype("uint8"))):
            write_atomically(folder / f"{file}.gz", gzip.compress(idx.encode(array), compresslevel=6, mtime=0))
    write_atomically(folder / LABELS_FILE, "".join(f"{label}\n" for label in _labels(data)).encode())


def _open(datasets: Any, name: str, **options: Any) -> "MNIST":
    match name:
        case "mnist":
            data = datasets.MNIST(**options)
        case "fashion-mnist":
            data = datasets.FashionMNIST(**options)
        case "kmnist":
            data = datasets.KMNIST(**options)
        case "qmnist":
            data = datasets.QMNIST(**options)
        case "emnist-digits":
            data = datasets.EMNIST(split="digits", **options)
        case _:
            raise AssertionError(f"{name!r} is not one of {NAMES}")
    return data


def _labels(data: "MNIST") -> tuple[str, ...]:
    # MNIST and QMNIST call their classes "0 - zero" and so on.
    return DIGITS if data.classes[0].startswith("0") else tuple(data.classes)
