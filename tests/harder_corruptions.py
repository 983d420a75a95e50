"""Harder corruptions of what a training may plausibly include: clouds, bands, outlines, scratches, blots, noise.

They test models whose training shows similar things, built differently. They were written before that training, at
strengths where a person can still read nearly every digit.

Noises, and fog as fractal noise, follow ImageNet-C (Hendrycks and Dietterich 2019, arXiv:1903.12261); stripes, edges
and lines are an idea of MNIST-C (Mu and Gilmer 2019, arXiv:1906.02337). Constructions and parameters are our own.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from tests.distortions import (
    Corruption,
    along,
    any_angle,
    between,
    curve,
    finest,
    gaussian,
    octaves,
    places,
    points,
    polyline,
    random,
    sign,
    widest,
)


def _clouds(images: Tensor, density: float, generator: torch.Generator) -> Tensor:
    # The sum is scaled back to 0…1, so the denser the clouds, the less contrast is left to the digit.
    return (images + octaves(images, (2, 4, 7, 14, 28), 0.6, generator) * density) / (1 + density)


def _dense_clouds(images: Tensor, generator: torch.Generator) -> Tensor:
    return 0.3 + 0.5 * _clouds(images, 1.4, generator)


def _some_angle(images: Tensor, angles: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """One of `angles`, in degrees, per image: [n], in radians."""
    return torch.tensor(angles)[(random(images, generator) * len(angles)).long()] * (math.pi / 180)


def _bands(images: Tensor, angles: tuple[int, ...], width: float, period: float, generator: torch.Generator) -> Tensor:
    """Whether a pixel is in a band: bool [n, 1, 28, 28]."""
    place = along(_some_angle(images, angles, generator))
    return (place + 14 + between(0, period, images, generator).floor()) % period < width


def _inverted_bands(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(_bands(images, (0, 90), 7, 14, generator), 1 - images, images)


def _inverted_diagonals(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(_bands(images, (45, 135), 6.5, 13, generator), 1 - images, images)


def _half_inverted(images: Tensor, generator: torch.Generator) -> Tensor:
    edge = along(any_angle(images, generator)) + between(-3, 3, images, generator)
    return torch.where(edge > 0, 1 - images, images)


def _fine_stripes(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * 0.7 + _bands(images, (0, 90), 1, 3, generator).float() * 0.45


def _wide_stripes(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * 0.8 + _bands(images, (0, 45, 90, 135), 3, 7, generator).float() * 0.5


def _dark_stripes(images: Tensor, generator: torch.Generator) -> Tensor:
    # On a grey background, so that the stripes show beside the strokes too.
    return (images * 0.7 + 0.3) * (~_bands(images, (0, 45, 90, 135), 2, 6, generator)).float()


def _outline(images: Tensor) -> Tensor:
    return widest(images) - finest(images)


def _edges(images: Tensor) -> Tensor:
    # Sobel's filter, reduced to the pixels on the crest of the edge.
    smooth, step = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
    across = functional.conv2d(images, (smooth[:, None] * step)[None, None], padding=1)
    down = functional.conv2d(images, (step[:, None] * smooth)[None, None], padding=1)
    strength = (across**2 + down**2).sqrt()
    peak = strength.amax(dim=(2, 3), keepdim=True)
    return (strength > 0.51 * peak).float()


def _hollow(images: Tensor) -> Tensor:
    inked = (images > 0.5).float()
    return widest(inked) - inked


def _scratches(images: Tensor, count: int, thickness: float, generator: torch.Generator) -> Tensor:
    """The ink of straight lines from one side to the other, in any direction: [n, 1, 28, 28]."""
    drawn = torch.zeros_like(images)
    for _ in range(count):
        angle, offset = any_angle(images, generator), random(images, generator) * 20 - 10
        direction = torch.stack([angle.cos(), angle.sin()], dim=1)
        middle = torch.stack([-angle.sin(), angle.cos()], dim=1) * offset[:, None]
        ends = torch.stack([middle - direction * 20, middle + direction * 20], dim=1)
        drawn = torch.maximum(drawn, polyline(ends, thickness))
    return drawn


def _ink_scratches(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.maximum(images, _scratches(images, 3, 0.45, generator) * 0.8)


def _curved_scratches(images: Tensor, generator: torch.Generator) -> Tensor:
    for _ in range(2):
        ranges = [(-14.0, -8.0), (-14.0, 14.0), (-16.0, 16.0), (-16.0, 16.0), (8.0, 14.0), (-14.0, 14.0)]
        images = torch.maximum(images, curve(points(ranges, images, generator), 0.5) * 0.8)
    return images


def _erasures(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * (1 - _scratches(images, 3, 0.7, generator))


def _blob(images: Tensor, radius: tuple[float, float], generator: torch.Generator) -> Tensor:
    """How far each pixel is inside an uneven round spot, in pixels, negative outside: [n, 1, 28, 28]."""
    x, y = places()
    center_x, center_y, turn = (between(-11, 11, images, generator) for _ in range(3))
    x, y = x - center_x, y - center_y
    uneven = 1 + 0.12 * torch.sin(3 * torch.atan2(y, x) + turn)
    return between(*radius, images, generator) * uneven - (x**2 + y**2).sqrt()


def _ink_blots(images: Tensor, generator: torch.Generator) -> Tensor:
    for _ in range(4):
        images = torch.maximum(images, (_blob(images, (1.2, 2.8), generator) + 0.5).clamp(0, 1))
    return images


def _water_drops(images: Tensor, generator: torch.Generator) -> Tensor:
    for _ in range(3):
        inside = _blob(images, (1.5, 3.5), generator)
        rim = (1 - inside.abs()).clamp(min=0) * 0.4  # where the washed-out ink dries
        images = torch.maximum(images * (1 - 0.9 * (inside + 0.5).clamp(0, 1)), rim)
    return images


def _salt_and_pepper(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(images.shape, generator=generator)
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn > 1 - share / 2, 1.0, images))


def _speckle(images: Tensor, generator: torch.Generator) -> Tensor:
    return (images * 0.7 + 0.3) * (1 + 0.55 * torch.randn(images.shape, generator=generator))


def _uniform_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * 0.6 + torch.rand(images.shape, generator=generator) * 0.65


def _coloured_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    noise = gaussian(torch.randn(images.shape, generator=generator), 0.9)
    return images * 0.7 + 0.2 + 0.19 * noise / noise.std(dim=(2, 3), keepdim=True)


def _scanner_lines(images: Tensor, generator: torch.Generator) -> Tensor:
    # Each row, or each column, is lighter or darker as a whole.
    rows = torch.randn(len(images), 1, 28, 1, generator=generator)
    turned = (sign(images, generator) > 0)[:, None, None, None]
    return images * 0.7 + 0.2 + 0.25 * torch.where(turned, rows, rows.mT)


def _gaussian_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + torch.randn(images.shape, generator=generator) * 0.35


HARDER: Final[dict[str, Corruption]] = {
    "light clouds": Corruption(lambda images, drawn: _clouds(images, 0.6, drawn), seen=True, family="fog"),
    "clouds": Corruption(lambda images, drawn: _clouds(images, 1.2, drawn), seen=True, family="fog"),
    "dense clouds": Corruption(_dense_clouds, seen=True, family="fog"),
    "inverted bands": Corruption(_inverted_bands, seen=True, family="bands"),
    "inverted diagonals": Corruption(_inverted_diagonals, seen=True, family="bands"),
    "half inverted": Corruption(_half_inverted, seen=True, family="bands"),
    "fine stripes": Corruption(_fine_stripes, family="bands"),
    "wide stripes": Corruption(_wide_stripes, family="bands"),
    "dark stripes": Corruption(_dark_stripes, family="bands"),
    "outline": Corruption(lambda images, _: _outline(images), seen=True, family="outline"),
    "edges": Corruption(lambda images, _: _edges(images), seen=True, family="outline"),
    "hollow strokes": Corruption(lambda images, _: _hollow(images), seen=True, family="outline"),
    "ink scratches": Corruption(_ink_scratches, seen=True, family="scratches"),
    "curved scratches": Corruption(_curved_scratches, seen=True, family="scratches"),
    "erasures": Corruption(_erasures, seen=True, family="scratches"),
    "ink blots": Corruption(_ink_blots, seen=True, family="blots"),
    "water drops": Corruption(_water_drops, seen=True, family="blots"),
    "salt and pepper": Corruption(
        lambda images, drawn: _salt_and_pepper(images, 0.22, drawn), seen=True, family="noise"
    ),
    "speckle": Corruption(_speckle, seen=True, family="noise"),
    "uniform noise": Corruption(_uniform_noise, seen=True, family="noise"),
    "coloured noise": Corruption(_coloured_noise, family="noise"),
    "scanner lines": Corruption(_scanner_lines, family="noise"),
    "strong gaussian noise": Corruption(_gaussian_noise, seen=True, family="noise"),
}
"""By name; `family` says what each is a harder construction of."""
