"""What an exported file's logits mean: found on images that the training did not see, judged on the test set."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import Calibration
from mnist_edge.errors import ModelFormatError
from mnist_edge.export.parity import BATCH_SIZES, Run, in_batches
from mnist_edge.runtime.answers import evidence, softmax
from mnist_edge.training.datasets import Split
from mnist_edge.training.metrics import calibration_error

DECIMALS: Final = 4
"""Of what is stored: finer than a few thousand images can tell, coarser than another machine's rounding."""

NOVELTY_LEVELS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)
"""Where the distribution of the evidence is recorded: closely where answers begin to look strange."""

ALLOWED_DRIFT: Final = 0.01
"""How far `verify` may find a temperature from the recorded one, as a share of it."""


@dataclass(frozen=True)
class Calibrated:
    """What calibration did for a file's probabilities."""

    calibration: Calibration

    error: float
    """Expected calibration error on the test set, 0…1."""

    error_uncalibrated: float
    """The same at temperature 1."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "temperature": self.calibration.temperature,
            "images": self.calibration.images,
            "error": self.error,
            "error_uncalibrated": self.error_uncalibrated,
        }


def fit(run: Run, kept: Split) -> Calibration | None:
    """Find a file's temperature and the distribution of its evidence.

    None where no images were kept for that, or where logits are not finite: the comparison with PyTorch says so better.
    """
    if len(kept) == 0:
        return None
    logits = in_batches(run, kept.images[:, None], BATCH_SIZES[-1])
    if not np.isfinite(logits).all():
        return None
    levels = np.array(NOVELTY_LEVELS)
    return Calibration(
        temperature=round(temperature(logits, kept.labels), DECIMALS),
        novelty_levels=NOVELTY_LEVELS,
        evidence=tuple(np.quantile(evidence(logits), 1 - levels).round(DECIMALS).tolist()),
        images=len(kept),
    )


def temperature(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """The temperature with the least mean cross-entropy, within 0.05…20.

    In the inverse temperature the loss is convex, so that its slope has one zero, which bisection finds.
    """
    true = logits[np.arange(len(labels)), labels].astype(np.float64)
    coldest, hottest = 20.0, 0.05
    for _ in range(60):
        middle = (coldest + hottest) / 2
        slope = (softmax(logits, 1 / middle) * logits).sum(axis=1) - true
        coldest, hottest = (middle, hottest) if slope.mean() > 0 else (coldest, middle)
    return 2 / (coldest + hottest)


def judge(run: Run, calibration: Calibration, test: Split) -> Calibrated:
    """Hold calibrated and plain probabilities against the test set's labels."""
    logits = in_batches(run, test.images[:, None], BATCH_SIZES[-1])
    return Calibrated(
        calibration,
        error=calibration_error(softmax(logits, calibration.temperature), test.labels),
        error_uncalibrated=calibration_error(softmax(logits), test.labels),
    )


def check(recorded: Calibration | None, found: Calibration | None, name: str) -> None:
    """Raise ModelFormatError where a file's recorded calibration is not what its logits give."""
    if recorded is None or found is None:
        agree = recorded is found
    else:
        drift = abs(recorded.temperature / found.temperature - 1)
        scale = max(map(abs, found.evidence))
        same = zip(recorded.evidence, found.evidence, strict=True)
        agree = (
            drift <= ALLOWED_DRIFT
            and recorded.novelty_levels == found.novelty_levels
            and recorded.images == found.images
            and all(abs(a - b) <= ALLOWED_DRIFT * scale for a, b in same)
        )
    if not agree:
        raise ModelFormatError(f"{name}: its calibration is not what its logits give: export it again")


def check_recorded(recorded: Any, found: Calibrated | None, name: str) -> None:
    """Raise ModelFormatError where a manifest tells other figures of a file's calibration than are measured."""
    measured = found.as_dict() if found else None
    if recorded is None or measured is None:
        agree = recorded is measured
    else:
        agree = recorded.keys() == measured.keys() and all(
            abs(recorded[key] - value) <= ALLOWED_DRIFT * max(abs(value), 0.1) for key, value in measured.items()
        )
    if not agree:
        raise ModelFormatError(f"{name}: its calibration is recorded as {recorded}, not as measured: export it again")
