"""Load labelled 28×28 images, by name or path, as arrays in memory.

`load` takes a name or a path; the default is ``$MNIST_EDGE_DATA`` if set, else ``mnist``. A name is looked up in
``artifacts/datasets`` of the checkout, then in the user's cache. If it is in neither, the data set is downloaded into
the cache (`mnist_edge.data.download`). Canonical MNIST is recognised by the SHA-256 of its decompressed files, wherever
they came from. Works without torch.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, LONGEST_LABEL, MAX_CLASSES, WIDTH, Preprocessing
from mnist_edge.data import download, idx, sources
from mnist_edge.data.idx_folders import LABELS_FILE
from mnist_edge.data.raw import RawData, RawSplit
from mnist_edge.errors import DataFormatError, DataNotFoundError, MnistEdgeError
from mnist_edge.images.canonical import is_preprocessed
from mnist_edge.names import did_you_mean, is_unicode

if TYPE_CHECKING:
    from mnist_edge.data.fetching import OnBytes

DEFAULT: Final = "mnist"
ENVIRONMENT_VARIABLE: Final = "MNIST_EDGE_DATA"

CHECKOUT_DATASETS: Final = Path(__file__).resolve().parents[2] / "artifacts" / "datasets"
"""Exists only when the package runs from its repository."""

FRAMED_SHARE: Final = 0.9
"""A data set counts as preprocessed like MNIST if at least this share of its images is; in MNIST itself 99.99 % are."""

MIN_SPLIT: Final = 500
"""Minimum size of the calibration split: fewer images give no reliable temperature, and a small training set needs
all of its images."""

RUNS: Final = 5
"""Maximum number of contiguous runs set aside per class; more runs would put more writers' images on both sides."""

TEST_SHARE: Final = 7
"""One image in this many goes to the test set if a source has none: MNIST's own proportion."""


@dataclass(frozen=True)
class Split:
    """Images and their classes."""

    images: NDArray[np.uint8]
    """[n, 28, 28], 0 = background, 255 = full ink."""

    labels: NDArray[np.uint8]
    """[n], indices into the data set's `labels`."""

    def __len__(self) -> int:
        return len(self.labels)

    def hold_out(self, every: int) -> tuple["Split", "Split"]:
        """Hold out about one image in `every` for calibration, in contiguous runs: few writers are then in both parts.

        Holding out every twelfth image instead puts the same writers in both, and `cnn` then makes half as many errors
        on the calibration split.

        Args:
            every: 0 to hold out nothing.

        Returns:
            The images to train on, and the calibration split, which is empty if it would be smaller than `MIN_SPLIT`.
        """
        enough = every and len(self) // every >= MIN_SPLIT
        aside = _set_aside(self.labels, every) if enough else np.zeros(len(self), dtype=bool)
        return Split(self.images[~aside], self.labels[~aside]), Split(self.images[aside], self.labels[aside])


