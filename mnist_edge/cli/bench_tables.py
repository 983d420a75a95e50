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
        _print_latency(files, result.default)
        _print_throughput(files)
        _print_cold_start(files)
    if prepared := result.preparation_ms:
        from mnist_edge.runtime.bench.files import PICTURE

        width, height = PICTURE
        words = f"{prepared.median:.1f} ms {_quartiles(prepared)} from a JPEG file of {width} × {height} to 28 × 28"
        say_wrapped("preparation: ", f"{words}, apart from the model")
    for file, reason in result.left_out.items():
        say_wrapped("left out: ", f"{file}: {reason}")
    machine = result.environment
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    cpus = f"{machine.processor}, {counted(machine.cpus, 'usable CPU')}"
    say_wrapped("machine: ", f"{cpus}; Python {machine.python}, {packages}")
    if result.busy:
        say_wrapped("note: ", f"{result.busy}: measure again when it is idle")
    if result.advice:
        say_wrapped("advice: ", result.advice.words)


def _print_latency(files: "Collection[Figures]", default: str) -> None:
    print_table(
        ("one image", "latency", "", "ratio", "size", "accuracy", "max |Δlogit|"),
        [
            (
                f"{each.format}{' *' * (each.format.file_name == default)}",
                _microseconds(each.p50_us),
                _quartiles(each.p50_us),
                f"{each.ratio.median:.2f}",
                words.size(each.bytes),
                "-" if each.accuracy is None else f"{100 * each.accuracy:.2f} %",
                "-" if each.max_abs_diff is None else f"{each.max_abs_diff:.1e}",
            )
            for each in files
        ],
    )
    if any(each.format.file_name == default for each in files):
        say("* answers by default; ratio: latency divided by that of this file")
    say()


def _print_throughput(files: "Collection[Figures]") -> None:
    batches = sorted({(each.batch, each.threads) for figures in files for each in figures.throughput})
    rates = [{(each.batch, each.threads): each.images_per_second for each in one.throughput} for one in files]
    print_table(
        ("one image", "p95", "p99", "CPU time", *(f"batch {size:,}" for size, _ in batches)),
        [
            (
                each.format,
                *map(_microseconds, (each.p95_us, each.p99_us, each.processor_us)),
                *(f"{rate[batch]:,.0f}/s" if batch in rate else "-" for batch in batches),
            )
            for each, rate in zip(files, rates, strict=True)
        ],
    )
    shared = [f"{size:,} on {counted(threads, 'thread')}" for size, threads in batches if threads > 1]
    say(f"batches: images a second on one thread{''.join(f', those of {each}' for each in shared)}\n")


def _print_cold_start(files: "Collection[Figures]") -> None:
    print_table(
        ("cold start", "Python", "import", "session", "1st answer", "total", "memory", "batches"),
        [
            (
                each.format,
                *(f"{part.median:,.1f}" for part in (each.start_ms, each.import_ms, each.session_ms)),
                f"{each.first_answer_ms.median:,.1f}",
                f"{each.cold_ms.median:,.0f} ms",
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


def _microseconds(spread: "Spread") -> str:
    return f"{spread.median:,.1f} µs"


def _quartiles(spread: "Spread") -> str:
    return f"({spread.low:,.1f}…{spread.high:,.1f})"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"
