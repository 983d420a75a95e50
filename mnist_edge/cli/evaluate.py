"""The command `evaluate`. It needs no torch if the model is an ``.onnx`` file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.decoding import plain
from mnist_edge.cli.data import Data, data_of, load_data, load_recorded
from mnist_edge.cli.display import note_if_model_shadowed, print_json, print_table
from mnist_edge.cli.options import DEFAULT_BUNDLE, Form, Json
from mnist_edge.cli.output import say
from mnist_edge.errors import DataFormatError, UsageError

if TYPE_CHECKING:
    from mnist_edge.bundle.records import Data as TrainingData
    from mnist_edge.bundle.records import DataOrigin
    from mnist_edge.data.datasets import Dataset


def evaluate(
    target: Annotated[
        str, typer.Argument(help="A bundle, its model.pth, an exported file or the name of a pretrained model.")
    ] = DEFAULT_BUNDLE,
    form: Form = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Evaluate a model on a test set.

    Prints loss, accuracy, calibration error, the --min-probability that reaches a target accuracy, precision and recall
    per class, and the confusion matrix. In a bundle it evaluates the file that predict uses, or model.pth before the
    export.
    """
    from mnist_edge.export import forms

    note_if_model_shadowed(target)
    file = forms.file_of(target, form)
    dataset = _test_data_of(file, data)
    result = forms.evaluate(file, dataset.labels, dataset.test)
    if json:
        print_json({"model": str(file), "data": dataset.name, **plain(result)})
        return
    say(
        f"{file} on {dataset.name}: loss {result.loss:.4f}, accuracy {result.correct}/{result.total} "
        f"({100 * result.accuracy:.2f} %)"
    )
    say(f"calibration error {100 * result.calibration_error:.2f} % at temperature {result.temperature:g}\n")
    print_table(
        ("target accuracy", "images answered", "--min-probability"),
        [
            (f"{100 * row.accuracy:.1f} %", f"{100 * row.share:.2f} %", f"{row.min_probability:.4f}")
            for row in result.coverage
        ],
    )
    say()
    print_table(
        ("class", "images", "precision", "recall", "F1"),
        [
            (label, str(row.support), *(f"{100 * share:.2f} %" for share in (row.precision, row.recall, row.f1)))
            for label, row in result.per_class.items()
        ],
    )
    say("\nconfusion matrix: one row per true class, one column per predicted class")
    rows = zip(result.labels, result.confusion, strict=True)
    print_table(("", *result.labels), [(label, *map(str, counts)) for label, counts in rows])


def _test_data_of(file: Path, wanted: str | None) -> "Dataset":
    from mnist_edge.data import datasets, download
    from mnist_edge.runtime.model import open_model

    if wanted is not None:
        return load_data(wanted)
    recorded: TrainingData | DataOrigin
    if (file.parent / layout.TRAINING).is_file():
        dataset, recorded = data_of(file.parent, None), reading.read_training(file.parent).data
    elif file.suffix == ".onnx":
        recorded = open_model(file).provenance.data
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
