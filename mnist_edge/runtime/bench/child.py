"""What runs in a measuring process.

Until it knows the memory of the bare interpreter, it imports only what Python has loaded anyway.
"""

import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mnist_edge.runtime.bench.records import Job, Round

WARM_UP: Final = 0.2
"""Before a figure is measured, its call is made for this part of the time."""

FEWEST: Final = 3
"""Calls, unless one takes longer than the time there is."""

MOST: Final = 20_000
"""Calls of the quickest."""

LONGEST: Final = 4
"""A batch is left out if one call of it would take that many times as long as a figure is given."""


class Opened(NamedTuple):
    """An opened file."""

    logits: "Callable[[NDArray[Any]], object]"
    """Computes the logits of raw pixels, uint8 [n, 1, 28, 28]."""

    use_threads: "Callable[[int], object] | None" = None
    """Sets the number of threads for large batches; None if the number of threads cannot be set."""

    preprocess: "Callable[[bytes], object] | None" = None
    """From an encoded picture to the model's input."""


def main() -> None:
    """Measure a file.

    ``sys.argv`` holds its opener, what to open, its format and when the process was requested (`time.perf_counter`);
    stdin holds the `Job` as JSON.
    """
    begun = time.perf_counter()
    opener, model, form, requested = sys.argv[1:5]
    interpreter = peak_memory()
    start = time.perf_counter()
    from importlib import import_module

    opening = import_module(opener)
    imported = time.perf_counter()
    opened: Opened = opening.opened(model, form)
    loaded = time.perf_counter()
    job, images = _read_job()
    one = images[:1]
    ready = time.perf_counter()
    opened.logits(one)
    answered = time.perf_counter()
    report = _measured(
        opened,
        job,
        images,
        start_ms=1e3 * (begun - float(requested)),
        import_ms=1e3 * (imported - start),
        session_ms=1e3 * (loaded - imported),
        first_answer_ms=1e3 * (answered - ready),
        interpreter_bytes=interpreter,
    )
    import msgspec

    sys.stdout.buffer.write(msgspec.json.encode(report))


def _read_job() -> "tuple[Job, NDArray[Any]]":
    import msgspec
    import numpy as np

    from mnist_edge.contract import HEIGHT, WIDTH
    from mnist_edge.runtime.bench.records import Job

    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    return job, np.frombuffer(job.images, np.uint8).reshape(-1, 1, HEIGHT, WIDTH).copy()


def _measured(opened: Opened, job: "Job", images: "NDArray[Any]", **cold: Any) -> "Round":
    import statistics
    from functools import partial

    import numpy as np
    from msgspec import UNSET

    from mnist_edge.runtime.bench.records import Round, Throughput

    logits = opened.logits
    singles = [images[number : number + 1] for number in range(len(images))]
    passed, processor, thread = time.perf_counter(), time.process_time(), time.thread_time()
    times = timed(lambda number: logits(singles[number % len(singles)]), job.seconds)
    thread, processor = time.thread_time() - thread, time.process_time() - processor
    passed = time.perf_counter() - passed
    p50, p95, p99 = 1e6 * np.quantile(times, (0.5, 0.95, 0.99))
    after_singles = peak_memory()
    throughput = []
    for size, threads in job.batches:
        rate = None
        if 1e-6 * p50 * size / threads < LONGEST * job.seconds:
            batch = np.resize(images, (size, *images.shape[1:]))
            if opened.use_threads:
                opened.use_threads(threads)
            rate = size / statistics.median(timed(partial(_ignoring_number, logits, batch), job.seconds / 2))
        throughput.append(Throughput(batch=size, threads=threads, images_per_second=rate))
    after_batches = peak_memory()
    preparation: Any = UNSET
    if job.picture is not None and (prepare := opened.preprocess) is not None:
        picture = job.picture
        preparation = 1e3 * statistics.median(timed(lambda _: prepare(picture), job.seconds / 2))
    return Round(
        **cold,
        p50_us=float(p50),
        p95_us=float(p95),
        p99_us=float(p99),
        processor_us=float(1e6 * np.mean(times)) * processor / passed,
        busy=thread / passed,
        throughput=tuple(throughput),
        one_image_bytes=after_singles,
        batches_bytes=after_batches,
        preparation_ms=preparation,
    )


def _ignoring_number(call: "Callable[[Any], object]", argument: object, _: int) -> None:
    call(argument)


def timed(call: "Callable[[int], object]", seconds: float) -> list[float]:
    """Durations of a call in seconds, after a warm-up, until their durations sum to about `seconds`."""
    from mnist_edge.runtime.latency import latencies

    took: list[float] = []
    until = time.perf_counter() + WARM_UP * seconds
    while not took or time.perf_counter() < until:
        took += latencies({"": call}, rounds=1, repeats=1)[""]
    usual = sorted(took)[len(took) // 2]
    repeats = min(MOST, max(FEWEST, round(seconds / max(usual, 1e-9)))) if usual < seconds else 1
    return latencies({"": call}, rounds=1, repeats=repeats)[""]


def peak_memory() -> int | None:
    """The most memory that was resident in this process so far, in bytes; None where the system does not tell it."""
    try:
        # Not by getrusage: on Linux a child's figure begins at its parent's.
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123  # pathlib takes memory
            for line in file:
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
