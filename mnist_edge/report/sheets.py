"""The images that a model gets wrong, as PNG files: contact sheets and each by itself. Needs only numpy and Pillow."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.evaluation.mistakes import Mistake

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PER_SHEET: Final = 120

COLUMNS: Final = 12

SCALE: Final = 4
"""Each pixel of an image is so many pixels wide on a sheet."""

LONGEST_LABEL: Final = 20
"""At most so many characters of a label are in a file name."""

_GAP: Final = 14
_LINE: Final = 16
_INK: Final = "#222222"


_WRITTEN: Final = re.compile(r"\d{4,}-is-.*-named-.*-p[01]\.\d\d\.png|sheet-\d+\.png")


def is_written_here(name: str) -> bool:
    """Whether a file of that name is one that `save_each` or `save_sheets` wrote."""
    return _WRITTEN.fullmatch(name) is not None


def file_name(mistake: Mistake, labels: Sequence[str], total: int) -> str:
    """The name for the PNG file of a mistake among so many images, such as ``0042-is-7-named-2-p0.98.png``."""
    number = f"{mistake.index:0{max(4, len(str(total - 1)))}}"
    truth, answer = (_for_a_file_name(labels[each]) for each in (mistake.truth, mistake.answer))
    return f"{number}-is-{truth}-named-{answer}-p{mistake.probability:.2f}.png"


def _for_a_file_name(label: str) -> str:
    return "".join(each if each.isalnum() or each in "+_." else "_" for each in label[:LONGEST_LABEL])


def save_each(
    mistakes: Sequence[Mistake], images: NDArray[np.uint8], labels: Sequence[str], folder: Path
) -> list[Path]:
    """Write each mistake's image unchanged as a PNG file, and return the paths.

    Args:
        mistakes: what to write.
        images: uint8 [n, height, width], the whole set.
        labels: the name of each class.
        folder: an existing folder.
    """
    from PIL import Image

    paths = []
    for mistake in mistakes:
        paths.append(folder / file_name(mistake, labels, len(images)))
        Image.fromarray(images[mistake.index]).save(paths[-1])
    return paths


def save_sheets(
    mistakes: Sequence[Mistake], images: NDArray[np.uint8], labels: Sequence[str], folder: Path, heading: str
) -> list[Path]:
    """Write contact sheets of up to `PER_SHEET` mistakes, ``sheet-1.png`` and so on, and return the paths.

    Args:
        mistakes: what to show, in this order.
        images: uint8 [n, height, width], the whole set.
        labels: the name of each class.
        folder: an existing folder.
        heading: the first line of each sheet.
    """
    paths = []
    for number, start in enumerate(range(0, len(mistakes), PER_SHEET), start=1):
        shown = mistakes[start : start + PER_SHEET]
        which = f"{start + 1} to {start + len(shown)} of {len(mistakes):,}" if len(shown) < len(mistakes) else "all"
        paths.append(folder / f"sheet-{number}.png")
        sheet(shown, images, labels, (heading, f"{which}, the most confident first")).save(paths[-1])
    return paths


def sheet(
    mistakes: Sequence[Mistake], images: NDArray[np.uint8], labels: Sequence[str], heading: Sequence[str]
) -> "Image.Image":
    """Draw mistakes in rows, each with its label, the model's answer and probability, and its index in the set.

    Args:
        mistakes: at least one.
        images: uint8 [n, height, width], the whole set.
        labels: the name of each class.
        heading: lines above the images.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, large = (ImageFont.load_default(size) for size in (13, 16))
    names = [_drawable(label, font) or f"class {number}" for number, label in enumerate(labels)]
    columns = min(COLUMNS, max(5, math.ceil(math.sqrt(1.5 * len(mistakes)))))
    rows = math.ceil(len(mistakes) / columns)
    height, width = (SCALE * side for side in images.shape[1:])
    down, across = height + 3 * _LINE + _GAP, width + _GAP
    top = _GAP + 24 * len(heading)
    canvas = Image.new("RGB", (_GAP + columns * across, top + rows * down + _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for line, text in enumerate(heading):
        draw.text((_GAP, _GAP + 22 * line), _fitted(text, large, canvas.width - 2 * _GAP), fill=_INK, font=large)
    for place, mistake in enumerate(mistakes):
        row, column = divmod(place, columns)
        x, y = _GAP + column * across, top + row * down
        enlarged = np.kron(images[mistake.index], np.ones((SCALE, SCALE), np.uint8))
        canvas.paste(Image.fromarray(enlarged), (x, y))
        lines = (
            f"is {names[mistake.truth]}",
            f"named {names[mistake.answer]}",
            f"p {mistake.probability:.2f}   #{mistake.index}",
        )
        for line, text in enumerate(lines):
            draw.text((x, y + height + 3 + line * _LINE), _fitted(text, font, width + 4), fill=_INK, font=font)
    return canvas


def _drawable(text: str, font: "Font") -> str | None:
    """The text, if the font has all its characters; what it lacks it draws as one and the same box."""
    box = bytes(font.getmask("\uffff"))
    return text if all(bytes(font.getmask(character)) != box for character in text) else None


def _fitted(text: str, font: "Font", width: int) -> str:
    """The text, cut at the end if it is wider."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
