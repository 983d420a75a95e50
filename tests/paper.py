"""Digits as people write them on paper that is not blank: ruled, squared, in cells, unevenly inked, two in a picture.

    python -m tests.paper FOLDER

writes some of each kind. Every drawing has parameters of its own. Nothing here uses the code under test.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.pictures import byte, painted, pasted, ramp, scaled, somewhere, texture, tight

Array = np.ndarray


@dataclass(frozen=True)
class Sheet:
    pixels: Array
    """uint8 [height, width], or [height, width, 3] in colour"""

    text: str
    """The digits on it, from left to right."""


def stripe(shape: tuple[int, int], at: tuple[float, float], angle: float, thickness: float) -> Array:
    """A straight line through a point (y, x), float [height, width], 0…1, with soft edges; 0° is horizontal."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    away = abs((y - at[0]) * np.cos(np.radians(angle)) - (x - at[1]) * np.sin(np.radians(angle)))
    return (thickness / 2 + 0.5 - away).clip(0, 1)


def on_paper(ink: Array, marks: Array, rng: np.random.Generator) -> Array:
    """Dark ink on light paper, or the other way round; the paper's own marks have a grey of their own."""
    paper, pen = rng.uniform(200, 250), rng.uniform(10, 80)
    grey = pen if rng.random() < 0.4 else rng.uniform(pen, paper - 40)
    picture = painted(ink, painted(marks, paper, grey), pen)
    if rng.random() < 0.3:
        picture = picture + texture(rng, *picture.shape, rng.uniform(1, 5))
    return byte(255 - picture if rng.random() < 0.2 else picture)


def placed(digit: Array, rng: np.random.Generator, canvas: int, share: tuple[float, float]) -> tuple[Array, Array]:
    """A digit somewhere near the middle of a square, and its box: top, bottom, left, right."""
    side = rng.uniform(*share) * canvas
    part = tight(scaled(digit, max(12, int(side * 28 / 20))))
    room = np.array([canvas - part.shape[0], canvas - part.shape[1]])
    top, left = (room * rng.uniform(0.35, 0.65, 2)).astype(int)
    return pasted(part, canvas, canvas, top, left), np.array([top, top + part.shape[0], left, left + part.shape[1]])


def ruled(digit: Array, rng: np.random.Generator) -> Array:
    """One straight line above, below or beside a digit, past it on both sides, up to 10° askew."""
    canvas = int(rng.uniform(100, 500))
    ink, (top, bottom, left, right) = placed(digit, rng, canvas, (0.35, 0.6))
    angle, thickness, gap = rng.uniform(-10, 10), rng.uniform(1, max(2, canvas / 50)), rng.uniform(2, 30)
    middle = (top + bottom) / 2, (left + right) / 2
    # So that nowhere along the digit it comes closer.
    reach = abs(np.tan(np.radians(angle))) * max(bottom - top, right - left) / 2 + thickness / 2 + gap
    side = rng.choice(["below", "below", "above", "left", "right"])
    at = {
        "below": (bottom + reach, middle[1]),
        "above": (top - reach, middle[1]),
        "left": (middle[0], left - reach),
        "right": (middle[0], right + reach),
    }[side]
    return on_paper(ink, stripe(ink.shape, at, angle + (0 if side in ("below", "above") else 90), thickness), rng)


def cell(digit: Array, rng: np.random.Generator) -> Array:
    """A cell of a grid, cut out with some of its lines, turned by up to 5°."""
    canvas = int(rng.uniform(60, 600))
    ink, _ = placed(digit, rng, canvas, (0.4, 0.6))
    angle, marks = rng.uniform(-5, 5), np.zeros_like(ink)
    for turn, centre in ((0, 0.0), (0, 1.0), (90, 0.0), (90, 1.0)):
        inset = rng.uniform(0.01, 0.09) * canvas
        place = inset if centre == 0 else canvas - inset
        at = (place, canvas / 2) if turn == 0 else (canvas / 2, place)
        thickness = rng.uniform(1, max(1.5, canvas / 45))
        marks = np.maximum(marks, stripe(ink.shape, at, angle + turn, thickness))
    return on_paper(ink, marks, rng)


