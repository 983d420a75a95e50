"""Which of a bundle's ONNX files to take to a device like this one, and plainly why not the others.

Quantized files are smaller; whether they are faster depends on the processor, and whether they are good enough on the
model. Both are measured here against the float32 file.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle import Format
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.export.parity import BATCH_SIZES, in_batches
from mnist_edge.runtime.session import Session

ROUNDS: Final = 5
CALLS: Final = 100
"""Single images a round. The files take turns, so that a busy moment does not fall on one of them alone."""

NEIGHBOURS: Final = 256
"""Images whose logits are compared between being alone and being in a batch."""

SLOWER: Final = 1.05
"""More than this many times float32's latency is slower and not noise."""

MAX_DROP: Final = 0.0005
"""Accuracy that may be given up, in shares of one."""

MIN_AGREEMENT: Final = 0.998
"""Share of the test images on which the answer must be PyTorch's."""

MAX_BATCH_DEPENDENCE: Final = 1e-4
"""Of an image's logits, on the images beside it; float32's own rounding stays below."""


@dataclass(frozen=True)
class Measured:
    """What decides about one file."""

    bytes: int

    microseconds: float
    """Median time of one image on one thread of the machine of the export."""

    batch_dependence: float
    """The largest |Δlogit| of an image between being alone and being in a batch."""

    accuracy: float
    """On the test set."""

    agreement: float
    """Share of test images answered as PyTorch does, and with it the float32 file."""

    def as_dict(self) -> dict[str, Any]:
        """The figures that a manifest does not have from the comparison with PyTorch."""
        return {"microseconds": round(self.microseconds, 1), "batch_dependence": self.batch_dependence}


def measure(
    files: Mapping[Format, bytes], entries: Mapping[Format, Mapping[str, Any]], images: NDArray[np.uint8]
) -> dict[Format, Measured]:
    """Time ONNX files on one thread, and see whether their logits depend on the batch.

    Args:
        files: their contents.
        entries: what the manifest lists of each: the comparison with PyTorch has judged the rest.
        images: raw pixels, uint8 [n, 1, 28, 28].
    """
    sessions = {form: Session(content, threads=1) for form, content in files.items()}
    times: dict[Format, list[float]] = {form: [] for form in files}
    for _ in range(ROUNDS):
        for form, session in sessions.items():
            for index in range(CALLS):
                image = images[index % len(images)][None]
                start = time.perf_counter()
                session.run([OUTPUT_NAME], {INPUT_NAME: image})
                times[form].append(time.perf_counter() - start)
    return {
        form: Measured(
            bytes=len(content),
            microseconds=1e6 * float(np.median(times[form])),
            batch_dependence=_batch_dependence(sessions[form], images[:NEIGHBOURS]),
            accuracy=entries[form]["parity"]["accuracy"],
            agreement=entries[form]["parity"]["agreement"],
        )
        for form, content in files.items()
    }


def _batch_dependence(session: Session, images: NDArray[np.uint8]) -> float:
    alone, together = (
        in_batches(lambda chunk: session.run([OUTPUT_NAME], {INPUT_NAME: chunk})[0], images, size)
        for size in (1, BATCH_SIZES[-1])
    )
    return float(np.abs(alone - together).max())


def objections(measured: Measured, float32: Measured) -> str | None:
    """Why a quantized file is not recommended in the float32 file's place; None where nothing speaks against it."""
    drop = float32.accuracy - measured.accuracy
    found = {
        f"slower than float32: {measured.microseconds:.0f} against {float32.microseconds:.0f} µs an image": (
            measured.microseconds > SLOWER * float32.microseconds
        ),
        f"loses {100 * drop:.2f} points of accuracy": drop > MAX_DROP + 1e-9,
        f"answers {100 * (1 - measured.agreement):.2f} % of the images otherwise": measured.agreement < MIN_AGREEMENT,
        f"an image's logits move by {measured.batch_dependence:.2g} with the images beside it": (
            measured.batch_dependence > MAX_BATCH_DEPENDENCE
        ),
        "not smaller than float32": measured.bytes >= float32.bytes,
    }
    return "; ".join(words for words, holds in found.items() if holds) or None


def recommend(measured: Mapping[Format, Measured]) -> dict[str, Any]:
    """The verdict for a manifest: the recommended file, and for each other one why not.

    Recommended is the smallest of the fastest, which are those within `SLOWER` of the quickest file that nothing speaks
    against.
    """
    float32 = measured[Format.ONNX]
    against = {form: None if form is Format.ONNX else objections(found, float32) for form, found in measured.items()}
    fit = [found for form, found in measured.items() if against[form] is None]
    limit = SLOWER * min(found.microseconds for found in fit)
    smallest = min((found for found in fit if found.microseconds <= limit), key=lambda found: found.bytes)
    (best,) = (form for form, found in measured.items() if found is smallest)
    reasons = {
        form.file_name: against[form] or _weaker(found, smallest)
        for form, found in measured.items()
        if form is not best
    }
    return {"file": best.file_name, "not": reasons}


def _weaker(measured: Measured, best: Measured) -> str:
    if measured.microseconds > SLOWER * best.microseconds:
        return f"slower: {measured.microseconds:.0f} against {best.microseconds:.0f} µs an image"
    return f"larger: {measured.bytes / 1000:.1f} against {best.bytes / 1000:.1f} KB, and no faster"
