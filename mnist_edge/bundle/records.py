"""The contents of a bundle's JSON files: typed, frozen, and validated once, on reading (`mnist_edge.bundle.reading`).

The fields are the keys in the files, so their docstrings document the files.
"""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from mnist_edge.bundle.layout import EXPORTED, TRAINING, WEIGHTS, Format
from mnist_edge.bundle.recipe import MAX_EPOCHS, Architecture, Recipe, Seed
from mnist_edge.bundle.source import Ending, InputForm, Place, Source, form_of
from mnist_edge.contract import (
    Contract,
    Count,
    Digest,
    Figure,
    Labels,
    Name,
    NonZero,
    Normalization,
    Positive,
    Preprocessing,
    Share,
    Text,
    Version,
)

TRAINING_VERSION: Final = 3
MANIFEST_VERSION: Final = 3

Versions = Annotated[dict[Name, Name], Meta(max_length=100)]
"""Versions by package name."""

Digests = Annotated[dict[Name, Digest], Meta(max_length=100)]
"""SHA-256 by part of a data set."""


class Metrics(Struct, frozen=True):
    """Loss and accuracy on a labelled set."""

    loss: Figure
    """Mean cross-entropy over all images, in nats."""

    correct: Count
    """Images whose largest logit is that of their class."""

    total: Count
    """Images in the set."""

    accuracy: Share
    """``correct / total``."""


class Epoch(Struct, frozen=True):
    """The results of one pass over the training set."""

    number: NonZero
    """Counted from 1."""

    lr: Figure
    """Learning rate of the epoch's last step."""

    train_loss: Figure
    """Mean loss per training image, as optimised: with smoothed targets and distorted images."""

    test: Metrics
    """On the whole test set. For reporting only: no decision depends on it."""

    seconds: Figure
    """Training plus evaluation."""

    training_seconds: Figure
    """Training alone."""


class Data(Struct, frozen=True):
    """The data set that a model was trained on."""

    name: Name

    source: Place
    """What to pass to `mnist_edge.data.datasets.load` to load it again."""

    train: Count
    """Training images."""

    test: Count
    """Test images."""

    sha256: Digests
    """The digest of each part, in uncompressed IDX form."""


class Machine(Struct, frozen=True):
    """The machine that a training ran on."""

    platform: Name
    threads: Count
    device: Name
    dtype: Name


