"""Draw the sample pictures that `mnist-edge predict --sample` and `mnist-edge read --sample` answer.

    python scripts/draw_samples.py mnist_edge/samples

Every digit is drawn here, stroke by stroke, from points that were set by hand: no picture comes from a data set, so no
licence but the package's own applies. The same seed gives the same pixels; the bytes depend on Pillow's encoders.

- ``photo-5.jpg``: as if photographed: blue ink on rough paper, light from one side, a shadow over a corner, a little
  blur and noise, JPEG.
- ``drawn-3.png``: as if drawn with a finger on a screen: white on black, a round pen of one width.
- ``line-314159.png``: a number as if written on white paper with a felt pen, each digit a little different.

A file's name ends with the digits that it shows.
"""

import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]
Stroke = tuple[tuple[float, float], ...]

STROKES: Final[dict[str, tuple[Stroke, ...]]] = {
    "1": (((0.40, 0.20), (0.56, 0.02), (0.54, 0.35), (0.51, 0.68), (0.49, 1.00)),),
    "3": (
        (
            (0.18, 0.14), (0.38, 0.01), (0.68, 0.06), (0.74, 0.24), (0.60, 0.41), (0.38, 0.47),
            (0.62, 0.50), (0.82, 0.66), (0.76, 0.88), (0.50, 1.00), (0.22, 0.95), (0.10, 0.82),
        ),
    ),
    "4": (
        ((0.42, 0.00), (0.30, 0.25), (0.10, 0.58), (0.40, 0.60), (0.90, 0.57)),
        ((0.68, 0.28), (0.66, 0.62), (0.62, 1.00)),
    ),
    "5": (
        (
            (0.30, 0.03), (0.27, 0.22), (0.22, 0.44), (0.45, 0.38), (0.70, 0.46), (0.80, 0.66),
            (0.70, 0.88), (0.46, 1.00), (0.22, 0.95), (0.10, 0.84),
        ),
        ((0.30, 0.03), (0.52, 0.04), (0.80, 0.00)),
    ),
    "9": (
        (
            (0.76, 0.16), (0.56, 0.02), (0.30, 0.08), (0.20, 0.30), (0.34, 0.48), (0.58, 0.44),
            (0.74, 0.28), (0.77, 0.14), (0.74, 0.45), (0.70, 0.75), (0.62, 1.00),
        ),
    ),
}  # fmt: skip
"""The points (x, y) that the pen passes, from 0 to 1; y points downwards."""

FINE: Final = 4
"""Pictures are drawn this many times larger, and then reduced."""

STEPS: Final = 60
"""Dots of the pen between two points."""


def curve(points: Array) -> Array:
    """A smooth curve through points [n, 2] (Catmull and Rom)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0, 1, STEPS)[None, :, None]
    passed = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.asarray(passed.reshape(-1, 2))


def write(
    ink: Image.Image, text: str, box: tuple[float, float, float, float], pen: float, rng: np.random.Generator
) -> None:
    """Write digits into a picture that is `FINE` times too large.

    Args:
        ink: where to write, in full ink.
        text: the digits.
        box: left, top, width and height of the first one, in pixels of the final picture.
        pen: width of the pen, in the same.
        rng: varies each digit a little.
    """
    draw = ImageDraw.Draw(ink)
    left, top, width, height = box
    for digit in text:
        tilt, size, drop = rng.normal(0.1, 0.05), rng.uniform(0.9, 1.05), rng.normal(0, 0.04)
        for stroke in STROKES[digit]:
            points = np.array(stroke) + rng.normal(0, 0.008, (len(stroke), 2))
            points[:, 0] += tilt * (1 - points[:, 1])
            path = curve(points * size + (0, drop)) * (width, height) + (left, top)
            pressure = 1 + 0.12 * np.sin(np.linspace(rng.uniform(0, 3), 6, len(path)))
            for (x, y), radius in zip(FINE * path, FINE * pen / 2 * pressure, strict=True):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        left += width * rng.uniform(1.3, 1.45)


def inked(size: tuple[int, int], text: str, box: tuple[float, float, float, float], pen: float, seed: int) -> Array:
    """The share of ink in each pixel, [height, width]."""
    ink = Image.new("L", (FINE * size[0], FINE * size[1]))
    write(ink, text, box, pen, np.random.default_rng(seed))
    return np.asarray(ink.resize(size, Image.Resampling.BOX)) / 255


def smooth(rng: np.random.Generator, size: tuple[int, int], radius: float) -> Array:
    """Noise of mean 0 and deviation 1, [height, width], in grains of that radius."""
    noise = Image.fromarray(rng.normal(128, 40, size[::-1]).clip(0, 255).astype(np.uint8))
    grains = np.asarray(noise.filter(ImageFilter.GaussianBlur(radius)), np.float64)
    return np.asarray((grains - grains.mean()) / grains.std())


def photo() -> Image.Image:
    """Blue ink on rough paper under uneven light."""
    size = width, height = 480, 360
    rng = np.random.default_rng(5)
    ink = inked(size, "5", (180, 85, 105, 190), 9, seed=5)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    light = 1.04 - 0.42 * (x / width) - 0.12 * (y / height)  # a lamp at the upper left
    edge = (x / width + 0.6 * y / height - 1.15) * 18
    light *= 1 - 0.22 / (1 + np.exp(-edge))  # the shadow of a hand over the lower right corner
    paper = 1 + 0.012 * smooth(rng, size, 0.7) + 0.010 * smooth(rng, size, 3)
    # A pen leaves less ink where the paper is rough.
    share = (ink * (0.88 + 0.10 * smooth(rng, size, 1.2))).clip(0, 1)[..., None]
    sheet, pen = np.array([238.0, 233, 220]), np.array([38.0, 52, 118])
    seen = (sheet * (1 - share) + pen * share) * (light * paper)[..., None]
    seen += rng.normal(0, 1.5, seen.shape)
    return Image.fromarray(seen.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))


def drawn() -> Image.Image:
    """White on black, as a page to draw on gives it."""
    ink = inked((280, 280), "3", (78, 55, 120, 170), 19, seed=7)
    return Image.fromarray((255 * ink).round().astype(np.uint8))


def line() -> Image.Image:
    """A number with a felt pen."""
    ink = inked((530, 160), "314159", (48, 42, 56, 78), 6.5, seed=14)
    return Image.fromarray((250 - 215 * ink).round().astype(np.uint8))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    photo().save(folder / "photo-5.jpg", quality=80, optimize=True)
    drawn().save(folder / "drawn-3.png", optimize=True)
    line().save(folder / "line-314159.png", optimize=True)
    for path in sorted(folder.glob("*-*.*")):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
