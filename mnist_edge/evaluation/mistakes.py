"""The images that a model gets wrong."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray


class Mistake(Struct, frozen=True):
    """An image whose predicted class is not its own."""

    index: int
    """In the set, from 0."""

    truth: int
    """The true class."""

    answer: int
    """The predicted class."""

    probability: float
    """The model's, of its answer."""


def mistakes(probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> list[Mistake]:
    """All mistakes, the most confident first.

    Args:
        probabilities: [n, classes].
        labels: [n], the true class indices.
    """
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return [Mistake(int(i), int(labels[i]), int(answers[i]), float(confidence[i])) for i in wrong]
