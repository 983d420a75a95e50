"""The names of the architectures and the recipe that each is trained by. Free of torch, so that the CLI can read it.

What parts of the convolutional networks' recipe are worth, by ``scripts/compare_recipes.py`` (there are more variants
than were run so far): `cnn-nano`, five epochs, judged by training images of writers whom it did not know.

| | errors of 9,978 | loss |
|---|--:|--:|
| as it is | 51 (26 + 25) | 0.0197 |
| no label smoothing | 62 (29 + 33) | 0.0222 |
| last weights, not averaged | 55 (28 + 27) | 0.0196 |
| constant learning rate, 0.05 | 65 (26 + 39) | 0.0244 |
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from mnist_edge.contract import STANDARDIZED, TO_TENSOR, Normalization


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


@dataclass(frozen=True)
class Recipe:
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

    average: float = 0.0
    """Decay a step of the exponential moving average of the weights; zero keeps the last weights themselves."""

    held_out: int = 0
    """One training image of so many is kept from the training, to calibrate the exported files by; 0 keeps none."""

    autocast: bool = False
    """Whether forward and backward run in bfloat16 where the processor has instructions for it."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Recipe":
        """Read what `dataclasses.asdict` gave, by way of JSON or not; raises TypeError or ValueError."""
        parts = {
            "normalization": Normalization(**data["normalization"]),
            "optimizer": OptimizerName(data["optimizer"]),
            "schedule": Schedule(data["schedule"]),
        }
        return cls(**data | parts)


DEFAULT_LR: Final = {OptimizerName.SGD: 0.01, OptimizerName.ADAM: 0.001, OptimizerName.ADAMW: 0.001}
"""Learning rate of an optimizer that a user puts in the place of the recipe's: the customary ones."""

_CNN: Final = Recipe(
    normalization=TO_TENSOR,
    optimizer=OptimizerName.SGD,
    lr=0.3,
    epochs=12,
    batch_size=256,
    schedule=Schedule.ONE_CYCLE,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.1,
    augment=True,
    average=0.99,
    held_out=12,
    autocast=True,
)

RECIPES: Final[dict[Architecture, Recipe]] = {
    Architecture.CNN_NANO: _CNN,
    Architecture.CNN: replace(_CNN, epochs=8),
    Architecture.CNN_LARGE: replace(_CNN, epochs=6),
    Architecture.SIMPLE_NN: Recipe(normalization=STANDARDIZED, optimizer=OptimizerName.ADAM, lr=0.001),
    Architecture.SIGMOID_NN: Recipe(normalization=TO_TENSOR, optimizer=OptimizerName.SGD, lr=0.01),
}


FAST: Final[dict[Architecture, Recipe]] = {
    architecture: replace(_CNN, epochs=2)
    for architecture in (Architecture.CNN_NANO, Architecture.CNN, Architecture.CNN_LARGE)
}
"""Recipes for the impatient."""

ENOUGH_STEPS: Final = 400
"""Optimizer steps below which a one-cycle training of `cnn` has not settled."""

SMALL_BATCH: Final = 64
"""Images a step where a data set is too small for the recipe's own batch."""


def suited(recipe: Recipe, images: int) -> Recipe:
    """The recipe itself, or, for a small training set, one that takes smaller steps and enough of them.

    A one-cycle recipe was chosen for sixty thousand images. With a few hundred its epochs would be over after a
    handful of steps; so the batch shrinks, the learning rate with it, and the epochs grow. The recipes with a constant
    learning rate are kept as they are described.
    """
    if recipe.schedule is not Schedule.ONE_CYCLE or recipe.epochs * images // recipe.batch_size >= ENOUGH_STEPS:
        return recipe
    batch_size = min(SMALL_BATCH, recipe.batch_size)
    steps = math.ceil(images / batch_size)
    return replace(
        recipe,
        batch_size=batch_size,
        lr=recipe.lr * batch_size / recipe.batch_size,
        epochs=max(recipe.epochs, math.ceil(ENOUGH_STEPS / steps)),
    )
