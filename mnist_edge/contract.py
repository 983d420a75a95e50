"""The model contract: input, output, and the names used in exported files.

Every deployable form of a model takes raw pixels and returns logits::

    image:  uint8   [N, 1, 28, 28]   0 = background, 255 = full ink
    logits: float32 [N, classes]     one column per label, in the order of ``labels``

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
"""ONNX opset of every exported file: the lowest that torch's exporter writes without converting it."""

IR_VERSION: Final = 10
"""Version of the file format itself: the newest that onnxruntime 1.22, the oldest that we run on, reads."""

CONTRACT_VERSION: Final = 2
"""Incremented when a runtime of the new version could misread an older file."""

CONTRACT_KEY: Final = "mnist_edge.contract"
PROVENANCE_KEY: Final = "mnist_edge.provenance"
GOLDEN_KEY: Final = "mnist_edge.golden"
CHECKSUM_KEY: Final = "mnist_edge.sha256"
FORMAT_KEY: Final = "mnist_edge.format"
"""The file's `mnist_edge.bundle.layout.Format`."""

DIGITS: Final = tuple("0123456789")

# The types of the records' fields: whatever a file holds, computing with it stays finite and a line of it short.

Share = Annotated[float, Meta(ge=0, le=1)]

Figure = Annotated[float, Meta(ge=-1e39, le=1e39)]
"""float32 ends at 3.4e38, so no measured figure is larger."""

Positive = Annotated[float, Meta(ge=1e-12, le=1e12)]
"""A scale: no figure overflows when it is multiplied or divided by one."""

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""Up to here float64 is exact."""

NonZero = Annotated[int, Meta(ge=1, le=2**53)]

Name = Annotated[str, Meta(max_length=256)]
"""File systems allow names of 255 bytes."""

Text = Annotated[str, Meta(max_length=1000)]

Digest = Annotated[str, Meta(min_length=64, max_length=64)]
"""A SHA-256 in hex. Digests are only compared, and a pattern would take a cold start 0.2 ms to compile."""

MAX_CLASSES: Final = 256
"""Class indices are stored as unsigned bytes, as in MNIST's own files."""

LONGEST_LABEL: Final = 256
"""Characters of a label."""

Labels = Annotated[tuple[Annotated[str, Meta(max_length=LONGEST_LABEL)], ...], Meta(max_length=MAX_CLASSES)]

Version = Annotated[int, Meta(ge=0, le=2**31)]
"""Of a record."""


class Normalization(Struct, frozen=True, forbid_unknown_fields=True):
    """How pixels are scaled for the first layer: ``(pixel / 255 - mean) / std``."""

    mean: Annotated[float, Meta(ge=-1e12, le=1e12)]
    std: Positive


TO_TENSOR: Final = Normalization(mean=0.0, std=1.0)
"""As torchvision's ``ToTensor``: scales to 0…1 and nothing else."""

STANDARDIZED: Final = Normalization(mean=0.1307, std=0.3081)
"""Gives MNIST's 47,040,000 training pixels zero mean and unit variance."""

HALF: Final = Normalization(mean=0.5, std=0.5)
"""To -1…1."""

RAW: Final = Normalization(mean=0.0, std=1 / WHITE)
"""Pixels as they are, 0…255."""

NORMALIZATIONS: Final = {"none": TO_TENSOR, "mnist": STANDARDIZED, "half": HALF, "raw": RAW}
"""The customary normalizations."""


class Preprocessing(StrEnum):
    """How a picture of any size is brought to the 28×28 form of the training images."""

    MNIST = "mnist"
    """As in MNIST: light ink on dark, cropped to the ink, scaled to fit 20×20, centred by centre of mass."""

    WHOLE = "whole"
    """The whole picture, scaled without cropping: for data sets whose images are not cropped to their ink."""


class Output(StrEnum):
    """What the output columns hold. The softmax of either gives the class probabilities."""

    LOGITS = "logits"
    LOG_SOFTMAX = "log-softmax"
    """Log-probabilities. Their energy is always zero, so they yield no out-of-distribution score."""


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """The temperature and energy distribution of one exported file, fitted on the calibration split."""

    temperature: Positive
    """Divides the logits before the softmax (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

    ood_scores: Annotated[tuple[Share, ...], Meta(min_length=1, max_length=1000)]
    """The out-of-distribution scores at which the energy is recorded, in ascending order."""

    energies: Annotated[tuple[Figure, ...], Meta(max_length=1000)]
    """For each score, the energy (`mnist_edge.runtime.prediction.energy`) below which that share of the split lies."""

    images: NonZero
    """Images in the calibration split."""

    @property
    def finest_ood_score(self) -> float:
        """The highest score that a split of this size can give: ``images / (images + 1)``.

        The score ranks a picture among the split's images and itself, and even the strangest only outranks the others.
        """
        return self.images / (self.images + 1)

    def __post_init__(self) -> None:
        if len(self.energies) != len(self.ood_scores):
            raise ValueError("out-of-distribution scores and energies differ in number")
        if [*self.ood_scores] != sorted(self.ood_scores) or [*self.energies] != sorted(self.energies):
            raise ValueError("out-of-distribution scores and energies must be in ascending order")
        if self.ood_scores[-1] > self.finest_ood_score:
            raise ValueError(f"{self.images} images cannot give an out-of-distribution score of {self.ood_scores[-1]}")


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a runtime needs to know to use a model.

    Raises:
        ValueError: there are fewer than two labels or more than `MAX_CLASSES`, or one is empty, too long, a duplicate
            or not printable.
    """

    labels: Labels
    """The class names, in the order of the output columns."""

    normalization: Normalization
    """Already part of the exported graph; recorded for reference."""

    preprocessing: Preprocessing
    """What the runtime does to pictures. Arrays given to `Classifier.logits` must already be preprocessed."""

    inverted: bool = False
    """Whether the model was trained on dark ink on a light background; the graph inverts the pixels."""

    transposed: bool = False
    """Whether the model was trained on images stored column by column; the graph transposes them."""

    output: Output = Output.LOGITS
    calibration: Calibration | None = None
    """Each exported file's own. None without a calibration split, and in the contract that a bundle's files share."""

    version: Version = CONTRACT_VERSION

    def __post_init__(self) -> None:
        if len(self.labels) > MAX_CLASSES or max(map(len, self.labels), default=0) > LONGEST_LABEL:
            raise ValueError(f"more than {MAX_CLASSES} labels, or one of more than {LONGEST_LABEL} characters")
        if "" in self.labels or len(set(self.labels)) < len(self.labels) or len(self.labels) < 2:
            raise ValueError(f"labels {self.labels!r:.80} are not two or more different names")
        if not all(label.isprintable() for label in self.labels):
            raise ValueError(f"labels {self.labels!a:.80} hold characters that cannot be printed")
