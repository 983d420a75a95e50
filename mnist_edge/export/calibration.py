"""What an exported file's logits mean: found on images that the training did not see, judged on the test set."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import Calibration
from mnist_edge.errors import ModelFormatError
from mnist_edge.export.parity import Run, in_batches
from mnist_edge.runtime.answers import evidence, softmax
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.training.datasets import Split
from mnist_edge.training.metrics import calibration_error

DIGITS: Final = 4
"""Of what is stored: finer than a few thousand images can tell, coarser than another machine's rounding."""

NOVELTY_LEVELS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Where the distribution of the evidence is recorded, as far as the images can tell: closely where answers begin to
look strange. The finest level that they can tell comes last."""

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

    Args:
        run: the file.
        kept: the images that the training did not see.

    Returns:
        None where no images were kept, where no temperature makes sense of the logits, or where logits are not finite:
        the comparison with PyTorch says so better.
    """
    if len(kept) == 0:
        return None
    logits = in_batches(run, kept.images[:, None], CHUNK, threaded=True)
    if not np.isfinite(logits).all():
        return None
    found = temperature(logits, kept.labels)
    if found is None:
        return None
    levels, shown = novelty_scale(evidence(logits))
    return Calibration(
        temperature=float(f"{found:.{DIGITS}g}"), novelty_levels=levels, evidence=shown, images=len(kept)
    )


def novelty_scale(shown: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The levels that so many images can tell, and the evidence at each.

    Of n images the k-th most evident has the novelty k / (n + 1): another image of their kind exceeds it with the rest
    of the probability, for it is as likely to fall before, between or behind any of them.
    """
    finest = len(shown) / (len(shown) + 1)
    levels = (*(level for level in NOVELTY_LEVELS if level < finest), finest)
    quantiles = np.quantile(shown, 1 - np.array(levels), method="weibull").round(DIGITS)
    return levels, tuple(quantiles.tolist())


def temperature(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> float | None:
    """The temperature with the least mean cross-entropy, against targets that n images can vouch for.

    However many of n images are answered rightly, the next one may be wrong. So of each target a share of
    0.5 / (n + 1) is spread over the other classes: half an error in all. Otherwise logits without an error would be as
    good as certain, at a temperature of zero. Platt 1999 ("Probabilistic Outputs for Support Vector Machines", section
    2.2) smooths targets so by Laplace's rule, a whole error; half a one, Jeffreys' rule (Brown, Cai and DasGupta 2001,
    "Interval Estimation for a Binomial Proportion"), leaves more to the errors that there are. With 16 among 4,992
    images it moves the temperature of `cnn` by 0.9 %, where another draw of images would move it by 4 %.

    In the inverse temperature the loss is convex, so that its slope rises through one zero, wherever that may lie.

    Returns:
        None where no temperature is better than equal probabilities for all: the logits do not favour the right class.
    """
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    unknown = 0.5 / (len(exact) + 1)
    targets = np.full_like(exact, unknown / (exact.shape[1] - 1))
    targets[np.arange(len(labels)), labels] = 1 - unknown

    def slope(temperature: float) -> float:
        """Of the loss, in the inverse temperature."""
        return float(((softmax(exact, temperature) - targets) * exact).sum(axis=1).mean())

    if slope(math.inf) >= 0:
        return None
    hot = cold = 1.0
    while slope(hot) > 0:
        hot *= 2
    while slope(cold) < 0:
        cold /= 2
    for _ in range(60):
        middle = math.sqrt(hot * cold)
        hot, cold = (middle, cold) if slope(middle) < 0 else (hot, middle)
    return math.sqrt(hot * cold)


def judge(logits: NDArray[np.float32], calibration: Calibration, labels: NDArray[np.uint8]) -> Calibrated:
    """Hold calibrated and plain probabilities against the labels of the test set, whose logits are given."""
    return Calibrated(
        calibration,
        error=calibration_error(softmax(logits, calibration.temperature), labels),
        error_uncalibrated=calibration_error(softmax(logits), labels),
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
