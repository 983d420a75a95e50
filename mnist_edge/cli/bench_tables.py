"""What `bench` prints as text."""

from typing import TYPE_CHECKING

from mnist_edge.cli.display import print_table
from mnist_edge.cli.output import counted, say, say_wrapped
from mnist_edge.report import words

if TYPE_CHECKING:
    from collections.abc import Collection

    from mnist_edge.runtime.bench.records import Bench, Figures, Spread


def print_bench(result: "Bench") -> None:
    """Print the figures of each file, what was left out, the machine and the advice."""
    if files := result.files.values():
        rounds = len(next(iter(files)).rounds)
        say(f"{result.model}: medians (and quartiles) of {counted(rounds, 'round')}\n")
        _print_latency(files, result)
        _print_throughput(files)
        _print_cold_start(files)
    if prepared := result.preparation_ms:
        from mnist_edge.runtime.bench.files import PICTURE

        width, height = PICTURE
        words = (
            f"{_rounded(prepared.median)} ms {_quartiles(prepared)} from a JPEG file of {width} × {height} to 28 × 28"
        )
        say_wrapped("preparation: ", f"{words}, apart from the model")
    for file, reason in result.left_out.items():
        say_wrapped("left out: ", f"{file}: {reason}")
    machine = result.environment
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    cpus = f"{machine.processor}, {counted(machine.cpus, 'usable CPU')}"
    say_wrapped("machine: ", f"{cpus}; Python {machine.python}, {packages}")
    if result.busy:
        say_wrapped("note: ", f"{result.busy}: measure again on an idle machine")
    if result.advice:
        say_wrapped("advice: ", result.advice.words)


def _print_latency(files: "Collection[Figures]", result: "Bench") -> None:
    print_table(
        ("one image", "latency", "", "ratio", "size", "accuracy", "max |Δlogit|"),
        [
            (
                f"{each.format}{' *' * (each.format.file_name == result.default)}",
                _time(each.p50_us),
                _quartiles(each.p50_us, _unit(each.p50_us)),
                f"{each.ratio.median:.2f}",
                words.size(each.bytes),
                "-" if each.accuracy is None else f"{100 * each.accuracy:.2f} %",
                "-" if each.max_abs_diff is None else f"{each.max_abs_diff:.1e}",
            )
            for each in files
        ],
    )
    if result.reference == result.default and any(each.format.file_name == result.default for each in files):
        say("* answers by default; ratio: latency divided by that of this file\n")
    else:
        say(f"ratio: latency divided by that of {result.reference}\n")


def _print_throughput(files: "Collection[Figures]") -> None:
    batches = sorted({(each.batch, each.threads) for figures in files for each in figures.throughput})
    rates = [{(each.batch, each.threads): each.images_per_second for each in one.throughput} for one in files]
    print_table(
        ("one image", "p95", "p99", "CPU time", *(f"batch {size:,}" for size, _ in batches)),
        [
            (
                each.format,
                *map(_time, (each.p95_us, each.p99_us, each.processor_us)),
                *(_per_second(rate.get(batch)) for batch in batches),
            )
            for each, rate in zip(files, rates, strict=True)
        ],
    )
    shared = [f"{size:,} on {counted(threads, 'thread')}" for size, threads in batches if threads > 1]
    say(f"batches: images a second on one thread{''.join(f', those of {each}' for each in shared)}")
    if any(each is None for rate in rates for each in rate.values()):
        say("-: not measured, as a single call takes too long")
    say()


def _print_cold_start(files: "Collection[Figures]") -> None:
    print_table(
        ("cold start", "Python", "import", "session", "1st answer", "total", "memory", "batches"),
        [
            (
                each.format,
                *(_rounded(part.median) for part in (each.start_ms, each.import_ms, each.session_ms)),
                _rounded(each.first_answer_ms.median),
                f"{_rounded(each.cold_ms.median)} ms",
                _megabytes(each.memory_bytes),
                _megabytes(each.memory_batches_bytes),
            )
            for each in files
        ],
    )
    if any(each.memory_bytes is None for each in files):
        say("memory: this system does not tell it\n")
    else:
        say("times in ms; memory: peak above the bare interpreter's, one image and batches\n")


def _rounded(value: float) -> str:
    """A number in few characters: at most two decimals, and of more than three digits none."""
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"


def _unit(microseconds: "Spread") -> float:
    """What a latency is divided by: from a millisecond on it is shown in milliseconds, so that the table fits."""
    return 1 if microseconds.median < 999.5 else 1000


def _time(microseconds: "Spread") -> str:
    unit = _unit(microseconds)
    return f"{_rounded(microseconds.median / unit)} {'µs' if unit == 1 else 'ms'}"


def _quartiles(spread: "Spread", unit: float = 1) -> str:
    return f"({_rounded(spread.low / unit)}…{_rounded(spread.high / unit)})"


def _per_second(rate: float | None) -> str:
    return "-" if rate is None else f"{_rounded(rate)}/s"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{_rounded(size / 1e6)} MB"
