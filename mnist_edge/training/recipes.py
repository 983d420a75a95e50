"""The recipe that each architecture is trained by. Free of torch, so that the CLI can read it.

What parts of the convolutional networks' recipe are worth is in ``docs/experiments.md``.
"""

import math
from typing import Final

from msgspec.structs import replace

from mnist_edge.bundle.recipe import Architecture, OptimizerName, Recipe, Schedule
from mnist_edge.contract import STANDARDIZED, TO_TENSOR

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
    ema_decay=0.99,
    calibration_split=12,
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
