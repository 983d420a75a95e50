"""What an exported file's logits mean: found on images that the training did not see, measured on the test set."""

import math
from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from mnist_edge.bundle.records import CalibrationFigures
from mnist_edge.contract import Calibration
from mnist_edge.data.datasets import Split
from mnist_edge.errors import ModelFormatError
from mnist_edge.evaluation.metrics import calibration_error
from mnist_edge.export.parity import Run, in_batches
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.prediction import energy, softmax

DIGITS: Final = 4
"""Of what is stored: finer than a few thousand images can tell, coarser than another machine's rounding."""

OOD_SCORES: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Where the distribution of the energy is recorded, as far as the images can tell: closely where pictures begin to look
strange. The finest score that they can tell comes last."""

ALLOWED_DRIFT: Final = 0.01
"""How far `verify` may find a temperature from the recorded one, as a share of it."""


def fit(run: Run, split: Split) -> Calibration | None:
    """Find a file's temperature and the distribution of its energy.

    Args:
        run: the file.
        split: the images that the training did not see.

    Returns:
        None where the split is empty, where no temperature makes sense of the logits, or where logits are not finite:
        the comparison with PyTorch says so better.
    """
    if len(split) == 0:
        return None
    logits = in_batches(run, split.images[:, None], CHUNK, threaded=True)
    if not np.isfinite(logits).all():
        return None
    found = temperature(logits, split.labels)
    if found is None:
        return None
    scores, energies = ood_scale(energy(logits))
    return Calibration(
        temperature=float(f"{found:.{DIGITS}g}"), ood_scores=scores, energies=energies, images=len(split)
    )


def ood_scale(energies: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The out-of-distribution scores that so many images can tell, and the energy at each.

    Of n images the k-th in the order of energy has the score k / (n + 1): another image of their kind exceeds it with
    the rest of the probability, for it is as likely to fall before, between or behind any of them.
    """
    finest = len(energies) / (len(energies) + 1)
    scores = (*(score for score in OOD_SCORES if score < finest), finest)
    quantiles = np.quantile(energies, scores, method="weibull").round(DIGITS)
    return scores, tuple(quantiles.tolist())


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


def figures(logits: NDArray[np.float32], calibration: Calibration, labels: NDArray[np.uint8]) -> CalibrationFigures:
    """Compare calibrated and plain probabilities with the labels of the test set, whose logits are given."""
    return CalibrationFigures(
        temperature=calibration.temperature,
        images=calibration.images,
        error=calibration_error(softmax(logits, calibration.temperature), labels),
        error_uncalibrated=calibration_error(softmax(logits), labels),
    )


def check(recorded: Calibration | None, found: Calibration | None, name: str) -> None:
    """Raise ModelFormatError where a file's recorded calibration is not what its logits give."""
    if recorded is None or found is None:
        agree = recorded is found
    else:
        drift = abs(recorded.temperature / found.temperature - 1)
        scale = max(map(abs, found.energies))
        agree = (
            drift <= ALLOWED_DRIFT
            and recorded.ood_scores == found.ood_scores
            and recorded.images == found.images
            and all(abs(a - b) <= ALLOWED_DRIFT * scale for a, b in zip(recorded.energies, found.energies, strict=True))
        )
    if not agree:
        raise ModelFormatError(f"{name}: its calibration is not what its logits give: export it again")


def check_recorded(recorded: CalibrationFigures | None, found: CalibrationFigures | None, name: str) -> None:
    """Raise ModelFormatError where a manifest tells other figures of a file's calibration than are measured."""
    if recorded is None or found is None:
        agree = recorded is found
    else:
        agree = all(
            abs(told - value) <= ALLOWED_DRIFT * max(abs(value), 0.1)
            for told, value in zip(structs.astuple(recorded), structs.astuple(found), strict=True)
        )
    if not agree:
        raise ModelFormatError(f"{name}: its calibration is recorded as {recorded}, not as measured: export it again")
