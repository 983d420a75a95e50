"""The commands that make exported files and prove them: `export`, `verify`.

Heavy modules are imported inside the functions, so that ``--help`` is quick and a device needs no torch.

With ``--json``, both commands print a document of this form, also when they fail::

    {"bundle": "…", "files": {"model.onnx": {"format": "onnx", "bytes": …, "parity": {…}, "calibration": {…}}, …}}

``parity`` is null if the comparison did not finish, ``calibration`` if there is none. The entry of a file that failed
has its own ``error``. After a success `export` adds the rest of the manifest that it wrote and, if it left out formats
that cannot be made, ``left_out``: the reason for each, by format. A failure adds ``error``
and ``exit_code``, as for every command; if it occurs before any file is compared, ``bundle`` and ``files`` are absent.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.layout import Format, format_named
from mnist_edge.bundle.places import require_folder
from mnist_edge.bundle.records import TrainingRecord
from mnist_edge.bundle.writing import require_free
from mnist_edge.cli import completion, folders
from mnist_edge.cli.data import Data, check_data, data_of, data_option
from mnist_edge.cli.display import print_json, print_outcomes, print_recommendation
from mnist_edge.cli.failures import Failed, complain, gravest, if_interrupted
from mnist_edge.cli.models import ChosenModel, own_model
from mnist_edge.cli.options import DEFAULT_BUNDLE, Json, ModelArguments, Threads
from mnist_edge.cli.output import command, counted, note, say_wrapped, suggest
from mnist_edge.cli.progress import StepProgress
from mnist_edge.cli.pytorch import foreign_prints_on_stderr, load_pytorch
from mnist_edge.errors import MnistEdgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from mnist_edge.bundle.recipe import Architecture
    from mnist_edge.bundle.records import Manifest
    from mnist_edge.bundle.source import Source
    from mnist_edge.data.datasets import Dataset
    from mnist_edge.export.proof import Outcome

Place = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FILE.py:CLASS",
        help="Where the class of your own model is now; the file is run.  [default: where it was]",
    ),
]
Bundle = Annotated[Path, typer.Argument(help="Bundle: the folder that train wrote.")]


def export(
    target: Bundle = Path(DEFAULT_BUNDLE),
    formats: Annotated[
        str | None,
        typer.Option(
            metavar=f"<{'|'.join(Format)}>",
            autocompletion=completion.formats,
            help="Formats to export, separated by commas.  [default: all but c that can be made]",
        ),
    ] = None,
    c_prefix: Annotated[
        str, typer.Option(metavar="NAME", help="What names in model.h begin with.  [default: the architecture]")
    ] = "",
    data: Data = None,
    model: Place = None,
    model_args: ModelArguments = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Export a model and prove every file.

    Every file must answer as PyTorch does on the test set, within the tolerance of its format. If one fails, nothing is
    written. A format that cannot be made from the model is left out, unless you name it. The manifest records what was
    measured and which file is recommended. Files of other formats, exported earlier from the same model, are kept, but
    not a model.h of another int8-static file.
    The format c, a file for microcontrollers, needs a C compiler, and int8-static, which is made too.
    """
    from mnist_edge.runtime.model import require_own
    from mnist_edge.runtime.threads import asked_threads

    chosen = None if formats is None else _formats(formats)
    layout.require_c_prefix(c_prefix)
    if c_prefix and Format.C not in (chosen or ()):
        raise UsageError("--c-prefix is for the names in model.h: name c with --formats, or leave it out")
    own = own_model(model, model_args)
    threads = asked_threads(threads)
    if data is not None:
        check_data(data)
    require_own(target)
    require_free(target)
    require_folder(target, "bundle")
    training = reading.read_training(target)
    if isinstance(training, TrainingRecord) and not training.finished:
        resumable = (target / layout.CHECKPOINT).exists()
        goes_on = f"; resume with  {command('train', '--resume', '--out', target)}" if resumable else ""
        note(f"trained for {len(training.epochs)} of {counted(training.recipe.epochs, 'epoch')}{goes_on}")
    note(f"exporting {target}")
    before = folders.stamps(target, [layout.MANIFEST])
    there = [name for name in layout.EXPORTED if (target / name).exists()]
    with if_interrupted(lambda: _what_holds(target, before)):
        manifest, outcomes = _exported(target, chosen, data, own, threads, c_prefix, json=json)
        if gone := [name for name in there if name not in manifest.exported]:
            note(f"removed {', '.join(gone)}: made from what is now another file, or other weights")
        if json:
            left_out = {outcome.format.value: str(outcome.error) for outcome in outcomes if outcome.left_out}
            print_json({"bundle": str(target), **plain(manifest)} | ({"left_out": left_out} if left_out else {}))
            return
        print_outcomes(outcomes)
        shown = {outcome.format.file_name for outcome in outcomes}
        if kept := [name for name in manifest.exported if name not in shown]:
            say_wrapped("also in the bundle: ", ", ".join(kept))
        print_recommendation(manifest)
    if manifest.recommended:
        file = manifest.recommended.file
        note(f"to deploy, copy {(target / file).absolute()}; test the copy with  {command('selftest', file)}")
    suggest("verify", target, *data_option(data))


