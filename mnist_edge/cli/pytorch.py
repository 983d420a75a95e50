"""Loading PyTorch for the commands that need it."""

import contextlib
import os
import sys
from importlib.metadata import version
from typing import Final

from mnist_edge.cli.output import detail
from mnist_edge.cli.progress import StepProgress
from mnist_edge.extras import require

SPINS: Final = 10_000
"""How often a waiting thread of PyTorch looks before it sleeps, with GNU's OpenMP, as in PyTorch's builds for Linux.

On two cores, ``train --fast`` took 15.8 s with it, 17.5 s with OpenMP's own value (300,000), 21.7 s if waiting threads
slept at once. Beside two other busy programs it took 34, 73 and 43 s.
"""


def load_pytorch(*others: str) -> None:
    """Import torch and other packages of the extra `train`. Raises MissingExtraError."""
    packages = ("torch", *others)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read when torch is loaded
    with StepProgress() as progress, progress.doing("loading PyTorch"):
        for package in packages:
            require(package, extra="train")
    detail(", ".join(f"{package} {version(package)}" for package in packages))


def foreign_prints_on_stderr() -> contextlib.AbstractContextManager[object]:
    """Keep what a user's module prints out of our answers."""
    return contextlib.redirect_stdout(sys.stderr)