def faint(digit: Array, rng: np.random.Generator) -> Array:
    """A stroke of which a part has 30 to 60 % of the contrast, with a hard or a soft transition."""
    canvas = int(rng.uniform(60, 400))
    ink, (top, bottom, left, right) = placed(digit, rng, canvas, (0.5, 0.7))
    y, x = np.mgrid[:canvas, :canvas]
    angle = rng.uniform(0, 2 * np.pi)
    along = (y - (top + bottom) / 2) * np.sin(angle) + (x - (left + right) / 2) * np.cos(angle)
    width = rng.uniform(0.5, 0.1 * canvas)
    part = 1 / (1 + np.exp(-(along - rng.uniform(-0.1, 0.1) * canvas).clip(-50 * width, 50 * width) / width))
    return on_paper(ink * (1 - part * (1 - rng.uniform(0.3, 0.6))), np.zeros_like(ink), rng)


def filling(digit: Array, rng: np.random.Generator) -> Array:
    """A digit cut out to its own edges, or a little less or more, light or dark."""
    side = rng.uniform(24, 200)
    ink = tight(scaled(digit, max(28, int(side * 28 / 20))))
    edges = [int(edge) for edge in rng.uniform(-0.03, 0.06, 4) * side]
    height, width = ink.shape
    ink = pasted(ink, height + edges[0] + edges[1], width + edges[2] + edges[3], edges[0], edges[2])
    light, dark = rng.uniform(180, 255), rng.uniform(0, 80)
    if rng.random() < 0.3:  # squeezed into a square
        ink = np.asarray(Image.fromarray(byte(255 * ink)).resize((int(side), int(side)))) / 255
    return byte(painted(ink, *((light, dark) if rng.random() < 0.5 else (dark, light))))


def vivid(rng: np.random.Generator) -> Array:
    """A saturated colour, float [3]."""
    colour = rng.uniform(0, 90, 3)
    strong = rng.permutation(3)[: rng.integers(1, 3)]
    colour[strong] = rng.uniform(170, 255, len(strong))
    return colour


def coloured(ink: Array, layers: list[tuple[Array, Array]], rng: np.random.Generator) -> Array:
    """Black ink on white, or the other way round, above layers of colour: uint8 [height, width, 3]."""
    paper, pen = rng.uniform(225, 255), rng.uniform(0, 50)
    if rng.random() < 0.3:
        paper, pen = pen, paper
    picture = np.full((*ink.shape, 3), paper)
    for amount, colour in layers:
        picture = painted(amount[:, :, None], picture, colour)
    return byte(painted(ink[:, :, None], picture, np.full(3, pen)))


def scribbled(digit: Array, rng: np.random.Generator) -> Array:
    """Coloured scribbles behind a digit."""
    canvas = int(rng.uniform(80, 400))
    ink, _ = placed(digit, rng, canvas, (0.4, 0.7))
    layers = []
    for _ in range(rng.integers(1, 4)):
        image = Image.new("L", (canvas, canvas))
        corners = [tuple(corner) for corner in (rng.uniform(-0.1, 1.1, (rng.integers(3, 9), 2)) * canvas).tolist()]
        ImageDraw.Draw(image).line(corners, fill=255, width=int(rng.uniform(1, canvas / 20)) + 1, joint="curve")
        layers.append((np.asarray(image.filter(ImageFilter.GaussianBlur(0.5))) / 255, vivid(rng)))
    return coloured(ink, layers, rng)


