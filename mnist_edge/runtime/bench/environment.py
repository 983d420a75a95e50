"""The machine that the figures are of."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np
import PIL

from mnist_edge.extras import PACKAGE
from mnist_edge.runtime import machine
from mnist_edge.runtime.bench.records import Environment, Round
from mnist_edge.runtime.limits import usable_cpus
from mnist_edge.runtime.session import ONNXRUNTIME
from mnist_edge.runtime.threads import default_threads

BUSY_LOAD: Final = 0.5
"""A load average per usable CPU above which the machine had something else to do."""

IDLE: Final = 0.97
"""A process that has a CPU to itself gets at least this share of the time."""


def environment() -> Environment:
    """The environment of this process; to be taken before anything is measured."""
    return Environment(
        processor=machine.processor_name(),
        features=machine.features(),
        cpus=usable_cpus(),
        threads=default_threads(),
        governor=machine.governor(),
        load_average=machine.load_average(),
        platform=platform.platform(),
        python=platform.python_version(),
        packages=_packages(),
    )


def _packages() -> dict[str, str]:
    """The versions of what is imported: onnxruntime is installed under several names, such as ``onnxruntime-gpu``."""
    try:
        own = version(PACKAGE)
    except PackageNotFoundError:  # run from a checkout
        own = "unknown"
    return {PACKAGE: own, "onnxruntime": ONNXRUNTIME, "numpy": np.__version__, "pillow": PIL.__version__}


def busy(found: Environment, rounds: Iterable[Round]) -> str | None:
    """How the machine was disturbed while it was measured; None if it was not."""
    shares = sorted(each.busy for each in rounds)
    share = shares[len(shares) // 2] if shares else 1.0
    if share < IDLE:
        return f"the process had a CPU for only {100 * share:.0f} % of the time (other programs, or a CPU quota)"
    load = found.load_average
    if load is not None and load > BUSY_LOAD * found.cpus:
        return f"the machine was busy before: load average {load:.1f} on {found.cpus} CPUs"
    return None
