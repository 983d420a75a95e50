"""The names of the architectures, and the record of how a model was trained."""

from enum import StrEnum

from msgspec import Struct

from mnist_edge.contract import Normalization


class Architecture(StrEnum):
    """Every architecture that `mnist_edge.training.models.build` can build."""

    CNN_NANO = "cnn-nano"
    CNN = "cnn"
    CNN_LARGE = "cnn-large"
    SIMPLE_NN = "simple-nn"
    SIGMOID_NN = "sigmoid-nn"


class OptimizerName(StrEnum):
    """The optimizers on offer, all of them PyTorch's own."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Schedule(StrEnum):
    """How the learning rate moves during the training."""

    CONSTANT = "constant"
    ONE_CYCLE = "one-cycle"


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """What may be chosen of a training besides the data and the seed; the rest is the same in all of them."""

    normalization: Normalization
    """How pixels are scaled before the first layer; it travels in the model's contract."""

    optimizer: OptimizerName
    """Which of PyTorch's optimizers steps."""

    lr: float
    """Learning rate; with the one-cycle schedule its peak."""

    epochs: int = 5
    """Passes over the training set."""

    batch_size: int = 64
    """Images a step; the last batch of an epoch may be smaller."""

    schedule: Schedule = Schedule.CONSTANT
    """How the learning rate moves during the training."""

    momentum: float = 0.0
    """SGD only; Nesterov's where it is not zero."""

    weight_decay: float = 0.0
    """Added to the gradients (SGD, Adam) or taken off the weights (AdamW), as PyTorch does."""

    label_smoothing: float = 0.0
    """The share of each target that is spread over all classes."""

    augment: bool = False
    """Whether a part of every batch is distorted at random (`mnist_edge.training.augment`)."""

    ema_decay: float = 0.0
    """Decay a step of the exponential moving average of the weights; zero keeps the last weights themselves."""

    calibration_split: int = 0
    """One training image of so many is set aside to calibrate the exported files; 0 for none."""

    autocast: bool = False
    """Whether forward and backward run in bfloat16 where the processor has instructions for it."""
