"""What is checked before a training begins. Needs torch only to read the checkpoint of an interrupted training."""

import contextlib
import os
from pathlib import Path
from typing import Final

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.recipe import Recipe
from mnist_edge.bundle.writing import LOCK, require_free
from mnist_edge.errors import ModelError, UsageError

MAX_BATCH: Final = 1_000_000


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError if a recipe cannot be trained with."""
    limits = {
        "epochs": recipe.epochs >= 1,
        "batch_size": 1 <= recipe.batch_size <= MAX_BATCH,
        "lr": 0 < recipe.lr < float("inf"),
        "momentum": 0 <= recipe.momentum < 1,
        "weight_decay": 0 <= recipe.weight_decay < float("inf"),
        "label_smoothing": 0 <= recipe.label_smoothing < 1,
        "drawn_digits": 0 <= recipe.drawn_digits < 1,
        "outliers": 0 <= recipe.outliers <= 1,
        "ema_decay": 0 <= recipe.ema_decay < 1,
        "calibration_split": recipe.calibration_split == 0 or recipe.calibration_split > 1,
    }
    for name, holds in limits.items():
        if not holds:
            raise UsageError(f"{name.replace('_', ' ')} cannot be {getattr(recipe, name)!r}: choose another value")


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Check that a bundle can be written to `out`, before hours of training. Raises as `train.begin` does."""
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"{nearest}: is a file, not a folder: choose another --out")
    if not os.access(nearest, os.W_OK):
        raise UsageError(f"{nearest}: cannot be written to: choose another --out")
    if out.is_dir():
        require_free(out)
        check_contents(out, overwrite=overwrite)


def check_contents(out: Path, *, overwrite: bool) -> None:
    """Check that the files in `out` may be replaced. Raises UsageError if they may not."""
    there = {path.name for path in out.iterdir()} - {LOCK}
    if there and not _is_bundle(out):
        raise UsageError(f"{out}: holds other files and is not a bundle: choose another --out")
    ours = [name for name in layout.FILES if name in there]
    paused = None
    if layout.CHECKPOINT in there:
        from mnist_edge.training import checkpoint

        with contextlib.suppress(ModelError):  # none that can be resumed
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
    # Without its records it may be an import that was killed.
    if any((folder / name).is_file() for name in layout.FILES if name not in (layout.MANIFEST, layout.METRICS)):
        return True
    try:  # a bundle for a device has only the second half
        reading.read_manifest(folder)
    except ModelError:
        return False
    return True
