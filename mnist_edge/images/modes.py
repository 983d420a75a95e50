"""From a Pillow image of any mode to grey values, of a large one reduced, strip by strip.

Everything here works on a few rows at a time, so that besides what Pillow has decoded little memory is needed.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import WHITE
from mnist_edge.errors import ImageFormatError
from mnist_edge.images.arrays import median, quantile
from mnist_edge.images.background import cost

if TYPE_CHECKING:
    from PIL import Image

STRIP: Final = 64
"""Rows that are converted at a time."""

DEPTHS: Final = (8, 10, 12, 14, 16)
"""Bit depths that a picture's values may have: cameras and scanners store 12-bit values in 16-bit files. White is the
largest value of the smallest depth that holds all values; scaling by the largest value itself would amplify the noise
of a blank picture."""

HIDDEN: Final = 0.25
"""Transparent pictures are composited onto white, or onto black if white gives less than this share of the contrast
that black gives."""

COLOURFUL: Final = 24
"""A picture is in colour if the channels of more than 1 % of its pixels differ by more than this."""

STRONG: Final = 0.5
"""A plane is considered if it shows at least this share of the highest contrast of any."""

SAMPLES: Final = 4096
"""About how many pixels of a colour picture are sampled to choose a plane."""


def grey_values(image: "Image.Image", factor: int, name: str) -> tuple[NDArray[np.uint8], bool]:
    """The grey values of an image, uint8 [height, width], reduced by a factor, and whether it shows colours.

    `name` is for error messages.
    """
    if image.mode == "L" and "transparency" not in image.info:
        return _array(image, "L", factor), False
    if image.mode[0] in "IF":
        return _from_deep(_array(image, "F" if image.mode == "F" else "I", factor), image.mode, name), False
    if image.mode == "LAB":
        return _array(image.getchannel(0), "L", factor), True
    if image.has_transparency_data:
        return _from_transparent(_array(image, "RGBA", factor))
    if image.mode in ("1", "L"):
        return _array(image, "L", factor), False
    return _from_colour(_array(image, "RGB", factor))


def _array(image: "Image.Image", mode: str, factor: int) -> NDArray[Any]:
    if factor == 1:
        return np.asarray(image if image.mode == mode else image.convert(mode))
    strips = []
    for top in range(0, image.height, factor * STRIP):
        strip = image.crop((0, top, image.width, min(top + factor * STRIP, image.height)))
        strips.append(np.asarray(strip.convert(mode).reduce(factor)))
    return np.concatenate(strips)


def _from_deep(values: NDArray[Any], mode: str, name: str) -> NDArray[np.uint8]:
    # Pillow's own conversion would clip values to 8 bits.
    if values.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    whites = [2**bits - 1 for bits in DEPTHS]
    if mode == "F":
        whites.insert(0, 1)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= whites[-1]):
        raise ImageFormatError(f"{name}: {mode} pixels beyond 0…{whites[-1]}: save it with 8 or 16 bits per channel")
    white = next(white for white in whites if high <= white)
    return (values.astype(np.float32) * (WHITE / white)).round().astype(np.uint8)


def _from_transparent(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    if rgba.size == 0 or rgba[..., 3].min() == rgba[..., 3].max():
        return _from_colour(rgba[..., :3])
    on_black, on_white = (_contrast(_luminance(_composited(_sample(rgba), ground))) for ground in (0, WHITE))
    ground = WHITE if on_white >= HIDDEN * on_black else 0
    return _from_colour(_by_strips(lambda strip: _composited(strip, ground), rgba))


def _composited(rgba: NDArray[np.uint8], ground: int) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.float32) / WHITE
    return (rgba[..., :3] * alpha + ground * (1 - alpha)).round().astype(np.uint8)


def _by_strips(
    function: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], pixels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """A function's results for some rows at a time: its intermediate arrays are many times as large as the pixels."""
    return np.concatenate([function(pixels[top : top + STRIP]) for top in range(0, len(pixels), STRIP)])


def _sample(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = pixels.shape
    step = max(1, int((height * width / SAMPLES) ** 0.5))
    return pixels[::step, ::step]


def _contrast(values: NDArray[Any]) -> float:
    return float(abs(values - median(values)).mean())


def _luminance(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # ITU-R 601-2 luma, with Pillow's 16-bit weights.
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)


def _darkest(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(rgb.min(axis=2))


def _brightest(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(rgb.max(axis=2))


PLANES: Final[tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], ...]] = (
    _luminance,
    *(partial(np.take, indices=channel, axis=2) for channel in range(3)),
    _darkest,
    _brightest,
)
"""From colours to grey values. Red on green of the same luminance shows in a channel only; in the brightest channel a
saturated colour is as bright as white paper, so that black ink on coloured scribbles stands alone, and in the darkest
as dark as black."""


def _from_colour(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    """The luminance, or in a picture in colour the plane that shows the ink best; and whether there are colours.

    Colours that are too few to be among the sampled pixels do not count.
    """
    if rgb.size == 0:
        return rgb[..., 0], False
    sample = _sample(rgb)
    return _by_strips(_clearest(sample), rgb), bool((sample != sample[..., :1]).any())


def _clearest(sample: NDArray[np.uint8]) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The plane that the least ink on the smoothest background explains, relative to its contrast."""
    if quantile(_brightest(sample) - _darkest(sample), 0.99) <= COLOURFUL:
        return _luminance
    views = [plane(sample).astype(np.float32) for plane in PLANES]
    contrasts = [quantile(abs(view - median(view)), 0.99) for view in views]
    costs = [
        cost(view) / max(contrast, 1) if contrast >= STRONG * max(contrasts) else np.inf
        for view, contrast in zip(views, contrasts, strict=True)
    ]
    return PLANES[int(np.argmin(costs))]
