"""What a report tells: a bundle's records and what its model answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from mnist_edge.bundle.records import File, Latency, Manifest, ModelRecord, Parity, Provenance
from mnist_edge.contract import Contract
from mnist_edge.evaluation.evaluation import Evaluation


@dataclass(frozen=True)
class Distorted:
    """How a model answers distorted test images."""

    name: str
    does: str
    """What the distortion does, in words."""

    example: NDArray[np.uint8]
    """One of the images, [28, 28], uint8."""

    correct: int
    total: int


@dataclass(frozen=True)
class Facts:
    """All that goes into a report. The probabilities are those of one file, on one test set."""

    name: str
    """The bundle's: that of its folder, or of a pretrained model."""

    is_pretrained: bool
    """Whether the name is that of a pretrained model."""

    file: str
    """The name of the file that answered."""

    format: str | None
    """The user's choice of that file; None if the bundle's records chose it."""

    data: str
    """The name of the data set."""

    images: NDArray[np.uint8]
    """[n, 28, 28], the whole test set."""

    truth: NDArray[np.uint8]
    """[n], the true classes."""

    probabilities: NDArray[np.float64]
    """[n, classes], at the file's temperature."""

    evaluation: Evaluation

    undistorted: Distorted
    """The images that were distorted, as they were."""

    distorted: tuple[Distorted, ...]

    manifest: Manifest | None
    """None before the export."""

    record: ModelRecord | None
    """None if the bundle holds none, as the pretrained ones do, or one that is not the manifest's."""

    states: Mapping[str, str]
    """For each file that the manifest lists, whether it is the one that was exported."""

    def __post_init__(self) -> None:
        if self.manifest is None and self.record is None:
            raise ValueError("a bundle has a manifest or a training record")

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class."""
        return self.evaluation.labels

    @cached_property
    def contract(self) -> Contract:
        """What all of the bundle's files take and return."""
        if self.manifest is not None:
            return self.manifest.contract
        assert self.record is not None
        return self.record.contract

    @property
    def source(self) -> Provenance | ModelRecord:
        """Where the model comes from."""
        if self.manifest is not None:
            return self.manifest.provenance
        assert self.record is not None
        return self.record

    @property
    def measured(self) -> Mapping[str, Latency]:
        """The latency of each ONNX file, by name."""
        return {} if self.manifest is None else self.manifest.measured

    @property
    def files(self) -> Mapping[str, File]:
        """The exported files, by name."""
        return {} if self.manifest is None else {name: self.manifest.files[name] for name in self.manifest.exported}

    @property
    def parities(self) -> Mapping[str, Parity]:
        """How each exported file compares with PyTorch, by name."""
        return {name: file.parity for name, file in self.files.items() if file.parity is not UNSET}

    @property
    def argument(self) -> str:
        """What a command takes to mean the bundle, in the folder that holds it."""
        return self.name if self.is_pretrained else f"./{self.name}"
