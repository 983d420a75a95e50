"""What a model can reach without looking at the image: a training that does no better has failed."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.records import Metrics

STANDARD_ERRORS: Final = 3
"""A difference of up to this many standard errors may be chance."""


def constant_loss(labels: NDArray[np.integer], classes: int, label_smoothing: float) -> float:
    """The lowest mean cross-entropy, in nats, of a constant prediction.

    The best constant prediction is each class's share of the targets; its loss is the entropy of these shares.

    Args:
        labels: [n], class indices, n > 0.
        classes: the number of classes.
        label_smoothing: the share of each target that is spread evenly over all classes.
    """
    shares = np.bincount(labels, minlength=classes) / len(labels)
    targets = (1 - label_smoothing) * shares + label_smoothing / classes
    targets = targets[targets > 0]
    return float(-(targets * np.log(targets)).sum())


def is_near_chance(metrics: Metrics, labels: NDArray[np.integer]) -> bool:
    """Whether a model's accuracy on `labels`, [n], is within chance of always predicting their most frequent class."""
    share = float(np.bincount(labels).max()) / len(labels)
    error = math.sqrt(share * (1 - share) / len(labels))
    return metrics.accuracy <= share + STANDARD_ERRORS * error
