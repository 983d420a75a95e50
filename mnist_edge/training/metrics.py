"""Figures that judge logits against labels, in numpy, the same for every form of a model."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Metrics:
    """How well logits answer a labelled set."""

    loss: float
    """Mean cross-entropy over all images, in nats."""

    correct: int
    """Images whose largest logit is their class's."""

    total: int
    """Images judged."""

    @property
    def accuracy(self) -> float:
        """Share of correct answers, 0…1."""
        return self.correct / self.total

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self) | {"accuracy": self.accuracy}


def measure(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> Metrics:
    """Loss and accuracy.

    Args:
        logits: [n, classes], n > 0.
        labels: [n], class indices.
    """
    exact = logits.astype(np.float64)
    peak = exact.max(axis=1)
    log_sum = peak + np.log(np.exp(exact - peak[:, None]).sum(axis=1))
    loss = log_sum - exact[np.arange(len(labels)), labels]
    return Metrics(loss=float(loss.mean()), correct=int((logits.argmax(axis=1) == labels).sum()), total=len(labels))


def confusion_matrix(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[classes, classes]: how many images of class i (row) were taken for class j (column)."""
    classes = logits.shape[1]
    pairs = labels.astype(np.int64) * classes + logits.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def per_class(confusion: NDArray[np.int64]) -> list[dict[str, float]]:
    """Precision, recall, F1 and number of images of each class; 0 where a figure is undefined."""
    hits = confusion.diagonal()
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return [
        {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for p, r, f, n in zip(precision, recall, f1, support, strict=True)
    ]