def _exported(
    target: Path,
    formats: list[Format] | None,
    data: str | None,
    own: ChosenModel | None,
    threads: int | None,
    c_prefix: str,
    *,
    json: bool,
) -> "tuple[Manifest, list[Outcome]]":
    """Export; if a file fails, tell how each one fared."""
    outcomes: list[Outcome] = []

    def report(outcome: "Outcome") -> None:
        outcomes.append(outcome)
        if outcome.left_out:
            note(f"left out: {outcome.format}: {outcome.error}")
        else:
            note(f"{outcome.format.file_name}: {'failed' if outcome.error else 'matches PyTorch'}")

    try:
        pipeline, dataset, source = _prepared(target, data, own)
        note(f"comparing with PyTorch on {counted(len(dataset.test), 'image')}")
        with foreign_prints_on_stderr(), StepProgress() as progress:
            return pipeline.export(target, dataset, formats, report, progress.step, threads, source, c_prefix), outcomes
    except MnistEdgeError as error:
        passed = [outcome.format for outcome in outcomes if outcome.error is None]
        if len(passed) < len(outcomes) and not json:
            print_outcomes(outcomes)
        if passed and any(outcome.error and not outcome.left_out for outcome in outcomes):
            only_these = command("export", target, "--formats", ",".join(passed))
            note(f"nothing is written; to export what passed, run  {only_these}")
        if not outcomes:
            raise
        complain(error)
        code = gravest([error, *(outcome.error for outcome in outcomes if outcome.error is not None)])
        raise Failed(str(error), code, _facts(target, outcomes)) from error


def _what_holds(folder: Path, before: folders.Stamps) -> str:
    if folders.stamps(folder, [layout.MANIFEST]) == before:
        return f"nothing was written, {folder} is as before"
    return f"the export is complete, {folder} holds the new files"


def _facts(folder: Path, outcomes: "Iterable[Outcome]") -> dict[str, object]:
    files = {
        outcome.format.file_name: {
            "format": outcome.format.value,
            "bytes": outcome.bytes,
            "parity": plain(outcome.parity),
            "calibration": plain(outcome.calibration),
        }
        | ({"error": str(outcome.error)} if outcome.error else {})
        for outcome in outcomes
    }
    return {"bundle": str(folder), "files": files}


def _prepared(
    folder: Path, wanted: str | None, own: ChosenModel | None
) -> "tuple[ModuleType, Dataset, Architecture | Source | None]":
    """Load what `export` and `verify` need first: `mnist_edge.export.pipeline`, the data, and where the class is."""
    load_pytorch("onnx", "onnxscript")
    from mnist_edge.export import pipeline

    return pipeline, data_of(folder, wanted), None if own is None else own.located()


def _formats(text: str) -> list[Format]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    chosen = {format_named(name) for name in names or [text]}
    return [form for form in Format if form in chosen]


def verify(
    target: Bundle = Path(DEFAULT_BUNDLE),
    data: Data = None,
    model: Place = None,
    model_args: ModelArguments = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Prove an exported bundle again.

    Checks the digests, contract, weights and golden vectors, and parity with PyTorch on the whole test set. Needs
    PyTorch and the data; on a device use selftest.
    """
    from mnist_edge.runtime.model import require_own
    from mnist_edge.runtime.threads import asked_threads

    own = own_model(model, model_args)
    threads = asked_threads(threads)
    if data is not None:
        check_data(data)
    require_own(target)
    manifest = reading.read_manifest(target)
    reading.require_first_half(target, manifest)
    note(f"verifying {target}")
    pipeline, dataset, source = _prepared(target, data, own)
    note(f"comparing {counted(len(manifest.exported), 'file')} with PyTorch on {counted(len(dataset.test), 'image')}")
    with foreign_prints_on_stderr(), StepProgress() as progress:
        outcomes = pipeline.verify(target, dataset, progress=progress.step, threads=threads, model=source)
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
    if not json and manifest.recommended:
        suggest("selftest", target / manifest.recommended.file)
