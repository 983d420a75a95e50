"""CSV files of 28×28 images: a label and 784 pixels a line, as Kaggle and others distribute MNIST.

With a header or without; the label first or last; separated by commas, semicolons or tabs; whole numbers, also written
as ``0.0``.
"""

import codecs
import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, PIXELS, WHITE, WIDTH
from mnist_edge.data import emnist
from mnist_edge.data.raw import RawSplit
from mnist_edge.errors import DataFormatError

COLUMNS: Final = 1 + PIXELS

LABEL_NAMES: Final = ("label", "labels", "class", "target", "y")
"""What a header may call the column of labels, in any case."""

LONGEST: Final = 1 << 16
"""Bytes of a line: 785 numbers of 20 digits take a quarter of it."""

TOGETHER: Final = 1000
"""Lines that are parsed at once: as floats they take 6 MB, all of MNIST's would take 440."""

_BLOCK: Final = 1 << 20

_PLACE: Final = re.compile(r"pixel(\d+)|(\d+)x(\d+)", re.IGNORECASE)
"""What headers call pixels: by number, or by row and column."""

MAX_BLANK: Final = 1000
"""Blank lines in a row."""

Lines = Iterator[tuple[int, str]]
"""Numbers, counted from 1, and contents."""


class _Table(NamedTuple):
    """A file whose first line has been looked at."""

    columns: int
    """`COLUMNS` with labels, `PIXELS` without."""

    delimiter: str

    has_header: bool

    position: int | None
    """The column of labels, if a header names one."""

    lines: Lines
    """All but the header."""


def read(path: Path) -> RawSplit | None:
    """The images and labels of a file; None where it holds pixels only, as Kaggle's test set does.

    Raises:
        DataFormatError: it is something else.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        table = _table(file, path)
        if table.columns == PIXELS:
            return None
        values = np.concatenate(list(_values(table, path)))
    position = _position(table, values)
    return RawSplit(
        images=_images(np.delete(values, position, axis=1), path),
        labels=values[:, position].astype(np.int64),
        where=str(path),
    )


def read_images(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a file with or without labels, uint8 [n, 28, 28], at most `TOGETHER` at a time.

    Where no header tells, the first lines decide which column holds the labels. Raises as `read` does; errors in later
    lines are raised when they are reached.
    """
    with path.open("rb") as file:
        table = _table(file, path)
        position = None
        for values in _values(table, path):
            if table.columns == PIXELS:
                yield _images(values, path)
                continue
            position = _position(table, values) if position is None else position
            yield _images(np.delete(values, position, axis=1), path)


def count_images(path: Path) -> int:
    """How many images a file holds if no line is blank. Only the first line is checked; it raises as `read` does."""
    with path.open("rb") as file:
        table = _table(file, path)
        file.seek(0)
        count, last = -int(table.has_header), b"\n"
        while block := file.read(_BLOCK):
            count, last = count + block.count(b"\n"), block
        return count + (not last.endswith(b"\n"))


def _table(file: BinaryIO, path: Path) -> _Table:
    lines = ((number, line) for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), start=1))
    number, first = next(lines, (1, b""))
    if not first:
        raise DataFormatError(f"{path}: is empty: export or fetch it again")
    header = _decoded(first, path, number, "utf-8-sig")
    delimiter = max(",;\t", key=header.count)
    try:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:  # its reader takes no carriage return within a line
        raise DataFormatError(
            f"{path}: its first line holds a carriage return: end lines with a line feed, as programs of today do"
        ) from error
    if len(cells) not in (PIXELS, COLUMNS):
        raise DataFormatError(
            f"{path}: its first line has {len(cells)} columns instead of {COLUMNS}, a label and {PIXELS} pixels, or "
            "the pixels alone: arrange them so"
        )
    rest = ((number, _decoded(line, path, number, "ascii")) for number, line in lines)
    # One bad value makes no header: such a line is refused later.
    if sum(map(_is_whole, cells)) >= len(cells) / 2:
        header = _decoded(first.removeprefix(codecs.BOM_UTF8), path, number, "ascii")
        return _Table(len(cells), delimiter, False, None, itertools.chain([(number, header)], rest))
    position = _label_column(cells, path)
    if position is not None and len(cells) == PIXELS:
        raise DataFormatError(f"{path}: has {PIXELS - 1} pixels beside its labels instead of {PIXELS}: complete it")
    return _Table(len(cells), delimiter, True, position, rest)


