"""Fixed distortions of test images, which show how a model bears other pens, scanners and framing. Without torch.

`DISTORTIONS` is a handful of those in MNIST-C (Mu and Gilmer 2019, arXiv:1906.02337), as strong as the kinds of the
same names in ``docs/robustness.md``; ``noise`` is ``gaussian noise`` there. Equal images give equal images on any
processor: weights of sums are whole numbers, and contrast and noise take a single multiplication, which IEEE 754 rounds
everywhere alike. Directions alternate from image to image, and noise comes from a generator whose numbers never change.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, WHITE, WIDTH

Images = NDArray[np.uint8]
"""[n, 28, 28], 0 = background, 255 = full ink."""

ANGLE: Final = 25
SHIFT: Final = 4
SCALE: Final = 0.6
SIGMA: Final = 1.5
NOISE: Final = 0.25
CONTRAST: Final = 0.3

_ONE: Final = 256
"""Weights are so many parts of one."""


@dataclass(frozen=True)
class Distortion:
    """One kind of distortion."""

    does: str
    """What it does to an image, in words."""

    apply: Callable[[Images], Images]


def _rotated(images: Images) -> Images:
    turned = images.copy()
    for start, angle in enumerate((ANGLE, -ANGLE)):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turned[start::2] = _resampled(images[start::2], ((cos, -sin), (sin, cos)))
    return turned


def _shrunk(images: Images) -> Images:
    return _resampled(images, ((1 / SCALE, 0), (0, 1 / SCALE)))


def _resampled(images: Images, matrix: tuple[tuple[float, float], tuple[float, float]]) -> Images:
    """Look up each pixel at `matrix` times its row and column from the middle, between the four pixels around there."""
    middle = (HEIGHT - 1) / 2
    at = np.tensordot(np.array(matrix), np.indices((HEIGHT, WIDTH)) - middle, axes=1) + middle
    fixed = np.rint(at * _ONE).astype(np.int64)
    row, column = np.clip(fixed // _ONE, -1, HEIGHT)
    down, right = fixed % _ONE
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2))).astype(np.int32)
    total = np.zeros(images.shape, np.int32)
    for below, beside in itertools.product((0, 1), repeat=2):
        weight = (down if below else _ONE - down) * (right if beside else _ONE - right)
        total += padded[:, row + 1 + below, column + 1 + beside] * weight.astype(np.int32)
    return _bytes(total // _ONE**2)


def _moved(images: Images) -> Images:
    moved = np.zeros_like(images)
    whole = {1: slice(SHIFT, None), -1: slice(None, -SHIFT)}
    for start, (down, right) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        moved[start::4, whole[down], whole[right]] = images[start::4, whole[-down], whole[-right]]
    return moved


def _thicker(images: Images) -> Images:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    around = [padded[:, y : y + HEIGHT, x : x + WIDTH] for y in range(3) for x in range(3)]
    return _bytes(np.maximum.reduce(around))


def _thinner(images: Images) -> Images:
    thinner = images.copy()
    np.minimum(images[:, :, 1:], images[:, :, :-1], out=thinner[:, :, 1:])
    return thinner


def _blurred(images: Images) -> Images:
    reach = math.ceil(3 * SIGMA)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    parts = np.rint(weights / weights.sum() * _ONE).astype(np.int32)
    parts[reach] += _ONE - parts.sum()
    whole = images.astype(np.int32)
    for axis in (1, 2):
        edge = [(0, 0)] * 3
        edge[axis] = (reach, reach)
        padded, whole = np.pad(whole, edge), np.zeros_like(whole)
        for start, part in enumerate(parts):
            whole += np.take(padded, range(start, start + images.shape[axis]), axis) * part
    return _bytes(whole // _ONE**2)


def _noisy(images: Images) -> Images:
    # The sum of four random bytes is nearly normal; a generator's bits, unlike its distributions, are the same in every
    # version of numpy.
    raw = np.random.PCG64(0).random_raw(-(-images.size // 2)).astype("<u8").view(np.uint8)[: images.size * 4]
    sums = raw.reshape(*images.shape, 4).sum(axis=-1, dtype=np.int32) - 2 * WHITE
    deviation = math.sqrt(4 * (_ONE**2 - 1) / 12)
    return _bytes(images + np.rint(sums * (NOISE * WHITE / deviation)))


def _faded(images: Images) -> Images:
    return _bytes(np.rint(images * CONTRAST))


def _bytes(values: NDArray[np.number[Any]]) -> Images:
    return np.asarray(np.clip(values, 0, WHITE), dtype=np.uint8)


DISTORTIONS: Final = {
    "rotation": Distortion(f"turned by {ANGLE}°, half of the images to the left and half to the right", _rotated),
    "translation": Distortion(f"moved by {SHIFT} pixels along both axes, in turn to each corner", _moved),
    "shrinking": Distortion(f"scaled to {100 * SCALE:.0f} % of width and height", _shrunk),
    "thicker": Distortion("each pixel the brightest of the 3×3 around it: broader strokes", _thicker),
    "thinner": Distortion("each pixel the darker of itself and its left neighbour: finer strokes", _thinner),
    "blur": Distortion(f"Gaussian blur with a standard deviation of {SIGMA} pixels", _blurred),
    "noise": Distortion(f"normal noise with a standard deviation of {100 * NOISE:.0f} % of full ink", _noisy),
    "contrast": Distortion(f"every pixel at {100 * CONTRAST:.0f} % of its brightness", _faded),
}
"""Every distortion by name."""
