"""What the commands print: tables on stdout, the progress of a training on stderr."""

import codecs
import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import typer

from mnist_edge.cli.failures import PIPE_CLOSED

if TYPE_CHECKING:
    from mnist_edge.bundle.records import Epoch, Manifest
    from mnist_edge.cli.doctor import Finding
    from mnist_edge.export.proof import Outcome, Step
    from mnist_edge.runtime.describe import Description

MANY: Final = 100
"""So many images are answered before a bar could be read."""

EVERY_BATCHES: Final = 100
"""Off a terminal the loss is printed once in so many batches."""


def note(message: str) -> None:
    """A line of progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def note_if_shadowed(name: str, *, known: bool) -> None:
    """Say that a known name was taken as one, where a file or folder of that name could have been meant."""
    if known and os.path.lexists(name):
        note(f"note: {name} is taken as the known name; .{os.sep}{name} is the file or folder here")


def note_if_model_shadowed(name: str) -> None:
    """The same for the names of pretrained models."""
    from mnist_edge.runtime.model import is_pretrained

    note_if_shadowed(name, known=is_pretrained(name))


@contextlib.contextmanager
def leaving_when_pipe_closes() -> Iterator[None]:
    """Stop without a word when whoever reads stdout has seen enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere, or the interpreter would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None


