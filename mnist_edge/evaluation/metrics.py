"""Metrics of logits against labels, in numpy, so that every form of a model is measured alike."""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mnist_edge.bundle.records import Metrics

CALIBRATION_BINS: Final = 15
"""As in Guo et al. 2017."""


def measure(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> Metrics:
    """Loss and accuracy.

    Args:
        logits: [n, classes], n > 0.
        labels: [n], class indices.
    """
    correct = int((logits.argmax(axis=1) == labels).sum())
    loss = float(cross_entropies(logits, labels).mean())
    return Metrics(loss=loss, correct=correct, total=len(labels), accuracy=correct / len(labels))


def cross_entropies(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The cross-entropy of every image in nats, [n]. Takes the arguments of `measure`."""
    exact = logits.astype(np.float64)
    peak = exact.max(axis=1)
    log_sum = peak + np.log(np.exp(exact - peak[:, None]).sum(axis=1))
    return np.asarray(log_sum - exact[np.arange(len(labels)), labels])


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Expected calibration error, 0…1: the mean gap between confidence and accuracy.

    Uses equal-width bins over the largest probability, weighted by their number of images (Guo et al. 2017).

    Args:
        probabilities: [n, classes].
        labels: [n], class indices.
    """
    confidence = probabilities.max(axis=1)
    surplus = confidence - (probabilities.argmax(axis=1) == labels)
    return float(np.abs(_sum_by_bin(surplus, confidence)).sum() / len(labels))


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy by bin of confidence: `CALIBRATION_BINS` bins of equal width from 0 to 1."""

    images: NDArray[np.int64]
    """[bins]"""

    confidence: NDArray[np.float64]
    """[bins], the mean of the largest probability; NaN in an empty bin."""

    accuracy: NDArray[np.float64]
    """[bins], NaN in an empty bin."""


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> Reliability:
    """What the calibration error sums up.

    Args:
        probabilities: [n, classes].
        labels: [n], class indices.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    images = _sum_by_bin(np.ones(len(labels)), confidence)
    size = np.where(images > 0, images, np.nan)
    return Reliability(
        images=images.astype(np.int64),
        confidence=_sum_by_bin(confidence, confidence) / size,
        accuracy=_sum_by_bin(right, confidence) / size,
    )


def _sum_by_bin(values: NDArray[np.float64], confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    return np.bincount(bins, weights=values, minlength=CALIBRATION_BINS).astype(np.float64)


def coverage_at(accuracy: float, probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> tuple[float, float]:
    """The largest share of images that can be answered at an accuracy by abstaining on the least confident ones.

    Args:
        accuracy: the target, 0…1.
        probabilities: [n, classes].
        labels: [n], class indices.

    Returns:
        The share, 0…1, and the lowest probability among the answers; 0 and 1 if no share reaches the accuracy.
    """
    curve = coverage_curve(probabilities, labels)
    reached = np.flatnonzero(curve.accuracy >= accuracy)
    if len(reached) == 0:
        return 0.0, 1.0
    return float(curve.share[reached[-1]]), float(curve.min_probability[reached[-1]])


def threshold(lowest: float, probabilities: NDArray[np.float64]) -> float:
    """The limit with the fewest decimals that parts the answers from the images of less confidence.

    Args:
        lowest: the lowest probability among the answers, as `coverage_at` returns it.
        probabilities: [n, classes].

    Returns:
        At most `lowest`, and above the confidence of every image that is not answered.

    >>> threshold(0.99996, np.array([[0.99996, 0.00004], [0.99991, 0.00009], [0.6, 0.4]]))
    0.99995
    """
    confidence = probabilities.max(axis=1)
    withheld = float(confidence.max(where=confidence < lowest, initial=-1.0))
    exact = Decimal(lowest)
    rounded = (float(exact.quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR)) for digits in range(18))
    return next((each for each in rounded if each > withheld), lowest)


@dataclass(frozen=True)
class CoverageCurve:
    """What is answered at each threshold that makes a difference, from the fewest answers to all."""

    share: NDArray[np.float64]
    """[thresholds], the share of the images that are answered, 0…1; the last is 1."""

    accuracy: NDArray[np.float64]
    """[thresholds], of the images that are answered."""

    min_probability: NDArray[np.float64]
    """[thresholds], the lowest probability among the answers."""


def coverage_curve(probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> CoverageCurve:
    """The accuracy of the answers as the model abstains on more and more of the least confident predictions.

    Args:
        probabilities: [n, classes], n > 0.
        labels: [n], class indices.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == labels)[order]
    # A threshold cannot part images of equal confidence.
    is_last = np.diff(confidence[order], append=-1) < 0
    answered = np.arange(1, len(right) + 1)
    return CoverageCurve(
        share=(answered / len(right))[is_last],
        accuracy=(np.cumsum(right) / answered)[is_last],
        min_probability=confidence[order][is_last],
    )


def confusion_matrix(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[classes, classes]: how many images of class i (row) were predicted as class j (column)."""
    classes = logits.shape[1]
    pairs = labels.astype(np.int64) * classes + logits.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


class ClassFigures(Struct, frozen=True):
    """Precision, recall and F1 of one class; 0 where undefined."""

    precision: float
    recall: float
    f1: float

    support: int
    """The number of images of the class."""


def per_class(confusion: NDArray[np.int64]) -> list[ClassFigures]:
    """The metrics of each class, from a confusion matrix, [classes, classes]."""
    hits = confusion.diagonal()
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return [
        ClassFigures(float(p), float(r), float(f), int(n))
        for p, r, f, n in zip(precision, recall, f1, support, strict=True)
    ]
