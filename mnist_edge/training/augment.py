"""Random distortions: one `grid_sample` for half a batch, then thickness or a lost patch for some.

A few images besides become poor scans (`scan`). They go through the network apart, since batch statistics shared with
noisy images serve the clean ones badly. At the end of a training nothing is distorted any more, so that it settles on
digits as they are.

What else was tried, and what it brought, is in ``docs/experiments.md``.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mnist_edge.contract import WHITE

ROTATION: Final = math.radians(10)
"""Radians either way; a 6 turned by more begins to read as a 9's neighbour."""

SCALE: Final = 0.1
"""Relative growth or shrinkage either way, drawn for width and height apart."""

SHEAR: Final = 0.15
"""Slant either way, as the tangent of the angle: hands slant along x only."""

SHIFT: Final = 2.0
"""Pixels either way, along each axis."""


FINEST: Final = 0.7
"""How far thinning may go; all the way takes the finest strokes away."""

HAZE: Final = 0.3
"""The brightest background, as a share of white."""

NOISE: Final = 0.2
"""The largest standard deviation of the noise, as a share of white."""

PATCH: Final = (3, 9)
"""Pixels, from the smallest side of an erased patch to one less than the largest."""


DISTORTED: Final = 0.5
"""Which share of a batch `distort` is for."""

SCANNED: Final = 0.05
"""Which share of a batch `scan` is for: of the images that were only moved, or left as they are."""

CLEAN_PHASE: Final = 0.2
"""The last share of a training, in which images are no longer distorted."""


def augment_batch(images: Tensor, generator: torch.Generator, *, clean: bool) -> tuple[Tensor, Tensor]:
    """A batch as a training sees it: what shares its batch statistics, and the poor scans, which go apart.

    Args:
        images: float32 [N, 1, H, W] within 0…255, background zero.
        generator: on the CPU; the same state gives the same batch on any device.
        clean: whether the training is in its last part, `CLEAN_PHASE`.

    Returns:
        Two tensors of N images together, of the same type and device, in the order of `images`.
    """
    if not clean and (count := int(DISTORTED * len(images))):
        same, others = images.split([len(images) - count, count])
        images = torch.cat([same, distort(others, generator)])
    scans = int(SCANNED * len(images))
    clear, poor = images.split([len(images) - scans, scans])
    return clear, scan(poor, generator)


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images as other hands, pens and scanners might have written them.

    Every image is turned, scaled, slanted and moved by its own random amount. Then some are drawn thicker, others
    thinner, others lose a patch; the rest stay as they are.

    Args:
        images: float32 [N, 1, H, W] within 0…255, background zero.
        generator: on the CPU; the same state gives the same distortions on any device.

    Returns:
        Tensor of the same shape, type and device.
    """
    draw = torch.rand(6, len(images), generator=generator).mul_(2).sub_(1)
    moved = warp(
        images, angle=draw[0] * ROTATION, scale=1 + draw[1:3].T * SCALE, shear=draw[3] * SHEAR, shift=draw[4:].T * SHIFT
    )
    # A batch is in random order, so that its first images are as good as any.
    sizes = [int(share * len(images)) for share in SHARES.values()]
    parts = moved.split([*sizes, len(images) - sum(sizes)])
    changed = [change(part, generator) for change, part in zip(SHARES, parts, strict=False)]
    return torch.cat([*changed, parts[-1]])


def thicken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Strokes up to two pixels wider, each image by its own amount."""
    widest = functional.max_pool2d(images, 3, stride=1, padding=1)
    return images.lerp(widest, _amounts(images, generator))


def thin(images: Tensor, generator: torch.Generator) -> Tensor:
    """Strokes up to two pixels finer, each image by its own amount, but never gone."""
    finest = -functional.max_pool2d(-images, 3, stride=1, padding=1)
    return images.lerp(finest, _amounts(images, generator) * FINEST)


def erase(images: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of background at a random place, its sides within `PATCH`."""
    count, _, height, width = images.shape
    outside_along = []
    for length in (height, width):
        size = torch.randint(*PATCH, (count, 1), generator=generator)
        start = torch.rand(count, 1, generator=generator) * (length - size)
        place = torch.arange(length)
        outside_along.append((place < start) | (place >= start + size))
    outside = outside_along[0][:, None, :, None] | outside_along[1][:, None, None, :]
    return images * outside.to(images.device)


def scan(images: Tensor, generator: torch.Generator) -> Tensor:
    """As poor scans are: each with its own amount of normal noise, half of them on a background that is not black."""
    haze = _amounts(images, generator).mul_(2).sub_(1).clamp_(min=0).mul_(HAZE)
    noise = torch.randn(images.shape, generator=generator).to(images.device) * _amounts(images, generator)
    return images.lerp(torch.full_like(images, WHITE), haze).add_(noise, alpha=NOISE * WHITE).clamp_(0, WHITE)


SHARES: Final = {thicken: 0.15, thin: 0.15, erase: 0.2}
"""Which share of the distorted images is changed how, besides being moved."""


def _amounts(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)


def warp(
    images: Tensor,
    *,
    angle: Tensor | None = None,
    scale: Tensor | None = None,
    shear: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """Each image turned, scaled, slanted and moved by its own amount, bilinear, background outside.

    The amounts are those of the map from the result back to the image: a scale of 2 halves the ink.

    Args:
        images: float32 [N, 1, H, W], background zero.
        angle: [N], in radians.
        scale: [N, 2], along x and y.
        shear: [N], the tangent of the slant.
        shift: [N, 2], along x and y, in pixels.

    Returns:
        Tensor of the same shape, type and device.
    """
    count, _, height, width = images.shape
    angle, shear = (torch.zeros(count) if amount is None else amount for amount in (angle, shear))
    scale_x, scale_y = (torch.ones(count, 2) if scale is None else scale).unbind(dim=1)
    shift_x, shift_y = (torch.zeros(count, 2) if shift is None else shift).unbind(dim=1)
    cos, sin = angle.cos(), angle.sin()
    # Row by row the matrix rotation · shear · scale, from output to input coordinates, which span -1…1.
    theta = torch.stack(
        [
            torch.stack([cos * scale_x, (cos * shear - sin) * scale_y, shift_x * (2 / width)], dim=1),
            torch.stack([sin * scale_x, (sin * shear + cos) * scale_y, shift_y * (2 / height)], dim=1),
        ],
        dim=1,
    ).to(images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
