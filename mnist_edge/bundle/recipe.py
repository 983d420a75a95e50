"""The names of the architectures, and the training recipe."""

from enum import StrEnum
from typing import Self

from msgspec import Struct

from mnist_edge.contract import Normalization
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


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything configurable about a training, apart from architecture, data, seed and device."""

    normalization: Normalization
    """How pixels are scaled before the first layer; copied to the model's contract."""

    optimizer: OptimizerName

    lr: float
    """Learning rate; the peak value if the schedule is one-cycle."""

    epochs: int = 5
    """Passes over the training set."""

    batch_size: int = 64
    """Images per step; the last batch of an epoch may be smaller, or larger by one image."""

    schedule: Schedule = Schedule.CONSTANT

    momentum: float = 0.0
    """For SGD only. Nesterov momentum, unless zero."""

    weight_decay: float = 0.0
    """L2 penalty (SGD, Adam) or decoupled weight decay (AdamW), as in PyTorch."""

    label_smoothing: float = 0.0
    """The share of each target that is spread evenly over all classes."""

    augment: bool = False
    """Whether part of each batch is distorted at random (`mnist_edge.training.augment`)."""

    drawn_digits: float = 0.0
    """The share of each batch that drawn digits replace (`mnist_edge.training.drawn`)."""

    outliers: float = 0.0
    """How many random strokes each batch gets in addition, as a share of it. The model learns to be unsure of them
    (outlier exposure: Hendrycks, Mazeika and Dietterich 2019, arXiv:1812.04606)."""

    ema_decay: float = 0.0
    """Decay per step of the exponential moving average (EMA) of the weights; 0 keeps the last weights."""

    calibration_split: int = 0
    """One in this many training images is set aside to calibrate the exported files; 0 for none."""

    autocast: bool = False
    """Whether forward and backward passes run in bfloat16 on hardware that supports it."""
