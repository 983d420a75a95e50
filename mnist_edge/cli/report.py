"""The command `report`. It needs no torch if the bundle has an ``.onnx`` file."""

from pathlib import Path
from typing import Annotated, Final

import typer

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.places import require_file
from mnist_edge.bundle.writing import write_atomically
from mnist_edge.cli import completion, folders
from mnist_edge.cli.data import Data, check_data, test_data_of
from mnist_edge.cli.display import detail_model, note_if_model_shadowed, print_json
from mnist_edge.cli.options import DEFAULT_BUNDLE, Form, Json
from mnist_edge.cli.output import note, say
from mnist_edge.cli.progress import StepProgress
from mnist_edge.errors import BusyError, ExecutionError, UsageError
from mnist_edge.extras import require
from mnist_edge.report import words

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
    from mnist_edge.export import reporting

    folder = reporting.bundle_of(target)
    file = reporting.file_of(folder, form)
    page_path = _checked(out or Path(f"{reporting.name_of(folder)}-report.html"))
    if data is not None:
        check_data(data)
    note(f"reporting on {file}")
    detail_model(target, form, file.name)
    dataset = test_data_of(file, data)
    with StepProgress() as progress:
        with progress.doing(f"running {file.name}, also on distorted images"):
            facts = reporting.facts_of(target, dataset, form)
        with progress.doing("drawing"):
            from mnist_edge.report.page import page

            content = page(facts).encode()
    if facts.manifest is not None and reading.read_manifest(folder) != facts.manifest:
        raise BusyError(f"{folder}: was exported again meanwhile: run report again")
    folders.made(page_path.parent, "--out")
    try:
        write_atomically(page_path, content)
    except OSError as error:
        raise ExecutionError(
            f"{page_path}: cannot be written ({error.strerror}): free some space, or choose another --out"
        ) from error
    result = facts.evaluation
    if json:
        accuracies = {each.name: each.correct / each.total for each in facts.distorted}
        document = {"report": str(page_path), "bytes": len(content), "model": str(file), "data": dataset.name}
        print_json({**document, **plain(result), "distorted": accuracies})
        return
    right = f"{result.correct:,} of {result.total:,} right ({100 * result.accuracy:.2f} %)"
    say(f"{page_path}: {file.name} on {dataset.name}, {right}; {words.size(len(content))}")


def _checked(path: Path) -> Path:
    """Raise UsageError unless a report can be written there, in place of nothing or of another report."""
    from mnist_edge.report.page import MARK

    if str(path) == "-":
        raise UsageError("a report is a file, not a stream: give --out a name such as report.html")
    require_file(path, "--out")
    if path.is_symlink():  # what it leads to is replaced, not the link
        try:
            path = path.resolve()
        except (OSError, RuntimeError) as error:
            raise UsageError(f"{path}: a link that leads to itself: give --out another file") from error
        require_file(path, "--out")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder: give --out a file, such as {path / 'report.html'}")
    if path.name in layout.FILES:
        raise UsageError(f"{path}: is the name of a bundle's file: give --out another, such as report.html")
    if path.exists() and not _is_report(path, MARK.encode()):
        raise UsageError(f"{path}: is there already and is no report: give --out a new file")
    return path


def _is_report(path: Path, mark: bytes) -> bool:
    if not path.is_file():  # a pipe may never end
        return False
    with path.open("rb") as file:
        return mark in file.read(HEAD)
