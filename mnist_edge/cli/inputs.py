"""The inputs of `predict` and `read`: picture files, folders, patterns, stdin, and files that hold many images.

Names are expanded lazily and in order; no picture is decoded here. Pictures are preprocessed later. The images in IDX,
NumPy and CSV files are 28×28 pixels already and go to the model unchanged.
"""

import fnmatch
import glob
import io
import math
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge import images
from mnist_edge.cli.answers import STDIN
from mnist_edge.cli.display import one_line
from mnist_edge.cli.output import note
from mnist_edge.contract import HEIGHT, PIXELS, WHITE, WIDTH
from mnist_edge.data import csv_files, gzipped, idx
from mnist_edge.errors import DataFormatError, ImageFormatError, ImageTypeError, MnistEdgeError, UsageError
from mnist_edge.images import SAMPLES
from mnist_edge.runtime.classifier import CHUNK

_SUFFIXES: Final = tuple(images.SUFFIXES)
_NPY: Final = b"\x93NUMPY"
_HEADERS: Final = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MOST_HEADER: Final = 1 << 16
"""NumPy itself accepts 10,000 bytes, but reads as many as the file declares."""

_IDX: Final = re.compile(rb"\0\0[\x08\x09\x0b-\x0e][\x01-\x04]")


@dataclass(frozen=True)
class Picture:
    """A picture of any size and format."""

    name: str
    source: str | BinaryIO | images.Page
    count: int = 1


@dataclass(frozen=True)
class Stack:
    """A file of 28×28 images, named ``file[0]``, ``file[1]`` and so on."""

    name: str
    count: int
    read: Callable[[], Iterator[NDArray[np.uint8]]]
    """The images, uint8 [n, 28, 28], not many at a time."""


@dataclass(frozen=True)
class Unusable:
    """A name that gives nothing to classify."""

    name: str
    error: MnistEdgeError
    count: int = 1


Item = Picture | Stack | Unusable

SAMPLE_DIGITS: Final = ("photo-5.jpg", "drawn-3.png")
SAMPLE_LINES: Final = ("line-314159.png",)

Tell = Callable[[str], object]
"""What takes a note for the user."""


def named(images: Sequence[str] | None, samples: Sequence[str], *, sample: bool) -> list[str]:
    """What to answer: the images that the user named, or with ``--sample`` those `samples` that ship with the package.

    Raises UsageError unless it is exactly one of them.
    """
    if sample and images:
        raise UsageError("--sample and IMAGES exclude each other: give one of them")
    if not sample and not images:
        raise UsageError("no images: name files or folders, or give --sample for pictures that come with mnist-edge")
    return [str(Path(SAMPLES, name)) for name in samples] if sample else list(images or ())


def expand(names: Iterable[str], tell: Tell = note) -> Iterator[Item]:
    """Expand names into items.

    Args:
        names: files, folders (searched for pictures), glob patterns, or `STDIN`. A name that exists is never taken as a
            pattern; in a pattern, ``**`` matches any number of folders.
        tell: called with what is worth a note.
    """
    read = False
    for name in names:
        if name == STDIN and read:
            yield Unusable(name, UsageError(f"{STDIN}: stdin holds only one picture: give it once"))
        elif name == STDIN:
            read = True
            yield Picture(name, sys.stdin.buffer)
        elif glob.has_magic(name) and not os.path.lexists(name):
            yield from _matching(name, tell)
        else:
            yield from _named(name, tell)


def single(item: Item) -> str | BinaryIO | images.Page:
    """The picture of an item. Raises the item's own error, or ImageFormatError if the item is a `Stack`."""
    match item:
        case Picture():
            return item.source
        case Unusable():
            raise item.error
        case Stack():
            raise ImageFormatError(f"{item.name}: holds images of single digits: use predict")


