"""Digits as people outside the United States write them, drawn to judge models; MNIST's writers were Americans.

`JUDGED` and `DEVELOPMENT` map names of forms to digits. Each form is drawn from its skeleton (`tests.skeletons`) by
writers who differ: in slant, proportions, the length of up-strokes, bars and tails, pen, pressure, steadiness, and in
how their strokes end. The writers come from a generator seeded by the form's name, so every model is tested on the same
drawings. `JUDGED` measures, and nothing may be chosen by it; `DEVELOPMENT`, of other skeletons, is for choosing.

This code shares nothing with the code that draws digits for training.
"""

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnist_edge.data.datasets import Split
from tests import skeletons

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

INK_BOX: Final = 20
"""Longer side of a digit in MNIST, in pixels."""

FINE: Final = 12
"""Dots of a drawing per pixel of the framed digit."""

PEN: Final = (1.6, 3.2)
"""Range of pens, in pixels of the framed digit."""


@dataclass(frozen=True)
class Form:
    """One way of writing a digit."""

    digit: int
    strokes: tuple[str, ...]
    """As described in `tests.skeletons`."""


def _forms(table: dict[str, tuple[str, ...]]) -> dict[str, Form]:
    return {name: Form(DIGITS.index(name.partition(",")[0]), strokes) for name, strokes in table.items()}


JUDGED: Final = _forms(skeletons.JUDGED)
DEVELOPMENT: Final = {f"{name} (development)": form for name, form in _forms(skeletons.DEVELOPMENT).items()}
FORMS: Final = JUDGED | DEVELOPMENT


def drawn(name: str, count: int) -> Split:
    """`count` drawings of a form, framed as MNIST frames its digits."""
    images = np.array([framed(ink) for ink in inks(name, count)], np.uint8).reshape(-1, 28, 28)
    return Split(images, np.full(count, FORMS[name].digit, np.uint8))


def pictures(name: str, count: int) -> list[Pixels]:
    """The same drawings as pictures, uint8 [height, width], of dark ink on light paper."""
    rng = np.random.default_rng(zlib.crc32(f"paper of {name}".encode()))
    return [on_paper(ink, rng) for ink in inks(name, count)]


def inks(name: str, count: int) -> Iterator[Pixels]:
    """The ink alone, cropped, 0 or 255, its longer side `INK_BOX` times `FINE` dots."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(count):
        yield _drawing(FORMS[name], rng)


def framed(ink: Pixels) -> Pixels:
    """Reduce cropped ink to a longer side of 20 pixels, its centre of mass in the middle: uint8 [28, 28]."""
    canvas = np.zeros((28 * FINE, 28 * FINE), np.uint8)
    scale = INK_BOX * FINE / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    fitted = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BILINEAR))
    weight = fitted.astype(np.int64)
    top, left = (
        min(max(0, round(14.5 * FINE - 0.5 - _centre(weight.sum(axis=axis)))), 28 * FINE - side)
        for axis, side in ((1, height), (0, width))
    )
    canvas[top : top + height, left : left + width] = fitted
    return np.asarray(Image.fromarray(canvas).reduce(FINE))


def _centre(weights: NDArray[np.int64]) -> float:
    return float((weights * np.arange(len(weights))).sum() / weights.sum())


def on_paper(ink: Pixels, rng: np.random.Generator) -> Pixels:
    """A picture of about 120…200 pixels a side: unevenly lit paper, dark ink, a little noise."""
    longer = rng.uniform(78, 120)
    height, width = (max(1, round(side * longer / max(ink.shape))) for side in ink.shape)
    small = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BOX))
    margins = rng.integers(20, 42, 4)
    share = np.pad(small / 255, (margins[:2], margins[2:]))
    paper = rng.uniform(200, 250) + rng.uniform(-12, 12) * np.linspace(-1, 1, share.shape[1])
    grey = paper * (1 - share) + rng.uniform(15, 90) * share + rng.normal(0, 2.5, share.shape)
    return np.asarray(grey.round().clip(0, 255), np.uint8)


def _drawing(form: Form, rng: np.random.Generator) -> Pixels:
    strokes = _as_this_writer([_stroke(text, rng) for text in form.strokes], rng)
    pen = rng.uniform(*PEN)
    every = np.concatenate(strokes)
    low, high = every.min(axis=0), every.max(axis=0)
    # The pen's own width belongs to the ink that MNIST's frame encloses.
    scale = (INK_BOX - pen) * FINE / float((high - low).max())
    radius, press = pen * FINE / 2, rng.uniform(0, 0.22)
    taper = rng.uniform(0.45, 1) if rng.random() < 0.3 else 1.0
    margin = 2 * round(radius) + 2
    size = tuple(int(side) + 2 * margin for side in (high - low) * scale)
    sheet = Image.new("L", size)
    draw = ImageDraw.Draw(sheet)
    for path in strokes:
        dots = _evenly((path - low) * scale + margin, 3.0)
        share = np.linspace(0, 1, len(dots))
        width = 1 + press * np.sin(share * rng.uniform(2, 7) + rng.uniform(0, 6))
        width *= 1 - (1 - taper) * ((share - 0.7) / 0.3).clip(0, 1)
        # To sixteenths, so that no processor's last digit moves a dot.
        for x, y, half in (16 * np.column_stack([dots, radius * width])).round() / 16:
            draw.ellipse((x - half, y - half, x + half, y + half), fill=255)
    return np.asarray(sheet.crop(sheet.getbbox()))


def _stroke(text: str, rng: np.random.Generator) -> Floats:
    """The stroke's path [n, 2] as one writer means it."""
    where = rng.uniform(0, 1)
    points, corners = [], []
    for item in text.split(","):
        x, y = item.strip().removesuffix("!").split()
        points.append((_within(x, where), _within(y, where)))
        corners.append(item.endswith("!"))
    places = np.array(points) + rng.normal(0, 1.5, 2) + rng.normal(0, 1.7, (len(points), 2))
    breaks = [0, *(index for index, corner in enumerate(corners) if corner), len(points) - 1]
    parts = [_curve(places[start : end + 1]) for start, end in itertools.pairwise(breaks)]
    path = np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
    return _ended(path, rng)


