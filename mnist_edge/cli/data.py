"""Loading data sets for the commands, with notes and progress on stderr.

Heavy modules are imported inside the functions.
"""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.records import ImportRecord
from mnist_edge.cli import completion
from mnist_edge.cli.display import note_if_shadowed
from mnist_edge.cli.output import counted, detail, note
from mnist_edge.cli.progress import StepProgress
from mnist_edge.errors import DataFormatError, DataNotFoundError, UsageError

if TYPE_CHECKING:
    from mnist_edge.bundle.records import Data as TrainingData
    from mnist_edge.bundle.records import DataOrigin
    from mnist_edge.data.datasets import Dataset

WAITING: Final = "another process is downloading these data: waiting for it"

Data = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.data,
        help="Data set: a name such as mnist, a folder of IDX files or images, or a CSV file.  "
        "[default: the data the model was trained on]",
    ),
]


def check_data(wanted: str | None) -> None:
    """Raise DataNotFoundError if there is nothing to load, before slow work that will load it."""
    from mnist_edge.data import datasets

    datasets.check_exists(wanted)


def data_option(wanted: str | None) -> list[str | Path]:
    """The same --data for the command that is suggested next."""
    from mnist_edge.data import download

    if wanted is None:
        return []
    return ["--data", wanted if wanted in download.NAMES else Path(wanted)]


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

    with StepProgress() as progress, progress.doing("loading data"):
        dataset = datasets.load(source, on_bytes=progress.fetching, on_wait=lambda: note(WAITING))
    place = datasets.folder_of(dataset.name) if dataset.source == dataset.name else dataset.source
    images = f"{len(dataset.train):,} training and {counted(len(dataset.test), 'test image')}"
    detail(f"data: {dataset.name} from {place}, {images}, {counted(len(dataset.labels), 'class')}")
    return dataset


def data_of(folder: Path, wanted: str | None) -> "Dataset":
    """Load the training data of a bundle: `wanted` if the user named it, else the source in the training record."""
    record = reading.read_training(folder)
    dataset = _load_again(record.data.source) if wanted is None else load_data(wanted)
    is_renamed = isinstance(record, ImportRecord) and len(record.labels) == len(dataset.labels)
    return dataclasses.replace(dataset, labels=record.labels) if is_renamed else dataset


def test_data_of(file: Path, wanted: str | None) -> "Dataset":
    """Load the data to evaluate a model file on: `wanted` if the user named it, else what the model was trained on.

    Raises:
        UsageError: the user must name it.
        DataError: it cannot be loaded, or is not what the model was trained on.
    """
    from mnist_edge.data import datasets, download
    from mnist_edge.runtime.contents import read_contents

    if wanted is not None:
        return load_data(wanted)
    recorded: TrainingData | DataOrigin
    if (file.parent / layout.TRAINING).is_file():
        dataset, recorded = data_of(file.parent, None), reading.read_training(file.parent).data
    elif file.suffix == ".onnx":
        recorded = read_contents(reading.read_file(file, "give a bundle or an .onnx file"), str(file)).provenance.data
        name = recorded.name
        if name not in download.NAMES:
            raise UsageError(f"{file}: was trained on {name}, which is not a known data set: give its path with --data")
        dataset = load_data(None) if name == datasets.DEFAULT else load_recorded(name)
    else:
        return load_data(None)
    if dataset.digests != recorded.sha256:
        raise DataFormatError(
            f"{dataset.source}: not the data that {file} was trained on: give the data to evaluate on with --data"
        )
    return dataset


def _load_again(source: str) -> "Dataset":
    try:
        return load_recorded(source)
    except DataNotFoundError as error:
        raise DataNotFoundError(f"{error}; if the training data have moved, give their new path with --data") from error
