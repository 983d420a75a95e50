"""What formats are made with: golden vectors to carry along, images to find scales by, and the float32 graph."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME, WHITE
from mnist_edge.export import onnx as float32
from mnist_edge.export.parity import FLOAT32, GOLDEN_SLACK
from mnist_edge.runtime.golden import Golden
from mnist_edge.runtime.session import Session
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.datasets import Dataset, Split
from mnist_edge.training.models import normalize

GOLDEN_IMAGES: Final = 10
"""Test images among the golden vectors where there are so many; a blank and a full one come on top."""

GOLDEN_MARGIN: Final = 2.0
"""Golden vectors allow so many times the deviation seen at export, within `GOLDEN_SLACK`: others round elsewhere."""

TRAINING_IMAGES: Final = 10_000
"""From all over the training set. The largest activations of a tenth as many were exceeded by some test images, whose
logits moved by up to 1.1 for it."""


@dataclass(frozen=True)
class Examples:
    """What the formats of one export are made with."""

    golden: Golden

    training: NDArray[np.uint8]
    """Raw training images, and a full one, for no picture lights more: [n, 1, 28, 28]."""

    trained: Trained
    """The model that is exported."""

    def graph(self) -> ModelProto:
        """The model as a float32 ONNX graph, for the caller to change; torch's slow exporter runs only once."""
        copied = ModelProto()
        copied.CopyFrom(self._graph)
        return copied

    @cached_property
    def _graph(self) -> ModelProto:
        return float32.build(self.trained)


def choose(trained: Trained, data: Dataset) -> Examples:
    """The same for the same weights and data."""
    every = max(1, len(data.train) // TRAINING_IMAGES)
    full = np.full_like(data.train.images[:1], WHITE)
    training = np.concatenate([data.train.images[::every], full])[:, None]
    return Examples(golden_vectors(trained, data.test), training, trained)


def golden_vectors(trained: Trained, test: Split) -> Golden:
    """The first test images of every class, a blank and a full one, with PyTorch's answers.

    The answers are computed in float64 and then rounded, so that they do not depend on the machine of the export.
    """
    classes = len(trained.contract.labels)
    each = -(-GOLDEN_IMAGES // classes)
    first = np.concatenate([np.flatnonzero(test.labels == label)[:each] for label in range(classes)])
    others = np.setdiff1d(np.arange(len(test)), first)
    chosen = np.concatenate([first, others[: max(0, GOLDEN_IMAGES - len(first))]])
    blank = np.zeros_like(test.images[:1])
    images = np.concatenate([test.images[chosen], blank, blank + np.uint8(WHITE)])[:, None]
    exact = copy.deepcopy(trained.model).double()
    with torch.inference_mode():
        logits = exact(normalize(torch.tensor(images).double(), trained.contract.normalization))
    return Golden(images=images, logits=logits.float().numpy(), tolerance=FLOAT32.max_abs_diff)


def tolerant(golden: Golden, model: bytes) -> Golden:
    """Golden vectors that allow for the rounding of a quantized model, an ONNX file's content."""
    answers = Session(model).run([OUTPUT_NAME], {INPUT_NAME: golden.images})[0]
    deviation = float(np.abs(answers - golden.logits).max())
    allowed = min(GOLDEN_MARGIN * deviation, GOLDEN_SLACK * float(np.abs(golden.logits).max()))
    return replace(golden, tolerance=FLOAT32.max_abs_diff + allowed)
