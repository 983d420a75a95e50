"""The folders of data that ship inside the package: pretrained models, samples."""

from os.path import dirname, isdir, join
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# Paths are strings, and all else is imported where it is needed: a cold start has no time for it.


def folder(name: str) -> str:
    """The path of a folder of the package.

    A package that is imported from a zip file has no such folder. Then its files are unpacked into a temporary folder,
    which goes when the process ends.
    """
    path = join(dirname(__file__), name)
    return path if isdir(path) else _unpacked(name)


def _unpacked(name: str) -> str:
    import atexit
    import os
    import shutil
    import tempfile
    from importlib import resources

    place, owner = tempfile.mkdtemp(prefix="mnist-edge-"), os.getpid()
    _unpack(resources.files(__package__).joinpath(name), join(place, name))

    def remove() -> None:
        if os.getpid() == owner:  # a forked child leaves it to its parent
            shutil.rmtree(place, ignore_errors=True)

    atexit.register(remove)
    return join(place, name)


def _unpack(source: "Traversable", target: str) -> None:
    import os

    os.mkdir(target)
    for each in source.iterdir():
        if each.is_dir():
            _unpack(each, join(target, each.name))
        else:
            with open(join(target, each.name), "xb") as file:
                file.write(each.read_bytes())
