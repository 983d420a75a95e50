"""The command `evaluate`. It needs no torch if the model is an ``.onnx`` file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.records import TrainingRecord
from mnist_edge.cli import completion, folders
from mnist_edge.cli.data import Data, check_data, data_option, test_data_of
from mnist_edge.cli.display import (
    as_argument,
    detail_model,
    note_if_model_shadowed,
    print_json,
    print_table,
    table_width,
)
from mnist_edge.cli.failures import NOTHING_CHANGED, if_interrupted
from mnist_edge.cli.options import DEFAULT_BUNDLE, Form, Json, Untrusted
from mnist_edge.cli.output import WIDTH, counted, note, say, suggest
from mnist_edge.cli.progress import StepProgress
from mnist_edge.errors import UsageError
from mnist_edge.extras import require
from mnist_edge.report import words

if TYPE_CHECKING:
    from mnist_edge.data.datasets import Dataset
    from mnist_edge.evaluation.evaluation import Evaluation
    from mnist_edge.export.forms import Answers


CONFUSIONS: Final = 20
"""How many pairs of classes are listed where the confusion matrix is too wide."""


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.models,
            help="A bundle, its model.pth, an exported file or the name of a pretrained model.",
        ),
    ] = DEFAULT_BUNDLE,
    form: Form = None,
    untrusted: Untrusted = False,
    data: Data = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save plots as PNG files in DIR: confusion matrix, reliability, coverage and "
            "learning curves. Needs matplotlib.",
        ),
    ] = None,
    mistakes: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save the images it gets wrong as PNG files in DIR, in place of those of an earlier run.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Evaluate a model on a test set.

    Prints loss, accuracy, calibration error, the --min-probability that reaches a target accuracy, precision and recall
    per class, and the confusion matrix. In a bundle it evaluates the file that predict uses, or model.pth before the
    export.
    """
    from mnist_edge.export import forms

    note_if_model_shadowed(target)
    file = forms.file_of(target, form, untrusted=untrusted)
    if plot is not None:
        require("matplotlib", extra="plot")
        folders.made(plot, "--plot")
    if mistakes is not None:
        _require_no_others(folders.made(mistakes, "--mistakes"))
    if data is not None:
        check_data(data)
    has_record = plot is not None and (file.parent / layout.TRAINING).is_file()
    found = reading.read_training(file.parent) if has_record else None
    record = found if isinstance(found, TrainingRecord) else None
    note(f"evaluating {file}")
    detail_model(target, form, file.name)
    dataset = test_data_of(file, data)
    with StepProgress() as progress, progress.doing(f"running {file.name}"):
        answers = forms.answers(file, dataset.labels, dataset.test, untrusted=untrusted)
    result = answers.evaluate(dataset.test.labels)
    saved: dict[str, object] = {}
    written = [str(folder) for folder in (plot, mistakes) if folder is not None]
    with if_interrupted(lambda: f"{' and '.join(written)} may lack files" if written else NOTHING_CHANGED):
        if plot is not None:
            saved["plots"] = _save_plots(file, answers, result, dataset, record, plot)
        if mistakes is not None:
            saved["mistakes"] = _save_mistakes(file, answers, dataset, mistakes)
        if json:
            print_json({"model": str(file), "data": dataset.name, **plain(result), **saved})
            return
        say(f"{file} on {dataset.name}")
        _print_evaluation(result)
    if mistakes is None and result.correct < result.total:
        named = [*(("--format", form) if form else ()), *(("--untrusted",) if untrusted else ())]
        options = [*named, *data_option(data)]
        suggest("evaluate", as_argument(target), *options, "--mistakes", Path("mistakes"))


