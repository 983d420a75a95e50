"""What the shell completes: names and paths. Imported by every command, so heavy modules are imported when needed.

A shell completes paths by itself where nothing is offered, with better manners than a list allows. So paths are listed
only beside names.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from mnist_edge.bundle.layout import RUNNABLE, Format
from mnist_edge.bundle.recipe import Architecture, OptimizerName, Schedule
from mnist_edge.contract import NORMALIZATIONS


def architectures() -> list[str]:
    """For ``--model`` of `train`."""
    return list(Architecture)


def optimizers() -> list[str]:
    """For ``--optimizer``."""
    return list(OptimizerName)


def schedules() -> list[str]:
    """For ``--schedule``."""
    return list(Schedule)


def normalizations() -> list[str]:
    """For ``--normalization``."""
    return list(NORMALIZATIONS)


def form() -> list[str]:
    """For ``--format``."""
    return list(RUNNABLE)


def any_form() -> list[str]:
    """For the ``--format`` of `bench`, which measures what onnxruntime does not run, too."""
    return list(Format)


def formats(incomplete: str) -> list[str]:
    """For ``--formats``: one more format after those that are named already."""
    named = incomplete.split(",")[:-1]
    return [",".join([*named, each]) for each in Format if each not in named]


def models(incomplete: str) -> list[str]:
    """For a model: the names of the pretrained ones, folders and exported files."""
    from mnist_edge.runtime.model import pretrained

    return _names_and_paths(pretrained(), (".onnx", ".pth"), incomplete)


def data(incomplete: str) -> list[str]:
    """For ``--data``: the known names, folders and CSV files."""
    from mnist_edge.data import download

    return _names_and_paths(download.NAMES, (".csv",), incomplete)


def _names_and_paths(names: Iterable[str], suffixes: tuple[str, ...], incomplete: str) -> list[str]:
    fitting = [name for name in names if name.startswith(incomplete)]
    if not fitting:
        return []
    folders = [f"{path}{os.sep}" for path in Path().glob("[!.]*") if path.is_dir()]
    files = [str(path) for path in Path().glob("[!.]*") if path.suffix in suffixes]
    return [*fitting, *sorted([*folders, *files])]
