"""Kinds of corruption that no training of ours imitates: `NEVER_TRAINED`.

They measure what a robust training gains on pictures it did not foresee, so nothing in `mnist_edge.training` may be
made to resemble them. They were written before the training that they judge, and their severity was chosen without it:
a person still reads nearly every digit.

Glass, JPEG, defocus and mosaic are kinds of ImageNet-C (Hendrycks and Dietterich 2019, arXiv:1903.12261), in
constructions and with parameters of our own.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from tests.distortions import (
    NEVER_TRAINED,
    Corruption,
    along,
    any_angle,
    between,
    gaussian,
    lit,
    moved,
    octaves,
    places,
    points,
    polyline,
    random,
    sign,
)


def _glass(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    # Each pixel is taken from itself or one of its neighbours.
    step = torch.randint(-1, 2, (2, len(images), 28, 28), generator=generator)
    return gaussian(moved(images, x + step[0], y + step[1], "nearest"), 0.5)


def _curved_motion(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    angle, bend = any_angle(images, generator)[:, None, None], sign(images, generator)[:, None, None] * 0.4
    path_x, path_y, total = torch.zeros_like(angle), torch.zeros_like(angle), images.clone()
    for _ in range(5):
        path_x, path_y, angle = path_x + angle.cos(), path_y + angle.sin(), angle + bend
        total += moved(images, x + path_x, y + path_y)
    return total / 4


_JPEG_LUMINANCE: Final = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""The example of the JPEG standard (ITU-T T.81, annex K), which most encoders scale by the quality."""


def _jpeg(images: Tensor, quality: int) -> Tensor:
    # Without an encoder, whose versions may differ: JPEG loses pixels only where it rounds the cosine transform.
    frequency, place = torch.arange(8.0)[:, None], torch.arange(8.0)
    cosines = torch.cos((2 * place + 1) * frequency * (math.pi / 16)) / 2
    cosines[0] /= math.sqrt(2)
    table = (torch.tensor(_JPEG_LUMINANCE) * (50 / quality)).round().clamp(1, 255)
    padded = functional.pad(images, (0, 4, 0, 4), mode="replicate") * 255 - 128
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
    kept = ((cosines @ blocks @ cosines.T) / table).round() * table
    decoded = (cosines.T @ kept @ cosines + 128) / 255
    return decoded.transpose(3, 4).reshape(len(images), 1, 32, 32)[..., :28, :28]


_BAYER: Final = ((0, 8, 2, 10), (12, 4, 14, 6), (3, 11, 1, 9), (15, 7, 13, 5))
"""The order in which the pixels of a 4×4 cell turn white (Bayer 1973)."""


def _halftone(images: Tensor) -> Tensor:
    limits = (torch.tensor(_BAYER) + 0.5).repeat(7, 7) / 16
    return (gaussian(images, 0.6) * 0.85 + 0.13 > limits).float()


def _mosaic(images: Tensor) -> Tensor:
    small = functional.interpolate(images, size=12, mode="area")
    return functional.interpolate(small, size=28, mode="nearest")


