"""From data to the first half of a bundle, renewed after every epoch: `begin` or `resume`, then `finish`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mnist_edge import bundle
from mnist_edge.errors import DataFormatError, ModelFormatError, TrainingError, UsageError
from mnist_edge.training import checkpoint
from mnist_edge.training.datasets import Dataset
from mnist_edge.training.loop import Epoch, OnBatch, Training
from mnist_edge.training.recipes import Architecture, Recipe

MAX_BATCH: Final = 1_000_000


def begin(
    data: Dataset, architecture: Architecture, recipe: Recipe, out: Path, *, seed: int = 0, device: str = "cpu"
) -> Training:
    """A fresh training, to be finished by `finish`, whose checkpoint lies in `out`.

    A bundle that is already there stays as it is until the first epoch is finished.

    Raises:
        UsageError: a value of the recipe or the device is impossible, or `out` cannot become a folder.
    """
    _check(recipe)
    _check_folder(out)
    training = Training(data, architecture, recipe, seed=seed, device=device)
    checkpoint.save(out, training, data)
    return training


def resume(data: Dataset, paused: checkpoint.Paused, out: Path, *, device: str | None = None) -> Training:
    """A training that was interrupted, as it was after its last finished epoch; for `finish`.

    On the machine on which it began it ends with the very weights that it would have had without the interruption.
    `paused` is what `checkpoint.load_paused` read in `out`; `device` is another than the one that it began on.

    Raises:
        DataFormatError: the data are not those that the training began with.
        ModelFormatError: the checkpoint does not fit its own recipe.
        UsageError: the device is impossible.
    """
    if data.digests != paused.digests:
        raise DataFormatError(
            f"{data.name}: not the data that the training in {out} began with: give the same data with --data"
        )
    training = Training(data, paused.architecture, paused.recipe, seed=paused.seed, device=device or paused.device)
    try:
        training.load_state_dict(paused.state)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise ModelFormatError(
            f"{out / bundle.CHECKPOINT}: does not fit its recipe ({detail}): {bundle.retrain(out)}"
        ) from error
    return training


def finish(
    training: Training,
    data: Dataset,
    out: Path,
    *,
    on_batch: OnBatch = lambda epoch, seen, total, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> None:
    """Run the epochs that are left, and write the bundle after each, so that an interruption costs one at most.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    try:
        while not training.complete:
            epoch = training.run_epoch(on_batch)
            checkpoint.save(out, training, data)
            on_epoch(epoch)
    except TrainingError:
        # Going on would end the same way.
        (out / bundle.CHECKPOINT).unlink(missing_ok=True)
        raise


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
    if (
        out.is_dir()
        and any(out.iterdir())
        and not any((out / name).is_file() for name in (bundle.TRAINING, bundle.CHECKPOINT))
    ):
        raise UsageError(f"{out}: holds other files and is not a bundle: choose another --out")
    if not os.access(nearest, os.W_OK):
        raise UsageError(f"{nearest}: cannot be written to: choose another --out")
