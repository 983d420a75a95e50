"""Augmentation: one `grid_sample` for half of each batch, then another stroke width or an erased patch for some.

A few of the other images become poor scans (`scan`). They pass through the network separately, because batch statistics
shared with noisy images harm the clean ones. In the last part of a training `distort` is off, so that the model settles
on digits as they are.

``docs/experiments.md`` says what else was tried, and with what result.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mnist_edge.contract import WHITE

ROTATION: Final = math.radians(10)
"""Largest rotation either way, in radians; turned further, a 6 begins to look like a 9."""

SCALE: Final = 0.1
"""Largest relative change of size either way, drawn separately for width and height."""

SHEAR: Final = 0.15
"""Largest slant either way, as the tangent of the angle; along x only, as in handwriting."""

SHIFT: Final = 2.0
"""Largest shift either way along each axis, in pixels."""


FINEST: Final = 0.7
"""Largest degree of thinning; at 1 the finest strokes would vanish."""

HAZE: Final = 0.3
"""The brightest background, as a share of white."""

NOISE: Final = 0.2
"""The largest standard deviation of the noise, as a share of white."""

PATCH: Final = (3, 9)
"""Range of an erased patch's sides in pixels, the upper end excluded."""


DISTORTED: Final = 0.5
"""Share of a batch that `distort` is applied to."""

SCANNED: Final = 0.05
"""Share of a batch that `scan` is applied to, taken from images that are undistorted or only warped."""

CLEAN_PHASE: Final = 0.2
"""The last share of a training, in which `distort` is off."""


def augment_batch(images: Tensor, generator: torch.Generator, *, clean: bool) -> tuple[Tensor, Tensor]:
    """Augment a batch, and separate the poor scans, which must not share its batch statistics.

    Args:
        images: float32 [N, 1, H, W] within 0…255, background zero.
        generator: on the CPU; the same state gives the same batch on any device.
        clean: whether the training is in its last part, `CLEAN_PHASE`, where `distort` is off.

    Returns:
        The images without the scans, and the scans: N in total, in the order of `images`, of the same dtype and device.
    """
    if not clean and (count := int(DISTORTED * len(images))):
        same, others = images.split([len(images) - count, count])
        images = torch.cat([same, distort(others, generator)])
    scans = int(SCANNED * len(images))
    clear, poor = images.split([len(images) - scans, scans])
    return clear, scan(poor, generator)


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Distort images at random, to imitate other writers, pens and scanners.

    Every image is rotated, scaled, sheared and shifted by its own random amount. Then some get thicker strokes, some
    thinner ones, and some lose a patch (`SHARES`).

    Args:
        images: float32 [N, 1, H, W] within 0…255, background zero.
        generator: on the CPU; the same state gives the same distortions on any device.

    Returns:
        Tensor of the same shape, dtype and device.
    """
    draw = torch.rand(6, len(images), generator=generator).mul_(2).sub_(1)
    moved = warp(
        images, angle=draw[0] * ROTATION, scale=1 + draw[1:3].T * SCALE, shear=draw[3] * SHEAR, shift=draw[4:].T * SHIFT
    )
    # Batches are shuffled, so the first images are as good as any.
    sizes = [int(share * len(images)) for share in SHARES.values()]
    parts = moved.split([*sizes, len(images) - sum(sizes)])
    changed = [change(part, generator) for change, part in zip(SHARES, parts, strict=False)]
    return torch.cat([*changed, parts[-1]])


def thicken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Make strokes up to two pixels wider, by a random amount per image."""
    widest = functional.max_pool2d(images, 3, stride=1, padding=1)
    return images.lerp(widest, _amounts(images, generator))


def thin(images: Tensor, generator: torch.Generator) -> Tensor:
    """Make strokes up to two pixels thinner, by a random amount per image, but never erase them."""
    finest = -functional.max_pool2d(-images, 3, stride=1, padding=1)
    return images.lerp(finest, _amounts(images, generator) * FINEST)


def erase(images: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a random rectangle of each image with background, its sides within `PATCH`."""
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
    """Imitate poor scans: a random amount of Gaussian noise per image and, for half of them, a lighter background."""
    haze = _amounts(images, generator).mul_(2).sub_(1).clamp_(min=0).mul_(HAZE)
    noise = torch.randn(images.shape, generator=generator).to(images.device) * _amounts(images, generator)
    return images.lerp(torch.full_like(images, WHITE), haze).add_(noise, alpha=NOISE * WHITE).clamp_(0, WHITE)


SHARES: Final = {thicken: 0.15, thin: 0.15, erase: 0.2}
"""Further changes after `warp`, and the share of the distorted images that each is applied to."""


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
    """Rotate, scale, shear and shift each image by its own amount, with bilinear sampling and background outside.

    The amounts describe the map from the result back to the image: a scale of 2 halves the size of the ink.

    Args:
        images: float32 [N, 1, H, W], background zero.
        angle: [N], in radians.
        scale: [N, 2], along x and y.
        shear: [N], the tangent of the slant.
        shift: [N, 2], along x and y, in pixels.

    Returns:
        Tensor of the same shape, dtype and device.
    """
    count, _, height, width = images.shape
    angle, shear = (torch.zeros(count) if amount is None else amount for amount in (angle, shear))
    scale_x, scale_y = (torch.ones(count, 2) if scale is None else scale).unbind(dim=1)
    shift_x, shift_y = (torch.zeros(count, 2) if shift is None else shift).unbind(dim=1)
    cos, sin = angle.cos(), angle.sin()
    # The rows of rotation · shear · scale, from output to input coordinates, both spanning -1…1.
    theta = torch.stack(
        [
            torch.stack([cos * scale_x, (cos * shear - sin) * scale_y, shift_x * (2 / width)], dim=1),
            torch.stack([sin * scale_x, (sin * shear + cos) * scale_y, shift_y * (2 / height)], dim=1),
        ],
        dim=1,
    ).to(images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
