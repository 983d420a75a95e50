"""How far a peer's answers are from PyTorch's and from onnxruntime's, and how far they may be."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.layout import Format
from mnist_edge.export.formats import EXPORTERS
from mnist_edge.export.parity import BETWEEN_ENGINES

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Figures of one peer on one file; differences are of logits, flips are images that get another label."""

    images: int
    from_pytorch: float
    flips: int
    from_onnxruntime: float
    flips_from_onnxruntime: int
    std: float
    """Standard deviation of PyTorch's logits: the unit of the tolerances of int8 files."""

    failures: list[str]
    """What is out of tolerance, in words."""


def agreement(found: Logits, pytorch: Logits, onnxruntime: Logits, form: Format) -> Agreement:
    """Compare the logits of a file, all float32 [n, classes].

    The file must answer as PyTorch within its format's tolerance, which `export` asks of onnxruntime. An int8 file must
    also answer as it does in onnxruntime: the first tolerance leaves room for quantization, which is not the peer's.
    """
    std = float(pytorch.std(dtype=np.float64))
    found = found if np.isfinite(found).all() else np.full_like(found, math.inf)
    failures = []
    limits = {"PyTorch": (pytorch, EXPORTERS[form].TOLERANCE)}
    if form is not Format.ONNX:
        limits["onnxruntime"] = (onnxruntime, BETWEEN_ENGINES)
    for whose, (wanted, tolerance) in limits.items():
        largest, allowed = difference(found, wanted), tolerance.largest(std)[0]
        flips, allowed_flips = flipped(found, wanted), math.floor((1 - tolerance.min_agreement) * len(found) + 1e-9)
        if not largest <= allowed:
            failures.append(f"max |Δlogit| from {whose} {largest:.2g}, allowed {allowed:.2g}")
        if flips > allowed_flips:
            failures.append(
                f"{flips} of {len(found)} images labelled otherwise than by {whose}, allowed {allowed_flips}"
            )
    return Agreement(
        images=len(found),
        from_pytorch=difference(found, pytorch),
        flips=flipped(found, pytorch),
        from_onnxruntime=difference(found, onnxruntime),
        flips_from_onnxruntime=flipped(found, onnxruntime),
        std=std,
        failures=failures,
    )


def difference(found: Logits, wanted: Logits) -> float:
    return float(np.abs(found - wanted).max())


def flipped(found: Logits, wanted: Logits) -> int:
    return int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