def _position(table: _Table, values: NDArray[np.uint8]) -> int:
    """The column of labels."""
    if table.position is not None:
        return table.position
    # MNIST's first and last pixels are always background.
    return -1 if values[:, 0].min() == values[:, 0].max() and values[:, -1].min() < values[:, -1].max() else 0


def _images(pixels: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    images = pixels.reshape(-1, HEIGHT, WIDTH)
    return images.transpose(0, 2, 1) if emnist.classes(path.name) else images


def _decoded(line: bytes, path: Path, number: int, encoding: str) -> str:
    if len(line) == LONGEST:
        raise DataFormatError(f"{path}, line {number}: longer than {LONGEST:,} bytes: not a CSV file of 28×28 images")
    try:
        # Beyond ASCII there are no numbers, and numpy's parser crashes on characters beyond U+FFFF.
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "ascii":
            raise DataFormatError(f"{path}, line {number}: holds a character that no number has: correct it") from error
        raise DataFormatError(f"{path}: is not UTF-8 text: save the file as UTF-8") from error


def _is_whole(cell: str) -> bool:
    return re.fullmatch(r"\d+(\.0*)?", cell, re.ASCII) is not None


def _label_column(header: Sequence[str], path: Path) -> int | None:
    """Where a header says that the labels are; None where it does not."""
    found = [index for index, name in enumerate(header) if name.lower() in LABEL_NAMES]
    if len(found) > 1:
        raise DataFormatError(
            f"{path}: has several columns of labels ({', '.join(header[i] for i in found)}): keep one"
        )
    places = [tuple(map(int, filter(None, match.groups()))) for match in map(_PLACE.fullmatch, header) if match]
    if places != sorted(places):
        raise DataFormatError(f"{path}: its columns of pixels are not in their order: sort them row by row")
    return found[0] if found else None


def _values(table: _Table, path: Path) -> Iterator[NDArray[np.uint8]]:
    """All values, uint8 [n, columns], at most `TOGETHER` lines at a time."""
    filled = _filled(table.lines, path)
    empty = True
    while chunk := list(itertools.islice(filled, TOGETHER)):
        empty = False
        for number, line in chunk:
            if (count := line.count(table.delimiter) + 1) != table.columns:
                raise DataFormatError(
                    f"{path}, line {number}: has {count} values instead of {table.columns}: complete it"
                )
            if line.count('"') % 2:
                raise DataFormatError(f"{path}, line {number}: a quote is opened and not closed: correct it")
        values = _parsed(chunk, table, path)
        # NaN fails each of the comparisons.
        right = (values >= 0) & (values <= WHITE) & (values == np.floor(values))
        if not right.all():
            row, column = np.argwhere(~right)[0]
            raise DataFormatError(
                f"{path}, line {chunk[row][0]}: {_kind(table, column)} {values[row, column]:g} is not a whole number "
                f"within 0…{WHITE}: correct it, or scale the pixels"
            )
        yield values.astype(np.uint8)
    if empty:
        raise DataFormatError(f"{path}: holds no images below its header")


def _kind(table: _Table, column: int) -> str:
    """What a column holds."""
    if table.columns == PIXELS:
        return "pixel"
    if table.position is None:
        return "value"
    return "label" if column == table.position else "pixel"


def _filled(lines: Lines, path: Path) -> Lines:
    """The lines that are not blank."""
    blank = 0
    for number, line in lines:
        if line.strip():
            blank = 0
            yield number, line
        elif (blank := blank + 1) > MAX_BLANK:
            raise DataFormatError(f"{path}, line {number}: more than {MAX_BLANK:,} blank lines in a row: remove them")


def _parsed(chunk: Sequence[tuple[int, str]], table: _Table, path: Path) -> NDArray[np.float64]:
    try:
        return np.loadtxt([line for _, line in chunk], delimiter=table.delimiter, ndmin=2, quotechar='"', comments=None)
    except ValueError as error:
        if len(chunk) == 1:
            what = str(error).splitlines()[0].split(" to float")[0]
            label = "" if table.columns == PIXELS else "a label and "
            raise DataFormatError(
                f"{path}, line {chunk[0][0]}: {what} to a number: each line is {label}{PIXELS} whole numbers"
            ) from error
        for line in chunk:
            _parsed([line], table, path)
        raise
