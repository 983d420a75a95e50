"""The commands that work on a trained model: `export`, `verify`, `evaluate`.

Heavy modules are imported inside them, so that ``--help`` is quick and a device needs no torch.

The JSON documents of `export` and `verify` are of one shape, and so are those of their failures::

    {"bundle": "…", "files": {"model.onnx": {"format": "onnx", "bytes": …, "parity": {…}, "calibration": {…}}, …}}

``parity`` is null where the comparison did not come to an end, ``calibration`` where there is none; the entry of a file
that failed has its own ``error``. On top of that `export` prints the rest of the manifest that it wrote, and a failure
says ``error`` and ``exit_code``, as that of every command does; before the first file is compared there are no
``files``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_edge import bundle
from mnist_edge.bundle import Format
from mnist_edge.cli import Failed, complain, gravest
from mnist_edge.cli.data import Data, load_data, load_recorded
from mnist_edge.cli.display import (
    StepProgress,
    note,
    note_if_model_shadowed,
    print_json,
    print_outcomes,
    print_recommendation,
    print_table,
)
from mnist_edge.cli.options import DEFAULT_BUNDLE, Form, Json
from mnist_edge.errors import DataFormatError, DataNotFoundError, MnistEdgeError, UsageError
from mnist_edge.extras import require
from mnist_edge.staging import require_free

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnist_edge.export.proof import Outcome
    from mnist_edge.training.datasets import Dataset

Bundle = Annotated[Path, typer.Argument(help="A bundle: the folder that train made.")]


def export(
    target: Bundle = Path(DEFAULT_BUNDLE),
    formats: Annotated[str, typer.Option(help="Which files to make, separated by commas.")] = ",".join(Format),
    data: Data = None,
    json: Json = False,
) -> None:
    """Convert a trained model, prove that every file answers as it does, and write the manifest.

    A file that misses its tolerance is not written.
    """
    chosen = _formats(formats)
    require_free(target)
    outcomes: list[Outcome] = []

    def report(outcome: "Outcome") -> None:
        outcomes.append(outcome)
        note(f"{outcome.format.file_name}: {'failed' if outcome.error else 'as PyTorch'}")

    training = bundle.read_training(target)
    if not training["finished"]:
        resumable = (target / bundle.CHECKPOINT).exists()
        goes_on = f"; mnist-edge train --resume --out {target}  goes on" if resumable else ""
        note(f"trained for {len(training['epochs'])} of {training['recipe']['epochs']} epochs{goes_on}")
    try:
        with StepProgress() as progress:
            with progress.preparing("PyTorch"):
                _require_exporters()
                from mnist_edge.export import pipeline
            with progress.preparing("data"):
                dataset = _data_of(target, data)
            note(f"comparing with PyTorch on {len(dataset.test):,} images")
            manifest = pipeline.export(target, dataset, chosen, report, progress.step)
    except MnistEdgeError as error:
        passed = [outcome.format for outcome in outcomes if outcome.error is None]
        if len(passed) < len(outcomes) and not json:
            print_outcomes(outcomes)
        if 0 < len(passed) < len(outcomes):
            note(f"nothing is written; for what passed:  mnist-edge export {target} --formats {','.join(passed)}")
        if not outcomes:
            raise
        complain(error)
        code = gravest([error, *(outcome.error for outcome in outcomes if outcome.error is not None)])
        raise Failed(str(error), code, _facts(target, outcomes)) from error
    if json:
        print_json({"bundle": str(target), **manifest})
        return
    print_outcomes(outcomes)
    if "recommended" in manifest:
        print_recommendation(manifest)


def _facts(folder: Path, outcomes: "Iterable[Outcome]") -> dict[str, object]:
    files = {
        outcome.format.file_name: {
            "format": outcome.format.value,
            "bytes": outcome.bytes,
            "parity": outcome.parity.as_dict() if outcome.parity else None,
            "calibration": outcome.calibrated.as_dict() if outcome.calibrated else None,
        }
        | ({"error": str(outcome.error)} if outcome.error else {})
        for outcome in outcomes
    }
    return {"bundle": str(folder), "files": files}


def _require_exporters() -> None:
    for package in ("torch", "onnx", "onnxscript"):
        require(package, extra="train")


def _formats(text: str) -> list[Format]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(Format)]
    if unknown or not names:
        raise UsageError(f"unknown format {', '.join(unknown) or repr(text)}: choose from {', '.join(Format)}")
    return [form for form in Format if form in names]


def _data_of(folder: Path, wanted: str | None) -> "Dataset":
    if wanted is not None:
        return load_data(wanted)
    recorded = bundle.read_training(folder)["data"]["source"]
    try:
        return load_recorded(recorded)
    except DataNotFoundError as error:
        raise DataNotFoundError(f"{error}; if the training's data have moved, name them with --data") from error


def _test_data_of(file: Path, wanted: str | None) -> "Dataset":
    from mnist_edge.runtime.model import open_model
    from mnist_edge.training import datasets, download

    if wanted is not None:
        return load_data(wanted)
    if (file.parent / bundle.TRAINING).is_file():
        dataset, recorded = _data_of(file.parent, None), bundle.read_training(file.parent)["data"]
    elif file.suffix == ".onnx":
        recorded = open_model(file).provenance["data"]
        name = recorded["name"]
        if name not in download.NAMES:
            raise UsageError(f"{file}: was trained on {name}, which is not known here: name its data with --data")
        dataset = load_data(None) if name == datasets.DEFAULT else load_recorded(name)
    else:
        return load_data(None)
    if dataset.digests != recorded["sha256"]:
        raise DataFormatError(
            f"{dataset.source}: not the data that {file} was trained on: name what to judge it on with --data"
        )
    return dataset


def verify(target: Bundle = Path(DEFAULT_BUNDLE), data: Data = None, json: Json = False) -> None:
    """Prove a bundle again: digests, contract, weights, golden vectors, and parity on the whole test set."""
    manifest = bundle.read_manifest(target)
    bundle.require_first_half(target, manifest)
    exported = [form.file_name for form in Format if form.file_name in manifest["files"]]
    with StepProgress() as progress:
        with progress.preparing("PyTorch"):
            _require_exporters()
            from mnist_edge.export import pipeline
        with progress.preparing("data"):
            dataset = _data_of(target, data)
        note(f"comparing {', '.join(exported)} with PyTorch on {len(dataset.test):,} images")
        outcomes = pipeline.verify(target, dataset, progress=progress.step)
    facts = _facts(target, outcomes)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not json:
        print_outcomes(outcomes)
    elif not errors:
        print_json(facts)
    for error in errors:
        complain(error)
    if errors:
        raise Failed("; ".join(map(str, errors)), gravest(errors), facts)


def evaluate(
    target: Annotated[
        str, typer.Argument(help="A bundle, its model.pth, an exported file, or the name of a pretrained model.")
    ] = DEFAULT_BUNDLE,
    form: Form = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Evaluate any form of a model on a test set: loss, accuracy, calibration, confusion, figures of every class.

    Of a bundle it is the file that predict takes, or before the export model.pth.
    """
    from mnist_edge.export import evaluation

    note_if_model_shadowed(target)
    file = evaluation.file_of(target, form)
    dataset = _test_data_of(file, data)
    result = evaluation.evaluate(file, dataset.labels, dataset.test)
    if json:
        print_json({"model": str(file), "data": dataset.name, **result.as_dict()})
        return
    figures = result.metrics
    print(
        f"{file} on {dataset.name}: loss {figures.loss:.4f}, accuracy {figures.correct}/{figures.total} "
        f"({100 * figures.accuracy:.2f} %)"
    )
    print(f"calibration error {100 * result.calibration_error:.2f} % at temperature {result.temperature:g}\n")
    print_table(
        ("to be right in", "answer", "and withhold what is less probable than"),
        [
            (f"{100 * row.accuracy:.1f} %", f"{100 * row.share:.2f} %", f"{row.min_probability:.4f}")
            for row in result.coverage
        ],
    )
    print()
    per_class = result.as_dict()["per_class"]
    print_table(
        ("class", "images", "precision", "recall", "F1"),
        [
            (label, str(row["support"]), *(f"{100 * row[name]:.2f} %" for name in ("precision", "recall", "f1")))
            for label, row in per_class.items()
        ],
    )
    print("\nconfusion: a row for each true class, a column for each answer")
    rows = zip(result.labels, result.confusion.tolist(), strict=True)
    print_table(("", *result.labels), [(label, *map(str, counts)) for label, counts in rows])
