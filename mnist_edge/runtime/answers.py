"""From logits to answers: calibrated probabilities, and how unlike the training images a picture is."""

from dataclasses import dataclass
from itertools import groupby
from typing import Final

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
    """The not-a-digit score: the share of real images that look less strange, 0…1; None where the file cannot tell."""

    probabilities: dict[str, float]
    """The probability of every class, in the order of `Classifier.labels`."""

    logits: dict[str, float]
    """What the model itself returned for every class, in the same order."""


@dataclass(frozen=True)
class Digit:
    """One digit of a picture of several."""

    label: str | None
    """As in `Prediction`."""

    probability: float
    """As in `Prediction`."""

    novelty: float | None
    """As in `Prediction`."""

    box: tuple[int, int, int, int]
    """Left, top, right, bottom in the picture's pixels; right and bottom exclusive."""

    line: int
    """Which line of the picture it stands in, counted from 0 at the top."""


UNNAMED: Final = "?"
"""Stands in a text for a digit that is not named."""


@dataclass(frozen=True)
class Reading:
    """What a picture of several digits says."""

    digits: tuple[Digit, ...]
    """In reading order."""

    @property
    def text(self) -> str:
        """The labels one after another, a line of text for each of the picture's; `UNNAMED` where there is none."""
        lines = groupby(self.digits, key=lambda digit: digit.line)
        return "\n".join("".join(digit.label or UNNAMED for digit in line) for _, line in lines)


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