def explained(name: str, error: MnistEdgeError | OSError) -> MnistEdgeError:
    """The error itself, or a system error as an ImageFormatError."""
    if isinstance(error, MnistEdgeError):
        return error
    return ImageFormatError(f"{name}: cannot be read ({error.strerror}): check the path and its permissions")


def _matching(pattern: str, tell: Tell) -> Iterator[Item]:
    paths = _below(pattern) if "**" in pattern else sorted(glob.glob(pattern))  # noqa: PTH207  # also absolute ones
    for path in paths:
        if not _is_pipe(path):  # nobody named it, and nobody may be writing to it
            yield from _named(path, tell)
    if not paths:
        yield Unusable(pattern, ImageFormatError(f"{pattern}: no file matches this pattern: check it"))


def _below(pattern: str) -> list[str]:
    """The files that a pattern with ``**`` matches; it follows no links to folders, for they may form a circle."""
    parts = Path(f"{pattern}/*" if pattern.endswith("**") else pattern).parts
    start = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root, wanted = Path(*parts[:start]), parts[start:]
    hidden = any(part.startswith(".") for part in wanted)
    found = []
    pending = [(str(root), _reached({0}, wanted))]
    while pending:
        folder, places = pending.pop()
        for entry in _entries(folder):
            if entry.name.startswith(".") and not hidden:
                continue
            path = str(Path(entry.path))
            matched = {place + 1 for place in places if fnmatch.fnmatch(entry.name, wanted[place])}
            if len(wanted) in matched and images.is_file(entry):
                found.append(path)
            staying = set() if entry.is_symlink() else {place for place in places if wanted[place] == "**"}
            if (further := _reached(matched | staying, wanted)) and Path(path).is_dir():
                pending.append((path, further))
    return sorted(found)


def _reached(places: set[int], parts: Sequence[str]) -> set[int]:
    """Places in a pattern that a folder stands at: ``**`` matches no folder, too. Those behind its end are left out."""
    reached = set()
    for place in places:
        for index in range(place, len(parts)):
            reached.add(index)
            if parts[index] != "**":
                break
    return reached


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return list(listing)
    except OSError:
        return []


def _is_pipe(path: str) -> bool:
    return Path(path).is_fifo() or Path(path).is_socket()


def _named(name: str, tell: Tell) -> Iterator[Item]:
    try:
        found = Path(name).stat()
    except (OSError, ValueError):
        yield Picture(name, name)  # reported when it is opened
        return
    mode, size = found.st_mode, found.st_size
    try:
        if stat.S_ISDIR(mode):
            yield from _in_folder(name, tell)
        elif stat.S_ISREG(mode) and name.lower().endswith(images.PAGED):
            yield from _paged(name)
        elif stat.S_ISREG(mode) and size and not name.lower().endswith(_SUFFIXES):
            yield _by_content(name)
        else:  # pipes too: they can be read only once, so not by content; and what has no bytes, as files of /proc
            yield Picture(name, name)
    except (MnistEdgeError, OSError) as error:
        yield Unusable(name, explained(name, error))


def _in_folder(folder: str, tell: Tell) -> Iterator[Item]:
    failures: list[OSError] = []
    others: Counter[str] = Counter()
    empty = True
    for path in images.find(folder, failures.append, lambda path: others.update([Path(path).suffix.lower()])):
        empty = False
        if path.lower().endswith(images.PAGED):
            yield from _paged(path)
        else:
            yield Picture(path, path)
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        tell(f"note: {one_line(folder)}: passed over {kinds}: convert them to PNG or JPEG to have them read")
    for failure in failures:
        yield Unusable(failure.filename, explained(failure.filename, failure))
    if empty and not failures:
        yield Unusable(
            folder, ImageFormatError(f"{folder}: a folder without pictures: give a picture, or a folder of pictures")
        )


def _paged(name: str) -> Iterator[Item]:
    try:
        pages = images.pages(name)
    except ImageFormatError as error:
        yield Unusable(name, error)
        return
    yield from (Picture(page.name, page) for page in pages)
    if not pages:
        yield Picture(name, name)


