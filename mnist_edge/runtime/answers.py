"""From logits to answers: calibrated probabilities, and how unlike the training images a picture is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import Calibration


@dataclass(frozen=True)
class Prediction:
    """The class an image most likely belongs to, or none."""

    label: str | None
    """Name of the most probable class; None for a blank picture, or beyond the limits that were asked for."""

    probability: float
    """Of the most probable class, 0…1, calibrated where the file is."""

    novelty: float | None
    """The not-a-digit score: the share of real images that look less strange; None where the file cannot tell.

    Within 0…`Calibration.finest_novelty`.
    """

    probabilities: dict[str, float]
    """The probability of every class, in the order of `Classifier.labels`."""

    logits: dict[str, float]
    """What the model itself returned for every class, in the same order."""


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities, float64 [n, classes], each row summing to one."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def evidence(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much speaks for any class at all, float64 [n]: the logarithm of the sum of the logits' exponentials.

    The energy score of Liu et al. 2020, "Energy-based Out-of-distribution Detection", at temperature 1, sign turned.
    Between two classes it does not fall as the probability does; before what is no class's at all it does.
    """
    exact = logits.astype(np.float64)
    peak = exact.max(axis=1)
    total: NDArray[np.float64] = peak + np.log(np.exp(exact - peak[:, None]).sum(axis=1))
    return total


def novelty(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float64]:
    """How many of the images kept for calibration showed more evidence, as a share of them and the picture itself.

    0.999 means that one real image of a thousand looks as strange: one minus the p-value of conformal anomaly
    detection (Laxhammar and Falkman 2011), which n images cannot bring below 1 / (n + 1).

    Returns:
        float64 [n], 0…`Calibration.finest_novelty`.
    """
    # np.interp wants rising abscissae; beyond the last kept image it stays at the outermost level.
    known = np.array(calibration.evidence[::-1])
    levels = np.array(calibration.novelty_levels[::-1])
    shares: NDArray[np.float64] = np.interp(evidence(logits), known, levels, right=0.0)
    # Files of 0.1.0 call their strangest image 1.0.
    return np.minimum(shares, calibration.finest_novelty)
