"""What formats are made with: golden vectors to carry along, images to find scales by, and the float32 graph."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.data.datasets import Dataset, Split
from mnist_edge.export import onnx_graph
from mnist_edge.export.parity import FLOAT32
from mnist_edge.runtime.golden import Golden
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.models import normalize

GOLDEN_IMAGES: Final = 10
"""Test images among the golden vectors where there are so many; a blank and a full one come on top."""

TRAINING_IMAGES: Final = 60_000
"""As many as MNIST has, from all over the training set. Of one seed of `cnn-nano` a fifth of them had smaller largest
activations than some test images, whose logits moved by up to 0.41 standard deviations for it; with all it is 0.12."""


NOISE: Final = 64
"""Images of noise. One of seven briefly trained `cnn` had activations on noise so far beyond those on digits that,
with scales set by digits alone, the logits of noise moved by 0.56 standard deviations, those of the others by 0.02 to
0.11. With noise among them it was 0.02 to 0.03 in the three that were tried, this one included."""


@dataclass(frozen=True)
class Examples:
    """What the formats of one export are made with."""

    golden: Golden

    training: NDArray[np.uint8]
    """Raw images that the model was trained on: [n, 1, 28, 28]."""

    extremes: NDArray[np.uint8]
    """A full image, for no picture lights more, and noise, which lights what digits never do: [n, 1, 28, 28]."""

    calibration: Split
    """The calibration split; empty where the recipe keeps none."""

    trained: Trained
    """The model that is exported."""

    def graph(self) -> ModelProto:
        """The model as a float32 ONNX graph, for the caller to change; torch's slow exporter runs only once."""
        copied = ModelProto()
        copied.CopyFrom(self._graph)
        return copied

    @cached_property
    def _graph(self) -> ModelProto:
        return onnx_graph.build(self.trained)


def choose(trained: Trained, data: Dataset) -> Examples:
    """The same for the same weights and data."""
    fitted, calibration = data.train.hold_out(trained.training.recipe.calibration_split)
    every = max(1, len(fitted) // TRAINING_IMAGES)
    full = np.full((1, HEIGHT, WIDTH), WHITE, np.uint8)
    # Other noise than the files are compared on (`parity.Reference`).
    noise = np.random.default_rng(seed=1).integers(0, WHITE + 1, (NOISE, HEIGHT, WIDTH), dtype=np.uint8)
    return Examples(
        golden=golden_vectors(trained, data.test),
        training=fitted.images[::every, None],
        extremes=np.concatenate([full, noise])[:, None],
        calibration=calibration,
        trained=trained,
    )


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
