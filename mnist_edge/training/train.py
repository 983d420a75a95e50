"""`train`: data in, the first half of a bundle out, renewed after every epoch."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mnist_edge import bundle
from mnist_edge.errors import UsageError
from mnist_edge.training import checkpoint
from mnist_edge.training.datasets import Dataset
from mnist_edge.training.loop import Epoch, OnBatch, fit
from mnist_edge.training.recipes import Architecture, Recipe

MAX_BATCH: Final = 1_000_000


def train(
    data: Dataset,
    architecture: Architecture,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    on_batch: OnBatch = lambda epoch, seen, total, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train a model and write it to a bundle after every epoch, so that an interruption costs one epoch at most.

    A bundle that is already there stays as it is until the first epoch is finished.

    Raises:
        UsageError: a value of the recipe is impossible, or `out` cannot become a folder.
        TrainingError: the loss is no longer finite.
    """
    _check(recipe)
    _check_folder(out)
    epochs: list[Epoch] = []
    for epoch, model in fit(data, architecture, recipe, seed=seed, device=device, on_batch=on_batch):
        epochs.append(epoch)
        checkpoint.save(out, model, architecture, recipe, seed, data, epochs)
        on_epoch(epoch)
    return epochs


def _check(recipe: Recipe) -> None:
    limits = {
        "epochs": recipe.epochs >= 1,
        "batch_size": 1 <= recipe.batch_size <= MAX_BATCH,
        "lr": 0 < recipe.lr < float("inf"),
        "momentum": 0 <= recipe.momentum < 1,
        "weight_decay": 0 <= recipe.weight_decay < float("inf"),
        "label_smoothing": 0 <= recipe.label_smoothing < 1,
        "average": 0 <= recipe.average < 1,
        "held_out": recipe.held_out == 0 or recipe.held_out > 1,
    }
    for name, holds in limits.items():
        if not holds:
            raise UsageError(f"{name.replace('_', ' ')} cannot be {getattr(recipe, name)!r}: choose another value")


def _check_folder(out: Path) -> None:
    # Found out now, not after an hour of training.
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"{nearest}: is a file, a bundle is a folder: choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / bundle.TRAINING).is_file():
        raise UsageError(f"{out}: holds other files and is not a bundle: choose another --out")
    if not os.access(nearest, os.W_OK):
        raise UsageError(f"{nearest}: cannot be written to: choose another --out")