def banded(digit: Array, rng: np.random.Generator) -> Array:
    """Coloured bands behind a digit, straight across the picture."""
    canvas = int(rng.uniform(80, 400))
    ink, _ = placed(digit, rng, canvas, (0.4, 0.7))
    angle = rng.uniform(0, 180)
    layers = [
        (stripe(ink.shape, tuple(rng.uniform(0, canvas, 2)), angle, rng.uniform(0.03, 0.3) * canvas), vivid(rng))
        for _ in range(rng.integers(1, 5))
    ]
    return coloured(ink, layers, rng)


def on_table(digit: Array, rng: np.random.Generator) -> Array:
    """A sheet of paper on a darker table, or a dark one on a lighter table, the digit anywhere on it."""
    height, width = (int(side) for side in rng.uniform((100, 100), (300, 400)))
    part = tight(scaled(digit, int(rng.uniform(0.4, 0.9) * min(height, width))))
    top, left = (int(rng.uniform(2, room)) for room in np.subtract((height, width), part.shape) - 2)
    paper = rng.uniform(180, 245) + texture(rng, height, width, 3)
    sheet = painted(pasted(part, height, width, top, left), paper, rng.uniform(20, 80))
    above, below, before, after = (int(margin) for margin in rng.uniform(0.05, 0.5, 4) * min(height, width))
    table = texture(rng, height + above + below, width + before + after, 8, grain=6) + rng.uniform(20, 120)
    table[above : above + height, before : before + width] = sheet
    return byte(255 - table if rng.random() < 0.3 else table)


def shaded(digit: Array, rng: np.random.Generator) -> Array:
    """The edge of a shadow, soft or hard, across the picture, and perhaps across the digit."""
    ink = somewhere(digit, rng)
    place = ramp(*ink.shape, rng.uniform(0, 2 * np.pi)) + rng.uniform(-0.2, 0.2)
    light = 1 - rng.uniform(0.2, 0.6) / (1 + np.exp(-place * rng.choice([20, 30, 100, 300])))
    return byte(painted(ink, 230, 45) * light)


SINGLE: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "a ruled line": ruled,
    "a cell": cell,
    "a faint stroke": faint,
    "filling the picture": filling,
    "coloured scribbles": scribbled,
    "coloured bands": banded,
    "a sheet on a table": on_table,
    "a shadow": shaded,
}


def single(kind: str, images: Array, labels: Array, *, count: int = 100, seed: int = 0) -> Iterator[Sheet]:
    """Drawings of single digits of a kind, from images uint8 [n, 28, 28] and labels [n]."""
    rng = np.random.default_rng([seed, list(SINGLE).index(kind)])
    for index in rng.choice(len(images), count, replace=False):
        yield Sheet(SINGLE[kind](images[index] / 255, rng), str(labels[index]))


def row(digits: list[Array], rng: np.random.Generator, side: float) -> Array:
    """Digits side by side that do not touch: float [height, width]."""
    parts = [tight(scaled(digit, max(12, int(side * rng.uniform(0.9, 1.1) * 28 / 20)))) for digit in digits]
    height = max(part.shape[0] for part in parts)
    gaps = [int(max(3, side * rng.uniform(0.25, 0.7))) for _ in parts]
    canvas = np.zeros((height, sum(part.shape[1] for part in parts) + sum(gaps)))
    x = 0
    for part, gap in zip(parts, gaps, strict=True):
        y = int((height - part.shape[0]) * rng.uniform(0.3, 0.7))
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
        x += part.shape[1] + gap
    return canvas[:, : x - gaps[-1]]


def several(images: Array, labels: Array, *, count: int = 100, seed: int = 0) -> Iterator[Sheet]:
    """Two to four digits in a picture, from images uint8 [n, 28, 28] and labels [n]."""
    rng = np.random.default_rng([seed, 100])
    for _ in range(count):
        chosen = rng.choice(len(images), int(rng.integers(2, 5)), replace=False)
        ink = row([images[index] / 255 for index in chosen], rng, rng.uniform(30, 120))
        ink = np.pad(ink, [(int(edge * rng.uniform(0.2, 1)),) * 2 for edge in (ink.shape[0], ink.shape[0])])
        yield Sheet(on_paper(ink, np.zeros_like(ink), rng), "".join(str(labels[index]) for index in chosen))


