"""Evaluate any form of a model: the PyTorch model or an exported file. An ``.onnx`` file needs no torch."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import Format
from mnist_edge.data.datasets import Split
from mnist_edge.errors import DataFormatError, ModelFormatError, ModelNotFoundError, UsageError
from mnist_edge.evaluation import evaluation
from mnist_edge.evaluation.evaluation import Evaluation
from mnist_edge.extras import require
from mnist_edge.runtime.model import checked_format, file_that_answers, locate, open_model
from mnist_edge.runtime.prediction import softmax

_BY_TORCH: Final = (layout.WEIGHTS, Format.TORCHSCRIPT.file_name)
"""The files that PyTorch runs, by name: both need their bundle."""


@dataclass(frozen=True)
class Answers:
    """The logits of one form of a model, and what is needed to interpret them."""

    labels: tuple[str, ...]

    logits: NDArray[np.float32]
    """[n, classes]"""

    temperature: float
    """1 if this form is not calibrated."""

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """[n, classes], at the temperature."""
        return softmax(self.logits, self.temperature)

    def evaluate(self, truth: NDArray[np.uint8]) -> Evaluation:
        """All metrics against the true class indices, [n]."""
        return evaluation.evaluate(self.logits, self.probabilities, truth, self.labels, self.temperature)


def file_of(
    target: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002  # as in `Classifier`
    *,
    untrusted: bool = False,
) -> Path:
    """The file to evaluate in a bundle or pretrained model: the one that answers, or ``model.pth`` before the export.

    The path of a file is returned unchanged.

    Raises:
        ModelError: there is no such bundle, model file or pretrained model, or the bundle lacks the format.
        UsageError: onnxruntime runs no such format, or it is not that of the file; or the file is untrusted and not an
            ``.onnx`` file.
    """
    file = _file_of(target, format, untrusted=untrusted)
    if untrusted and file.suffix != ".onnx":
        raise UsageError(f"{file}: only an .onnx file can be run as untrusted: name one, or export to one first")
    return file


def _file_of(target: str | os.PathLike[str], format: str | None, *, untrusted: bool) -> Path:  # noqa: A002  # as above
    found = Path(locate(target))
    wanted = None if format is None else checked_format(format)
    if not found.is_dir():
        if found.suffix != ".onnx" and found.name not in _BY_TORCH:
            raise ModelFormatError(
                f"{found}: not a model file: give a bundle, its {layout.WEIGHTS} or an exported file"
            )
        if wanted is not None and found.name in _BY_TORCH:
            raise UsageError(f"{found}: is not {wanted}: leave the format out, or give the bundle {found.parent}")
        if wanted is not None:
            open_model(found, format=format, untrusted=untrusted)
        return found
    if wanted is None and not (found / layout.MANIFEST).exists():
        return found / layout.WEIGHTS
    file = found / file_that_answers(found, reading.read_manifest(found), wanted=wanted)
    if not file.exists():
        raise ModelNotFoundError(
            f"{file}: is missing, though the manifest lists it: name another format, or {reading.reexport(found)}"
        )
    return file


def evaluate(file: Path, labels: tuple[str, ...], test: Split) -> Evaluation:
    """Evaluate one form of a model. Arguments and errors are those of `answers`."""
    return answers(file, labels, test).evaluate(test.labels)


def answers(file: Path, labels: tuple[str, ...], test: Split, *, untrusted: bool = False) -> Answers:
    """Run one form of a model on a test set.

    Args:
        file: a bundle's ``model.pth`` (the PyTorch model), its ``model.torchscript``, or any ``.onnx`` file.
        labels: the class names of `test`, which must be the model's.
        test: the images to run it on.
        untrusted: run an ``.onnx`` file in a process of its own, as `Classifier` does.

    Raises:
        DataFormatError: the labels are not the model's.
        ModelError: the file is missing or is not a usable model.
        MissingExtraError: the file needs torch, which is not installed.
    """
    if file.suffix == ".onnx":
        found = _by_onnxruntime(file, test.images, untrusted=untrusted)
    else:
        require("torch", extra="train")
        found = _by_torch(file, test.images)
    if found.labels != labels:
        raise DataFormatError(
            f"the data's labels {labels} are not the model's {found.labels}: give the model's own data with --data"
        )
    return found


def _by_onnxruntime(file: Path, images: NDArray[np.uint8], *, untrusted: bool) -> Answers:
    from mnist_edge.runtime.classifier import Classifier

    classifier = Classifier(file, untrusted=untrusted)
    calibration = classifier.contract.calibration
    return Answers(classifier.labels, classifier.logits(images), calibration.temperature if calibration else 1.0)


def _by_torch(file: Path, images: NDArray[np.uint8]) -> Answers:
    from mnist_edge.export import parity, torchscript
    from mnist_edge.export.graph import raw_pixels
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
    else:
        run = parity.run_module(raw_pixels(trained))
    return Answers(trained.contract.labels, parity.in_batches(run, images[:, None], EVALUATION_BATCH), temperature)