def _within(text: str, where: float) -> float:
    low, _, high = text.partition("~")
    return float(low) + where * (float(high or low) - float(low))


def _curve(points: Floats) -> Floats:
    """A smooth curve through points: cubic pieces whose speed follows the distances, so that none overshoots."""
    if len(points) == 2:
        return np.linspace(points[0], points[1], 12)
    steps = np.sqrt(np.linalg.norm(np.diff(points, axis=0), axis=1)).clip(0.5)
    slopes = np.diff(points, axis=0) / steps[:, None]
    before, after = steps[:-1, None], steps[1:, None]
    inner = (slopes[:-1] * after + slopes[1:] * before) / (before + after)
    tangents = np.concatenate([1.5 * slopes[:1] - 0.5 * inner[:1], inner, 1.5 * slopes[-1:] - 0.5 * inner[-1:]])
    t = np.linspace(0, 1, 12)[None, :, None]
    start, end, leaving, arriving = points[:-1, None], points[1:, None], tangents[:-1, None], tangents[1:, None]
    pieces = (
        start * (1 + 2 * t) * (1 - t) ** 2
        + end * t**2 * (3 - 2 * t)
        + steps[:, None, None] * (leaving * t * (1 - t) ** 2 - arriving * t**2 * (1 - t))
    )
    return np.asarray(np.concatenate([points[:1], pieces[:, 1:].reshape(-1, 2)]))


def _ended(path: Floats, rng: np.random.Generator) -> Floats:
    """Some writers end a stroke a little early or late, some flick the pen."""
    length = rng.normal(0, 4)
    direction = path[-1] - path[-4]
    direction /= max(float(np.linalg.norm(direction)), 1e-6)
    if rng.random() < 0.2:
        direction = direction + rng.normal(0, 0.7, 2)
    return np.concatenate([path, [path[-1] + direction * length]]) if length > 0 else path


def _as_this_writer(strokes: list[Floats], rng: np.random.Generator) -> list[Floats]:
    """Bend, slant and stretch all strokes alike."""
    slant, turn, stretch = rng.normal(0.12, 0.15), np.radians(rng.normal(0, 4.5)), np.exp(rng.normal(0, 0.15))
    slanted = np.array([[stretch, -np.clip(slant, -0.18, 0.45)], [0, 1]])
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    # Slow waves over the plane displace neighbouring points alike, also those of different strokes.
    waves, phases, heights = rng.normal(0, 0.025, (3, 2)), rng.uniform(0, 6.3, 3), rng.normal(0, 2.6, (3, 2))
    larger = rng.normal(0, 4)
    haste, tremor = max(0, round(rng.normal(0, 1.6))), rng.uniform(0, 0.5)
    hands = []
    for path in strokes:
        bent = path + np.sin(path @ waves.T + phases) @ heights + tremor * _smooth_noise(len(path), rng)
        # The upper half grows at the expense of the lower one, or the other way round.
        bent[:, 1] += larger * np.sin(np.pi * path[:, 1].clip(0, 100) / 100)
        hands.append(_hasty(bent, haste) @ (turned @ slanted).T)
    return hands


def _hasty(path: Floats, haste: int) -> Floats:
    """Cut the corners."""
    width = 2 * haste + 1
    padded = np.pad(path, ((haste, haste), (0, 0)), mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).mean(axis=-1))


def _smooth_noise(length: int, rng: np.random.Generator) -> Floats:
    knots = rng.normal(0, 1, (length // 6 + 2, 2))
    where = np.arange(length) / 6
    return np.column_stack([np.interp(where, np.arange(len(knots)), column) for column in knots.T])


def _evenly(path: Floats, step: float) -> Floats:
    """Points of a path that are `step` apart."""
    along = np.concatenate([[0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    where = np.linspace(0, along[-1], max(2, int(along[-1] / step) + 1))
    return np.column_stack([np.interp(where, along, column) for column in path.T])