PAPERS = ("blank", "ruled", "squared", "boxes")


def written(paper: str, images: Array, labels: Array, *, count: int = 60, seed: int = 0) -> Iterator[Sheet]:
    """Lines of three to eight digits on a kind of paper, up to 2° askew; the digits are the same on each kind."""
    for number in range(count):
        rng = np.random.default_rng([seed, 200, number])
        chosen = rng.choice(len(images), int(rng.integers(3, 9)), replace=False)
        side = rng.uniform(20, 90)
        line = row([images[index] / 255 for index in chosen], rng, side)
        height, width = int(3 * side), int(line.shape[1] + 2 * side)
        top, left = (height - line.shape[0]) // 2, int(side)
        ink = pasted(line, height, width, top, left)
        angle, thickness = rng.uniform(-2, 2), rng.uniform(1, max(1.5, side / 15))
        marks = np.zeros_like(ink)
        space = line.shape[0] + rng.uniform(0.25, 0.5) * side + thickness + width * abs(np.tan(np.radians(angle)))
        centre = top + line.shape[0] / 2
        if paper == "ruled":
            for k in (-0.5, 0.5):
                marks = np.maximum(marks, stripe(ink.shape, (centre + k * space, width / 2), angle, thickness))
        if paper == "squared":
            step = side / rng.uniform(2, 4)
            for k in range(int(-height / step), int(height / step) + 1):
                marks = np.maximum(
                    marks, stripe(ink.shape, (centre + k * step, width / 2), angle, max(1, thickness / 3))
                )
            for k in range(int(-width / step), int(width / step) + 1):
                at = (centre, width / 2 + k * step)
                marks = np.maximum(marks, stripe(ink.shape, at, angle + 90, max(1, thickness / 3)))
            marks = marks * 0.5
        if paper == "boxes":
            marks = boxes_around(ink, thickness)
        yield Sheet(on_paper(ink, marks, rng), "".join(str(labels[index]) for index in chosen))


def boxes_around(ink: Array, thickness: float) -> Array:
    """A box around every digit, sharing its sides with its neighbours, as in forms."""
    marks = np.zeros_like(ink)
    columns = np.flatnonzero(ink.max(axis=0) > 0.3)
    breaks = np.flatnonzero(np.diff(columns) > 2)
    edges = [columns[0] - 12, *((columns[breaks] + columns[breaks + 1]) // 2), columns[-1] + 12]
    rows = np.flatnonzero(ink.max(axis=1) > 0.3)
    top, bottom = rows[0] - 12, rows[-1] + 12
    half = max(1, round(thickness / 2))
    for x in edges:
        marks[top:bottom, max(0, x - half) : x + half] = 1
    for y in (top, bottom):
        marks[y - half : y + half, edges[0] : edges[-1]] = 1
    return np.asarray(Image.fromarray(byte(255 * marks)).filter(ImageFilter.GaussianBlur(0.5))) / 255


def main(folder: Path) -> None:
    from mnist_edge.data import datasets

    test = datasets.load().test
    folder.mkdir(parents=True, exist_ok=True)
    sheets = [(kind, single(kind, test.images, test.labels, count=20)) for kind in SINGLE]
    sheets += [("several", several(test.images, test.labels, count=20))]
    sheets += [(paper, written(paper, test.images, test.labels, count=20)) for paper in PAPERS]
    for kind, drawn in sheets:
        for number, sheet in enumerate(drawn):
            name = f"{kind.replace(' ', '-')}-{number:02}-{sheet.text}.png"
            Image.fromarray(sheet.pixels).save(folder / name)
    sys.stdout.write(f"{len(list(folder.iterdir()))} pictures in {folder}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
