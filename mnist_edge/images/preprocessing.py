"""Bring grey values of any size into the canonical 28×28 form of MNIST's digits (LeCun et al. 1998).

The digit is located in a reduced picture, cut out of the full one with some background around it, and separated from
that background again at a higher resolution. It is then scaled to a longer side of 20 pixels and shifted so that its
centre of mass is where MNIST has it, and its strokes are brought to the width of MNIST's.
"""

from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.images.arrays import Array, extended, framed, grow, halo, median, quantile, resample, shrink, smooth
from mnist_edge.images.cleaning import digit
from mnist_edge.images.components import box as box_of
from mnist_edge.images.ink import Ink, find_ink
from mnist_edge.images.rules import of_the_paper
from mnist_edge.images.sheets import sheet_of

INK_BOX: Final = 20
"""Longer side of the ink after preprocessing, in pixels, as in MNIST."""

OVERVIEW: Final = 448
"""Maximum side of the picture in which the digit is located: a 4000×3000 photograph is reduced by a factor of 9."""

DETAIL: Final = 192
"""Maximum side of the cut-out in which ink is separated from the background."""

SMALLEST: Final = 64
"""Pictures whose longer side is smaller are enlarged, smoothly, before anything is measured in them."""

MARGIN: Final = 0.4
"""Width of the background around the digit in the cut-out, as a share of the digit's longer side."""

FINE: Final = 4
"""Strokes are thickened and thinned on a canvas with this many times the result's resolution."""

STROKES: Final = (2.1, 3.2)
"""Range of stroke widths, in pixels of the result; thinner and thicker strokes are brought to its ends. The middle half
of MNIST's training set has 2.1…2.9, measured by `_stroke_width`."""

CONTRAST: Final = (0.15, 0.65)
"""Shares of the solid level at which ink begins and counts as solid: blurred edges become as steep as MNIST's."""


