"""Which file of a bundle to name on this machine."""

from collections.abc import Mapping, Sequence
from typing import Final

from mnist_edge.bundle.layout import RUNNABLE
from mnist_edge.bundle.thresholds import differences
from mnist_edge.runtime.bench.records import Advice, Candidate, Figures

WORTH_NAMING: Final = 0.1
"""A file that is quicker by less than this fraction is not advised: by so much two runs may differ."""


def advise(candidates: Sequence[Candidate], files: Mapping[str, Figures], default: str | None) -> Advice | None:
    """Compare the file that answers by default with the others whose answers are as good.

    A file is advised if it is quicker by more than `WORTH_NAMING` and by more than the ratio varies over the rounds.
    Its answers are as good if they meet what is asked of a recommended file (`mnist_edge.bundle.thresholds`).

    Args:
        candidates: what the manifest says about the files.
        files: what was measured.
        default: the name of the file that answers by default, and of the one that latencies were divided by.

    Returns:
        None if the default file, or any other file that onnxruntime runs, was not measured.
    """
    runnable = [each for each in candidates if each.format in RUNNABLE and each.file in files]
    if default is None or default not in files or len(runnable) < 2:
        return None
    others = [each for each in runnable if each.file != default and is_correct(each)]
    clearly = [each for each in others if _is_quicker(files[each.file])]
    if not clearly:
        return Advice(None, f"{default} is the right file here: no other file with answers as good is clearly quicker")
    best = min(clearly, key=lambda each: files[each.file].ratio.median)
    found, usual = files[best.file], files[default]
    times = 1 / found.ratio.median
    return Advice(
        best.format,
        f"name --format {best.format} here: {times:.1f} times as fast as {default}, at "
        f"{_size(found.bytes / usual.bytes)}",
    )


def _size(ratio: float) -> str:
    times = f"{ratio:.2g}"
    return {"1": "the same size", "0.5": "half the size"}.get(times, f"{times} times the size")


def is_correct(candidate: Candidate) -> bool:
    """Whether a file's answers are measured, and good enough for a recommended file."""
    if candidate.accuracy_drop is None or candidate.agreement is None:
        return False
    return not differences(candidate.accuracy_drop, candidate.agreement, candidate.batch_dependence)


def _is_quicker(figures: Figures) -> bool:
    ratio = figures.ratio
    return 1 - ratio.median > max(WORTH_NAMING, ratio.high - ratio.low) and ratio.high < 1
