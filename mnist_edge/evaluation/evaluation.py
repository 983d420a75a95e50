"""How a model answers a labelled set, in all figures that `evaluate` reports."""

from typing import Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from mnist_edge.bundle.records import Metrics
from mnist_edge.evaluation import metrics
from mnist_edge.evaluation.metrics import ClassFigures

ACCURACIES: Final = (0.995, 0.998, 0.999)
"""For which the coverage is reported."""


class Coverage(Struct, frozen=True):
    """How many images can be answered with an accuracy when the least probable answers are withheld."""

    accuracy: float
    """The least share of right ones among the answers."""

    share: float
    """Of all images, 0…1, that are answered."""

    min_probability: float
    """Below which answers are withheld."""


class Evaluation(Metrics, frozen=True, kw_only=True):
    """How a model does on a labelled set."""

    labels: tuple[str, ...]

    confusion: list[list[int]]
    """[classes, classes], rows the truth, columns the answer."""

    per_class: dict[str, ClassFigures]
    """By label."""

    temperature: float
    """The file's own; 1 where it is not calibrated."""

    calibration_error: float
    """Expected calibration error at that temperature, 0…1."""

    coverage: tuple[Coverage, ...]
    """For each of `ACCURACIES`, what can be answered that surely."""


def evaluate(
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float64],
    truth: NDArray[np.uint8],
    labels: tuple[str, ...],
    temperature: float,
) -> Evaluation:
    """Compare a model's answers with the truth.

    Args:
        logits: [n, classes], n > 0.
        probabilities: [n, classes], the softmax of the logits at that temperature.
        truth: [n], class indices.
        labels: the name of each class.
        temperature: the model's own.
    """
    confusion = metrics.confusion_matrix(logits, truth)
    return Evaluation(
        **structs.asdict(metrics.measure(logits, truth)),
        labels=labels,
        confusion=confusion.tolist(),
        per_class=dict(zip(labels, metrics.per_class(confusion), strict=True)),
        temperature=temperature,
        calibration_error=metrics.calibration_error(probabilities, truth),
        coverage=tuple(
            Coverage(accuracy, *metrics.coverage_at(accuracy, probabilities, truth)) for accuracy in ACCURACIES
        ),
    )
