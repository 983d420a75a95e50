"""What is checked before a training begins. Needs torch only to read the checkpoint of an interrupted training."""

import contextlib
from pathlib import Path

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.places import require_folder
from mnist_edge.bundle.writing import LOCK, require_free
from mnist_edge.errors import ModelError, UsageError
from mnist_edge.names import is_unicode


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Check that a bundle can be written to `out`, before hours of training. Raises as `train.begin` does."""
    require_folder(out, "--out")
    if out.is_dir():
        require_free(out)
        check_contents(out, overwrite=overwrite)


def check_name(weights: Path) -> None:
    """Raise UsageError if a record could not name a file of weights."""
    if not is_unicode(weights.name):
        raise UsageError(f"{weights}: its name is not UTF-8: rename it")


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
