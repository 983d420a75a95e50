"""The names of the architectures, and the training recipe."""

from enum import StrEnum

from msgspec import Struct

from mnist_edge.contract import Normalization
from mnist_edge.names import choose


class Architecture(StrEnum):
    """Every architecture that `mnist_edge.training.models.build` can build."""

    CNN_NANO = "cnn-nano"
    CNN = "cnn"
    CNN_LARGE = "cnn-large"
    SIMPLE_NN = "simple-nn"
    SIGMOID_NN = "sigmoid-nn"


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

    ema_decay: float = 0.0
    """Decay per step of the exponential moving average (EMA) of the weights; 0 keeps the last weights."""

    calibration_split: int = 0
    """One in this many training images is set aside to calibrate the exported files; 0 for none."""

    autocast: bool = False
    """Whether forward and backward passes run in bfloat16 on hardware that supports it."""
