"""Packages of optional extras, imported when they are first needed, and the command that installs them.

No index has mnist-edge, so that ``pip install 'mnist-edge[train]'`` finds nothing. pip remembers where it took the
package from (``direct_url.json``, PEP 610), and can take the extra's packages from there.
"""

import importlib
import json
import shlex
from pathlib import Path
from typing import Any, Final

from mnist_edge.errors import MissingExtraError

PACKAGE: Final = "mnist-edge"


def require(module: str, *, extra: str) -> Any:
    """Import a module that an optional extra brings.

    Raises:
        MissingExtraError: it is not installed; the message holds the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name} is not installed: {to_install(extra)}") from error


def to_install(extra: str | None = None, options: str = "") -> str:
    """What to do so that pip installs this package, with an extra's packages: ``run  pip install …`` as a rule.

    Args:
        extra: the name of one in ``pyproject.toml``.
        options: of pip, besides.
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
    """The checkout or wheel that pip took this package from, if it is there still, and whether it is used in place."""
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        origin = json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "null")
        parts = urlsplit(origin["url"])
        editable = origin.get("dir_info", {}).get("editable") is True
    except (metadata.PackageNotFoundError, AttributeError, KeyError, TypeError, ValueError):
        return None  # from an index, or by a tool that keeps no such record
    path = Path(url2pathname(parts.path))
    there = path.is_file() if path.suffix == ".whl" else (path / "pyproject.toml").is_file()
    if parts.scheme != "file" or not there:
        return None
    return path, editable