@dataclass(frozen=True)
class Dataset:
    """A training and a test split over the same classes."""

    name: str
    """The name that was asked for, or the last component of the path."""

    source: str
    """What to pass to `load` to get the same data again: the name, or the absolute path."""

    labels: tuple[str, ...]
    """The name of each class."""

    train: Split
    test: Split

    notes: tuple[str, ...] = ()
    """What was done to the images as the files hold them, a line each."""

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How the training images were preprocessed, detected from their pixels."""
        return Preprocessing.MNIST if is_preprocessed(self.train.images).mean() >= FRAMED_SHARE else Preprocessing.WHOLE

    @property
    def is_mnist(self) -> bool:
        """Whether the training images and labels are MNIST's own, whatever they are called here."""
        parts = ("train-images", "train-labels")
        return all(self.digests[part] == download.MNIST_DIGESTS[part] for part in parts)

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each part in uncompressed IDX form; for canonical MNIST, the digests of its decompressed files."""
        return {
            "train-images": idx.digest(self.train.images),
            "train-labels": idx.digest(self.train.labels),
            "test-images": idx.digest(self.test.images),
            "test-labels": idx.digest(self.test.labels),
        }


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    on_bytes: "OnBytes" = lambda url, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Dataset:
    """Find, read and check a data set.

    Args:
        source: one of `mnist_edge.data.download.NAMES`, or the path of an IDX folder (MNIST's four files, plain or
            gzipped, optionally with ``labels.txt``), an image folder (``<label>/*.png``, optionally under ``train`` and
            ``test``), a Kaggle CSV file, or a folder with ``train.csv``.
        on_bytes: called while a file is downloaded, with its URL, the bytes received so far, and the total if known.
        on_wait: called if another process or thread is downloading the data set; then that one is waited for.

    Raises:
        DataNotFoundError: there is no data set at the path, it cannot be read, or it cannot be downloaded.
        DataFormatError: the data are malformed, or ``mnist`` is not canonical MNIST.
    """
    wanted = _wanted(source)
    with _mapping_errors(wanted):
        return _load(wanted, on_bytes, on_wait)


def check_exists(source: str | os.PathLike[str] | None = None) -> None:
    """Raise DataNotFoundError if `load` would find nothing at the path. Call this before slow work that needs data."""
    wanted = _wanted(source)
    if wanted not in download.NAMES:
        with _mapping_errors(wanted):
            _existing(wanted)


def _wanted(source: str | os.PathLike[str] | None) -> str:
    return os.fspath(source) if source is not None else os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT


@contextlib.contextmanager
def _mapping_errors(wanted: str) -> Iterator[None]:
    try:
        yield
    except MnistEdgeError:
        raise
    except OSError as error:
        raise DataNotFoundError(f"{wanted}: cannot be read ({error.strerror or error}): check the path") from error
    except ValueError as error:  # NUL
        raise DataNotFoundError(f"{wanted!a:.200}: not a path ({error}): check it") from error


def _load(wanted: str, on_bytes: "OnBytes", on_wait: Callable[[], None]) -> Dataset:
    if wanted in download.NAMES:
        folder = folder_of(wanted) or download.ensure(wanted, on_bytes, on_wait)
        dataset = _assemble(wanted, wanted, sources.read(folder))
        if wanted == DEFAULT:
            _require_canonical(dataset, folder)
        return dataset
    path = _existing(wanted)
    return _assemble(path.name, str(path), sources.read(path))


def _existing(wanted: str) -> Path:
    try:
        path = Path(wanted).expanduser().resolve()
    except RuntimeError as error:
        raise DataNotFoundError(f"{wanted}: {error}: write the path out") from error
    if not is_unicode(str(path)):  # a record could not name it
        raise DataNotFoundError(f"{path}: its name is not UTF-8: rename it")
    if not path.exists():
        raise DataNotFoundError(
            f"{wanted}: no such file or folder, nor one of the known names ({', '.join(download.NAMES)}): "
            f"{did_you_mean(wanted, download.NAMES, 'give an IDX folder, an image folder or a CSV file')}"
        )
    return path


def folder_of(name: str) -> Path | None:
    """The folder that holds a named data set: in the checkout, else in the cache; None before it is downloaded."""
    places = CHECKOUT_DATASETS / name, download.cache_folder(name)
    return next((place for place in places if place.is_dir()), None)


def _require_canonical(dataset: Dataset, folder: Path) -> None:
    for part, digest in dataset.digests.items():
        if digest != (canonical := download.MNIST_DIGESTS[part]):
            raise DataFormatError(
                f"{folder}: the {part} have SHA-256 {digest[:12]}… instead of {canonical[:12]}…, "
                "not the canonical MNIST: delete the folder to download it again"
            )


def _assemble(name: str, source: str, data: RawData) -> Dataset:
    for raw in (data.train, data.test):
        if raw is not None:
            _check(raw, data.names)
    values = np.unique(data.train.labels)
    if len(values) < 2:
        raise DataFormatError(f"{data.train.where}: all images have one label: a classifier needs two classes or more")
    if len(values) > MAX_CLASSES:
        raise DataFormatError(f"{data.train.where}: {len(values)} classes: no more than {MAX_CLASSES} are supported")
    train, test = (data.train, data.test) if data.test is not None else _split_off_test(data.train, data.names)
    if unknown := set(test.labels.tolist()) - set(values.tolist()):
        raise DataFormatError(f"{test.where}: label {min(unknown)} does not occur in the training set")
    notes = data.notes
    if data.test is None:
        notes += (f"has no test set: {len(test.labels):,} of {len(data.train.labels):,} images were set aside for it",)
    return Dataset(
        name=name,
        source=source,
        labels=tuple(data.names[value] if data.names else str(value) for value in values),
        train=_number(train, values),
        test=_number(test, values),
        notes=notes,
    )


def _check(raw: RawSplit, names: tuple[str, ...] | None) -> None:
    if len(raw.images) != len(raw.labels):
        raise DataFormatError(
            f"{raw.where}: {len(raw.labels):,} labels for {len(raw.images):,} images: one of the two is cut short, "
            "or they belong to different data sets"
        )
    if len(raw.labels) == 0:
        raise DataFormatError(f"{raw.where}: the data set is empty")
    if raw.images.shape[1:] != (HEIGHT, WIDTH):
        height, width = raw.images.shape[1:]
        raise DataFormatError(f"{raw.where}: images of {height}×{width} pixels: scale them to {HEIGHT}×{WIDTH}")
    for name in names or ():
        if not name.isprintable():
            raise DataFormatError(f"{raw.where}: the label name {name!a:.80} cannot be printed: rename it")
        if len(name) > LONGEST_LABEL:
            raise DataFormatError(
                f"{raw.where}: the label name {name:.40}… has more than {LONGEST_LABEL} characters: shorten it"
            )
    if names is not None and raw.labels.max() >= len(names):
        raise DataFormatError(
            f"{raw.where}: label {raw.labels.max()} is not within 0…{len(names) - 1}: "
            f"correct it, or name every class in {LABELS_FILE}"
        )


def _split_off_test(raw: RawSplit, names: tuple[str, ...] | None) -> tuple[RawSplit, RawSplit]:
    values, counts = np.unique(raw.labels, return_counts=True)
    if counts.min() < 2:
        value = values[counts.argmin()]
        label = names[value] if names else value
        raise DataFormatError(f"{raw.where}: label {label} has a single image: add another to test on")
    aside = _set_aside(raw.labels, TEST_SHARE)
    train, test = (RawSplit(raw.images[mask], raw.labels[mask], raw.where) for mask in (~aside, aside))
    return train, test


def _set_aside(labels: NDArray[np.integer], every: int) -> NDArray[np.bool_]:
    """Select about one image in `every` of each class, in at most `RUNS` contiguous runs: bool [n].

    At least one image is selected of each class with two or more. Related images are often neighbours in a data set
    (MNIST's training images are ordered by writer), and runs keep them on the same side.
    """
    aside = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        runs = min(RUNS, max(1, len(members) // every))
        parts = np.arange(len(members)) * runs * every // len(members)
        chosen = members[parts % every == every - 1]
        aside[chosen if len(chosen) or len(members) == 1 else members[-1]] = True
    return aside


def _number(raw: RawSplit, values: NDArray[np.int64]) -> Split:
    return Split(images=raw.images, labels=np.searchsorted(values, raw.labels).astype(np.uint8))
