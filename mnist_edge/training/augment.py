"""Augmentation: one `grid_sample` for half of each batch, then another stroke width or an erased patch for some.

A few images become poor scans (`scan`), and drawn digits may take the place of some (`mix_in_drawn`). In the last part
of a training `distort` is off, so that the model settles on digits as they are.

``docs/experiments.md`` says what else was tried, and with what result.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mnist_edge.training.drawn import draw_digits
from mnist_edge.training.scans import scan
from mnist_edge.training.warping import warp

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

PATCH: Final = (3, 9)
"""Range of an erased patch's sides in pixels, the upper end excluded."""

DISTORTED: Final = 0.5
"""Share of a batch that `distort` is applied to."""

SCANNED: Final = 0.05
"""Share of a batch that `scan` is applied to, taken from images that are undistorted or only warped."""

CLEAN_PHASE: Final = 0.2
"""The last share of a training, in which `distort` is off."""


def augment_batch(images: Tensor, generator: torch.Generator, *, clean: bool) -> Tensor:
    """Augment a batch.

    Args:
        images: float32 [N, 1, H, W] within 0…255, background zero.
        generator: on the CPU; the same state gives the same batch on any device.
        clean: whether the training is in its last part, `CLEAN_PHASE`, where `distort` is off.

    Returns:
        Tensor of the same shape, dtype and device, in the same order.
    """
    if not clean and (count := int(DISTORTED * len(images))):
        same, others = images.split([len(images) - count, count])
        images = torch.cat([same, distort(others, generator)])
    scans = int(SCANNED * len(images))
    clear, poor = images.split([len(images) - scans, scans])
    return torch.cat([clear, scan(poor, generator)])


def mix_in_drawn(
    images: Tensor, labels: Tensor, share: float, digits: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Put drawn digits (`draw_digits`) in the place of a share of a batch, at random.

    Args:
        images: float32 [N, 1, 28, 28] within 0…255, background zero.
        labels: int64 [N].
        share: at least 0 and below 1.
        digits: int64 [10], the label of each digit.
        generator: on the CPU; the same state gives the same drawings on any device.

    Returns:
        The images and the labels of the new batch; the arguments stay as they are.
    """
    count = share_of(len(images), share, generator)
    places = torch.randperm(len(images), generator=generator)[:count].to(images.device)
    drawn, which = draw_digits(count, generator)
    return (
        images.index_copy(0, places, drawn.to(images.device)),
        labels.index_copy(0, places, digits[which].to(labels.device)),
    )


def share_of(count: int, share: float, generator: torch.Generator) -> int:
    """A share of a number, rounded up or down at random, so that small batches have their share in the mean."""
    return int(share * count + float(torch.rand(1, generator=generator)))


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


SHARES: Final = {thicken: 0.15, thin: 0.15, erase: 0.2}
"""Further changes after `warp`, and the share of the distorted images that each is applied to."""


def _amounts(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
