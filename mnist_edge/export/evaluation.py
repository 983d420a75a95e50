"""Loss, accuracy, confusion and per-class figures of any form of a model. An ``.onnx`` file needs no torch."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge import bundle
from mnist_edge.bundle import Format
from mnist_edge.errors import DataFormatError, ModelFormatError
from mnist_edge.extras import require
from mnist_edge.runtime.answers import softmax
from mnist_edge.runtime.model import checked_format, file_that_answers, locate
from mnist_edge.training import metrics
from mnist_edge.training.datasets import Split
from mnist_edge.training.metrics import Metrics

ACCURACIES: Final = (0.995, 0.998, 0.999)
"""For which the coverage is reported."""


@dataclass(frozen=True)
class Coverage:
    """How many images can be answered with an accuracy when the least probable answers are withheld."""

    accuracy: float
    """The least share of right ones among the answers."""

    share: float
    """Of all images, 0…1, that are answered."""

    min_probability: float
    """Below which answers are withheld."""


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a labelled set."""

    metrics: Metrics
    labels: tuple[str, ...]

    confusion: NDArray[np.int64]
    """[classes, classes], rows the truth, columns the answer."""

    temperature: float
    """The file's own; 1 where it is not calibrated."""

    calibration_error: float
    """Expected calibration error at that temperature, 0…1."""

    coverage: tuple[Coverage, ...]
    """For each of `ACCURACIES`, what can be answered that surely."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        per_class = dict(zip(self.labels, metrics.per_class(self.confusion), strict=True))
        return self.metrics.as_dict() | {
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
            "per_class": per_class,
            "temperature": self.temperature,
            "calibration_error": self.calibration_error,
            "coverage": [asdict(coverage) for coverage in self.coverage],
        }


def file_of(target: str | os.PathLike[str], format: str | None = None) -> Path:  # noqa: A002  # as in `Classifier`
    """The file that stands for a bundle or a pretrained model: the one that answers, before the export ``model.pth``.

    A file is its own.

    Raises:
        ModelError: there is no such bundle, file or pretrained model.
        UsageError: there is no such format.
    """
    found = locate(target)
    wanted = None if format is None else checked_format(format)
    if not found.is_dir():
        return found
    if wanted is None and not (found / bundle.MANIFEST).exists():
        return found / bundle.WEIGHTS
    return found / file_that_answers(found, bundle.read_manifest(found), wanted=wanted)


def evaluate(target: Path, labels: tuple[str, ...], test: Split) -> Evaluation:
    """Judge one form of a model.

    Args:
        target: a bundle's ``model.pth`` (the PyTorch model), its ``model.torchscript``, or any ``.onnx`` file.
        labels: what the classes of `test` are called; the model must call them the same.
        test: what to judge it on.

    Raises:
        DataFormatError: the labels are not the model's.
        ModelError: no usable model there.
        MissingExtraError: that form of it needs torch, which is not installed.
    """
    if target.suffix == ".onnx":
        own, logits, temperature = _by_onnxruntime(target, test)
    else:
        require("torch", extra="train")
        own, logits, temperature = _by_torch(target, test)
    if own != labels:
        raise DataFormatError(f"the data's labels {labels} are not the model's {own}: give its own data with --data")
    probabilities = softmax(logits, temperature)
    return Evaluation(
        metrics.measure(logits, test.labels),
        labels,
        metrics.confusion_matrix(logits, test.labels),
        temperature,
        metrics.calibration_error(probabilities, test.labels),
        tuple(
            Coverage(accuracy, *metrics.coverage_at(accuracy, probabilities, test.labels)) for accuracy in ACCURACIES
        ),
    )


def _by_onnxruntime(target: Path, test: Split) -> tuple[tuple[str, ...], NDArray[np.float32], float]:
    from mnist_edge.runtime.classifier import Classifier

    classifier = Classifier(target)
    calibration = classifier.contract.calibration
    return classifier.labels, classifier.logits(test.images), calibration.temperature if calibration else 1.0


def _by_torch(target: Path, test: Split) -> tuple[tuple[str, ...], NDArray[np.float32], float]:
    from mnist_edge.export import parity, torchscript
    from mnist_edge.export.graph import RawPixels
    from mnist_edge.training import checkpoint
    from mnist_edge.training.loop import EVALUATION_BATCH

    folder = target.parent
    trained = checkpoint.load(folder)
    temperature = 1.0
    if target.name == Format.TORCHSCRIPT.file_name:
        manifest = bundle.read_manifest(folder)
        data = bundle.read_verified(folder, target.name, manifest)
        temperature = (manifest["files"][target.name]["calibration"] or {"temperature": temperature})["temperature"]
        (run,) = torchscript.variants(data, str(target)).values()
    elif target.name == bundle.WEIGHTS:
        run = parity.run_module(RawPixels(trained.model, trained.contract.normalization).eval())
    else:
        raise ModelFormatError(f"{target}: give a bundle, its {bundle.WEIGHTS}, or an exported file")
    return trained.contract.labels, parity.in_batches(run, test.images[:, None], EVALUATION_BATCH), temperature
