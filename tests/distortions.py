"""What the kinds of corruption share: the record of a kind, random amounts, blurs, strokes, noise and displacements.

Images are float32 [n, 1, 28, 28] within 0…1, 0 = background. Everything random comes from the generator that is given.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

NEVER_TRAINED: Final = "never trained on"
"""The family of the kinds that no training may imitate, so that they stay a measure of robustness to the unknown."""


@dataclass(frozen=True)
class Corruption:
    """One kind of distortion."""

    apply: Callable[[Tensor, torch.Generator], Tensor]
    """Distorts images, float32 [n, 1, 28, 28] within 0…1. The result is clipped to 0…1 afterwards."""

    seen: bool = False
    """Whether the training shows something like it. For a harder kind the family says that, in other constructions."""

    only: int | None = None
    """The only class that is distorted and evaluated; None for all."""

    family: str | None = None
    """None for the first 24 kinds, `NEVER_TRAINED`, or what else the kind is a harder construction of."""


def random(images: Tensor, generator: torch.Generator) -> Tensor:
    """One uniform number within 0…1 per image, [n]."""
    return torch.rand(len(images), generator=generator)


def between(low: float, high: float, images: Tensor, generator: torch.Generator) -> Tensor:
    """One uniform number per image, [n, 1, 1, 1]."""
    return low + (high - low) * random(images, generator)[:, None, None, None]


def sign(images: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 per image, [n]."""
    return (random(images, generator) < 0.5).float() * 2 - 1


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur."""
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    rows = functional.conv2d(images, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, reach))


def widest(images: Tensor, size: int = 3) -> Tensor:
    """The brightest of the `size`×`size` pixels around each: strokes become wider."""
    return functional.max_pool2d(images, size, stride=1, padding=size // 2)


def finest(images: Tensor, size: int = 3) -> Tensor:
    """The darkest of the `size`×`size` pixels around each: strokes become finer."""
    return -widest(-images, size)


def places() -> tuple[Tensor, Tensor]:
    """The x and the y of each pixel from the middle, [28, 28] each, within -13.5…13.5."""
    axis = torch.arange(28.0) - 13.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def along(angle: Tensor) -> Tensor:
    """How far each pixel is from the middle in the direction of `angle` ([n], radians): [n, 1, 28, 28]."""
    x, y = places()
    return angle.cos()[:, None, None, None] * x + angle.sin()[:, None, None, None] * y


def any_angle(images: Tensor, generator: torch.Generator) -> Tensor:
    """A direction per image, [n], in radians."""
    return random(images, generator) * 2 * math.pi


def points(ranges: Sequence[tuple[float, float]], images: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers, one for each of `ranges`, taken as the x and y of points in turn: [n, len(ranges) / 2, 2]."""
    low, high = torch.tensor(ranges).unbind(dim=1)
    drawn = torch.rand(len(images), len(ranges), generator=generator) * (high - low) + low
    return drawn.unflatten(1, (-1, 2))


def polyline(corners: Tensor, thickness: float) -> Tensor:
    """The ink of a line through `corners`, [n, corners, 2] from the middle: [n, 1, 28, 28] within 0…1."""
    x, y = places()
    nearest = torch.full((len(corners), 28, 28), 1e6)
    for start, end in itertools.pairwise(corners[..., None, None].unbind(dim=1)):
        step_x, step_y = (end - start).unbind(dim=1)
        from_x, from_y = x - start[:, 0], y - start[:, 1]
        length = (step_x**2 + step_y**2).clamp(min=1e-6)
        share = ((from_x * step_x + from_y * step_y) / length).clamp(0, 1)
        distance = (from_x - share * step_x) ** 2 + (from_y - share * step_y) ** 2
        nearest = torch.minimum(nearest, distance)
    return torch.exp(nearest / (-2 * thickness**2))[:, None]


def curve(controls: Tensor, thickness: float, pieces: int = 7) -> Tensor:
    """The ink of a quadratic Bézier curve with three control points, [n, 3, 2] from the middle."""
    share = torch.linspace(0, 1, pieces + 1)[None, :, None]
    start, middle, end = controls[:, None].unbind(dim=2)
    return polyline((1 - share) ** 2 * start + 2 * share * (1 - share) * middle + share**2 * end, thickness)


def octaves(images: Tensor, sizes: Sequence[int], fading: float, generator: torch.Generator) -> Tensor:
    """Fractal noise: grids of random numbers from coarse to fine, each finer one fainter, within 0…1."""
    layers = [
        functional.interpolate(
            torch.rand(len(images), 1, size, size, generator=generator), size=28, mode="bilinear", align_corners=True
        )
        * fading**index
        for index, size in enumerate(sizes)
    ]
    total = torch.stack(layers).sum(dim=0)
    low, high = total.amin(dim=(2, 3), keepdim=True), total.amax(dim=(2, 3), keepdim=True)
    return (total - low) / (high - low)


def moved(images: Tensor, x: Tensor, y: Tensor, mode: str = "bilinear") -> Tensor:
    """Take each pixel from the place `x`, `y` (from the middle, broadcast to [n, 28, 28]); background outside."""
    shape = (len(images), 28, 28)
    grid = torch.stack([x.expand(shape), y.expand(shape)], dim=-1) / 14
    return functional.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def lit(images: Tensor, light: Tensor) -> Tensor:
    """The picture of ink on white paper, which `light` (0…1) falls on: where it is weak, the paper looks inked."""
    return 1 - (1 - images) * light
