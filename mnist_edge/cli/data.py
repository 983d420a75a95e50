"""Data sets as the commands take them: by the name or path that a person gave, with what is worth telling on the way.

Heavy modules are imported inside.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_edge.bundle import reading
from mnist_edge.cli.display import note, note_if_shadowed
from mnist_edge.errors import DataNotFoundError

if TYPE_CHECKING:
    from mnist_edge.data.datasets import Dataset
    from mnist_edge.data.download import OnBytes

Data = Annotated[
    str | None,
    typer.Option(
        help="Data set: a name, an IDX or image folder, a CSV file.  [default: what the model was trained on]"
    ),
]


def load_data(wanted: str | None) -> "Dataset":
    """What `mnist_edge.data.datasets.load` gives for what a person named: by --data, or in the environment."""
    from mnist_edge.data import datasets, download

    name = wanted or os.environ.get(datasets.ENVIRONMENT_VARIABLE, "")
    note_if_shadowed(name, known=name in download.NAMES)
    dataset = load_recorded(wanted)
    for line in dataset.notes:
        note(f"{dataset.name}: {line}")
    return dataset


def load_recorded(source: str | None) -> "Dataset":
    """The same for what a record names, where there is nobody to be told about the name."""
    from mnist_edge.data import datasets

    with _download_progress() as on_bytes:
        return datasets.load(source, on_bytes=on_bytes)


def data_of(folder: Path, wanted: str | None) -> "Dataset":
    """The data of a bundle's training: those that a person named, else those that its record names."""
    if wanted is not None:
        return load_data(wanted)
    recorded = reading.read_training(folder).data.source
    try:
        return load_recorded(recorded)
    except DataNotFoundError as error:
        raise DataNotFoundError(f"{error}; if the training's data have moved, name them with --data") from error


@contextlib.contextmanager
def _download_progress() -> Iterator["OnBytes"]:
    """What to call while a file is fetched: on a terminal a line that moves, elsewhere a line a file."""
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
