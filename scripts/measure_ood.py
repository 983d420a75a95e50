"""Measure out-of-distribution detection: AUROC of energy and probability, and the share that each limit refuses.

    python scripts/measure_ood.py [MODEL]

The digits are MNIST's 10,000 test images. The others are drawn with a fixed seed: letters in five typefaces (only those
that resemble no digit), outlined and filled shapes, scribbles, noise, and test digits cut into patches and shuffled.
The scribbles have a star: they resemble the random strokes of the training. Noise and shuffled digits have exactly the
pixel values of digits, so a score that merely measures ink gains nothing.
"""

import math
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mnist_edge import Classifier
from mnist_edge.contract import Calibration
from mnist_edge.data import datasets
from mnist_edge.errors import UsageError
from mnist_edge.runtime.prediction import energy, ood_score

TYPEFACES = ("AmaticSCBold", "Caladea", "FredokaOne", "Intuitive", "ManropeMedium")
LETTERS = "ACDEFGHJKLMNPRTUVWXYabdefhkmnprtuvwxy"
"""Without B, I, O, Q, S, Z and similar letters, which many people write like 8, 1, 0, 5 and 2."""

SIDE = 140
MIDDLE = SIDE / 2
EACH = 1500
LIMITS = (0.9, 0.99, 0.999)
MIN_PROBABILITY = 0.9

Pixels = NDArray[np.uint8]
DIGITS = "MNIST's test digits"


def letters(rng: np.random.Generator) -> list[Pixels]:
    files = {name: path for entry in entry_points(group="fonts_ttf") for name, path in entry.load().items()}
    fonts = [ImageFont.truetype(files[name], 64) for name in TYPEFACES]
    return [_letter(letter, font, rng) for font in fonts for letter in LETTERS for _ in range(8)]


def _letter(letter: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> Pixels:
    picture, pen = _page()
    pen.text((MIDDLE, MIDDLE), letter, 255, font=font, anchor="mm", stroke_width=int(rng.integers(4)))
    return np.asarray(picture.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC))


def shapes(rng: np.random.Generator) -> list[Pixels]:
    return [_shape(int(kind), rng) for kind in rng.integers(8, size=EACH)]


def _shape(kind: int, rng: np.random.Generator) -> Pixels:
    picture, pen = _page()
    width, radius, turn = int(rng.integers(8, 16)), rng.uniform(35, 55), rng.uniform(0, 2 * math.pi)
    square = _polygon(4, radius, turn)
    match kind:
        case 0 | 1:
            pen.line(_polygon(3 + kind, radius, turn), 255, width, joint="curve")
        case 2:
            pen.line(_polygon(5, radius, turn, step=2), 255, width, joint="curve")
        case 3:
            pen.line([square[0], square[2]], 255, width)
            pen.line([square[1], square[3]], 255, width)
        case 4:
            pen.polygon(_polygon(int(rng.integers(3, 7)), radius, turn), 255)
        case 5:
            pen.ellipse((MIDDLE - radius, MIDDLE - radius, MIDDLE + radius, MIDDLE + radius), 255)
        case 6:
            for height in (-radius, 0, radius):
                pen.line([(MIDDLE - radius, MIDDLE + height), (MIDDLE + radius, MIDDLE + height)], 255, width)
        case _:
            pen.line([*square, square[2]], 255, width, joint="curve")
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1)))


def _polygon(corners: int, radius: float, turn: float, step: int = 1) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * index * step / corners for index in range(corners + 1)]
    return [(MIDDLE + radius * math.cos(angle), MIDDLE + radius * math.sin(angle)) for angle in angles]


def scribbles(rng: np.random.Generator) -> list[Pixels]:
    return [_scribble(rng) for _ in range(EACH)]


def _scribble(rng: np.random.Generator) -> Pixels:
    """A smooth curve (Catmull-Rom) through seven to thirteen random points."""
    picture, pen = _page()
    knots = rng.uniform(20, 120, (int(rng.integers(7, 14)), 2))
    t = np.linspace(0, 1, 12)[:, None]
    parts = [
        (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2
        for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False)
    ]
    pen.line([(x, y) for x, y in np.concatenate(parts)], 255, int(rng.integers(7, 13)), joint="curve")
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1)))


def _page() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("L", (SIDE, SIDE))
    return picture, ImageDraw.Draw(picture)


