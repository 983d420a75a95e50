"""Lines of digits, as on meters, on forms and in phone numbers: real MNIST test digits side by side.

`lines` yields pictures with their text. Spacing, size, background, polarity and noise vary from line to line. In a
third of the lines at least one pair of neighbours touches; these are marked. Nothing here uses the code under test.

    python -m tests.lines FOLDER
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tests.pictures import byte, painted, ramp, scaled, texture, tight

COUNT = 240
GROUNDS = ("plain", "texture", "gradient", "noise", "specks", "underline", "shadow")


@dataclass(frozen=True)
class Line:
    pixels: np.ndarray
    """uint8 [height, width]."""

    text: str
    boxes: list[tuple[int, int, int, int]]
    """Left, top, right and bottom of every digit."""

    touching: bool
    ground: str


def lines(images, labels, *, seed: int = 0, count: int = COUNT) -> Iterator[Line]:
    """Pictures of 3–8 digits each, drawn from images uint8 [n, 28, 28] and labels [n]."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        chosen = rng.choice(len(images), int(rng.integers(3, 9)), replace=False)
        digits = [images[index] / 255 for index in chosen]
        text = "".join(str(labels[index]) for index in chosen)
        ink, boxes, touching = _row(digits, rng, touching=number % 3 == 0)
        ground = GROUNDS[number % len(GROUNDS)]
        yield Line(_painted(ink, boxes, ground, rng), text, boxes, touching, ground)


def _row(digits, rng, *, touching: bool):
    side = int(rng.integers(40, 140))
    spacing = rng.uniform(0.08, 0.6) * side
    height, width = 2 * side, int(len(digits) * (side + spacing) + 2 * side)
    canvas = np.zeros((height, width))
    boxes: list[tuple[int, int, int, int]] = []
    pair = int(rng.integers(1, len(digits))) if touching else 0
    x = int(rng.uniform(0.2, 1) * side)
    for number, digit in enumerate(digits):
        part = tight(scaled(digit, int(side * rng.uniform(0.9, 1.1))))
        y = int(height / 2 - part.shape[0] / 2 + rng.normal(0, 0.03) * side)
        if touching and number == pair:
            x = _until_it_touches(canvas, part, y, boxes[-1][2])
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = np.maximum(
            canvas[y : y + part.shape[0], x : x + part.shape[1]], part
        )
        boxes.append((x, y, x + part.shape[1], y + part.shape[0]))
        x += part.shape[1] + int(max(spacing * rng.uniform(0.6, 1.4), 4))
    return canvas[:, : x + int(rng.uniform(0.2, 1) * side)], boxes, touching


def _until_it_touches(canvas, part, y: int, x: int) -> int:
    """The first place left of `x` where the strokes of `part` overlap those on the canvas by a few pixels."""
    while x > 0 and ((canvas[y : y + part.shape[0], x : x + part.shape[1]] > 0.5) & (part > 0.5)).sum() < 6:
        x -= 1
    return x


def _painted(ink, boxes, ground: str, rng) -> np.ndarray:
    height, width = ink.shape
    paper, pen = rng.uniform(190, 245), rng.uniform(20, 90)
    sheet = np.full((height, width), paper)
    if ground == "texture":
        sheet += texture(rng, height, width, 8)
    if ground == "underline":
        image = Image.fromarray(byte(sheet))
        y = max(bottom for _, _, _, bottom in boxes) + 4
        ImageDraw.Draw(image).line([0, y, width, y], fill=int(pen), width=3)
        sheet = np.asarray(image)
    picture = painted(ink, sheet, pen)
    if ground == "gradient":
        picture *= 0.75 + 0.45 * ramp(height, width, rng.uniform(0, 2 * np.pi))
    if ground == "shadow":
        picture *= 1 - 0.4 / (1 + np.exp(-40 * (ramp(height, width, rng.uniform(-0.5, 0.5)) + rng.uniform(-0.2, 0.2))))
    if ground == "noise":
        picture += rng.normal(0, 15, picture.shape)
    if ground == "specks":
        image = Image.fromarray(byte(picture))
        for _ in range(12):
            x, y, r = rng.integers(0, width), rng.integers(0, height), rng.integers(1, 3)
            ImageDraw.Draw(image).ellipse([x - r, y - r, x + r, y + r], fill=int(pen))
        picture = np.asarray(image)
    return byte(255 - picture if rng.random() < 0.3 else picture)


def main(folder: Path) -> None:
    from mnist_edge.data import datasets

    test = datasets.load().test
    folder.mkdir(parents=True, exist_ok=True)
    for number, line in enumerate(lines(test.images, test.labels)):
        Image.fromarray(line.pixels).save(folder / f"{number:03}-{line.text}.png")
    sys.stdout.write(f"{number + 1} lines in {folder}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