def _by_content(name: str) -> Item:
    with Path(name).open("rb") as file:
        magic = file.read(len(_NPY))
    if magic == _NPY or name.lower().endswith(".npy"):
        return _npy(name)
    if magic.startswith(gzipped.MAGIC) or _IDX.match(magic):
        return _idx(name)
    if name.lower().endswith(".csv"):
        path = Path(name)
        return Stack(name, csv_files.count_images(path), lambda: csv_files.read_images(path))
    return Picture(name, name)


def _idx(name: str) -> Stack:
    path = Path(name)
    try:
        shape = idx.read_shape(path, dimensions=3)
    except DataFormatError:
        if _holds_labels(path):
            raise DataFormatError(f"{name}: an IDX file of labels: give the file of images") from None
        raise
    _require_images(name, shape)
    return Stack(name, shape[0], lambda: idx.read_in_chunks(path, dimensions=3, chunk=CHUNK))


def _holds_labels(path: Path) -> bool:
    try:
        idx.read_shape(path, dimensions=1)
    except DataFormatError:
        return False
    return True


def _npy(name: str) -> Stack:
    # Read, not mapped: where a file shrinks while it is mapped the process dies.
    with Path(name).open("rb") as file:
        head = io.BytesIO(file.read(_MOST_HEADER))
        size = os.fstat(file.fileno()).st_size
    try:
        shape, by_column, dtype = _read_header(head)
    except Exception as error:  # NumPy does not document what it raises on damaged files
        reason = str(error).split("\n", maxsplit=1)[0].rstrip(".")
        raise ImageFormatError(f"{name}: not a usable .npy file ({reason}): write it with numpy.save") from error
    if dtype != np.uint8:
        raise ImageTypeError(f"{name}: holds {dtype}, expected raw pixels as uint8 0…{WHITE}: convert it first")
    shape = (1, *shape) if shape == (HEIGHT, WIDTH) else shape
    shape = (shape[0], *shape[2:]) if len(shape) == 4 and shape[1] == 1 else shape
    _require_images(name, shape)
    if size - head.tell() < math.prod(shape):
        raise ImageFormatError(f"{name}: holds less than its header declares: write or copy it again")
    return Stack(name, shape[0], lambda: _npy_chunks(name, head.tell(), shape[0], by_column=by_column))


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"format version {version[0]}.{version[1]}")
    return _HEADERS[version](file)


def _npy_chunks(name: str, start: int, count: int, *, by_column: bool) -> Iterator[NDArray[np.uint8]]:
    with Path(name).open("rb") as file:
        for first in range(0, count, CHUNK):
            size = min(CHUNK, count - first)
            if by_column:  # the first pixels of all images, then those below them
                places = range(start + first, start + first + PIXELS * count, count)
                pixels = np.stack([_npy_values(file, place, size, name) for place in places], axis=1)
                yield pixels.reshape(-1, WIDTH, HEIGHT).transpose(0, 2, 1)
            else:
                yield _npy_values(file, start + first * PIXELS, size * PIXELS, name).reshape(-1, HEIGHT, WIDTH)


def _npy_values(file: BinaryIO, start: int, count: int, name: str) -> NDArray[np.uint8]:
    file.seek(start)
    values = np.frombuffer(file.read(count), np.uint8)
    if len(values) < count:
        raise ImageFormatError(f"{name}: was cut short while it was read: write or copy it again")
    return values


def _require_images(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[1:] != (HEIGHT, WIDTH):
        expected = f"(N, {HEIGHT}, {WIDTH})"
        raise ImageFormatError(f"{name}: holds an array of shape {shape}, expected {expected}: save other sizes as PNG")
    if shape[0] <= 0:
        raise ImageFormatError(f"{name}: holds no images: give another file")
