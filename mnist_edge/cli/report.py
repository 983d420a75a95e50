"""The command `report`. It needs no torch if the bundle has an ``.onnx`` file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.layout import RUNNABLE
from mnist_edge.bundle.writing import write_atomically
from mnist_edge.cli import completion, folders
from mnist_edge.cli.data import Data, check_data, test_data_of
from mnist_edge.cli.display import detail_model, note_if_model_shadowed, print_json
from mnist_edge.cli.options import DEFAULT_BUNDLE, Form, Json
from mnist_edge.cli.output import note, say
from mnist_edge.cli.progress import StepProgress
from mnist_edge.errors import BusyError, UsageError
from mnist_edge.extras import require

if TYPE_CHECKING:
    from mnist_edge.bundle.records import Manifest
    from mnist_edge.data.datasets import Dataset
    from mnist_edge.report.facts import Distorted, Facts

MOST_DISTORTED: Final = 10_000
"""Of a larger test set, so many images are distorted, evenly spread."""

HEAD: Final = 1000
"""A report's mark is within its first so many bytes."""


def report(
    target: Annotated[
        str, typer.Argument(autocompletion=completion.models, help="A bundle or the name of a pretrained model.")
    ] = DEFAULT_BUNDLE,
    form: Form = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The HTML file to write, in place of an earlier report.  [default: <bundle>-report.html]",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a report on a model.

    One HTML page, which needs no other file and no network, shows learning curves, confusion matrix, worst mistakes,
    reliability, coverage, accuracy on distorted images, the parity, size and latency of each file, provenance and
    digests. Making it needs matplotlib.
    """
    note_if_model_shadowed(target)
    require("matplotlib", extra="plot")
    folder = _bundle(target)
    manifest = reading.read_manifest(folder) if (folder / layout.MANIFEST).exists() else None
    file = _file_of(folder, manifest, form)
    name = os.path.basename(os.path.abspath(folder))  # noqa: PTH100, PTH119  # removes ".."
    page_path = _checked(out or Path(f"{name}-report.html"))
    if data is not None:
        check_data(data)
    note(f"reporting on {file}")
    detail_model(target, form, file.name)
    dataset = test_data_of(file, data)
    facts = _facts(target, name, file, form, manifest, dataset)
    with StepProgress() as progress, progress.doing("drawing"):
        from mnist_edge.report.page import page

        content = page(facts).encode()
    if manifest is not None and reading.read_manifest(folder) != manifest:
        raise BusyError(f"{folder}: was exported again meanwhile: run report again")
    write_atomically(page_path, content)
    result = facts.evaluation
    if json:
        accuracies = {each.name: each.correct / each.total for each in facts.distorted}
        document = {"report": str(page_path), "bytes": len(content), "model": str(file), "data": dataset.name}
        print_json({**document, **plain(result), "distorted": accuracies})
        return
    right = f"{result.correct:,} of {result.total:,} right ({100 * result.accuracy:.2f} %)"
    say(f"{page_path}: {file.name} on {dataset.name}, {right}; {len(content) / 1000:,.0f} KB")


def _bundle(target: str) -> Path:
    """The folder of a bundle. Raises ModelNotFoundError if there is none."""
    from mnist_edge.runtime.model import locate, pretrained

    found = Path(locate(target))
    if not found.is_dir():
        raise reading.not_a_bundle(found, others=f" or {', '.join(pretrained())}")
    return found


def _file_of(folder: Path, manifest: "Manifest | None", form: str | None) -> Path:
    """The file to run: as `evaluate` chooses it, or PyTorch's own where there is nothing for onnxruntime."""
    from mnist_edge.export import forms

    runs = manifest is None or any(each.file_name in manifest.files for each in RUNNABLE)
    if form is None and not runs and (folder / layout.WEIGHTS).exists():
        return folder / layout.WEIGHTS
    return forms.file_of(folder, form)


def _checked(path: Path) -> Path:
    """Raise UsageError unless a report can be written there, in place of nothing or of another report."""
    from mnist_edge.report.page import MARK

    if path.is_dir():
        raise UsageError(f"{path}: is a folder: give --out a file, such as {path / 'report.html'}")
    if path.name in layout.FILES:
        raise UsageError(f"{path}: is the name of a bundle's file: give --out another, such as report.html")
    if path.exists() and not _is_report(path, MARK.encode()):
        raise UsageError(f"{path}: is there already and is no report: give --out a new file")
    folders.made(path.parent, "--out")
    return path


def _is_report(path: Path, mark: bytes) -> bool:
    if not path.is_file():  # a pipe may never end
        return False
    with path.open("rb") as file:
        return mark in file.read(HEAD)


def _facts(
    target: str, name: str, file: Path, form: str | None, manifest: "Manifest | None", dataset: "Dataset"
) -> "Facts":
    from mnist_edge.export import forms
    from mnist_edge.report.facts import Facts
    from mnist_edge.runtime.describe import describe
    from mnist_edge.runtime.model import is_pretrained

    folder, test = file.parent, dataset.test
    with StepProgress() as progress:
        with progress.doing(f"running {file.name}"):
            answers = forms.answers(file, dataset.labels, test)
        with progress.doing("running it on distorted images"):
            undistorted, *distorted = _on_distorted(file, dataset)
    described = {} if manifest is None else describe(folder).files
    return Facts(
        name=name,
        is_pretrained=is_pretrained(target),
        file=file.name,
        format=form,
        data=dataset.name,
        images=test.images,
        truth=test.labels,
        probabilities=answers.probabilities,
        evaluation=answers.evaluate(test.labels),
        undistorted=undistorted,
        distorted=tuple(distorted),
        manifest=manifest,
        record=reading.read_training(folder) if (folder / layout.TRAINING).exists() else None,
        states={each: str(found.state) for each, found in described.items()},
    )


def _on_distorted(file: Path, dataset: "Dataset") -> "list[Distorted]":
    """What the model makes of the test images as they are, and then of each distortion."""
    import numpy as np

    from mnist_edge.data.datasets import Split
    from mnist_edge.data.distortions import DISTORTIONS
    from mnist_edge.export import forms
    from mnist_edge.report.facts import Distorted

    test = dataset.test
    chosen = np.linspace(0, len(test) - 1, min(len(test), MOST_DISTORTED)).round().astype(np.int64)
    images, labels = test.images[chosen], test.labels[chosen]
    kinds = {"none": ("the images as they are", images)}
    kinds |= {kind: (each.does, each.apply(images)) for kind, each in DISTORTIONS.items()}
    found = []
    for kind, (does, changed) in kinds.items():
        logits = forms.answers(file, dataset.labels, Split(changed, labels)).logits
        right = int((logits.argmax(axis=1) == labels).sum())
        found.append(Distorted(kind, does, changed[0], right, len(labels)))
    return found
