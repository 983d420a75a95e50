"""From logits to answers: calibrated probabilities, and how unlike the training images a picture is."""

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import Calibration


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
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
    """The share of the images kept for calibration that showed more evidence, float64 [n], 0…1.

    0.999 means that one real image of a thousand looks as strange: one minus the p-value of conformal anomaly
    detection (Laxhammar and Falkman 2011).
    """
    # np.interp wants rising abscissae; beyond the last kept image it stays at the outermost level.
    known = np.array(calibration.evidence[::-1])
    levels = np.array(calibration.novelty_levels[::-1])
    shares: NDArray[np.float64] = np.interp(evidence(logits), known, levels, left=1.0, right=0.0)
    return shares
