"""Progress on stderr: live on a terminal, plain lines elsewhere, nothing with --quiet."""

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from mnist_edge.cli.output import is_quiet, is_verbose, note

if TYPE_CHECKING:
    from rich.console import Console

    from mnist_edge.bundle.records import Epoch
    from mnist_edge.export.proof import Step

MANY: Final = 100
"""Up to this many images there is no progress bar: they are done before it could be read."""

EVERY_BATCHES: Final = 100
"""Batches per printed loss, where stderr is not a terminal."""

PATIENCE: Final = 5.0
"""Seconds after which a sign of life is printed, where stderr is not a terminal."""


def live_console() -> "Console | None":
    """The console of rich on stderr, if progress may move there: not with --quiet, in a pipe or on a dumb terminal."""
    if is_quiet() or not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_interactive else None


@contextlib.contextmanager
def counting(total: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr for many images, if stderr is a live terminal and stdout is none.

    Args:
        total: returns the number of images; called only if a bar can be shown.

    Returns:
        A callback for the number of images completed since its last call.
    """
    console = None if sys.stdout.isatty() else live_console()
    if console is None or (count := total()) <= MANY:
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # By default rich redirects stdout to the bar's console.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield functools.partial(progress.advance, progress.add_task("", total=count))


class TrainingProgress:
    """Training progress on stderr: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._batches = 0
        self._told = time.monotonic()
        self._bar: Any = None
        if console := live_console():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._task = self._bar.add_task("", total=None, loss="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def batch(self, epoch: int, seen: int, total: int, loss: float) -> None:
        """Report a batch: its epoch, the images seen in this epoch, the images per epoch, the loss."""
        if self._bar:
            description = f"Train Epoch: {epoch}/{self._epochs}"
            done, whole = (epoch - 1) * total + seen, self._epochs * total
            self._bar.update(self._task, completed=done, total=whole, description=description, loss=f"Loss: {loss:.6f}")
            return
        if self._batches % EVERY_BATCHES == 0 or time.monotonic() - self._told > PATIENCE:
            self._told = time.monotonic()
            note(f"Train Epoch: {epoch} [{seen}/{total}]  Loss: {loss:.6f}")
        self._batches = 0 if seen == total else self._batches + 1

    def epoch(self, epoch: "Epoch") -> None:
        """Report a finished epoch."""
        test = epoch.test
        line = (
            f"Test set: Average loss: {test.loss:.4f}, Accuracy: {test.correct}/{test.total} "
            f"({100 * test.accuracy:.2f}%)  [{epoch.number}/{self._epochs}, {epoch.seconds:.1f} s]"
        )
        if self._bar:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            note(line)


class StepProgress:
    """The steps of a command on stderr: a live line on a terminal; elsewhere and with --verbose a line per step."""

    def __init__(self) -> None:
        self._live: Any = None
        self._task: Any = None
        self._ended = threading.Event()
        self._url = ""
        if not is_verbose() and (console := live_console()):
            from rich.progress import Progress, TextColumn

            column = TextColumn("{task.description}, {task.elapsed:.0f} s", markup=False)
            self._live = Progress(column, console=console, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._live:
            self._live.stop()

    def step(self, step: "Step") -> None:
        """Report a step, once before and once after it."""
        self._show(f"{step.file}: {step.name}", step.seconds)

    def fetching(self, url: str, done: int, total: int | None) -> None:
        """Report a download, within `doing`: the bytes received so far, and the total if known."""
        if self._live:
            amount = f"{done / 1e6:.1f}" + (f" of {total / 1e6:.1f}" if total else "")
            self._live.update(self._task, description=f"fetching {amount} MB from {url}", refresh=True)
        elif url != self._url:
            note(f"fetching {url}")
        self._url = url

    def at(self, words: str) -> None:
        """Show on a terminal, within `doing`, how far it is."""
        if self._live:
            self._live.update(self._task, description=words)

    @contextlib.contextmanager
    def doing(self, words: str) -> Iterator[None]:
        """Report what is done meanwhile."""
        self._show(words, None)
        start = time.perf_counter()
        yield
        self._show(words, time.perf_counter() - start)

    def _show(self, words: str, seconds: float | None) -> None:
        self._ended.set()  # a step before, which may have failed
        if self._live:
            if seconds is None:
                self._task = self._live.add_task(words)
            else:
                self._live.remove_task(self._task)
        elif seconds is not None:
            note(f"{words}, {seconds:.1f} s")
        elif not is_quiet():
            self._ended = threading.Event()
            threading.Thread(target=_remind, args=(words, self._ended), daemon=True).start()


def _remind(words: str, ended: threading.Event) -> None:
    """Tell every `PATIENCE` seconds that a step goes on."""
    start = time.perf_counter()
    while not ended.wait(PATIENCE):
        note(f"{words}, {time.perf_counter() - start:.0f} s so far")


@contextlib.contextmanager
def tensorboard(folder: Path | None, finished: int) -> Iterator[Callable[["Epoch"], None]]:
    """Yield a callback that logs an epoch for TensorBoard, or does nothing if `folder` is None.

    Args:
        folder: for the event files; epochs after `finished` that an interrupted training logged there are purged.
        finished: number of epochs already finished.
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