def noise(digits: Pixels, rng: np.random.Generator) -> Pixels:
    """Noise of four grain sizes, each image with the exact pixel values of a digit."""
    result = np.empty_like(digits)
    for image, digit in zip(result, digits, strict=True):
        coarse = rng.standard_normal((int(rng.choice((6, 9, 14, 28))),) * 2).astype(np.float32)
        grains = np.asarray(Image.fromarray(coarse).resize((28, 28), Image.Resampling.BICUBIC))
        image.ravel()[grains.ravel().argsort()] = np.sort(digit.ravel())
    return result


def shuffled(digits: Pixels, patch: int, rng: np.random.Generator) -> Pixels:
    """Each digit cut into `patch`×`patch` squares, every one of which moves to another place."""
    grid = 28 // patch
    patches = (
        digits.reshape(-1, grid, patch, grid, patch).swapaxes(2, 3).reshape(len(digits), grid * grid, patch, patch)
    )
    mixed = np.stack([image[_derangement(grid**2, rng)] for image in patches])
    return mixed.reshape(-1, grid, grid, patch, patch).swapaxes(2, 3).reshape(-1, 28, 28)


def _derangement(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation without fixed points."""
    order = np.arange(count)
    while (order == np.arange(count)).any():
        order = rng.permutation(count)
    return order


def auroc(digits: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The probability that a random other image scores higher than a random digit; ties count half."""
    ranked = np.sort(digits)
    below = np.searchsorted(ranked, others, side="left")
    ties = np.searchsorted(ranked, others, side="right") - below
    return float((below + ties / 2).mean() / len(digits))


@dataclass(frozen=True)
class Judged:
    """How unusual a model finds the pictures of one kind: [n] each."""

    images: Pixels
    energies: NDArray[np.float64]
    scores: NDArray[np.float64]
    doubt: NDArray[np.float64]
    """1 - the largest probability."""

    def refused(self, limit: float) -> str:
        """The share that a limit to the score refuses."""
        return f"{100 * (self.scores > limit).mean():.1f} %"

    def unsure(self) -> str:
        """The share that `MIN_PROBABILITY` refuses."""
        return f"{100 * (self.doubt > 1 - MIN_PROBABILITY).mean():.1f} %"


def measured(classifier: Classifier, test: Pixels) -> dict[str, Judged]:
    """By kind; the first are the digits. Raises UsageError for a model that is not calibrated."""
    calibration = classifier.contract.calibration
    if calibration is None:
        raise UsageError("this model has no calibration split and no out-of-distribution score")
    rng = np.random.default_rng(seed=0)

    def drawn(pictures: list[Pixels]) -> Pixels:
        return np.stack([classifier.preprocess(picture) for picture in pictures])

    sets = {
        DIGITS: test,
        "letters, five typefaces": drawn(letters(rng)),
        "shapes": drawn(shapes(rng)),
        "scribbles *": drawn(scribbles(rng)),
        "noise": noise(test[:EACH], rng),
        "digits shuffled in 7×7 patches": shuffled(test[:EACH], 7, rng),
        "digits shuffled in 14×14 patches": shuffled(test[:EACH], 14, rng),
    }
    return {kind: judged(classifier, calibration, images) for kind, images in sets.items()}


def judged(classifier: Classifier, calibration: Calibration, images: Pixels) -> Judged:
    logits = classifier.logits(images)
    doubt = 1 - classifier.probabilities(logits).max(axis=1)
    return Judged(images, energy(logits), ood_score(logits, calibration), doubt)


def main(model: str | None) -> None:
    kinds = measured(Classifier(model), datasets.load().test.images)
    digits = kinds[DIGITS]
    print(f"{'':32}{'images':>7}{'ink':>6}{'AUROC by energy':>18}{'by probability':>16}   refused at", end="")
    print("".join(f"  OOD score > {limit}" for limit in LIMITS) + f"  probability < {MIN_PROBABILITY}")
    for kind, found in kinds.items():
        line = f"{kind:32}{len(found.images):7,}{found.images.mean():6.1f}"
        if found is digits:
            line += f"{'':18}{'':16}"
        else:
            line += f"{auroc(digits.energies, found.energies):18.4f}{auroc(digits.doubt, found.doubt):16.4f}"
        line += f"{'':13}" + "".join(f"{found.refused(limit):>18}" for limit in LIMITS)
        print(f"{line}{found.unsure():>19}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
