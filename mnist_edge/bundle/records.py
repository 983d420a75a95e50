"""The contents of a bundle's JSON files: typed, frozen, and validated once, on reading (`mnist_edge.bundle.reading`).

The fields are the keys in the files, so their docstrings document the files.
"""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from mnist_edge.bundle.layout import EXPORTED, TRAINING, WEIGHTS, Format
from mnist_edge.bundle.recipe import Recipe
from mnist_edge.contract import Contract, Count, Positive, Preprocessing, Share

TRAINING_VERSION: Final = 3
MANIFEST_VERSION: Final = 3

Versions = dict[str, str]
"""Versions by package name."""


class Metrics(Struct, frozen=True):
    """Loss and accuracy on a labelled set."""

    loss: float
    """Mean cross-entropy over all images, in nats."""

    correct: Count
    """Images whose largest logit is that of their class."""

    total: Count
    """Images in the set."""

    accuracy: Share
    """``correct / total``."""


class Epoch(Struct, frozen=True):
    """The results of one pass over the training set."""

    number: int
    """Counted from 1."""

    lr: float
    """Learning rate of the epoch's last step."""

    train_loss: float
    """Mean loss per training image, as optimised: with smoothed targets and distorted images."""

    test: Metrics
    """On the whole test set. For reporting only: no decision depends on it."""

    seconds: float
    """Training plus evaluation."""

    training_seconds: float
    """Training alone."""


class Data(Struct, frozen=True):
    """The data set that a model was trained on."""

    name: str

    source: str
    """What to pass to `mnist_edge.data.datasets.load` to load it again."""

    train: Count
    """Training images."""

    test: Count
    """Test images."""

    sha256: dict[str, str]
    """The digest of each part, in uncompressed IDX form."""


class Machine(Struct, frozen=True):
    """The machine that a training ran on."""

    platform: str
    threads: int
    device: str
    dtype: str


class TrainingRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="trained"):
    """The content of ``training.json``."""

    version: int = TRAINING_VERSION
    architecture: str
    parameters: Count
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    seed: int

    finished: bool
    """Whether all epochs of the recipe have run."""

    data: Data

    model_sha256: str
    """See `mnist_edge.training.checkpoint.model_digest`."""

    epochs: Annotated[list[Epoch], Meta(min_length=1)]
    versions: Versions
    machine: Machine


class DataOrigin(Struct, frozen=True):
    """The data set that a model was trained on, without machine-specific fields."""

    name: str
    sha256: dict[str, str]


class Provenance(Struct, frozen=True):
    """Where a model comes from. No dates, no paths, nothing that differs between two exports of the same weights."""

    architecture: str
    parameters: Count
    recipe: Recipe

    epochs: int
    """Finished epochs."""

    seed: int
    data: DataOrigin
    model_sha256: str
    trained_by: Versions
    exported_by: Versions


class Parity(Struct, frozen=True):
    """How a file compares with PyTorch: each figure is the worst over all batch sizes and variants.

    Most batch sizes are tried on a subset of the images; the others keep their logits from the run on all images.
    """

    max_abs_diff: float
    """Largest |Δlogit| on test images."""

    max_abs_diff_on_noise: float
    """Largest |Δlogit| on images of noise."""

    flips: Count
    """Test images that the two classify differently."""

    agreement: Share
    """Share of test images that the two classify alike."""

    non_finite: Count
    """Logits that are NaN or infinite."""

    accuracy: Share
    """On the test set."""

    accuracy_drop: float
    """PyTorch's accuracy minus the file's; negative if the file does better."""

    logit_std: float
    """Standard deviation of PyTorch's logits on the test images."""

    images: Count
    """Images in the test set."""

    batch_sizes: dict[str, int]
    """The number of test images compared at each batch size. The images of noise are compared at every size."""

    variants: tuple[str, ...]
    """The ways in which the file was run, such as with and without graph optimisation."""


class CalibrationFigures(Struct, frozen=True):
    """The effect of calibration on a file's probabilities."""

    temperature: Positive

    images: Count
    """Images in the calibration split."""

    error: Share
    """Expected calibration error on the test set."""

    error_uncalibrated: Share
    """The same at temperature 1."""


class File(Struct, frozen=True):
    """A file of a bundle and, if it was exported, its measurements."""

    sha256: str
    bytes: Count
    format: Format | UnsetType = UNSET
    parity: Parity | UnsetType = UNSET

    calibration: CalibrationFigures | UnsetType | None = UNSET
    """None without a calibration split."""


class Latency(Struct, frozen=True):
    """Measurements of an ONNX file, on the exporting machine, that decide whether it is recommended."""

    microseconds: float
    """Median latency of one image on one thread."""

    batch_dependence: float
    """Largest |Δlogit| of an image between running alone and running in a batch."""


class Recommendation(Struct, frozen=True):
    """Which ONNX file to use."""

    file: str

    reasons_against: dict[str, str] = msgspec.field(name="not")
    """For each other file, why it is not recommended."""


class PyTorch(Struct, frozen=True):
    """Measurements of the trained model itself."""

    accuracy: Share


class Manifest(Struct, frozen=True, kw_only=True):
    """The content of ``manifest.json``."""

    version: int = MANIFEST_VERSION
    contract: Contract
    provenance: Provenance
    pytorch: PyTorch

    files: dict[str, File]
    """By name: weights and training record, if the bundle has them, and the exported files."""

    recommended: Recommendation | UnsetType = UNSET
    """Set only if there is a float32 ONNX file to compare with."""

    measured: dict[str, Latency] = {}
    """For each ONNX file, by name."""

    def __post_init__(self) -> None:
        # Names become paths, so they must not lead out of the bundle.
        recommended = self.recommended
        advised = () if recommended is UNSET else (recommended.file, *recommended.reasons_against)
        for name in (*self.files, *self.measured, *advised):
            if name not in (WEIGHTS, TRAINING, *EXPORTED):
                raise ValueError(f"names {name!r:.80}, which is not a bundle file")
        for name in self.exported:
            if UNSET in (self.files[name].format, self.files[name].parity, self.files[name].calibration):
                raise ValueError(f"lists {name} without format, parity or calibration")

    @property
    def exported(self) -> tuple[str, ...]:
        """The names of the exported files, in the order of `Format`."""
        return tuple(name for name in EXPORTED if name in self.files)
