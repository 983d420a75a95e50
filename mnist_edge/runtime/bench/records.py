"""What is asked of a measuring process, what it reports, and what the rounds of a file come to."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Self

from msgspec import UNSET, Struct, UnsetType

from mnist_edge.bundle.layout import Format


class Job(Struct, frozen=True, kw_only=True):
    """What a process is to measure."""

    images: bytes
    """Raw pixels of some images, uint8 [n, 28, 28]."""

    batches: tuple[tuple[int, int], ...]
    """Batch size and threads of each throughput."""

    picture: bytes | None
    """An encoded picture whose preparation is timed; None to leave that out."""

    seconds: float
    """How long each figure is measured, about."""


class Throughput(Struct, frozen=True, kw_only=True):
    """Images per second in batches, by so many threads."""

    batch: int
    threads: int
    images_per_second: float | None
    """None if a single call would have taken too long."""


class Round(Struct, frozen=True, kw_only=True):
    """What one process reports about one file."""

    start_ms: float
    """From the request for a process to the first line of Python. Both read one clock: `time.perf_counter` is the same
    in all processes on Linux, macOS and Windows, and nobody sets it."""

    import_ms: float
    session_ms: float
    """Reading, verifying and loading the file."""

    first_answer_ms: float

    p50_us: float
    p95_us: float
    p99_us: float
    """Latency of one image on one thread, in microseconds, over all calls of this round."""

    processor_us: float
    """Processor time of one image, on all threads of the process."""

    busy: float
    """Processor time of the calling thread as a fraction of the time that passed; below 1, it had to wait for a
    processor. Threads that libraries start and let spin for a while, as OpenBLAS does, do not count."""

    throughput: tuple[Throughput, ...]

    interpreter_bytes: int | None
    """Peak memory before the imports; None where the system does not tell it, as for the next two."""

    one_image_bytes: int | None
    """Peak memory after the answers to single images."""

    batches_bytes: int | None
    """Peak memory after all batches."""

    preparation_ms: float | UnsetType = UNSET
    """From the bytes of a picture to the model's input, if it was asked for."""

    @property
    def cold_ms(self) -> float:
        """From the request for a process to the first answer."""
        return self.start_ms + self.import_ms + self.session_ms + self.first_answer_ms


class Spread(Struct, frozen=True):
    """A figure over the rounds: its median and its quartiles.

    >>> Spread.of([5, 1, 2, 4, 3])
    Spread(median=3, low=2.0, high=4.0)
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of at least one value."""
        found = [*values]
        median = statistics.median(found)
        if len(found) == 1:
            return cls(median, median, median)
        low, _, high = statistics.quantiles(found, n=4, method="inclusive")
        return cls(median, low, high)


class Candidate(Struct, frozen=True, kw_only=True):
    """A file to measure, and what its manifest says about it."""

    file: str
    """Its name."""

    format: Format

    bytes: int

    model: str
    """What the opener opens: the path of the bundle, of the ``.onnx`` file or of a compiled library."""

    accuracy: float | None = None
    """On the test set; None for a file without a manifest, as are the others."""

    accuracy_drop: float | None = None
    agreement: float | None = None
    max_abs_diff: float | None = None

    batch_dependence: float | None = None
    """Largest |Δlogit| of an image with the rest of its batch; measured for ONNX files only."""


class Figures(Struct, frozen=True, kw_only=True):
    """What the rounds of one file come to. Times are medians with quartiles."""

    format: Format
    bytes: int
    accuracy: float | None
    max_abs_diff: float | None
    p50_us: Spread
    p95_us: Spread
    p99_us: Spread

    ratio: Spread
    """`p50_us` divided by that of the reference, round by round."""

    processor_us: Spread
    start_ms: Spread
    import_ms: Spread
    session_ms: Spread
    first_answer_ms: Spread
    cold_ms: Spread
    throughput: tuple[Throughput, ...]

    memory_bytes: int | None
    """Peak memory with single images above that of the bare interpreter."""

    memory_total_bytes: int | None
    """The same, interpreter included."""

    memory_batches_bytes: int | None
    """Peak memory with batches too, above that of the bare interpreter."""

    rounds: tuple[Round, ...]


class Environment(Struct, frozen=True, kw_only=True):
    """What a latency depends on besides the file."""

    processor: str
    features: list[str]
    cpus: int
    """That this process may use."""

    threads: int
    """That share a large batch."""

    governor: str | None
    load_average: float | None
    """Before the first round."""

    platform: str
    python: str
    packages: dict[str, str]


class Advice(Struct, frozen=True):
    """What to do on this machine."""

    format: Format | None
    """The format to name; None if the file that answers by default is the right one, or if there is no choice."""

    words: str


class Bench(Struct, frozen=True, kw_only=True):
    """All that a measurement comes to."""

    model: str
    """The bundle, file or name that was given."""

    environment: Environment

    busy: str | None
    """How the machine was disturbed meanwhile; None if it was not."""

    default: str | None
    """The file that answers by default; None if there is none."""

    recommended: str | None
    """The one that the manifest recommends."""

    reference: str | None
    """The file that latencies are divided by: the default if it was measured, else the first; None if none was."""

    files: dict[str, Figures]
    """By name."""

    preparation_ms: Spread | None
    """From the bytes of a picture to the model's input."""

    left_out: dict[str, str]
    """For each file that was not to be measured, why."""

    failed: dict[str, str]
    """For each file that could not be measured, why."""

    advice: Advice | None


def summarized(candidate: Candidate, rounds: Sequence[Round], reference: Sequence[Round]) -> Figures:
    """The figures of a file.

    Args:
        candidate: the file.
        rounds: what its processes reported, at least one.
        reference: what those of the reference reported in the same rounds.
    """

    def over(name: str) -> Spread:
        return Spread.of(getattr(each, name) for each in rounds)

    peaks = [
        (
            each.one_image_bytes - each.interpreter_bytes,
            each.one_image_bytes,
            each.batches_bytes - each.interpreter_bytes,
        )
        for each in rounds
        if each.interpreter_bytes is not None and each.one_image_bytes is not None and each.batches_bytes is not None
    ]
    above, total, batches = (
        (statistics.median_high(peak) for peak in zip(*peaks, strict=True)) if peaks else (None, None, None)
    )
    return Figures(
        format=candidate.format,
        bytes=candidate.bytes,
        accuracy=candidate.accuracy,
        max_abs_diff=candidate.max_abs_diff,
        p50_us=over("p50_us"),
        p95_us=over("p95_us"),
        p99_us=over("p99_us"),
        ratio=Spread.of(mine.p50_us / other.p50_us for mine, other in zip(rounds, reference, strict=True)),
        processor_us=over("processor_us"),
        start_ms=over("start_ms"),
        import_ms=over("import_ms"),
        session_ms=over("session_ms"),
        first_answer_ms=over("first_answer_ms"),
        cold_ms=over("cold_ms"),
        throughput=tuple(map(_usual, zip(*(each.throughput for each in rounds), strict=True))),
        memory_bytes=above,
        memory_total_bytes=total,
        memory_batches_bytes=batches,
        rounds=tuple(rounds),
    )


def _usual(rounds: Sequence[Throughput]) -> Throughput:
    rates = [each.images_per_second for each in rounds if each.images_per_second is not None]
    return Throughput(
        batch=rounds[0].batch,
        threads=rounds[0].threads,
        images_per_second=statistics.median(rates) if len(rates) == len(rounds) else None,
    )
