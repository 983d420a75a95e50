"""Which of a bundle's ONNX files to use, and why not the others.

`int8-static` is recommended if it is accurate enough, smaller than float32, and not much slower on the exporting
machine. With fast int8 instructions it is faster than float32, without them about as fast. Its sums are integers, so
every processor gives the same answers. `int8-dynamic` is never recommended.
"""

import functools
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.records import Latency, Parity, Recommendation
from mnist_edge.bundle.thresholds import differences
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.export.parity import in_batches
from mnist_edge.runtime.latency import latencies
from mnist_edge.runtime.session import Session

ROUNDS: Final = 5
CALLS: Final = 100
"""Single images per round. The files take turns, so that a busy moment does not slow down one of them alone."""

NEIGHBOURS: Final = 256
"""Images whose logits are compared, one by one against all in one batch."""

SLOWER: Final = 1.5
"""Largest latency of an int8 file, as a multiple of float32's. Above 1, as the exporting machine is not the device."""

NEVER_BY_ITSELF: Final = "how it computes depends on the processor: measure it on the device, then choose it by name"
"""Why `int8-dynamic` is not recommended even if its figures are good."""


class Measured(Latency, frozen=True, kw_only=True):
    """The figures that decide whether a file is recommended."""

    bytes: int

    accuracy: float
    """On the test set."""

    agreement: float
    """Share of test images answered as PyTorch, and thus the float32 file, answers them."""


def measure(
    files: Mapping[Format, bytes], parities: Mapping[Format, Parity], images: NDArray[np.uint8]
) -> dict[Format, Measured]:
    """Measure the latency of ONNX files on one thread, and how far their logits depend on the batch.

    Args:
        files: their contents.
        parities: the figures of their comparison with PyTorch.
        images: raw pixels, uint8 [n, 1, 28, 28].
    """
    sessions = {form: Session(content) for form, content in files.items()}

    def answer(form: Format, number: int) -> object:
        return sessions[form].run([OUTPUT_NAME], {INPUT_NAME: images[number % len(images)][None]})

    times = latencies({form: functools.partial(answer, form) for form in files}, rounds=ROUNDS, repeats=CALLS)
    return {
        form: Measured(
            bytes=len(content),
            microseconds=round(1e6 * float(np.median(times[form])), 1),
            batch_dependence=_batch_dependence(sessions[form], images[:NEIGHBOURS]),
            accuracy=parities[form].accuracy,
            agreement=parities[form].agreement,
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
    """Why a quantized file is not recommended instead of the float32 file; None if nothing speaks against it."""
    drop = float32.accuracy - measured.accuracy
    time, float_time = measured.microseconds, float32.microseconds
    found = [
        *(
            [f"slower than float32: {time:.0f} against {float_time:.0f} µs an image"]
            if time > SLOWER * float_time
            else []
        ),
        *differences(drop, measured.agreement, measured.batch_dependence),
        *(["not smaller than float32"] if measured.bytes >= float32.bytes else []),
    ]
    return "; ".join(found) or None


def recommend(measured: Mapping[Format, Measured]) -> Recommendation:
    """The recommended file, and a reason against each of the others."""
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
    return Recommendation(best.file_name, reasons)


def _larger(float32: Measured, best: Measured) -> str:
    sizes = f"larger: {float32.bytes / 1000:.1f} against {best.bytes / 1000:.1f} KB"
    time, best_time = float32.microseconds, best.microseconds
    if round(time) == round(best_time):
        return sizes
    if time < best_time:
        return f"{sizes}, and quicker by only {best_time - time:.0f} µs an image"
    return f"{sizes}; slower: {time:.0f} against {best_time:.0f} µs an image"
