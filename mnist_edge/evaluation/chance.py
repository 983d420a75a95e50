"""What answers reach that do not depend on the image: a training that does no better has failed."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.records import Metrics

STANDARD_ERRORS: Final = 3
"""A figure that is no further from another may differ from it by chance."""


def constant_loss(labels: NDArray[np.integer], classes: int, label_smoothing: float) -> float:
    """The least mean cross-entropy, in nats, of one and the same answer to every image.

    That answer gives each class its share of the targets, and its loss is the entropy of these shares.

    Args:
        labels: [n], class indices, n > 0.
        classes: how many there are.
        label_smoothing: the share of each target that is spread over all classes.
    """
    shares = np.bincount(labels, minlength=classes) / len(labels)
    targets = (1 - label_smoothing) * shares + label_smoothing / classes
    targets = targets[targets > 0]
    return float(-(targets * np.log(targets)).sum())


def is_near_chance(metrics: Metrics, labels: NDArray[np.integer]) -> bool:
    """Whether always naming the most frequent class of `labels`, [n], might do as well as a model did on them."""
    share = float(np.bincount(labels).max()) / len(labels)
    error = math.sqrt(share * (1 - share) / len(labels))
    return metrics.accuracy <= share + STANDARD_ERRORS * error
