"""Train a model, and write the first half of a bundle after every epoch: `finish`, inside `begin` or `resume`.

Usage::

    with begin(data, architecture, recipe, out) as training:
        finish(training, data, out)
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.recipe import Architecture, Recipe
from mnist_edge.bundle.records import Epoch
from mnist_edge.bundle.source import Source
from mnist_edge.bundle.writing import Staging, writing
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import BusyError, DataFormatError, ModelFormatError, TrainingError
from mnist_edge.training import checkpoint
from mnist_edge.training.checks import check_contents, check_folder
from mnist_edge.training.loop import OnBatch, Training
from mnist_edge.training.recipes import check_recipe
from mnist_edge.training.threads import computing_on


@contextlib.contextmanager
def begin(
    data: Dataset,
    architecture: Architecture | Source,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
) -> Iterator[Training]:
    """Begin a new training for `finish` to complete: write its checkpoint to `out`, and keep other writers out.

    An existing bundle is refused. With `overwrite` it stays intact until the first epoch is finished; then its files
    are replaced or removed. Other files stay.

    Args:
        data: the data to train on and to evaluate with.
        architecture: what to train.
        recipe: how to train it.
        out: the bundle's folder.
        seed: for initial weights, image order and augmentation.
        device: the PyTorch device.
        threads: how many threads PyTorch uses meanwhile, in the whole process; None leaves their number as it is.
        overwrite: whether to replace an existing bundle.

    Raises:
        BusyError: another writer is working on the bundle.
        UsageError: the recipe or the device is invalid, `out` cannot be used as a bundle's folder, or it holds a model
            and `overwrite` is False.
    """
    check_recipe(recipe)
    check_folder(out, overwrite=overwrite)
    training = Training(data, architecture, recipe, seed=seed, device=device)
    with computing_on(threads), writing(out, make=True):
        check_contents(out, overwrite=overwrite)
        checkpoint.save(out, training, data)
        yield training


@contextlib.contextmanager
def resume(
    data: Dataset, paused: checkpoint.Paused, out: Path, *, device: str | None = None, threads: int | None = None
) -> Iterator[Training]:
    """Resume an interrupted training after its last finished epoch, for `finish` to complete; keep other writers out.

    On the same machine, device and number of threads it ends with exactly the weights that it would have had without
    the interruption.

    Args:
        data: the data that the training began with.
        paused: what `checkpoint.load_paused` read from `out`.
        out: the bundle's folder.
        device: the device to continue on; None for the one that it began on.
        threads: how many threads PyTorch continues on; None for as many as before.

    Raises:
        BusyError: another writer is working on the bundle, or was since `paused` was read.
        DataFormatError: the data are not those that the training began with.
        ModelFormatError: the checkpoint does not fit its own recipe.
        UsageError: the device cannot be used.
    """
    if data.digests != paused.digests:
        raise DataFormatError(
            f"{data.name}: not the data that the training in {out} began with: give the same data with --data"
        )
    with computing_on(paused.threads if threads is None else threads), writing(out):
        if checkpoint.load_paused(out).sha256 != paused.sha256:
            raise BusyError(f"{out}: its training has advanced in the meantime: run the command again")
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
    """Run the remaining epochs, writing the bundle after each, so that an interruption costs one epoch at most.

    Raises:
        TrainingError: as `Training.run_epoch` does; the checkpoint is removed.
    """
    try:
        while not training.complete:
            epoch = training.run_epoch(on_batch)
            checkpoint.save(out, training, data)
            on_epoch(epoch)
    except TrainingError:
        # Resuming would fail in the same way.
        Staging(out).commit(remove=[layout.CHECKPOINT])
        raise