def cropped(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """The digit of a picture, uint8 [height, width], in MNIST's place, and how many digits the picture shows.

    Returns:
        uint8 [28, 28], all zero where there is no digit, and the number; digits that touch count as one.
    """
    found = extract(pixels)
    if found is None:
        return np.zeros((HEIGHT, WIDTH), dtype=np.uint8), 0
    ink, digits = found
    return place(ink), digits


def whole(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture, uint8 [height, width], fitted into 28×28 and padded with its border's median; brightness is kept."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = median(border)
    height, width = pixels.shape
    step = max(height / HEIGHT, width / WIDTH)
    origin = (height / 2 - step * HEIGHT / 2, width / 2 - step * WIDTH / 2)
    fitted = resample(pixels.astype(np.float32) - background, (HEIGHT, WIDTH), step, origin)
    return _as_bytes(fitted + background)


def extract(pixels: NDArray[np.uint8]) -> tuple[Array, int] | None:
    """The ink of the digit in a picture, cut out.

    Args:
        pixels: uint8 [height, width].

    Returns:
        float32 [h, w], 0 = background, 1 = solid ink, and how many digits there are; None if there is none.
    """
    small, factor = shrink(pixels, OVERVIEW)
    if (sheet := sheet_of(small)) is not None:
        left, top, right, bottom = (factor * edge for edge in sheet)
        inside = extract(pixels[top:bottom, left:right])
        if inside is not None:
            return inside
    ink, strokes, digits = _strokes(enlarged(small), None)
    if not strokes.any():
        return None
    if factor > 1:
        left, top, right, bottom = (factor * edge for edge in box_of(strokes))
        margin = int(MARGIN * max(right - left, bottom - top)) + 2 * factor
        pixels = pixels[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
        small, _ = shrink(pixels, DETAIL)
        ink, strokes, _ = _strokes(enlarged(small), ink.dark)
        if not strokes.any():
            return None
    return alone(ink.values, strokes), digits


def enlarged(picture: Array) -> Array:
    """A small picture, enlarged by an integer factor until strokes are wide enough to measure: float32 [h, w]."""
    height, width = picture.shape
    times = -(-SMALLEST // max(height, width))
    if times == 1:
        return picture
    padded = extended(picture, 1)
    return resample(padded, (height * times, width * times), 1 / times, (1.0, 1.0))


def _strokes(picture: Array, dark: bool | None) -> tuple[Ink, NDArray[np.bool_], int]:
    ink = find_ink(smooth(picture) if min(picture.shape) > SMALLEST else picture, dark)
    paper = of_the_paper(ink.marks)
    if paper.any():
        ink = replace(ink, values=np.where(paper, 0, ink.values).astype(np.float32))
    return ink, *digit(ink.strokes(ink.marks), ink.values)


def alone(ink: Array, strokes: NDArray[np.bool_]) -> Array:
    """The ink of these strokes with their soft edges, cropped to them; 1 = solid."""
    around = grow(strokes.astype(np.float32), 2)
    solid = quantile(ink[strokes], 0.75)
    low, high = CONTRAST
    values = ((ink / solid - low) / (high - low)).clip(0, 1) * around
    left, top, right, bottom = box_of(values > 0)
    return values[top:bottom, left:right]


def place(ink: Array) -> NDArray[np.uint8]:
    """Place one digit's ink as in MNIST.

    Args:
        ink: float32 [height, width], 0 = background, 1 = solid.

    Returns:
        uint8 [28, 28]: the longer side of the ink is 20 pixels, and its centre of mass is at index 14.0 on both axes
        unless the ink would leave the image.
    """
    fine = _placed(ink, INK_BOX)
    width = _stroke_width(fine)
    change = float(np.clip(width, *STROKES)) - width
    if abs(change) > 0.1:
        fine = _weighted(_placed(ink, INK_BOX - change), change)
        fine = _placed(fine, INK_BOX)
    small = fine.reshape(HEIGHT, FINE, WIDTH, FINE).mean(axis=(1, 3))
    return _as_bytes(WHITE * small)


def _placed(ink: Array, longer: float) -> Array:
    """Place the ink on the fine canvas so that the longer side of its box is `longer` pixels of the result."""
    left, top, right, bottom = box_of(ink > 0.5 * float(ink.max()))  # a hairline on the fine canvas is faint
    step = max(right - left, bottom - top) / (FINE * longer)
    rows, columns = ink.sum(axis=1), ink.sum(axis=0)
    mass = float(rows.sum())
    y = float((rows * (np.arange(len(rows)) + 0.5)).sum()) / mass
    x = float((columns * (np.arange(len(columns)) + 0.5)).sum()) / mass
    # Index 14.0 is a pixel's centre: 14.5 pixels from the border.
    origin = (
        _inside(y - (HEIGHT / 2 + 0.5) * FINE * step, top, bottom, HEIGHT * FINE * step),
        _inside(x - (WIDTH / 2 + 0.5) * FINE * step, left, right, WIDTH * FINE * step),
    )
    return resample(ink, (HEIGHT * FINE, WIDTH * FINE), step, origin)


def _inside(origin: float, first: int, last: int, extent: float) -> float:
    return min(max(origin, last - extent), float(first))


def _stroke_width(fine: Array) -> float:
    """Twice the area divided by the perimeter (the total variation): the width of a long stroke, in result pixels."""
    padded = framed(fine, 1, 1)
    down = np.diff(padded, axis=0)[:, 1:]
    across = np.diff(padded, axis=1)[1:]
    return 2 * float(fine.sum()) / max(float(np.hypot(down, across).sum()), 1e-6) / FINE


def _weighted(fine: Array, change: float) -> Array:
    """Widen the strokes by `change` pixels of the result, or narrow them if it is negative."""
    radius = abs(change) / 2 * FINE
    return halo(fine, radius) if change > 0 else 1 - halo(1 - fine, radius)


def _as_bytes(values: Array) -> NDArray[np.uint8]:
    return np.asarray(values.round().clip(0, WHITE), dtype=np.uint8)
