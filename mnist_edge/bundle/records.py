"""What a bundle's JSON files hold: typed, frozen, and validated once where they are read (`mnist_edge.bundle.reading`).

The fields are the keys of the files, so that their docstrings are the files' documentation.
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
"""Of packages, by name."""


class Metrics(Struct, frozen=True):
    """How well logits answer a labelled set."""

    loss: float
    """Mean cross-entropy over all images, in nats."""

    correct: Count
    """Images whose largest logit is their class's."""

    total: Count
    """Images answered."""

    accuracy: Share
    """Share of correct answers."""


class Epoch(Struct, frozen=True):
    """What one pass over the training set came to."""

    number: int
    """Counted from 1."""

    lr: float
    """Learning rate of the epoch's last step."""

    train_loss: float
    """Mean loss a training image, as optimised: smoothed targets and distorted images included."""

    test: Metrics
    """On the whole test set. For reporting only: nothing is chosen by it."""

    seconds: float
    """Training and evaluation."""

    training_seconds: float
    """Training alone."""


class Data(Struct, frozen=True):
    """What a model was trained on."""

    name: str

    source: str
    """What `mnist_edge.data.datasets.load` takes to find it again."""

    train: Count
    """Training images."""

    test: Count
    """Test images."""

    sha256: dict[str, str]
    """Of each part's decompressed IDX form."""


class Machine(Struct, frozen=True):
    """Where a training ran."""

    platform: str
    threads: int
    device: str
    dtype: str


class TrainingRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="trained"):
    """What ``training.json`` holds."""

    version: int = TRAINING_VERSION
    architecture: str
    parameters: Count
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    seed: int

    finished: bool
    """Whether all of the recipe's epochs are behind it."""

    data: Data

    model_sha256: str
    """See `mnist_edge.training.checkpoint.model_digest`."""

    epochs: Annotated[list[Epoch], Meta(min_length=1)]
    versions: Versions
    machine: Machine


class DataOrigin(Struct, frozen=True):
    """What a model was trained on, without anything of the machine."""

    name: str
    sha256: dict[str, str]


class Provenance(Struct, frozen=True):
    """Where a model comes from: no dates, no paths, nothing that differs between two exports of the same weights."""

    architecture: str
    parameters: Count
    recipe: Recipe

    epochs: int
    """Those that are finished."""

    seed: int
    data: DataOrigin
    model_sha256: str
    trained_by: Versions
    exported_by: Versions


class Parity(Struct, frozen=True):
    """What the comparison of a file with PyTorch found: of every figure the worst over all batch sizes and variants.

    At a size at which only some images were compared, the others count as answered as in the largest batches.
    """

    max_abs_diff: float
    """Largest |Δlogit| on test images."""

    max_abs_diff_on_noise: float
    """Largest |Δlogit| on the probes."""

    flips: Count
    """Test images on which the two name different classes."""

    agreement: Share
    """Share of test images on which both name the same class."""

    non_finite: Count
    """Logits that are NaN or infinite."""

    accuracy: Share
    """On the test set."""

    accuracy_drop: float
    """Below PyTorch's; negative where the file does better."""

    logit_std: float
    """Standard deviation of PyTorch's logits on the test images."""

    images: Count
    """Of the test set."""

    batch_sizes: dict[str, int]
    """How many of them were compared at each batch size; the probes were at all."""

    variants: tuple[str, ...]
    """How the file was run."""


class CalibrationFigures(Struct, frozen=True):
    """What calibration does for a file's probabilities."""

    temperature: Positive

    images: Count
    """Of the calibration split."""

    error: Share
    """Expected calibration error on the test set."""

    error_uncalibrated: Share
    """The same at temperature 1."""


class File(Struct, frozen=True):
    """A file of a bundle, and what an exported one was measured to do."""

    sha256: str
    bytes: Count
    format: Format | UnsetType = UNSET
    parity: Parity | UnsetType = UNSET

    calibration: CalibrationFigures | UnsetType | None = UNSET
    """None without a calibration split."""


class Latency(Struct, frozen=True):
    """What an ONNX file costs on the machine of the export, and what else tells about its recommendation."""

    microseconds: float
    """Median time of one image on one thread."""

    batch_dependence: float
    """The largest |Δlogit| of an image between being alone and being in a batch."""


class Recommendation(Struct, frozen=True):
    """Which of the ONNX files to take."""

    file: str

    reasons_against: dict[str, str] = msgspec.field(name="not")
    """For each other one why not."""


class PyTorch(Struct, frozen=True):
    """What the trained model itself was measured to do."""

    accuracy: Share


class Manifest(Struct, frozen=True, kw_only=True):
    """What ``manifest.json`` holds."""

    version: int = MANIFEST_VERSION
    contract: Contract
    provenance: Provenance
    pytorch: PyTorch

    files: dict[str, File]
    """By name: the first half of the bundle, where it is there, and the exported files."""

    recommended: Recommendation | UnsetType = UNSET
    """Where there is a float32 ONNX file to compare with."""

    measured: dict[str, Latency] = {}
    """The ONNX files', by name."""

    def __post_init__(self) -> None:
        # A name becomes a path: it must not lead elsewhere.
        recommended = self.recommended
        advised = () if recommended is UNSET else (recommended.file, *recommended.reasons_against)
        for name in (*self.files, *self.measured, *advised):
            if name not in (WEIGHTS, TRAINING, *EXPORTED):
                raise ValueError(f"names {name!r:.80}, which is no file of a bundle")
        for name in self.exported:
            if UNSET in (self.files[name].format, self.files[name].parity, self.files[name].calibration):
                raise ValueError(f"lists {name} without format, parity or calibration")

    @property
    def exported(self) -> tuple[str, ...]:
        """The names of the exported files, in the order of the formats."""
        return tuple(name for name in EXPORTED if name in self.files)
