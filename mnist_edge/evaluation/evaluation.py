"""All metrics that `evaluate` reports for a model on a labelled set."""

from typing import Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from mnist_edge.bundle.records import Metrics
from mnist_edge.evaluation import metrics
from mnist_edge.evaluation.metrics import ClassFigures

ACCURACIES: Final = (0.995, 0.998, 0.999)
"""The target accuracies for which coverage is reported."""


class Coverage(Struct, frozen=True):
    """How many images can be answered at a target accuracy by abstaining on the least confident predictions."""

    accuracy: float
    """The target: the lowest acceptable accuracy of the answers given."""

    share: float
    """The share of all images that is answered, 0…1."""

    min_probability: float
    """The model abstains below this probability, which has no more decimals than it needs."""


class Evaluation(Metrics, frozen=True, kw_only=True):
    """The metrics of a model on a labelled set."""

    labels: tuple[str, ...]

    confusion: list[list[int]]
    """[classes, classes]: rows are true classes, columns are predicted ones."""

    per_class: dict[str, ClassFigures]
    """By label."""

    temperature: float
    """The file's own; 1 if it is not calibrated."""

    calibration_error: float
    """Expected calibration error at that temperature, 0…1."""

    coverage: tuple[Coverage, ...]
    """One entry for each of `ACCURACIES`."""


def evaluate(
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float64],
    truth: NDArray[np.uint8],
    labels: tuple[str, ...],
    temperature: float,
) -> Evaluation:
    """Compute all metrics of a model's predictions.

    Args:
        logits: [n, classes], n > 0.
        probabilities: [n, classes], the softmax of the logits at `temperature`.
        truth: [n], the true class indices.
        labels: the class names.
        temperature: the model's own, 1 if it is not calibrated.
    """
    confusion = metrics.confusion_matrix(logits, truth)
    return Evaluation(
        **structs.asdict(metrics.measure(logits, truth)),
        labels=labels,
        confusion=confusion.tolist(),
        per_class=dict(zip(labels, metrics.per_class(confusion), strict=True)),
        temperature=temperature,
        calibration_error=metrics.calibration_error(probabilities, truth),
        coverage=tuple(_coverage(accuracy, probabilities, truth) for accuracy in ACCURACIES),
    )


def _coverage(accuracy: float, probabilities: NDArray[np.float64], truth: NDArray[np.uint8]) -> Coverage:
    share, lowest = metrics.coverage_at(accuracy, probabilities, truth)
    return Coverage(accuracy, share, metrics.threshold(lowest, probabilities) if share else lowest)
