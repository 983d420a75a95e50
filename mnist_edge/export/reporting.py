"""Collect what a report tells, for `mnist_edge.report.page`. It needs no torch if the bundle has an ``.onnx`` file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import RUNNABLE
from mnist_edge.bundle.records import Manifest
from mnist_edge.data.datasets import Dataset, Split
from mnist_edge.data.distortions import DISTORTIONS
from mnist_edge.export import forms
from mnist_edge.report.facts import Distorted, Facts
from mnist_edge.runtime.describe import describe
from mnist_edge.runtime.model import PRETRAINED, locate, pretrained

MOST_DISTORTED: Final = 10_000
"""Of a larger test set, so many images are distorted, evenly spread."""


def facts_of(target: str | os.PathLike[str], dataset: Dataset, format: str | None = None) -> Facts:  # noqa: A002  # as in `Classifier`
    """Run a model on a test set, as it is and distorted, and read its bundle's records.

    Args:
        target: a bundle or the name of a pretrained model.
        dataset: its test set is evaluated.
        format: the file to run; without it the one that `file_of` chooses.

    Raises:
        DataFormatError: the data's labels are not the model's.
        ModelError: there is no such bundle, it lacks the format, or the file is not usable.
        UsageError: onnxruntime runs no such format.
        MissingExtraError: the file needs torch, which is not installed.

    >>> from mnist_edge.data import datasets
    >>> from mnist_edge.export.reporting import facts_of
    >>> from mnist_edge.report.page import page
    >>> html = page(facts_of("cnn-nano", datasets.load("mnist")))
    """
    folder = bundle_of(target)
    manifest = _manifest_of(folder)
    file = file_of(folder, format)
    described = {} if manifest is None else describe(folder).files
    states = {name: str(found.state) for name, found in described.items()}
    has_record = states.get(layout.TRAINING, "intact") == "intact" and (folder / layout.TRAINING).exists()
    record = reading.read_training(folder) if has_record else None
    test = dataset.test
    answers = forms.answers(file, dataset.labels, test)
    chosen = np.linspace(0, len(test) - 1, min(len(test), MOST_DISTORTED)).round().astype(np.int64)
    sample = Split(test.images[chosen], test.labels[chosen])
    return Facts(
        name=os.fsencode(name_of(folder)).decode(errors="replace"),  # a page is UTF-8, and a name need not be
        is_pretrained=folder.parent == Path(PRETRAINED),
        file=file.name,
        format=format,
        data=dataset.name,
        images=test.images,
        truth=test.labels,
        probabilities=answers.probabilities,
        evaluation=answers.evaluate(test.labels),
        undistorted=_told("none", "the images as they are", sample, answers.logits[chosen]),
        distorted=tuple(_on_distorted(file, dataset.labels, sample)),
        manifest=manifest,
        record=record,
        states=states,
    )


def bundle_of(target: str | os.PathLike[str]) -> Path:
    """The folder of a bundle or of a pretrained model. Raises ModelNotFoundError if there is none."""
    found = Path(locate(target))
    if not found.is_dir():
        raise reading.not_a_bundle(found, others=f" or {', '.join(pretrained())}")
    return found


def name_of(folder: Path) -> str:
    """The name of a bundle's folder, also of ``.`` and ``..``."""
    return os.path.basename(os.path.abspath(folder))  # noqa: PTH100, PTH119  # removes ".."


def file_of(folder: Path, format: str | None = None) -> Path:  # noqa: A002  # as in `Classifier`
    """The file to run: as `evaluate` chooses it, or PyTorch's own where there is nothing for onnxruntime.

    Errors are those of `mnist_edge.export.forms.file_of`.
    """
    manifest = _manifest_of(folder)
    runs = manifest is None or any(each.file_name in manifest.files for each in RUNNABLE)
    if format is None and not runs and (folder / layout.WEIGHTS).exists():
        return folder / layout.WEIGHTS
    return forms.file_of(folder, format)


def _manifest_of(folder: Path) -> Manifest | None:
    return reading.read_manifest(folder) if (folder / layout.MANIFEST).exists() else None


def _on_distorted(file: Path, labels: tuple[str, ...], sample: Split) -> Iterator[Distorted]:
    """What the model makes of each distortion of some images."""
    for kind, each in DISTORTIONS.items():
        changed = Split(each.apply(sample.images), sample.labels)
        yield _told(kind, each.does, changed, forms.answers(file, labels, changed).logits)


def _told(kind: str, does: str, test: Split, logits: NDArray[np.float32]) -> Distorted:
    right = int((logits.argmax(axis=1) == test.labels).sum())
    return Distorted(kind, does, test.images[0], right, len(test))
