"""From logits to answers: calibrated probabilities, and how unlike the training images a picture is."""

from itertools import groupby
from typing import Any, Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from mnist_edge.contract import Calibration

UNNAMED: Final = "?"
"""Stands in a text for a digit that is not named."""


class Answer(Struct, frozen=True, kw_only=True):
    """What `Prediction` and `Digit` have in common."""

    label: str | None
    """Name of the most probable class; None for a blank picture, or beyond the limits that were asked for."""

    probability: float
    """Of the most probable class, 0…1, calibrated where the file is."""

    ood_score: float | None
    """The out-of-distribution score: the share of real images that look less strange; None where the file is not
    calibrated. Within 0…`Calibration.finest_ood_score`."""

    def to_dict(self) -> dict[str, object]:
        """The fields by name, for JSON."""
        return structs.asdict(self)


class Prediction(Answer, frozen=True, kw_only=True):
    """The class an image most likely belongs to, or none."""

    probabilities: dict[str, float]
    """The probability of every class, in the order of `Classifier.labels`."""

    logits: dict[str, float]
    """What the model itself returned for every class, in the same order."""


class Digit(Answer, frozen=True, kw_only=True):
    """One digit of a picture of several."""

    box: tuple[int, int, int, int]
    """Left, top, right, bottom in the picture's pixels; right and bottom exclusive."""

    line: int
    """Which line of the picture it stands in, counted from 0 at the top."""


class Reading(Struct, frozen=True):
    """What a picture of several digits says."""

    digits: tuple[Digit, ...]
    """In reading order."""

    @property
    def text(self) -> str:
        """The labels one after another, a line of text for each of the picture's; `UNNAMED` where there is none."""
        lines = groupby(self.digits, key=lambda digit: digit.line)
        return "\n".join("".join(digit.label or UNNAMED for digit in line) for _, line in lines)


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities, float64 [n, classes], each row summing to one."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def energy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The negative logarithm of the sum of the logits' exponentials, float64 [n]: high where no class fits.

    Liu et al. 2020, "Energy-based Out-of-distribution Detection", at temperature 1. Between two classes it does not
    rise as the largest probability falls; before what is no class's at all it does.
    """
    exact = logits.astype(np.float64)
    peak = exact.max(axis=1)
    total: NDArray[np.float64] = -peak - np.log(np.exp(exact - peak[:, None]).sum(axis=1))
    return total


def ood_score(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float64]:
    """The share of the calibration split and the picture itself that has less energy.

    0.999 means that one real image of a thousand looks as strange: one minus the p-value of conformal anomaly
    detection (Laxhammar and Falkman 2011), which n images cannot bring below 1 / (n + 1).

    Returns:
        float64 [n], 0…`Calibration.finest_ood_score`; beyond the outermost images of the split it stays there.
    """
    scores: NDArray[np.float64] = np.interp(energy(logits), calibration.energies, calibration.ood_scores, left=0.0)
    return scores
