"""The names of the architectures, and the training recipe."""

from enum import StrEnum
from typing import Annotated, Final, Self

from msgspec import Meta, Struct

from mnist_edge.contract import Normalization, Share
from mnist_edge.names import choose


class Architecture(StrEnum):
    """Every architecture that `mnist_edge.training.models.build` can build: name, layers."""

    layers: str

    def __new__(cls, name: str, layers: str = "") -> Self:
        """Make the name the value. The default lets type checkers accept `Architecture(name)`."""
        member = str.__new__(cls, name)
        member._value_, member.layers = name, layers
        return member

    CNN_NANO = "cnn-nano", "six 3×3 convolutions, 16 and 32 channels"
    CNN = "cnn", "six 3×3 convolutions, 32 to 64 channels"
    CNN_LARGE = "cnn-large", "six 3×3 convolutions, 32 to 128 channels"
    SIMPLE_NN = "simple-nn", "784-512-256-10, ReLU"
    SIGMOID_NN = "sigmoid-nn", "784-64-10, sigmoid"


def architecture_named(name: str) -> Architecture:
    """The architecture of that name. Raises UsageError if there is none."""
    return choose(name, tuple(Architecture), "architecture")


class OptimizerName(StrEnum):
    """The available optimizers, all of them PyTorch's own."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Schedule(StrEnum):
    """How the learning rate changes during training."""

    CONSTANT = "constant"
    ONE_CYCLE = "one-cycle"


MAX_EPOCHS: Final = 5000
"""Their record has 1.5 MB of JSON, and their checkpoint 200,000 objects."""

Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]

LearningRate = Annotated[float, Meta(gt=0, le=1e12)]

_BelowOne = Annotated[float, Meta(ge=0, lt=1)]


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything configurable about a training, apart from architecture, data, seed and device."""

    normalization: Normalization
    """How pixels are scaled before the first layer; copied to the model's contract."""

    optimizer: OptimizerName

    lr: LearningRate
    """Learning rate; the peak value if the schedule is one-cycle."""

    epochs: Annotated[int, Meta(ge=1, le=MAX_EPOCHS)] = 5
    """Passes over the training set."""

    batch_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 64
    """Images per step; the last batch of an epoch may be smaller, or larger by one image."""

    schedule: Schedule = Schedule.CONSTANT

    momentum: _BelowOne = 0.0
    """For SGD only. Nesterov momentum, unless zero."""

    weight_decay: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    """L2 penalty (SGD, Adam) or decoupled weight decay (AdamW), as in PyTorch."""

    label_smoothing: _BelowOne = 0.0
    """The share of each target that is spread evenly over all classes."""

    augment: bool = False
    """Whether part of each batch is distorted at random (`mnist_edge.training.augment`)."""

    drawn_digits: _BelowOne = 0.0
    """The share of each batch that drawn digits replace (`mnist_edge.training.drawn`)."""

    outliers: Share = 0.0
    """How many random strokes each batch gets in addition, as a share of it. The model learns to be unsure of them
    (outlier exposure: Hendrycks, Mazeika and Dietterich 2019, arXiv:1812.04606)."""

    ema_decay: _BelowOne = 0.0
    """Decay per step of the exponential moving average (EMA) of the weights; 0 keeps the last weights."""

    calibration_split: Annotated[int, Meta(ge=0, le=2**31)] = 0
    """One in this many training images is set aside to calibrate the exported files; 0 for none."""

    autocast: bool = False
    """Whether forward and backward passes run in bfloat16 on hardware that supports it."""
