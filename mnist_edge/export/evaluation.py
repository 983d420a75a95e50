"""Loss, accuracy, confusion and per-class figures of any form of a model. An ``.onnx`` file needs no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_edge import bundle
from mnist_edge.bundle import Format
from mnist_edge.errors import DataFormatError, ModelFormatError, ModelNotFoundError
from mnist_edge.extras import require
from mnist_edge.training import metrics
from mnist_edge.training.datasets import Split
from mnist_edge.training.metrics import Metrics


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a labelled set."""

    metrics: Metrics
    labels: tuple[str, ...]

    confusion: NDArray[np.int64]
    """[classes, classes], rows the truth, columns the answer."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        per_class = dict(zip(self.labels, metrics.per_class(self.confusion), strict=True))
        return self.metrics.as_dict() | {
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
            "per_class": per_class,
        }


def evaluate(target: Path, labels: tuple[str, ...], test: Split) -> Evaluation:
    """Judge one form of a model.

    Args:
        target: a bundle or its ``model.pth`` (the PyTorch model), its ``model.torchscript``, or any ``.onnx`` file.
        labels: what the classes of `test` are called; the model must call them the same.
        test: what to judge it on.

    Raises:
        DataFormatError: the labels are not the model's.
        ModelError: no usable model there.
        MissingExtraError: that form of it needs torch, which is not installed.
    """
    if target.suffix == ".onnx":
        own, logits = _by_onnxruntime(target, test)
    else:
        require("torch", extra="train")
        own, logits = _by_torch(target, test)
    if own != labels:
        raise DataFormatError(f"the data's labels {labels} are not the model's {own}: give its own data with --data")
    return Evaluation(metrics.measure(logits, test.labels), labels, metrics.confusion_matrix(logits, test.labels))


def _by_onnxruntime(target: Path, test: Split) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    from mnist_edge.runtime.classifier import Classifier

    classifier = Classifier(target)
    return classifier.labels, classifier.logits(test.images)


def _by_torch(target: Path, test: Split) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    from mnist_edge.export import parity, torchscript
    from mnist_edge.export.graph import RawPixels
    from mnist_edge.training import checkpoint
    from mnist_edge.training.loop import EVALUATION_BATCH

    if not target.exists():
        raise ModelNotFoundError(f"{target}: no such bundle or file: check the path")
    folder = target if target.is_dir() else target.parent
    trained = checkpoint.load(folder)
    if target.name == Format.TORCHSCRIPT.file_name:
        data = bundle.read_verified(folder, target.name, bundle.read_manifest(folder))
        (run,) = torchscript.variants(data, str(target)).values()
    elif target.is_dir() or target.name == bundle.WEIGHTS:
        run = parity.run_module(RawPixels(trained.model, trained.contract.normalization).eval())
    else:
        raise ModelFormatError(f"{target}: give a bundle, its {bundle.WEIGHTS}, or an exported file")
    return trained.contract.labels, parity.in_batches(run, test.images[:, None], EVALUATION_BATCH)
