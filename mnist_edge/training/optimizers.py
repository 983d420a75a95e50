"""The optimizer and the learning-rate scheduler of a recipe."""

from collections.abc import Mapping
from typing import Any, Final, assert_never

import torch
from torch import nn

from mnist_edge.bundle.recipe import OptimizerName, Recipe, Schedule
from mnist_edge.training.weights import fitted

WARM_UP: Final = 0.25
"""Share of a one-cycle training in which the learning rate rises."""


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer, in its fused implementation, for all of a model's weights."""
    weights, lr, decay = model.parameters(), recipe.lr, recipe.weight_decay
    match recipe.optimizer:
        case OptimizerName.SGD:
            momentum, nesterov = recipe.momentum, recipe.momentum > 0
            return torch.optim.SGD(weights, lr, momentum, weight_decay=decay, nesterov=nesterov, fused=True)
        case OptimizerName.ADAM:
            return torch.optim.Adam(weights, lr, weight_decay=decay, fused=True)
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(weights, lr, weight_decay=decay, fused=True)
        case _:
            assert_never(recipe.optimizer)


def load_optimizer(optimizer: torch.optim.Optimizer, recipe: Recipe, state: Mapping[int, Any], lr: float) -> None:
    """Give a fresh optimizer of the recipe what one remembers of each weight, and a learning rate.

    Args:
        optimizer: of `optimizer_of`.
        recipe: the recipe.
        state: the ``state`` in an optimizer's state_dict, which is not trusted; empty before the first step.
        lr: the learning rate.

    Raises:
        KeyError, TypeError, ValueError: the state is not that of such an optimizer.
    """
    fresh = optimizer.state_dict()
    (group,) = optimizer.param_groups
    remembered = {}
    for number in state:
        if type(number) is not int or not 0 <= number < len(group["params"]):
            raise ValueError(f"weight number {number!r:.20}")
        weight = group["params"][number]
        step = {} if recipe.optimizer is OptimizerName.SGD else {"step": torch.zeros(())}
        names = ("momentum_buffer",) if recipe.optimizer is OptimizerName.SGD else ("exp_avg", "exp_avg_sq")
        remembered[number] = fitted(state[number], step | dict.fromkeys(names, weight.detach()))
    optimizer.load_state_dict({**fresh, "state": remembered})
    optimizer.param_groups[0]["lr"] = lr  # in a new group


def scheduler_of(recipe: Recipe, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's learning-rate scheduler, to be stepped after each of the `steps` optimizer steps."""
    match recipe.schedule:
        case Schedule.CONSTANT:
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case Schedule.ONE_CYCLE:
            total = steps + 1
            # torch divides by the number of steps in the rise minus one, so there must be two.
            rise = max(WARM_UP, 2 / total)
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer, recipe.lr, total_steps=total, pct_start=rise, cycle_momentum=False
            )
        case _:
            assert_never(recipe.schedule)
