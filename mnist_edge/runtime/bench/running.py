"""Run the measuring processes, round by round, and collect what they report."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from subprocess import PIPE
from typing import Final

from msgspec import DecodeError, Struct, json

from mnist_edge.bundle.layout import RUNNABLE, Format
from mnist_edge.errors import ExecutionError
from mnist_edge.runtime.bench.choice import advise
from mnist_edge.runtime.bench.environment import busy, environment
from mnist_edge.runtime.bench.files import Files, sample
from mnist_edge.runtime.bench.records import Bench, Candidate, Figures, Job, Round, Spread, summarized
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.threads import default_threads

ROUNDS: Final = 15
"""Processes per file. Many short rounds: addresses and cache lines differ from process to process, and with them the
latency, by more than it differs within a process."""

FEWEST_ROUNDS: Final = 3
"""Without them there would be no quartiles."""

ENOUGH: Final = 120.0
"""Seconds after which no further round begins: slow networks and devices are measured in fewer."""

SECONDS: Final = 0.25
"""For each figure of a round."""

SMALL_BATCHES: Final = (16, CHUNK)
"""Batch sizes on one thread; `CHUNK` images are the most that the runtime gives to one thread."""

CHUNKS: Final = 4
"""Chunks per thread in the batch that all threads share."""

OPENERS: Final = {
    **dict.fromkeys(RUNNABLE, "mnist_edge.runtime.bench.by_onnxruntime"),
    Format.TORCHSCRIPT: "mnist_edge.export.by_torch",
    Format.C: "mnist_edge.runtime.bench.by_c",
}
"""The module that opens the files of a format in a measuring process: its function `opened` takes `Candidate.model` and
the format, and returns an `Opened`. Only a process that measures TorchScript imports what the runtime may not."""

_BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[5:]; del sys.argv[5:]; from mnist_edge.runtime.bench.child import main; main()"
)
"""The first line of a measuring process: it imports from where this process does."""


class Measurements(Struct, frozen=True, kw_only=True):
    """The figures of all files."""

    files: dict[str, Figures]
    """By file name."""

    reference: str | None
    """The file that latencies are divided by; None if no file was measured."""

    failed: dict[str, str]
    """For each file that could not be measured, why."""

    preparation_ms: Spread | None
    """From the bytes of a picture to the model's input."""


def bench(
    target: str,
    found: Files,
    candidates: Sequence[Candidate],
    left_out: dict[str, str],
    *,
    on_process: Callable[[str, int, int], object],
) -> Bench:
    """Measure the files of a model, and say which one to name here.

    Args:
        target: what the user gave.
        found: what there is.
        candidates: what of it to measure; at least one file.
        left_out: for each other file, why.
        on_process: as `measure` calls it.

    Raises:
        ModelError: the file whose images are used cannot be read any more.
    """
    surroundings = environment()
    measured = measure(candidates, *sample(found), reference=found.default, on_process=on_process)
    rounds = [each for figures in measured.files.values() for each in figures.rounds]
    return Bench(
        model=target,
        environment=surroundings,
        busy=busy(surroundings, rounds),
        default=found.default,
        recommended=found.recommended,
        reference=measured.reference,
        files=measured.files,
        preparation_ms=measured.preparation_ms,
        left_out=left_out,
        failed=measured.failed,
        advice=advise(candidates, measured.files, found.default),
    )


def batches(candidate: Candidate) -> tuple[tuple[int, int], ...]:
    """The batch sizes to measure, each with the number of threads that share it."""
    small = tuple((size, 1) for size in SMALL_BATCHES)
    threads = default_threads()
    if threads == 1 or candidate.format is Format.C:  # a C file starts no threads
        return small
    return (*small, (CHUNKS * CHUNK * threads, threads))


def measure(
    candidates: Sequence[Candidate],
    images: bytes,
    picture: bytes,
    *,
    reference: str | None = None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    on_process: Callable[[str, int, int], object] = lambda *_: None,
) -> Measurements:
    """Measure files in fresh processes, round by round, in an order that rotates.

    Args:
        candidates: the files, at least one.
        images: raw pixels of some images to classify, uint8 [n, 28, 28].
        picture: an encoded picture, whose preparation is timed by the first file that can prepare it.
        reference: the file to divide latencies by; if it was not measured, as also with None, it is the first that was.
        rounds: processes per file, at most: see `ENOUGH`.
        seconds: how long a process measures each of its figures, about.
        on_process: called before each process with the file, and how many processes are done and to do.
    """
    found: dict[str, list[Round]] = {each.file: [] for each in candidates}
    failed: dict[str, str] = {}
    preparing = next((each.file for each in candidates if each.format in RUNNABLE), None)
    begun = time.monotonic()
    for turn in range(rounds):
        if turn >= FEWEST_ROUNDS and time.monotonic() - begun > ENOUGH:
            break
        start = turn % len(candidates)
        for place, each in enumerate((*candidates[start:], *candidates[:start])):
            on_process(each.file, turn * len(candidates) + place, rounds * len(candidates))
            if each.file in failed:
                continue
            job = Job(
                images=images,
                batches=batches(each),
                picture=picture if each.file == preparing else None,
                seconds=seconds,
            )
            try:
                found[each.file].append(measured_once(each, job))
            except ExecutionError as error:
                failed[each.file] = str(error)
    complete = {each.file: found[each.file] for each in candidates if each.file not in failed}
    if reference not in complete:
        reference = next(iter(complete), None)
    base = complete.get(reference or "", [])
    prepared = [
        each.preparation_ms for each in complete.get(preparing or "", []) if isinstance(each.preparation_ms, float)
    ]
    return Measurements(
        files={each.file: summarized(each, found[each.file], base) for each in candidates if each.file in complete},
        reference=reference,
        failed=failed,
        preparation_ms=Spread.of(prepared) if prepared else None,
    )


def measured_once(candidate: Candidate, job: Job) -> Round:
    """Measure a file in one fresh process, which ends with this call, also if it is interrupted.

    Raises:
        ExecutionError: the process failed; the message says how.
    """
    what = (OPENERS[candidate.format], candidate.model, candidate.format, str(time.perf_counter()))
    command = [sys.executable, "-c", _BOOT, *what, *sys.path]
    try:
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:  # noqa: S603  # our own code
            try:
                out, told = process.communicate(json.encode(job))
            except BaseException:
                # Popen itself would not wait after Ctrl-C, nor kill.
                process.kill()
                process.wait()
                raise
    except OSError as error:
        raise ExecutionError(f"no process could be started ({error.strerror})") from error
    if process.returncode < 0:
        name = _signal_name(-process.returncode)
        likely = ", most likely for lack of memory" if name == "SIGKILL" else ""
        raise ExecutionError(f"its process was ended by {name}{likely}")
    if process.returncode:
        lines = [line.strip() for line in told.decode(errors="replace").splitlines() if line.strip()]
        raise ExecutionError(f"its process failed ({lines[-1] if lines else f'exit code {process.returncode}'})")
    try:
        return json.decode(out, type=Round)
    except DecodeError as error:
        raise ExecutionError(f"its process reported no figures ({error})") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # only the first and the last of the real-time signals have names
        return f"signal {number}"