@contextlib.contextmanager
def counting(total: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for many images, where a person looks at stderr and at nothing else.

    Args:
        total: returns how many there will be; called only where a bar can be shown.

    Returns:
        What to call with the number of images that have been dealt with since.
    """
    if sys.stdout.isatty() or not sys.stderr.isatty() or (count := total()) <= MANY:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Left to itself, rich would send what is printed on stdout to the bar's console.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        yield functools.partial(progress.advance, progress.add_task("", total=count))


def print_json(value: object, indent: int | None = 2) -> None:
    """One JSON document on stdout; without an indent on one line."""
    print(_as_json(value, indent), flush=True)


def one_line(name: str) -> str:
    """A file's name as it may stand in a line of text: one with a line's end or a tab in it is spelled out."""
    return name if name.isprintable() else ascii(name)


def json_line(value: object) -> str:
    """A value as JSON on one line, its end included."""
    return f"{_as_json(value)}\n"


def _as_json(value: object, indent: int | None = None) -> str:
    # What another encoding lacks would be written as stdout's error handler spells it, which is not JSON.
    ascii_only = codecs.lookup(sys.stdout.encoding).name != "utf-8"
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)


class Table:
    """Aligned columns on stdout, the first flush left, that appear some rows at a time: columns only ever grow."""

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        self._widths: list[int] = []

    def print(self, rows: Sequence[Sequence[str]]) -> None:
        """Print more rows, before the first of them the header."""
        lines = rows if self._widths or not rows else [self._header, *rows]
        widths = [max(map(len, column)) for column in zip(self._header, *rows, strict=True)]
        self._widths = [*map(max, widths, self._widths or widths)] if rows else self._widths
        for first, *others in lines:
            cells = [cell.rjust(width) for cell, width in zip(others, self._widths[1:], strict=True)]
            print("  ".join([first.ljust(self._widths[0]), *cells]).rstrip())


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A whole table on stdout."""
    Table(header).print([*rows])


def print_outcomes(outcomes: Iterable["Outcome"]) -> None:
    """The table of what a comparison of every file found."""
    print_table(
        ("file", "size", "max |Δlogit|", "flips", "accuracy", "result"),
        [
            (
                outcome.format.file_name,
                f"{outcome.bytes / 1000:,.1f} KB",
                f"{outcome.parity.max_abs_diff:.1e}" if outcome.parity else "-",
                f"{outcome.parity.flips}" if outcome.parity else "-",
                f"{100 * outcome.parity.accuracy:.2f} %" if outcome.parity else "-",
                "failed" if outcome.error else "ok",
            )
            for outcome in outcomes
        ],
    )


def print_recommendation(facts: "Manifest | Description") -> None:
    """Which of the ONNX files to take, and of each other one why not; nothing where none is recommended."""
    if not facts.recommended:
        return
    file = facts.recommended.file
    times = {name: f" ({latency.microseconds:.0f} µs an image)" for name, latency in (facts.measured or {}).items()}
    print(f"\nrecommended: {file}{times.get(file, '')}")
    for name, reason in facts.recommended.reasons_against.items():
        print(f"not recommended: {name}: {reason}")


def print_findings(findings: Iterable["Finding"]) -> None:
    """A paragraph a topic; below a finding that is not well, what to do about it."""
    marks = {"ok": " ", "remark": "!", "broken": "✗"}
    topic = None
    for finding in findings:
        if finding.topic != topic:
            print(finding.topic if topic is None else f"\n{finding.topic}")
            topic = finding.topic
        print(f"{marks[finding.state]} {finding.name:18} {finding.value}")
        if finding.remedy:
            print(f"{'':20} → {finding.remedy}")


class TrainingProgress:
    """The progress of a training, on stderr: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._batches = 0
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=None, loss="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def batch(self, epoch: int, seen: int, total: int, loss: float) -> None:
        """After every batch: the epoch, the images seen in it, the images of an epoch, the batch's loss."""
        if self._bar:
            description = f"Train Epoch: {epoch}/{self._epochs}"
            done, whole = (epoch - 1) * total + seen, self._epochs * total
            self._bar.update(self._task, completed=done, total=whole, description=description, loss=f"Loss: {loss:.6f}")
            return
        if self._batches % EVERY_BATCHES == 0:
            note(f"Train Epoch: {epoch} [{seen}/{total}]  Loss: {loss:.6f}")
        self._batches = 0 if seen == total else self._batches + 1

    def epoch(self, epoch: "Epoch") -> None:
        """After every epoch."""
        test = epoch.test
        line = (
            f"Test set: Average loss: {test.loss:.4f}, Accuracy: {test.correct}/{test.total} "
            f"({100 * test.accuracy:.2f}%)  [epoch {epoch.number}/{self._epochs}, {epoch.seconds:.1f} s]"
        )
        if self._bar:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            note(line)


class StepProgress:
    """The progress of an export or a verification, on stderr: a live line on a terminal, a line a step elsewhere."""

    def __init__(self) -> None:
        self._live: Any = None
        self._task: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, TextColumn

            console = Console(stderr=True)
            if console.is_interactive:  # what cannot move its cursor gets the lines
                column = TextColumn("{task.description}, {task.elapsed:.0f} s", markup=False)
                self._live = Progress(column, console=console, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def step(self, step: "Step") -> None:
        """Before and after every step."""
        self._show(f"{step.file}: {step.name}", step.seconds)

    @contextlib.contextmanager
    def preparing(self, what: str) -> Iterator[None]:
        """Around what must be loaded before there are steps."""
        self._show(f"loading {what}", None)
        start = time.perf_counter()
        yield
        self._show(f"loading {what}", time.perf_counter() - start)

    def _show(self, words: str, seconds: float | None) -> None:
        if not self._live:
            if seconds is not None:
                note(f"{words}, {seconds:.1f} s")
        elif seconds is None:
            self._task = self._live.add_task(words)
        else:
            self._live.remove_task(self._task)


@contextlib.contextmanager
def tensorboard(folder: Path | None, finished: int) -> Iterator[Callable[["Epoch"], None]]:
    """What to call after every epoch, so that TensorBoard shows its figures; without a folder it does nothing.

    Args:
        folder: for the event files; what an interrupted training wrote there beyond `finished` is dropped.
        finished: epochs that the training has behind it.
    """
    if folder is None:
        yield lambda epoch: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=finished + 1) as writer:

        def log(epoch: "Epoch") -> None:
            figures = {
                "loss/train": epoch.train_loss,
                "loss/test": epoch.test.loss,
                "accuracy/test": epoch.test.accuracy,
                "lr": epoch.lr,
                "seconds": epoch.seconds,
            }
            for name, value in figures.items():
                writer.add_scalar(name, value, epoch.number)
            writer.flush()

        yield log
