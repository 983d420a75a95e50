"""What each part of the convolutional networks and of their recipe is worth: trained with something else in its place.

    python scripts/compare_recipes.py [VARIANT ...]

`cnn-nano` by five epochs of its recipe, twice for every variant: each time a twelfth of MNIST's training images is set
aside, of writers whom the training does not know, and judges it; the test set has no say. Both trainings of a variant
have the images, the seed and the order of batches of those that it is compared with.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from mnist_edge.export.calibration import temperature
from mnist_edge.training import datasets, loop, metrics
from mnist_edge.training.datasets import Dataset, Split
from mnist_edge.training.models import CNN, STAGES
from mnist_edge.training.recipes import RECIPES, Architecture, OptimizerName, Recipe, Schedule

MODEL = Architecture.CNN_NANO
BASE = replace(RECIPES[MODEL], epochs=5, held_out=0)
EVERY = 12


@dataclass(frozen=True)
class Variant:
    """What is different: values of the recipe, the model, the optimizer."""

    recipe: dict[str, Any] = field(default_factory=dict)
    change: Callable[[CNN], CNN] = lambda model: model
    optimizer: Callable[[Recipe, nn.Module], torch.optim.Optimizer] | None = None


class Muon(torch.optim.Optimizer):
    """Keller Jordan's: momentum, made orthogonal for convolutions (2024); plain SGD for the other parameters."""

    def __init__(self, parameters: Any, lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002  # torch's signature
        """Once, by the gradients there are."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                average.mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(average, alpha=group["momentum"])
                if weight.ndim == 4:
                    update = orthogonal(update.flatten(1)).view_as(weight) * weight.norm()
                weight.sub_(update, alpha=group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Newton and Schulz's iteration with Jordan's coefficients, scaled to a Frobenius norm of about 1."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x / min(matrix.shape) ** 0.5


class Residual(nn.Module):
    """A block of convolution, normalisation and ReLU, added to what it is given."""

    def __init__(self, *block: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*block)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        added: Tensor = x + self.block(x)
        return added


def with_mean_pool(model: CNN) -> CNN:
    *others, convolution, pool, normalization, activation = model.features
    model.features = nn.Sequential(*others, convolution, normalization, activation, nn.AvgPool2d(pool.kernel_size))
    return model


def with_strided_stem(model: CNN) -> CNN:
    model.features[0].stride = (2, 2)
    model.features[1] = nn.Identity()
    return model


def with_residuals(model: CNN) -> CNN:
    layers, taken = list(model.features), []
    while layers:
        block = layers[:3]
        plain = isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d)
        if plain and block[0].in_channels == block[0].out_channels:
            taken.append(Residual(*block))
            layers = layers[3:]
        else:
            taken.append(layers.pop(0))
    model.features = nn.Sequential(*taken)
    return model


def of_stages(*stages: tuple[int, ...]) -> Callable[[CNN], CNN]:
    return lambda model: CNN(stages)


def muon(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    return Muon([weight for weight in model.parameters() if weight.requires_grad], recipe.lr, recipe.momentum)


VARIANTS = {
    "as it is": Variant(),
    "no label smoothing": Variant({"label_smoothing": 0.0}),
    "last weights, not averaged": Variant({"average": 0.0}),
    "constant learning rate, 0.05": Variant({"schedule": Schedule.CONSTANT, "lr": 0.05}),
    "AdamW, one-cycle to 0.01": Variant({"optimizer": OptimizerName.ADAMW, "lr": 0.01, "momentum": 0.0}),
    "Muon, one-cycle to 0.1": Variant({"lr": 0.1}, optimizer=muon),
    "batches of 128, 0.15": Variant({"batch_size": 128, "lr": 0.15}),
    "weight decay a tenth": Variant({"weight_decay": 5e-5}),
    "mean pool at the end": Variant(change=with_mean_pool),
    "stem of half resolution (stride 2)": Variant(change=with_strided_stem),
    "residuals around equal widths": Variant(change=with_residuals),
    "three convolutions of 16, 32, 40 channels": Variant(change=of_stages((16,), (32,), (40,))),
    "twice as long": Variant({"epochs": 10}),
}


def folds(data: Dataset) -> list[Dataset]:
    """Twice the training images, each time another twelfth of them in the place of the test set."""
    rest, first = data.train.hold_out(EVERY)
    others, second = rest.hold_out(EVERY - 1)
    back = Split(np.concatenate([others.images, first.images]), np.concatenate([others.labels, first.labels]))
    return [replace(data, train=rest, test=first), replace(data, train=back, test=second)]


def errors_and_loss(data: Dataset, variant: Variant) -> tuple[int, float]:
    recipe = replace(BASE, **variant.recipe)
    make = variant.optimizer or loop.optimizer_of
    changed = lambda architecture, classes: variant.change(CNN(STAGES[architecture], classes))  # noqa: E731
    with mock.patch.object(loop, "build", changed), mock.patch.object(loop, "optimizer_of", make):
        training = loop.Training(data, MODEL, recipe)
        while not training.complete:
            epoch = training.run_epoch()
    logits = loop.predict(training.deployed, data.test.images, recipe, "cpu")
    calibrated = (logits / temperature(logits, data.test.labels)).astype(np.float32)
    return epoch.test.total - epoch.test.correct, metrics.measure(calibrated, data.test.labels).loss


def main(names: list[str]) -> None:
    parts = folds(datasets.load(datasets.DEFAULT))
    print(f"| {MODEL}, {BASE.epochs} epochs | errors of {sum(len(part.test) for part in parts):,} | loss |")
    print("|---|--:|--:|", flush=True)
    for name in names or VARIANTS:
        found = [errors_and_loss(part, VARIANTS[name]) for part in parts]
        errors, losses = zip(*found, strict=True)
        print(f"| {name} | {sum(errors)} ({' + '.join(map(str, errors))}) | {np.mean(losses):.4f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
