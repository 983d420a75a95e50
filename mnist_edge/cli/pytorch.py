"""Loading PyTorch for the commands that need it."""

import contextlib
import os
import sys
from importlib.metadata import version

from mnist_edge.cli.output import detail
from mnist_edge.cli.progress import StepProgress
from mnist_edge.extras import require


def load_pytorch(*others: str) -> None:
    """Import torch and other packages of the extra `train`. Raises MissingExtraError."""
    packages = ("torch", *others)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded; `training.threads` says why
    with StepProgress() as progress, progress.doing("loading PyTorch"):
        for package in packages:
            require(package, extra="train")
    detail(", ".join(f"{package} {version(package)}" for package in packages))


def foreign_prints_on_stderr() -> contextlib.AbstractContextManager[object]:
    """Keep what a user's module prints out of our answers."""
    return contextlib.redirect_stdout(sys.stderr)