class FirstHalf(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What ``training.json`` holds for any model."""

    version: Version = TRAINING_VERSION

    architecture: Name
    """The name of one of ours, or of the user's class."""

    source: Source | UnsetType = UNSET
    """Where the user's class is; unset for our own architectures."""

    ending: Ending = Ending.LOGITS
    """What the module's last layer returns, and so how it becomes logits."""

    parameters: Count
    labels: Labels
    preprocessing: Preprocessing
    data: Data

    model_sha256: Digest
    """See `mnist_edge.training.checkpoint.model_digest`."""

    versions: Versions

    def __post_init__(self) -> None:
        if self.source is UNSET:
            Architecture(self.architecture)  # a ValueError if it is none of ours
        self.contract  # noqa: B018  # a ValueError if the labels make none

    @property
    def contract(self) -> Contract:
        """The contract that all of the bundle's files share."""
        raise NotImplementedError

    @property
    def form(self) -> InputForm:
        """What the module takes."""
        return form_of(self.source)


class TrainingRecord(FirstHalf, frozen=True, kw_only=True, tag="trained"):
    """The content of ``training.json`` after `train`."""

    recipe: Recipe
    seed: Seed

    finished: bool
    """Whether all epochs of the recipe have run."""

    epochs: Annotated[list[Epoch], Meta(min_length=1, max_length=MAX_EPOCHS)]
    machine: Machine

    @property
    def contract(self) -> Contract:
        """The contract that all of the bundle's files share."""
        return Contract(self.labels, self.recipe.normalization, self.preprocessing, output=self.ending.output)

    @property
    def calibration_split(self) -> int:
        """One in this many training images was set aside to calibrate the exported files; 0 for none."""
        return self.recipe.calibration_split

    @property
    def test(self) -> Metrics:
        """On the whole test set."""
        return self.epochs[-1].test


class Imported(Struct, frozen=True, kw_only=True):
    """The file that weights were imported from."""

    name: Name
    """The file's name, without its folder."""

    sha256: Digest


class ImportRecord(FirstHalf, frozen=True, kw_only=True, tag="imported"):
    """The content of ``training.json`` after `import`."""

    weights: Imported | UnsetType = UNSET
    """Unset for a module in memory."""

    normalization: Normalization
    inverted: bool
    transposed: bool

    test: Metrics
    """On the whole test set, measured at the import."""

    finished: bool = True

    calibration_split: Count = 0
    """None: the weights may have been trained on all images, and these would then make them look too certain."""

    @property
    def contract(self) -> Contract:
        """The contract that all of the bundle's files share."""
        return Contract(
            self.labels,
            self.normalization,
            self.preprocessing,
            inverted=self.inverted,
            transposed=self.transposed,
            output=self.ending.output,
        )


ModelRecord = TrainingRecord | ImportRecord
"""The content of ``training.json``."""


class DataOrigin(Struct, frozen=True):
    """The data set that a model was trained on, without machine-specific fields."""

    name: Name
    sha256: Digests


class Provenance(Struct, frozen=True, kw_only=True):
    """Where a model comes from. No dates, no paths, nothing that differs between two exports of the same weights."""

    architecture: Name

    source_sha256: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    """The digest of the file that defines the user's class; unset for our own architectures."""

    parameters: Count
    recipe: Recipe | UnsetType = UNSET
    """Unset for imported weights, as are `epochs` and `seed`."""

    epochs: Count | UnsetType = UNSET
    """Finished epochs."""

    seed: Seed | UnsetType = UNSET

    weights: Imported | UnsetType = UNSET
    """Set for imported weights only."""

    data: DataOrigin
    """For imported weights, the data that they were compared with."""

    model_sha256: Digest

    trained_by: Versions
    """Those of the import, for imported weights."""

    exported_by: Versions

    def __post_init__(self) -> None:
        if len({each is UNSET for each in (self.recipe, self.epochs, self.seed)}) > 1:
            raise ValueError("recipe, epochs and seed go together")


class Parity(Struct, frozen=True):
    """How a file compares with PyTorch: each figure is the worst over all batch sizes and variants.

    Most batch sizes are tried on a subset of the images; the others keep their logits from the run on all images.
    """

    max_abs_diff: Figure
    """Largest |Δlogit| on test images."""

    max_abs_diff_on_noise: Figure
    """Largest |Δlogit| on images of noise."""

    flips: Count
    """Test images that the two classify differently."""

    agreement: Share
    """Share of test images that the two classify alike."""

    non_finite: Count
    """Logits that are NaN or infinite."""

    accuracy: Share
    """On the test set."""

    accuracy_drop: Figure
    """PyTorch's accuracy minus the file's; negative if the file does better."""

    logit_std: Figure
    """Standard deviation of PyTorch's logits on the test images."""

    images: Count
    """Images in the test set."""

    batch_sizes: Annotated[dict[Name, Count], Meta(max_length=100)]
    """The number of test images compared at each batch size. The images of noise are compared at every size."""

    variants: Annotated[tuple[Name, ...], Meta(max_length=100)]
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

    sha256: Digest
    bytes: Count
    format: Format | UnsetType = UNSET
    parity: Parity | UnsetType = UNSET

    calibration: CalibrationFigures | UnsetType | None = UNSET
    """None without a calibration split."""


class Latency(Struct, frozen=True):
    """Measurements of an ONNX file, on the exporting machine, that decide whether it is recommended."""

    microseconds: Positive
    """Median latency of one image on one thread."""

    batch_dependence: Figure
    """Largest |Δlogit| of an image between running alone and running in a batch."""


class Recommendation(Struct, frozen=True):
    """Which ONNX file to use."""

    file: Name

    reasons_against: dict[Name, Text] = msgspec.field(name="not")
    """For each other file, why it is not recommended."""


class PyTorch(Struct, frozen=True):
    """Measurements of the trained model itself."""

    accuracy: Share


class Manifest(Struct, frozen=True, kw_only=True):
    """The content of ``manifest.json``."""

    version: Version = MANIFEST_VERSION
    contract: Contract
    provenance: Provenance
    pytorch: PyTorch

    files: dict[Name, File]
    """By name: weights and training record, if the bundle has them, and the exported files."""

    recommended: Recommendation | UnsetType = UNSET
    """Set only if there is a float32 ONNX file to compare with."""

    measured: dict[Name, Latency] = {}
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
