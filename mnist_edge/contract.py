"""The model contract: what goes in, what comes out, and under which names it travels.

Every deployable form of a model takes raw pixels and returns logits::

    image:  uint8   [N, 1, 28, 28]   0 = background, 255 = full ink
    logits: float32 [N, classes]     one column a label, in the order of ``labels``

Scaling and normalisation are part of the graph, so no caller can get them wrong.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

HEIGHT: Final = 28
WIDTH: Final = 28
PIXELS: Final = HEIGHT * WIDTH
WHITE: Final = 255
"""The pixel value of full ink."""

INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "logits"
BATCH_AXIS: Final = "N"
OPSET: Final = 18
"""ONNX operator set of every exported file: the lowest that torch's exporter writes without a conversion."""

CONTRACT_VERSION: Final = 2
"""Raised when a runtime of this version could misread an older file."""

CONTRACT_KEY: Final = "mnist_edge.contract"
PROVENANCE_KEY: Final = "mnist_edge.provenance"
GOLDEN_KEY: Final = "mnist_edge.golden"
CHECKSUM_KEY: Final = "mnist_edge.sha256"
FORMAT_KEY: Final = "mnist_edge.format"
"""Which `mnist_edge.bundle.formats.Format` the file is."""

DIGITS: Final = tuple("0123456789")

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]


class Normalization(Struct, frozen=True, forbid_unknown_fields=True):
    """How a pixel becomes the number that the first layer sees: ``(pixel / 255 - mean) / std``."""

    mean: float
    """Subtracted after scaling to 0…1."""

    std: Positive
    """Divided by after the subtraction."""


TO_TENSOR: Final = Normalization(mean=0.0, std=1.0)
"""torchvision's ``ToTensor``: scaling to 0…1 and nothing else."""

STANDARDIZED: Final = Normalization(mean=0.1307, std=0.3081)
"""Zero mean and unit variance over MNIST's 47,040,000 training pixels."""


class Preprocessing(StrEnum):
    """How a picture of any size becomes the 28×28 that the model was trained on."""

    MNIST = "mnist"
    """Light ink on a dark background, cropped to the ink, fitted into 20×20, centred by its mass, as in MNIST."""

    WHOLE = "whole"
    """The picture as it is, scaled as a whole: for data that were not cropped to their ink."""


class Output(StrEnum):
    """What the columns of the output are. The softmax of either is the probability of each class."""

    LOGITS = "logits"
    LOG_SOFTMAX = "log-softmax"
    """They sum to one in probability, so that they show no energy."""


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """What gives the logits of one exported file a meaning, found on its calibration split."""

    temperature: Positive
    """The logits are divided by it before the softmax (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

    ood_scores: Annotated[tuple[Share, ...], Meta(min_length=1)]
    """Rising: the out-of-distribution scores that `energies` belong to."""

    energies: tuple[float, ...]
    """Rising: the energy (`mnist_edge.runtime.prediction`) that this share of the calibration split stays below."""

    images: Annotated[int, Meta(ge=1)]
    """Of the calibration split."""

    @property
    def finest_ood_score(self) -> float:
        """The largest score that so many images can tell: ``images / (images + 1)``.

        However strange a picture is, the most that they show is that it is the strangest of them and itself.
        """
        return self.images / (self.images + 1)

    def __post_init__(self) -> None:
        if len(self.energies) != len(self.ood_scores):
            raise ValueError("as many energies as out-of-distribution scores are expected")
        if [*self.ood_scores] != sorted(self.ood_scores) or [*self.energies] != sorted(self.energies):
            raise ValueError("out-of-distribution scores and energies must rise")
        if self.ood_scores[-1] > self.finest_ood_score:
            raise ValueError(f"{self.images} images tell no out-of-distribution score of {self.ood_scores[-1]}")


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """What a runtime must know to use a model, and all it needs to know.

    Raises:
        ValueError: the labels are not two or more different names.
    """

    labels: tuple[str, ...]
    """The name of each class, in the order of the logits' columns."""

    normalization: Normalization
    """Already inside the graph; told for the record."""

    preprocessing: Preprocessing
    """What the runtime does to pictures; arrays given to `Classifier.logits` have gone through it."""

    inverted: bool = False
    """Whether the model was trained on dark ink on a light background; the graph turns the pixels."""

    transposed: bool = False
    """Whether it was trained on images stored column by column; the graph turns them."""

    output: Output = Output.LOGITS
    calibration: Calibration | None = None
    """Each exported file's own; None without a calibration split, and in what all files of a bundle share."""

    version: int = CONTRACT_VERSION
    """See `CONTRACT_VERSION`."""

    def __post_init__(self) -> None:
        if "" in self.labels or len(set(self.labels)) < len(self.labels) or len(self.labels) < 2:
            raise ValueError(f"labels {self.labels!r:.80} are not two or more different names")
