"""`Preview`: saves what the model sees of each input as a PNG file."""

import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.cli import folders
from mnist_edge.cli.answers import STDIN

LONGEST: Final = 200
"""At most this many bytes of an input's name are kept: file systems allow 255."""

_ORIGIN: Final = ("Software", "mnist-edge")
"""Text entry that marks a PNG file as ours, so that the next run may overwrite it."""


class Preview:
    """A folder of 28×28 PNG files, each named after its input.

    If another input or a file that is not ours has the name, a number is appended: ``7-2.png``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folders.made(folder, "--show")
        self._used: dict[str, int] = {}
        self._taken: set[str] = set()

    def add(self, name: str, image: NDArray[np.uint8]) -> Path:
        """Write an image, uint8 [28, 28], under a name derived from its input's; returns the path."""
        from PIL import Image, PngImagePlugin

        origin = PngImagePlugin.PngInfo()
        origin.add_text(*_ORIGIN)
        path = self._free_path(_stem(name))
        Image.fromarray(image).save(path, pnginfo=origin)
        return path

    def _free_path(self, stem: str) -> Path:
        key = stem.casefold()  # some file systems ignore case
        while True:
            self._used[key] = number = self._used.get(key, 0) + 1
            path = self._folder / f"{stem if number == 1 else f'{stem}-{number}'}.png"
            if path.name.casefold() not in self._taken and (not path.exists() or _is_ours(path)):
                self._taken.add(path.name.casefold())
                return path


def _stem(name: str) -> str:
    path = Path(name)
    stem = "stdin" if name == STDIN else path.name if name.endswith("]") else path.stem
    return os.fsdecode(os.fsencode(stem)[:LONGEST])


def _is_ours(path: Path) -> bool:
    from PIL import Image

    key, value = _ORIGIN
    try:
        with Image.open(path) as image:
            return image.info.get(key) == value
    except Exception:  # noqa: BLE001  # Pillow does not document what it raises on foreign files
        return False