def _swirl(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    turn = sign(images, generator)[:, None, None] * 0.7 * torch.exp(-(x**2 + y**2) / 90)
    return moved(images, turn.cos() * x - turn.sin() * y, turn.sin() * x + turn.cos() * y)


def _lens(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    from_x = x - between(-5, 5, images, generator)[:, 0]
    from_y = y - between(-5, 5, images, generator)[:, 0]
    nearer = 1 - 0.6 * torch.exp(-(from_x**2 + from_y**2) / 60)
    return moved(images, x - from_x * (1 - nearer), y - from_y * (1 - nearer))


def _waves(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    phase = torch.rand(2, len(images), 1, 1, generator=generator) * 2 * math.pi
    return moved(images, x + 1.1 * torch.sin(y * 0.6 + phase[0]), y + 1.1 * torch.sin(x * 0.6 + phase[1]))


def _tilted(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    depth = 1 + along(any_angle(images, generator))[:, 0] * 0.03
    return moved(images, x / depth, y / depth)


def _ghost(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    angle, far = any_angle(images, generator)[:, None, None], between(4, 6, images, generator)[:, 0]
    return torch.maximum(images, 0.5 * moved(images, x + far * angle.cos(), y + far * angle.sin()))


def _bleed_through(images: Tensor, generator: torch.Generator) -> Tensor:
    other = images[torch.randperm(len(images), generator=generator)].flip(3)
    return torch.maximum(images, gaussian(other, 0.7) * 0.6)


def _squared_paper(images: Tensor, generator: torch.Generator) -> Tensor:
    start = torch.randint(0, 6, (2, len(images), 1), generator=generator)
    columns, rows = ((torch.arange(28) + start) % 6 == 0).unbind()
    lines = columns[:, None, None, :] | rows[:, None, :, None]
    return torch.maximum(images, lines.float() * 0.5)


def _crossed_out(images: Tensor, generator: torch.Generator) -> Tensor:
    ends = points([(-12.0, -9.0), (6.0, 12.0), (9.0, 12.0), (-12.0, -6.0)], images, generator)
    return torch.maximum(images, polyline(ends, 0.6) * 0.6)


def _dashes(images: Tensor) -> Tensor:
    # Strokes that run sideways are broken at every seventh column, the others at every seventh row.
    across = gaussian((images - images.roll(1, dims=3)) ** 2, 1.5)
    down = gaussian((images - images.roll(1, dims=2)) ** 2, 1.5)
    x, y = places()
    return images * torch.where(down > across, (x + 13.5) % 7 >= 2, (y + 13.5) % 7 >= 2)


def _embossed(images: Tensor) -> Tensor:
    soft = gaussian(images, 0.5)
    return 0.5 + 0.5 * (soft.roll((1, 1), dims=(2, 3)) - soft.roll((-1, -1), dims=(2, 3)))


def _posterized(images: Tensor, generator: torch.Generator) -> Tensor:
    shade = gaussian(images, 0.5) * 0.85 + 0.12 + along(any_angle(images, generator)) * 0.012
    return (shade * 2 + 0.8 * (torch.rand(images.shape, generator=generator) - 0.5)).round() / 2


def _uneven_light(images: Tensor, generator: torch.Generator) -> Tensor:
    return lit(images, (0.6 + along(any_angle(images, generator)) * 0.03).clamp(0.2, 1))


def _vignette(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    aside = between(-3, 3, images, generator)
    return lit(images, (1 - ((x - aside) ** 2 + (y + aside) ** 2) / 300).clamp(min=0.15))


def _defocus(images: Tensor) -> Tensor:
    # Out of focus, a mirror lens shows each point as a ring.
    x, y = places()
    distance = (x**2 + y**2).sqrt()[10:18, 10:18]
    ring = torch.exp(-((distance - 2.1) ** 2) / 0.5)
    blurred = functional.conv2d(functional.pad(images, (4, 3, 4, 3)), (ring / ring.sum())[None, None])
    return blurred * 1.5


def _missing_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * (torch.rand(images.shape, generator=generator) > 0.45)


def _missing_rows(images: Tensor, generator: torch.Generator) -> Tensor:
    # One of every four.
    missing = torch.randint(0, 4, (len(images), 7, 1), generator=generator) == torch.arange(4)
    return images * (~missing).view(-1, 1, 28, 1)


def _displaced_rows(images: Tensor, generator: torch.Generator) -> Tensor:
    x, y = places()
    return moved(images, x + (torch.randn(len(images), 28, 1, generator=generator) * 0.8).round(), y, "nearest")


def _torn_corner(images: Tensor, generator: torch.Generator) -> Tensor:
    # What lies behind the paper is dark, that is, bright here.
    corner = torch.tensor((45, 135, 225, 315))[(random(images, generator) * 4).long()] * (math.pi / 180)
    ragged = octaves(images, (14, 28), 0.8, generator) * 3
    return torch.where(along(corner) + ragged > 12.5, 0.85, images)


def _saw_tooth(images: Tensor) -> Tensor:
    x, y = places()
    to_border = 14 - torch.maximum(x.abs(), y.abs())
    around = torch.where(x.abs() > y.abs(), y, x) + 14
    return torch.where(to_border < 1 + (around % 4 - 2).abs() * 1.5, 1.0, images)


def _sharpened(images: Tensor) -> Tensor:
    soft = gaussian(images, 0.7)
    return 0.3 + 0.5 * soft + 1.5 * (soft - gaussian(soft, 1.5))


OTHER: Final[dict[str, Corruption]] = {
    # Meant as never trained on, but fine lines, of ink or erased, and missing pixels are in the augmentation, and
    # blur became one of the poor scans after the first long trainings had unlearned it.
    "squared paper": Corruption(_squared_paper, seen=True, family="scratches"),
    "crossed out": Corruption(_crossed_out, seen=True, family="scratches"),
    "missing rows": Corruption(_missing_rows, seen=True, family="scratches"),
    "missing pixels": Corruption(_missing_pixels, seen=True, family="noise"),
    "defocus": Corruption(lambda images, _: _defocus(images), seen=True, family="blur"),
    "mosaic": Corruption(lambda images, _: _mosaic(images), seen=True, family="blur"),
} | {
    name: Corruption(apply, family=NEVER_TRAINED)
    for name, apply in {
        "glass": _glass,
        "curved motion": _curved_motion,
        "JPEG": lambda images, _: _jpeg(images, 6),
        "halftone": lambda images, _: _halftone(images),
        "swirl": _swirl,
        "lens": _lens,
        "waves": _waves,
        "tilted": _tilted,
        "ghost": _ghost,
        "bleed-through": _bleed_through,
        "dashes": lambda images, _: _dashes(images),
        "embossed": lambda images, _: _embossed(images),
        "posterized": _posterized,
        "uneven light": _uneven_light,
        "vignette": _vignette,
        "displaced rows": _displaced_rows,
        "torn corner": _torn_corner,
        "saw-tooth": lambda images, _: _saw_tooth(images),
        "sharpened": lambda images, _: _sharpened(images),
    }.items()
}
"""By name."""
