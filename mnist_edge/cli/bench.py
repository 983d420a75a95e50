"""The command `bench`. It needs neither torch nor onnx, and matplotlib only for its plot."""

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from msgspec import structs

from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.layout import Format, format_named
from mnist_edge.cli import completion, folders
from mnist_edge.cli.bench_tables import print_bench
from mnist_edge.cli.display import note_if_model_shadowed, print_json
from mnist_edge.cli.failures import FAILED, Failed, complain, if_interrupted
from mnist_edge.cli.options import DEFAULT_BUNDLE, Json
from mnist_edge.cli.output import counted, note
from mnist_edge.cli.progress import StepProgress
from mnist_edge.errors import ExecutionError, MnistEdgeError, ModelNotFoundError, UsageError
from mnist_edge.extras import require, to_install

if TYPE_CHECKING:
    from mnist_edge.bundle.records import Manifest
    from mnist_edge.runtime.bench.files import Files
    from mnist_edge.runtime.bench.records import Bench, Candidate

UNTRUSTED: Final = "compiling it runs its author's code: if you trust it, name it with --format c"

PLOT: Final = "tradeoff.png"


def bench(
    target: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.models, help="A bundle, an .onnx file or the name of a pretrained model."
        ),
    ] = DEFAULT_BUNDLE,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            autocompletion=completion.any_form,
            help="Measure only the bundle's file of this format: onnx, int8-static, int8-dynamic, torchscript or c. "
            "A C file is compiled and run: trust its author.  [default: all]",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=f"Save a plot of latency against accuracy as {PLOT} in DIR. Needs matplotlib."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure each file on this machine.

    Prints latency, throughput, cold start, size and memory of each file beside its accuracy, and which one to name with
    --format if the recommended file is not the best here. Every file is measured in processes of its own, in turns.
    """
    from mnist_edge.runtime.bench import files, running

    note_if_model_shadowed(target)
    wanted = None if form is None else format_named(form)
    found = files.find(target, wanted)
    if plot is not None:
        _prepare_plot(found, plot)
    with tempfile.TemporaryDirectory() as scratch, StepProgress() as progress:
        candidates, left_out = _all_candidates(found, wanted, Path(scratch))
        if not candidates:
            raise ModelNotFoundError(f"{found.place}: holds no file that can be measured: {_listed(left_out)}")
        words = f"measuring {counted(len(candidates), 'file')} in up to {running.ROUNDS} rounds"
        with progress.doing(words):
            result = running.bench(
                target,
                found,
                candidates,
                left_out,
                on_process=lambda file, done, total: progress.at(f"{words}: {file}, {100 * done // total} %"),
            )
    document = plain(result)
    if not json:
        print_bench(result)
    if plot is not None:
        try:
            document["plots"] = [_save_plot(result, found.place.resolve().name, plot)]
        except OSError as error:
            complain(error)
            raise Failed(str(error), FAILED, document) from None
    if result.failed:
        for file, reason in result.failed.items():
            complain(f"{found.place / file}: was not measured: {reason}")
        raise Failed(f"not measured: {_listed(result.failed)}", FAILED, document)
    if json:
        print_json(document)


def _prepare_plot(found: "Files", folder: Path) -> None:
    """Raise UsageError, before anything is measured, if there will be no plot."""
    if not found.place.is_dir():
        raise UsageError(f"{found.place}: a single file does not tell its accuracy: give --plot with a bundle")
    require("matplotlib", extra="plot")
    folders.made(folder, "--plot")


def _listed(reasons: dict[str, str]) -> str:
    return "; ".join(f"{file}: {reason}" for file, reason in reasons.items())


def _all_candidates(found: "Files", wanted: Format | None, scratch: Path) -> "tuple[list[Candidate], dict[str, str]]":
    """The files to measure, and why others are left out; `scratch` is for a compiled C file.

    Raises MnistEdgeError if the one file that was asked for is left out.
    """
    candidates, left_out = [*found.candidates], dict.fromkeys(found.missing, "not in the bundle")
    for form, other in found.others.items():
        try:
            if form is Format.TORCHSCRIPT:
                _require_torch()
                candidates.append(other)
            else:
                candidates.append(_compiled(found, other, scratch, asked=wanted))
        except MnistEdgeError as error:
            if wanted is form:
                raise
            left_out[other.file] = str(error)
    order = [*Format]
    return sorted(candidates, key=lambda each: order.index(each.format)), left_out


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise ExecutionError(f"torch is not installed: {to_install('train')}")


def _compiled(found: "Files", candidate: "Candidate", scratch: Path, *, asked: Format | None) -> "Candidate":
    """Compile the C file, if it is certainly ours or was asked for by name."""
    from mnist_edge.bundle import reading
    from mnist_edge.runtime import compiling

    command = compiling.compiler()
    if command is None:
        raise ExecutionError("there is no C compiler: install gcc or clang")
    manifest = reading.read_manifest(found.place)
    content = reading.read_verified(found.place, candidate.file, manifest)
    text = content.decode(errors="replace")
    if asked is None:
        _require_ours(found.place, manifest, text, candidate.file)
    path = compiling.build(command, content, compiling.prefix_in(text), candidate.file, scratch)
    compiling.loaded(path, candidate.file, command[0])
    return structs.replace(candidate, model=str(path))


def _require_ours(place: Path, manifest: "Manifest", text: str, name: str) -> None:
    """Raise ExecutionError unless a C file is what this version writes, which only the export's packages can tell."""
    from mnist_edge.bundle import reading

    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("onnx") is None:
        raise ExecutionError(UNTRUSTED)
    from mnist_edge.export import c

    try:
        c.require_ours(text, reading.read_verified(place, Format.INT8_STATIC.file_name, manifest), name)
    except Exception:  # noqa: BLE001  # the int8-static file is as little to be trusted, and may fail anywhere in the export
        raise ExecutionError(UNTRUSTED) from None


def _save_plot(result: "Bench", name: str, folder: Path) -> str:
    """Save the plot of a bundle, say so, and return its path."""
    from mnist_edge.report import plots
    from mnist_edge.report.tradeoff import Point, tradeoff

    points = [
        Point(
            file,
            each.p50_us.median,
            each.accuracy,
            each.bytes,
            recommended=file == result.recommended,
            p95=each.p95_us.median,
        )
        for file, each in result.files.items()
        if each.accuracy is not None
    ]
    path = folder / PLOT
    with if_interrupted(lambda: f"{path} may be incomplete"):
        plots.save(tradeoff(points, f"{name} on {result.environment.processor}"), path)
    note(f"saved {path}")
    return str(path)
