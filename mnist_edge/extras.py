"""Import packages of optional extras when they are first needed, and tell how to install missing ones.

mnist-edge is on no package index, so ``pip install 'mnist-edge[train]'`` finds nothing. But pip records where it
installed the package from (``direct_url.json``, PEP 610), and the extra can be installed from there.
"""

import importlib
import json
import shlex
from pathlib import Path
from typing import Any, Final

from mnist_edge.errors import MissingExtraError

PACKAGE: Final = "mnist-edge"


def require(module: str, *, extra: str) -> Any:
    """Import a module that belongs to an optional extra.

    Raises:
        MissingExtraError: the module is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name} is not installed: {to_install(extra)}") from error


def to_install(extra: str | None = None, options: str = "") -> str:
    """How to install this package with pip, usually ``run  pip install …``.

    Args:
        extra: the optional extra to include, as named in ``pyproject.toml``.
        options: further options for pip.
    """
    brackets = f"[{extra}]" if extra else ""
    pip = f"pip install {options} ".replace("  ", " ")
    found = _origin()
    if found is None:
        target = shlex.quote(f".{brackets}")
        return f"in a checkout of {PACKAGE} run  {pip}{target}"
    path, editable = found
    return f"run  {pip}{'--editable ' if editable else ''}{shlex.quote(f'{path}{brackets}')}"


def _origin() -> tuple[Path, bool] | None:
    """The checkout or wheel that pip installed this package from, if it still exists, and whether it is editable."""
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        origin = json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "null")
        parts = urlsplit(origin["url"])
        editable = origin.get("dir_info", {}).get("editable") is True
    except (metadata.PackageNotFoundError, AttributeError, KeyError, TypeError, ValueError):
        return None  # installed from an index, or by a tool that writes no such record
    path = Path(url2pathname(parts.path))
    there = path.is_file() if path.suffix == ".whl" else (path / "pyproject.toml").is_file()
    if parts.scheme != "file" or not there:
        return None
    return path, editable
