"""Which of a bundle's ONNX files to take, and plainly why not the others.

`int8-static` is recommended where it is good enough for the model, smaller, and not much slower on the machine of the
export: on one with fast int8 instructions it is quicker than float32, on others about as quick. Its sums are integers,
so every processor gives its answers. `int8-dynamic` is never recommended.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle import Format
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.export.parity import in_batches
from mnist_edge.runtime.session import Session

ROUNDS: Final = 5
CALLS: Final = 100
"""Single images a round. The files take turns, so that a busy moment does not fall on one of them alone."""

NEIGHBOURS: Final = 256
"""Images whose logits are compared between being alone and being in a batch."""

SLOWER: Final = 1.5
"""The most that an int8 file may take, in times of float32's latency: the machine of the export is not the device."""

MAX_DROP: Final = 0.0005
"""Accuracy that may be given up, in shares of one."""

MIN_AGREEMENT: Final = 0.998
"""Share of the test images on which the answer must be PyTorch's."""

MAX_BATCH_DEPENDENCE: Final = 1e-4
"""Of an image's logits, on the images beside it; float32's own rounding stays below."""

NEVER_BY_ITSELF: Final = "how it computes depends on the processor: measure it on the device, then choose it by name"
"""Why `int8-dynamic` is not recommended even where its figures are good."""


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
        return {"microseconds": self.microseconds, "batch_dependence": self.batch_dependence}


def measure(
    files: Mapping[Format, bytes], entries: Mapping[Format, Mapping[str, Any]], images: NDArray[np.uint8]
) -> dict[Format, Measured]:
    """Time ONNX files on one thread, and see whether their logits depend on the batch.

    Args:
        files: their contents.
        entries: what the manifest lists of each: the comparison with PyTorch has judged the rest.
        images: raw pixels, uint8 [n, 1, 28, 28].
    """
    sessions = {form: Session(content) for form, content in files.items()}
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
            microseconds=round(1e6 * float(np.median(times[form])), 1),
            batch_dependence=_batch_dependence(sessions[form], images[:NEIGHBOURS]),
            accuracy=entries[form]["parity"]["accuracy"],
            agreement=entries[form]["parity"]["agreement"],
        )
        for form, content in files.items()
    }


def _batch_dependence(session: Session, images: NDArray[np.uint8]) -> float:
    alone, together = (
        in_batches(lambda chunk: session.run([OUTPUT_NAME], {INPUT_NAME: chunk})[0], images, size)
        for size in (1, len(images))
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
    """The verdict for a manifest: the recommended file, and for each other one why not."""
    float32 = measured[Format.ONNX]
    static = measured.get(Format.INT8_STATIC)
    best = Format.INT8_STATIC if static and objections(static, float32) is None else Format.ONNX
    reasons = {}
    for form, found in measured.items():
        if form is best:
            continue
        if form is Format.ONNX:
            reasons[form.file_name] = _larger(float32, measured[best])
        else:
            reasons[form.file_name] = objections(found, float32) or NEVER_BY_ITSELF
    return {"file": best.file_name, "not": reasons}


def _larger(float32: Measured, best: Measured) -> str:
    sizes = f"larger: {float32.bytes / 1000:.1f} against {best.bytes / 1000:.1f} KB"
    if float32.microseconds < best.microseconds:
        return f"{sizes}, and quicker by only {best.microseconds - float32.microseconds:.0f} µs an image"
    return f"{sizes}; slower: {float32.microseconds:.0f} against {best.microseconds:.0f} µs an image"
