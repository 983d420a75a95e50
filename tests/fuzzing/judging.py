"""Run one input: the answer must be an answer or an error of ours, in bounded time and memory, without a warning."""

import contextlib
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

from mnist_edge.errors import MnistEdgeError

SECONDS: Final = 10.0
"""Of CPU time for one input, so that a busy machine does not matter. The slowest valid picture takes about two."""

MEGABYTES: Final = 300
"""What one input may take of memory: what SECURITY.md promises for a picture."""

MINIMISING: Final = 300
"""Most executions that the minimisation of one input takes."""

_ROOM: Final = "mnist_edge"
_STATUS: Final = Path("/proc/self/status")

Run = Callable[[bytes, Path], object]
Mutate = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Target:
    """A kind of input."""

    run: Run
    """Reads an input; the folder is for files."""

    seeds: Callable[[], Iterable[bytes]]
    """Valid inputs."""

    mutate: Mutate

    modules: tuple[str, ...] = ()
    """Those whose coverage is reported."""

    longest: int = 1 << 14
    """Bytes of an input."""


class TooSlowError(BaseException):
    """Not an Exception, so that no handler of the code under test takes it for its own."""


@dataclass(frozen=True)
class Finding:
    """An input that was neither answered nor refused by an error of ours."""

    kind: str
    """The exception and where it was raised: findings of one kind are reported once."""

    text: str
    """The traceback."""

    data: bytes


def judge(run: Run, data: bytes, folder: Path) -> Finding | None:
    """Run one input, with warnings as errors.

    Args:
        run: takes the input and a folder for files.
        data: the input.
        folder: an empty folder, or the one of an earlier input to the same function.
    """
    _forget_peak()
    before = _peak()
    try:
        with warnings.catch_warnings(), _limited(SECONDS):
            warnings.simplefilter("error")
            run(data, folder)
    except MnistEdgeError as error:
        if error.args and "\n" in str(error):
            return Finding(f"an error of several lines: {type(error).__name__}", traceback.format_exc(), data)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is a finding
        return Finding(f"{type(error).__name__} {_place(error)}", traceback.format_exc(), data)
    if (taken := _peak() - before) > MEGABYTES:
        return Finding(f"more than {MEGABYTES} MB", f"takes {taken:.0f} MB\n", data)
    return None


def _peak() -> float:
    """The most memory that this process had since `_forget_peak`, in megabytes; on other systems than Linux, ever."""
    if _STATUS.exists():
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1000
    unit = 1_000_000 if sys.platform == "darwin" else 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _forget_peak() -> None:
    """Let the peak be what the process has now. getrusage's would begin with that of the parent process."""
    if _STATUS.exists():
        _STATUS.with_name("clear_refs").write_text("5")


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"more than {seconds} s of CPU time")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def searched(target: Target, executions: int, seed: int, folder: Path) -> dict[str, Finding]:
    """Change valid inputs at random so many times, without guidance: the first finding of each kind."""
    random = Random(seed)
    inputs = list(target.seeds())
    warm_up(target.run, inputs, folder)
    found: dict[str, Finding] = {}
    for _ in range(executions):
        data = target.mutate(random.choice(inputs), random)[: target.longest]
        finding = judge(target.run, data, folder)
        if finding is not None and finding.kind not in found:
            found[finding.kind] = minimised(target.run, finding, folder)
    return found


def warm_up(run: Run, inputs: Iterable[bytes], folder: Path) -> None:
    """Run valid inputs, so that the imports and caches of the first ones are not taken for theirs."""
    for data in inputs:
        with contextlib.suppress(MnistEdgeError):
            run(data, folder)


def _place(error: BaseException) -> str:
    """Where our code was, and what it had called: an error of a library is of another kind at each of its places."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    ours = [frame for frame in frames if f"/{_ROOM}/" in frame.filename]
    named = [f"{Path(frame.filename).name}:{frame.name}" for frame in (*ours[-1:], *frames[-1:])]
    return " in ".join(dict.fromkeys(named))


def minimised(run: Run, finding: Finding, folder: Path) -> Finding:
    """The same kind of finding from a shorter input, if one is found by leaving out parts, large ones first."""
    best, left = finding, MINIMISING
    size = len(finding.data) // 2
    while size and left:
        start = 0
        while start < len(best.data) and left:
            left -= 1
            found = judge(run, best.data[:start] + best.data[start + size :], folder)
            if found is not None and found.kind == finding.kind:
                best = found
            else:
                start += size
        size //= 2
    return best


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the files of one process, in memory where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
