"""From logits to answers: calibrated probabilities and out-of-distribution scores."""

from itertools import groupby
from typing import Any, Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from mnist_edge.contract import Calibration

UNNAMED: Final = "?"
"""Stands in `Reading.text` for a digit without a label."""


class Answer(Struct, frozen=True, kw_only=True):
    """The fields that `Prediction` and `Digit` share."""

    label: str | None
    """Name of the most probable class; None for a blank picture or outside the requested limits."""

    probability: float
    """Probability of the most probable class, 0…1; calibrated if the file is."""

    ood_score: float | None
    """Out-of-distribution score, 0…`Calibration.finest_ood_score`: the share of real images that look less unusual.
    None if the file is not calibrated."""

    def to_dict(self) -> dict[str, object]:
        """The fields by name, for JSON."""
        return structs.asdict(self)


class Prediction(Answer, frozen=True, kw_only=True):
    """The answer for one image."""

    probabilities: dict[str, float]
    """The probability of every class, in the order of `Classifier.labels`."""

    logits: dict[str, float]
    """The model's raw output for every class, in the same order."""

    digits: int | None
    """How many digits the picture shows, of which the one with the most ink is classified; digits that touch count as
    one. None if they were not counted: the image was already 28×28 and preprocessed, or the model takes whole pictures.
    """


class Digit(Answer, frozen=True, kw_only=True):
    """The answer for one digit of a picture, and where it is."""

    box: tuple[int, int, int, int]
    """Left, top, right, bottom in the picture's pixels; right and bottom exclusive."""

    line: int
    """Index of its line, counted from 0 at the top."""


class Reading(Struct, frozen=True):
    """The digits read from a picture."""

    digits: tuple[Digit, ...]
    """In reading order."""

    @property
    def text(self) -> str:
        """The labels in reading order, one line of text per line of the picture; `UNNAMED` for a digit without one."""
        lines = groupby(self.digits, key=lambda digit: digit.line)
        return "\n".join("".join(digit.label or UNNAMED for digit in line) for _, line in lines)


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities, float64 [n, classes], each row summing to one."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def energy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The energy of each row, ``-log(sum(exp(logits)))``, float64 [n]: high where no class fits.

    Liu et al. 2020, "Energy-based Out-of-distribution Detection", at temperature 1. Ambiguity between two classes
    lowers the largest probability but does not raise the energy; an image of no class at all raises it.
    """
    exact = logits.astype(np.float64)
    peak = exact.max(axis=1)
    total: NDArray[np.float64] = -peak - np.log(np.exp(exact - peak[:, None]).sum(axis=1))
    return total


def ood_score(logits: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float64]:
    """The share of images with lower energy, counted over the calibration split and the picture itself.

    A score of 0.999 means that one real image in a thousand looks as unusual. It is one minus the p-value of conformal
    anomaly detection (Laxhammar and Falkman 2011), which n images cannot bring below 1 / (n + 1).

    Returns:
        float64 [n], 0…`Calibration.finest_ood_score`; energies outside the split's range get the lowest or highest
        score.
    """
    scores: NDArray[np.float64] = np.interp(energy(logits), calibration.energies, calibration.ood_scores, left=0.0)
    return scores