def _print_evaluation(result: "Evaluation") -> None:
    say(f"loss {result.loss:.4f}, accuracy {result.correct}/{result.total} ({100 * result.accuracy:.2f} %)")
    say(f"calibration error {100 * result.calibration_error:.2f} % at temperature {result.temperature:g}\n")
    print_table(
        ("target accuracy", "images answered", "--min-probability"),
        [
            (f"{100 * row.accuracy:.1f} %", f"{100 * row.share:.2f} %", words.limit(row.min_probability))
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
    _print_confusion(result)


def _print_confusion(result: "Evaluation") -> None:
    header = ("", *result.labels)
    rows = [(label, *map(str, counts)) for label, counts in zip(result.labels, result.confusion, strict=True)]
    if table_width([header, *rows]) <= WIDTH:
        say("\nconfusion matrix: one row per true class, one column per predicted class")
        print_table(header, rows)
        return
    confused = sorted(
        (-count, truth, answer)
        for truth, counts in zip(result.labels, result.confusion, strict=True)
        for answer, count in zip(result.labels, counts, strict=True)
        if count and truth != answer
    )
    if not confused:
        say("\nno image was taken for one of another class")
        return
    say("\nmost frequent confusions; --json prints the whole matrix")
    print_table(
        ("true class", "predicted class", "images"),
        [(truth, answer, str(-count)) for count, truth, answer in confused[:CONFUSIONS]],
    )


def _require_no_others(folder: Path) -> None:
    """Raise UsageError if a folder holds anything but what ``--mistakes`` writes; what is hidden does not count."""
    from mnist_edge.report.sheets import is_written_here

    for path in folder.iterdir():
        if not path.name.startswith(".") and (path.is_dir() or not is_written_here(path.name)):
            raise UsageError(f"{folder}: is not empty, it holds {path.name}: give --mistakes a new folder")


def _save_plots(
    file: Path,
    answers: "Answers",
    result: "Evaluation",
    dataset: "Dataset",
    record: "TrainingRecord | None",
    folder: Path,
) -> list[str]:
    """Save the plots, say so, and return the paths."""
    import numpy as np

    from mnist_edge.evaluation import metrics
    from mnist_edge.report import plots

    truth, name = dataset.test.labels, _name_of(file)
    heading = f"{name} on {dataset.name}: {result.correct:,} of {result.total:,} right ({100 * result.accuracy:.2f} %)"
    error = f"{name} on {dataset.name}: calibration error {100 * result.calibration_error:.2f} %"
    figures = {
        "confusion": plots.confusion(np.array(result.confusion), result.labels, heading),
        "reliability": plots.reliability(metrics.reliability(answers.probabilities, truth), error),
        "coverage": plots.coverage(metrics.coverage_curve(answers.probabilities, truth), result.coverage, heading),
    }
    if record:
        heading = f"{record.architecture} trained on {record.data.name}, {counted(len(record.epochs), 'epoch')}"
        figures["learning-curves"] = plots.learning_curves(record.epochs, heading)
    else:
        note(f"no learning curves: {file.parent} holds no record of a training")
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        plots.save(figure, path)
    note(f"saved {counted(len(paths), 'plot')} in {folder}: {', '.join(path.name for path in paths)}")
    return [str(path) for path in paths]


def _save_mistakes(file: Path, answers: "Answers", dataset: "Dataset", folder: Path) -> dict[str, object]:
    """Save the images that are answered wrongly, say so, and return what ``--json`` tells about them."""
    from mnist_edge.evaluation.mistakes import mistakes
    from mnist_edge.report import sheets

    labels, images = dataset.labels, dataset.test.images
    found = mistakes(answers.probabilities, dataset.test.labels)
    heading = f"{_name_of(file)} on {dataset.name}: {len(found):,} of {counted(len(images), 'image')} wrong"
    for path in folder.iterdir():  # those of another model would mix with these
        if sheets.is_written_here(path.name):
            path.unlink()
    each = sheets.save_each(found, images, labels, folder)
    whole = sheets.save_sheets(found, images, labels, folder, heading)
    if found:
        note(f"saved {counted(len(each), 'wrong image')} and {counted(len(whole), 'contact sheet')} in {folder}")
    else:
        note(f"no mistakes: nothing to save in {folder}")
    return {
        "sheets": [str(path) for path in whole],
        "images": [
            {
                "index": mistake.index,
                "label": labels[mistake.truth],
                "answer": labels[mistake.answer],
                "probability": mistake.probability,
                "path": str(path),
            }
            for mistake, path in zip(found, each, strict=True)
        ],
    }


def _name_of(file: Path) -> str:
    """A short name for headings: the bundle and the file."""
    return "/".join(file.absolute().parts[-2:])
