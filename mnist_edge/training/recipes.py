"""The default recipe of each architecture, and what a recipe may hold. Does not import torch.

``docs/experiments.md`` reports what the parts of the convolutional networks' recipe contribute.
"""

import math
from collections.abc import Container
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, structs
from msgspec.structs import replace

from mnist_edge.bundle.recipe import Architecture, OptimizerName, Recipe, Schedule
from mnist_edge.contract import STANDARDIZED, TO_TENSOR
from mnist_edge.errors import UsageError

if TYPE_CHECKING:
    from mnist_edge.data.datasets import Dataset

DEFAULT_LR: Final = {OptimizerName.SGD: 0.01, OptimizerName.ADAM: 0.001, OptimizerName.ADAMW: 0.001}
"""Customary learning rates, for an optimizer that the user chooses in place of the recipe's."""

_CNN: Final = Recipe(
    normalization=TO_TENSOR,
    optimizer=OptimizerName.SGD,
    lr=0.3,
    epochs=20,
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
    Architecture.CNN_LARGE: replace(_CNN, epochs=10),
    Architecture.SIMPLE_NN: Recipe(normalization=STANDARDIZED, optimizer=OptimizerName.ADAM, lr=0.001),
    Architecture.SIGMOID_NN: Recipe(normalization=TO_TENSOR, optimizer=OptimizerName.SGD, lr=0.01),
}

OWN: Final = Recipe(
    normalization=TO_TENSOR,
    optimizer=OptimizerName.ADAMW,
    lr=0.001,
    weight_decay=0.01,
    schedule=Schedule.ONE_CYCLE,
    calibration_split=12,
)
"""For a user's own class: nothing that only some architectures stand."""

FAST: Final[dict[Architecture, Recipe]] = {
    architecture: replace(_CNN, epochs=2)
    for architecture in (Architecture.CNN_NANO, Architecture.CNN, Architecture.CNN_LARGE)
}
"""Short recipes, for a quick training."""

ON_MNIST: Final = {"drawn_digits": 0.05, "outliers": 0.05}
"""What `with_drawings` sets on MNIST."""

ENOUGH_STEPS: Final = 400
"""With fewer optimizer steps a one-cycle training of `cnn` has not converged."""

SMALL_BATCH: Final = 64
"""Batch size for a data set that is too small for the recipe's own."""


def with_drawings(recipe: Recipe, data: "Dataset", *, but: Container[str] = ()) -> Recipe:
    """Add drawn images to a recipe that augments, if the data are MNIST, whose writers were all Americans.

    Other data may have labels from 0 to 9 that are no digits, as Fashion-MNIST does, or hold digits of all countries.

    Args:
        recipe: a recipe of an architecture.
        data: what it is for.
        but: fields that stay as they are.
    """
    if not (recipe.augment and data.is_mnist):
        return recipe
    return replace(recipe, **{name: share for name, share in ON_MNIST.items() if name not in but})


def suited(recipe: Recipe, images: int) -> Recipe:
    """Adapt a recipe to the number of training images; one that takes enough steps is returned unchanged.

    The one-cycle recipes were tuned for 60,000 images. With a few hundred, their epochs would be over after a handful
    of steps, so the batch size shrinks, the learning rate in proportion, and the number of epochs grows. Recipes with a
    constant learning rate are never changed.
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


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError if a recipe cannot be trained with."""
    for field in structs.fields(Recipe):
        value = getattr(recipe, field.name)
        is_valid = isinstance(value, Struct) or _is_valid(value, field.type)
        if not is_valid or (field.name == "calibration_split" and value == 1):  # nothing would be left to train on
            raise UsageError(f"{field.name.replace('_', ' ')} cannot be {value!r}: choose another value")


def _is_valid(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
