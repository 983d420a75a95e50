"""The model contract: what goes in, what comes out, and under which names it travels.

Every deployable form of a model takes raw pixels and returns logits::

    image:  uint8   [N, 1, 28, 28]   0 = background, 255 = full ink
    logits: float32 [N, classes]     one column a label, in the order of ``labels``

Scaling and normalisation are part of the graph, so no caller can get them wrong.
"""

import json
import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from mnist_edge.errors import ModelFormatError

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

CONTRACT_VERSION: Final = 1
"""Raised when a runtime of this version could misread an older file."""

CONTRACT_KEY: Final = "mnist_edge.contract"
PROVENANCE_KEY: Final = "mnist_edge.provenance"
GOLDEN_KEY: Final = "mnist_edge.golden"
DIGEST_KEY: Final = "mnist_edge.sha256"
FORMAT_KEY: Final = "mnist_edge.format"
"""Which `mnist_edge.bundle.Format` the file is; files of 0.1.0 do not say."""

DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True)
class Normalization:
    """How a pixel becomes the number that the first layer sees: ``(pixel / 255 - mean) / std``."""

    mean: float
    """Subtracted after scaling to 0…1."""

    std: float
    """Divided by after the subtraction; greater than zero."""

    def __post_init__(self) -> None:
        numbers = all(isinstance(value, (int, float)) and math.isfinite(value) for value in (self.mean, self.std))
        if not numbers or self.std <= 0:
            raise ModelFormatError(
                f"normalisation by mean {self.mean!r} and std {self.std!r} is impossible: train again"
            )


TO_TENSOR: Final = Normalization(mean=0.0, std=1.0)
"""torchvision's ``ToTensor``: scaling to 0…1 and nothing else."""

STANDARDIZED: Final = Normalization(mean=0.1307, std=0.3081)
"""Zero mean and unit variance over MNIST's 47,040,000 training pixels."""


class Framing(StrEnum):
    """How a picture of any size becomes the 28×28 that the model was trained on."""

    MNIST = "mnist"
    """Light ink on dark ground, cropped to the ink, fitted into 20×20, centred by its mass: as MNIST's digits were."""

    WHOLE = "whole"
    """The picture as it is, scaled as a whole: for data that were not framed by their ink."""


@dataclass(frozen=True)
class Calibration:
    """What gives the logits of one exported file a meaning, found on images that were kept from its training."""

    temperature: float
    """The logits are divided by it before the softmax (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

    novelty_levels: tuple[float, ...]
    """Rising, each within 0…1: the novelties that `evidence` belongs to."""

    evidence: tuple[float, ...]
    """Falling: the evidence (`mnist_edge.runtime.answers`) that this share of the kept images surpasses."""

    images: int
    """How many were kept, at least one."""

    @property
    def finest_novelty(self) -> float:
        """The largest novelty that so many images can tell: ``images / (images + 1)``.

        However strange a picture is, the most that they show is that it is the strangest of them and itself.
        """
        return self.images / (self.images + 1)

    def __post_init__(self) -> None:
        values = (self.temperature, *self.novelty_levels, *self.evidence)
        finite = all(isinstance(value, float) and math.isfinite(value) for value in values)
        if (
            not finite
            or self.temperature <= 0
            or isinstance(self.images, bool)
            or not isinstance(self.images, int)
            or self.images < 1
            or not self.evidence
            or len(self.evidence) != len(self.novelty_levels)
            or list(self.novelty_levels) != sorted(self.novelty_levels)
            or not 0 <= self.novelty_levels[0] <= self.novelty_levels[-1] <= 1
            or list(self.evidence) != sorted(self.evidence, reverse=True)
        ):
            raise ModelFormatError(f"calibration with temperature {self.temperature!r} is malformed: export again")


@dataclass(frozen=True)
class Contract:
    """What a runtime must know to use a model, and all it needs to know."""

    labels: tuple[str, ...]
    """The name of each class, in the order of the logits' columns."""

    normalization: Normalization
    """Already inside the graph; told for the record."""

    framing: Framing
    """What the runtime does to pictures; arrays given to `Classifier.logits` are framed already."""

    calibration: Calibration | None = None
    """Each exported file's own; None where no images were kept for it, and in what all files of a bundle share."""

    version: int = CONTRACT_VERSION
    """See `CONTRACT_VERSION`."""

    def __post_init__(self) -> None:
        names = all(isinstance(label, str) and label for label in self.labels)
        if not names or len(set(self.labels)) < len(self.labels) or len(self.labels) < 2:
            raise ModelFormatError(f"labels {self.labels!r:.80} are not two or more different names: train again")

    def as_dict(self) -> dict[str, Any]:
        """The contract as plain JSON values, the tensors' names, types and shapes spelled out."""
        return {
            "version": self.version,
            "input": {"name": INPUT_NAME, "dtype": "uint8", "shape": [BATCH_AXIS, 1, HEIGHT, WIDTH]},
            "output": {"name": OUTPUT_NAME, "dtype": "float32", "shape": [BATCH_AXIS, len(self.labels)]},
            "labels": list(self.labels),
            "normalization": asdict(self.normalization),
            "framing": self.framing.value,
            "calibration": _calibration_as_dict(self.calibration),
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Contract":
        """Read what `as_dict` wrote.

        Raises:
            ModelFormatError: it was written by a newer version, or says something else than it should.
        """
        version = data.get("version") if isinstance(data, dict) else None
        if version != CONTRACT_VERSION:
            raise ModelFormatError(
                f"the model's contract has version {version!r}, this runtime reads {CONTRACT_VERSION}: "
                "upgrade mnist-edge, or export the model again"
            )
        try:
            contract = cls(
                labels=tuple(data["labels"]),
                normalization=Normalization(**data["normalization"]),
                framing=Framing(data["framing"]),
                calibration=_calibration_from_dict(data["calibration"]),
            )
        except ModelFormatError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"the model's contract is incomplete ({error!r}): export the model again") from error
        if contract.as_dict() != data:
            raise ModelFormatError("the model's contract is not one of mnist-edge's: export the model again")
        return contract


def _calibration_as_dict(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(calibration).items()}


def _calibration_from_dict(data: Any) -> Calibration | None:
    if data is None:
        return None
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return Calibration(**values)


def to_json(value: object) -> str:
    """One canonical line of JSON: the same value always gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
