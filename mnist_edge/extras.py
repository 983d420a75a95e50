"""Packages of optional extras, imported when they are first needed."""

import importlib
from typing import Any

from mnist_edge.errors import MissingExtraError


def require(module: str, *, extra: str) -> Any:
    """Import a module that an optional extra brings.

    Raises:
        MissingExtraError: it is not installed; the message holds the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name} is not installed: run  pip install 'mnist-edge[{extra}]'") from error
