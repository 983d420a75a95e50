"""Loading data sets for the commands, with notes and download progress on stderr.

Heavy modules are imported inside the functions.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_edge.bundle import reading
from mnist_edge.cli.display import note_if_shadowed
from mnist_edge.cli.output import note
from mnist_edge.errors import DataNotFoundError

if TYPE_CHECKING:
    from mnist_edge.data.datasets import Dataset
    from mnist_edge.data.download import OnBytes

Data = Annotated[
    str | None,
    typer.Option(
        help="Data set: a name such as mnist, a folder of IDX files or images, or a CSV file.  "
        "[default: the data the model was trained on]"
    ),
]


def load_data(wanted: str | None) -> "Dataset":
    """Load the data set named by --data, else by the environment, else MNIST. Notes an ambiguous name on stderr."""
    from mnist_edge.data import datasets, download

    name = wanted or os.environ.get(datasets.ENVIRONMENT_VARIABLE, "")
    note_if_shadowed(name, known=name in download.NAMES)
    dataset = load_recorded(wanted)
    for line in dataset.notes:
        note(f"{dataset.name}: {line}")
    return dataset


def load_recorded(source: str | None) -> "Dataset":
    """Load a data set that a record names: the user did not choose the name, so there is no note about it."""
    from mnist_edge.data import datasets

    with _download_progress() as on_bytes:
        return datasets.load(source, on_bytes=on_bytes)


def data_of(folder: Path, wanted: str | None) -> "Dataset":
    """Load the training data of a bundle: `wanted` if the user named it, else the source in the training record."""
    if wanted is not None:
        return load_data(wanted)
    recorded = reading.read_training(folder).data.source
    try:
        return load_recorded(recorded)
    except DataNotFoundError as error:
        raise DataNotFoundError(f"{error}; if the training data have moved, give their new path with --data") from error


@contextlib.contextmanager
def _download_progress() -> Iterator["OnBytes"]:
    """Yield a download callback: on a terminal it redraws one line, elsewhere it prints one line per file."""
    moving = sys.stderr.isatty()
    current = ""

    def told(url: str, done: int, total: int | None) -> None:
        nonlocal current
        amount = f"{done / 1e6:.1f}" + (f" of {total / 1e6:.1f}" if total else "")
        if moving:
            print(f"\r\x1b[Kfetching {url}: {amount} MB", end="", file=sys.stderr, flush=True)
        elif url != current:
            note(f"fetching {url}")
        current = url

    try:
        yield told
    finally:
        if moving and current:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
