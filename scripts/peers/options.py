"""The options that the scripts about peers share, and where they leave what they found."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.errors import ModelNotFoundError
from peers import environments, table
from peers.subjects import USUAL
from peers.table import PEERS, Peer

SCRIPTS = Path(__file__).parents[1]

FOUND = Path(ARTIFACTS, "engines")
"""Holds the results, and the bundles that are trained for them."""


def parser(description: str) -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    one.add_argument("models", nargs="*", metavar="BUNDLE|ARCHITECTURE", default=[*USUAL])
    one.add_argument("--peers", type=lambda names: names.split(","), default=[], metavar="NAME,…")
    one.add_argument("--list", action="store_true", help="show the peers and their settings")
    one.add_argument("--cache", type=Path, default=user_cache_path("mnist-edge") / "engines", help="for environments")
    one.add_argument("--write", action="store_true", help="write the tables into the documentation")
    return one


def wanted_peers(given: argparse.Namespace, peers: list[Peer]) -> list[Peer]:
    """Those that take part; with ``--list`` they are shown, and the script ends."""
    if given.list:
        for peer in PEERS:
            print(f"{peer.name:16} {peer.environment.megabytes:5,} MB  {peer.source}; {peer.settings}")
        sys.exit()
    given.cache = given.cache.resolve()
    environments.require_space(table.environments(peers), given.cache)
    return peers


def keep(name: str, found: dict[str, Any]) -> None:
    FOUND.mkdir(parents=True, exist_ok=True)
    (FOUND / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def kept(name: str, script: str) -> dict[str, Any]:
    """What `keep` kept.

    Raises:
        ModelNotFoundError: the script has not been run here.
    """
    file = FOUND / f"{name}.json"
    if not file.exists():
        raise ModelNotFoundError(f"{file}: missing: run  python scripts/{script}")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def finish(page: str, lines: Callable[[], list[str]], *, write: bool) -> None:
    """Print the tables, or write them into a page of the documentation."""
    if not write:
        print("\n".join(lines()))
        return
    subprocess.run([sys.executable, str(SCRIPTS / "write_figures.py"), page], check=True)
