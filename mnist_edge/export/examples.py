"""The inputs of an export: golden vectors, images for quantization and calibration, and the float32 graph."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.data.datasets import Dataset, Split
from mnist_edge.errors import UnsupportedFormatError
from mnist_edge.export import onnx_graph
from mnist_edge.export.graph import raw_pixels
from mnist_edge.export.parity import FLOAT32, as_tensor
from mnist_edge.runtime.golden import Golden
from mnist_edge.training.checkpoint import Trained

GOLDEN_IMAGES: Final = 10
"""Minimum number of test images in the golden vectors, if there are that many. A blank and a full image are added."""

TRAINING_IMAGES: Final = 60_000
"""Minimum number of training images that set the quantization scales, evenly spaced; smaller training sets are used
whole. It is all of MNIST's: with a fifth of them, one seed of `cnn-nano` clipped the activations of some test images,
which moved their logits by up to 0.41 standard deviations. With all of them it is 0.12."""

NOISE: Final = 64
"""Number of noise images in `Examples.extremes`. One of seven briefly trained `cnn` had activations on noise far beyond
those on digits. With scales set by digits alone, its logits on noise moved by 0.56 standard deviations, those of the
other six by 0.02 to 0.11. With noise included it was 0.02 to 0.03 for the three models tried, that one among them."""


@dataclass(frozen=True)
class Examples:
    """The inputs of one export, shared by all formats."""

    golden: Golden

    training: NDArray[np.uint8]
    """Raw training images that set the quantization scales: [n, 1, 28, 28]."""

    extremes: NDArray[np.uint8]
    """A full image, the brightest possible, and noise, which lights pixels that digits never light: [n, 1, 28, 28]."""

    calibration: Split
    """Empty if there is no calibration split."""

    trained: Trained

    origin: bytes = b""
    """The content of the file that a format is made from, if there is one (`Format.origin`)."""

    c_prefix: str = ""
    """What the names in a C file begin with; empty for the architecture's name."""

    def graph(self) -> ModelProto:
        """A copy of the float32 ONNX graph, which the caller may change. torch's slow exporter runs only once.

        Raises:
            UnsupportedFormatError: it cannot be made.
        """
        if isinstance(self._graph, UnsupportedFormatError):
            raise self._graph
        copied = ModelProto()
        copied.CopyFrom(self._graph)
        return copied

    @cached_property
    def _graph(self) -> ModelProto | UnsupportedFormatError:
        try:
            return onnx_graph.build(self.trained)
        except UnsupportedFormatError as error:
            return error

    @cached_property
    def weights(self) -> Mapping[str, NDArray[Any]]:
        """The constants that every ONNX file is made from, by their names in the graph.

        Those of our own architectures come from the model alone. Others are exported anew, since their names and what
        is folded into them are known from the graph only. Raises UnsupportedFormatError if it cannot be made.
        """
        if onnx_graph.is_own(self.trained):
            return onnx_graph.weights(self.trained)
        return onnx_graph.initializers(self.graph())


def choose(trained: Trained, data: Dataset) -> Examples:
    """Choose the inputs of an export, always the same for the same weights and data."""
    fitted, calibration = data.train.hold_out(trained.training.calibration_split)
    every = max(1, len(fitted) // TRAINING_IMAGES)
    full = np.full((1, HEIGHT, WIDTH), WHITE, np.uint8)
    # Not the seed of `parity.Reference`: files are compared on noise that did not set their scales.
    noise = np.random.default_rng(seed=1).integers(0, WHITE + 1, (NOISE, HEIGHT, WIDTH), dtype=np.uint8)
    return Examples(
        golden=golden_vectors(trained, data.test),
        training=fitted.images[::every, None],
        extremes=np.concatenate([full, noise])[:, None],
        calibration=calibration,
        trained=trained,
    )


def golden_vectors(trained: Trained, test: Split) -> Golden:
    """The first test images of every class, a blank image and a full one, with PyTorch's logits.

    The logits are computed in float64 and then rounded, so that they do not depend on the exporting machine.
    """
    classes = len(trained.contract.labels)
    each = -(-GOLDEN_IMAGES // classes)
    first = np.concatenate([np.flatnonzero(test.labels == label)[:each] for label in range(classes)])
    others = np.setdiff1d(np.arange(len(test)), first)
    chosen = np.concatenate([first, others[: max(0, GOLDEN_IMAGES - len(first))]])
    blank = np.zeros_like(test.images[:1])
    images = np.concatenate([test.images[chosen], blank, blank + np.uint8(WHITE)])[:, None]
    exact = copy.deepcopy(raw_pixels(trained))
    with torch.inference_mode():
        try:
            logits = exact.double()(as_tensor(images))
        except RuntimeError:  # a user's module may mix in tensors that it makes in float32
            logits = exact.float()(as_tensor(images))
    return Golden(images=images, logits=logits.float().numpy(), tolerance=FLOAT32.max_abs_diff)
