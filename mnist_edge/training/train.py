"""From data to the first half of a bundle, renewed after every epoch: `begin` or `resume`, and inside it `finish`.

with begin(data, architecture, recipe, out) as training:
    finish(training, data, out)
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.recipe import Architecture, Recipe
from mnist_edge.bundle.records import Epoch
from mnist_edge.bundle.writing import LOCK, Staging, require_free, writing
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import BusyError, DataFormatError, ModelError, ModelFormatError, TrainingError, UsageError
from mnist_edge.training import checkpoint
from mnist_edge.training.loop import OnBatch, Training

MAX_BATCH: Final = 1_000_000


@contextlib.contextmanager
def begin(
    data: Dataset,
    architecture: Architecture,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
) -> Iterator[Training]:
    """A fresh training, to be finished by `finish`, whose checkpoint lies in `out`. Nobody else writes there meanwhile.

    A bundle that is already there is refused; with `overwrite` it stays as it is until the first epoch is finished, and
    then its files go. Other files stay.

    Raises:
        BusyError: somebody else is writing the bundle.
        UsageError: a value of the recipe or the device is impossible, `out` cannot become a folder, or there is a model
            to lose.
    """
    _check(recipe)
    check_folder(out, overwrite=overwrite)
    training = Training(data, architecture, recipe, seed=seed, device=device)
    with writing(out, make=True):
        _check_contents(out, overwrite=overwrite)
        checkpoint.save(out, training, data)
        yield training


@contextlib.contextmanager
def resume(data: Dataset, paused: checkpoint.Paused, out: Path, *, device: str | None = None) -> Iterator[Training]:
    """A training that was interrupted, as it was after its last finished epoch; for `finish`.

    On the machine on which it began it ends with the very weights that it would have had without the interruption.
    Nobody else writes to `out` meanwhile. `paused` is what `checkpoint.load_paused` read there; `device` is another
    than the one that it began on.

    Raises:
        BusyError: somebody else is writing the bundle, or has been since `paused` was read.
        DataFormatError: the data are not those that the training began with.
        ModelFormatError: the checkpoint does not fit its own recipe.
        UsageError: the device is impossible.
    """
    if data.digests != paused.digests:
        raise DataFormatError(
            f"{data.name}: not the data that the training in {out} began with: give the same data with --data"
        )
    with writing(out):
        if checkpoint.load_paused(out).sha256 != paused.sha256:
            raise BusyError(f"{out}: its training has gone on meanwhile: run the command once more")
        training = Training(data, paused.architecture, paused.recipe, seed=paused.seed, device=device or paused.device)
        try:
            training.load_state_dict(paused.state)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            detail = " ".join(str(error).split())[:200]
            raise ModelFormatError(
                f"{out / layout.CHECKPOINT}: does not fit its recipe ({detail}): {reading.train_anew(out)}"
            ) from error
        yield training


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
        Staging(out).commit(remove=[layout.CHECKPOINT])
        raise


def _check(recipe: Recipe) -> None:
    limits = {
        "epochs": recipe.epochs >= 1,
        "batch_size": 1 <= recipe.batch_size <= MAX_BATCH,
        "lr": 0 < recipe.lr < float("inf"),
        "momentum": 0 <= recipe.momentum < 1,
        "weight_decay": 0 <= recipe.weight_decay < float("inf"),
        "label_smoothing": 0 <= recipe.label_smoothing < 1,
        "ema_decay": 0 <= recipe.ema_decay < 1,
        "calibration_split": recipe.calibration_split == 0 or recipe.calibration_split > 1,
    }
    for name, holds in limits.items():
        if not holds:
            raise UsageError(f"{name.replace('_', ' ')} cannot be {getattr(recipe, name)!r}: choose another value")


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Find out now, not after an hour of training, that a bundle cannot be written there. Raises as `begin` does."""
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"{nearest}: is a file, a bundle is a folder: choose another --out")
    if not os.access(nearest, os.W_OK):
        raise UsageError(f"{nearest}: cannot be written to: choose another --out")
    if out.is_dir():
        require_free(out)
        _check_contents(out, overwrite=overwrite)


def _check_contents(out: Path, *, overwrite: bool) -> None:
    there = {path.name for path in out.iterdir()} - {LOCK}
    if there and not _is_bundle(out):
        raise UsageError(f"{out}: holds other files and is not a bundle: choose another --out")
    ours = [name for name in layout.FILES if name in there]
    paused = None
    with contextlib.suppress(ModelError):  # there is none, or none that could go on
        paused = checkpoint.load_paused(out)
    lost = not there.isdisjoint((layout.WEIGHTS, *layout.EXPORTED)) or (paused is not None and paused.finished_epochs)
    if lost and not overwrite:
        holds, resumable = "a trained model", ""
        if paused is not None:
            done = paused.finished_epochs
            holds = f"a training that was interrupted {f'after epoch {done}' if done else 'in its first epoch'}"
            resumable = "--resume to go on, "
        raise UsageError(
            f"{out}: holds {holds}: add {resumable}--overwrite to replace it ({', '.join(ours)} would go), or name "
            "another --out"
        )


def _is_bundle(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (layout.TRAINING, layout.CHECKPOINT)):
        return True
    try:  # of what is for a device there is only the second half
        reading.read_manifest(folder)
    except ModelError:
        return False
    return True
