"""The answers of any form of a model: PyTorch's own, or an exported file. An ``.onnx`` file needs no torch."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import Format
from mnist_edge.data.datasets import Split
from mnist_edge.errors import DataFormatError, ModelFormatError
from mnist_edge.evaluation import evaluation
from mnist_edge.evaluation.evaluation import Evaluation
from mnist_edge.extras import require
from mnist_edge.runtime.model import checked_format, file_that_answers, locate
from mnist_edge.runtime.prediction import softmax


@dataclass(frozen=True)
class Answers:
    """What a form of a model answers."""

    labels: tuple[str, ...]

    logits: NDArray[np.float32]
    """[n, classes]"""

    temperature: float
    """The form's own; 1 where it is not calibrated."""


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
    if wanted is None and not (found / layout.MANIFEST).exists():
        return found / layout.WEIGHTS
    return found / file_that_answers(found, reading.read_manifest(found), wanted=wanted)


def evaluate(file: Path, labels: tuple[str, ...], test: Split) -> Evaluation:
    """Evaluate one form of a model.

    Args:
        file: a bundle's ``model.pth`` (the PyTorch model), its ``model.torchscript``, or any ``.onnx`` file.
        labels: the names of the classes of `test`, which must be the model's.
        test: what to evaluate it on.

    Raises:
        DataFormatError: the labels are not the model's.
        ModelError: no usable model there.
        MissingExtraError: that form of it needs torch, which is not installed.
    """
    if file.suffix != ".onnx":
        require("torch", extra="train")
    found = (_by_onnxruntime if file.suffix == ".onnx" else _by_torch)(file, test.images)
    if found.labels != labels:
        raise DataFormatError(
            f"the data's labels {labels} are not the model's {found.labels}: give its own data with --data"
        )
    probabilities = softmax(found.logits, found.temperature)
    return evaluation.evaluate(found.logits, probabilities, test.labels, labels, found.temperature)


def _by_onnxruntime(file: Path, images: NDArray[np.uint8]) -> Answers:
    from mnist_edge.runtime.classifier import Classifier

    classifier = Classifier(file)
    calibration = classifier.contract.calibration
    return Answers(classifier.labels, classifier.logits(images), calibration.temperature if calibration else 1.0)


def _by_torch(file: Path, images: NDArray[np.uint8]) -> Answers:
    from mnist_edge.export import parity, torchscript
    from mnist_edge.export.graph import RawPixels
    from mnist_edge.training import checkpoint
    from mnist_edge.training.loop import EVALUATION_BATCH

    folder = file.parent
    trained = checkpoint.load(folder)
    temperature = 1.0
    if file.name == Format.TORCHSCRIPT.file_name:
        manifest = reading.read_manifest(folder)
        data = reading.read_verified(folder, file.name, manifest)
        temperature = getattr(manifest.files[file.name].calibration, "temperature", temperature)
        (run,) = torchscript.variants(data, str(file)).values()
    elif file.name == layout.WEIGHTS:
        run = parity.run_module(RawPixels(trained.model, trained.contract.normalization).eval())
    else:
        raise ModelFormatError(f"{file}: give a bundle, its {layout.WEIGHTS}, or an exported file")
    return Answers(trained.contract.labels, parity.in_batches(run, images[:, None], EVALUATION_BATCH), temperature)
