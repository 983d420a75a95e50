"""Poor scans: noise, haze, clouds, outlines, inverted bands, scratches, blots, blur, for some images of every batch."""

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mnist_edge.contract import WHITE
from mnist_edge.training.warping import warp

Change = Callable[[Tensor, torch.Generator], Tensor]
"""Changes images, float32 [n, 1, H, W] within 0…1; the result is clipped to that afterwards."""

HAZE: Final = 0.3
"""The brightest background of `noisy`."""

NOISE: Final = 0.2
"""The largest standard deviation of its noise."""

SALT: Final = 0.25
"""The largest share of pixels that `peppered` sets to black or white."""

FOG: Final = 3.0
"""The strongest clouds, where the ink has a strength of 1; the sum is then scaled back to white."""

FAINTEST: Final = 0.25
"""The lowest contrast of `faint`."""

LINES: Final = 3
"""The largest number of scratches."""

BLUR: Final = 1.5
"""The largest standard deviation of the blur, less 0.3, in pixels."""

REACH: Final = 5
"""How far the blur reaches either way, in pixels."""

COARSEST: Final = 8
"""The fewest pixels along each side that `blurred` reduces images to."""

MOVED: Final = 4.5
"""How far `misplaced` moves digits along each axis, in pixels."""

SMALLEST: Final = 0.6
"""How small `misplaced` makes digits."""


def scan(images: Tensor, generator: torch.Generator) -> Tensor:
    """Imitate poor scans: each image gets one change of `KINDS`, at random strength.

    Args:
        images: float32 [N, 1, H, W] within 0…255, background zero.
        generator: on the CPU; the same state gives the same changes on any device.

    Returns:
        Tensor of the same shape, dtype and device, within 0…255.
    """
    if not len(images):
        return images
    # Which kinds a small batch shows must not be the same every time.
    turn = int(torch.randint(len(KINDS), (1,), generator=generator))
    order = KINDS[turn:] + KINDS[:turn]
    parts = images.cpu().div(WHITE).tensor_split(len(KINDS))
    changed = [change(part, generator) for change, part in zip(order, parts, strict=True) if len(part)]
    return torch.cat(changed).clamp_(0, 1).mul_(WHITE).to(images.device)


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise and, for half of them, a lighter background."""
    haze = _amounts(images, generator).mul_(2).sub_(1).clamp_(min=0).mul_(HAZE)
    noise = torch.randn(images.shape, generator=generator) * _amounts(images, generator)
    return images.lerp(torch.ones_like(images), haze).add_(noise, alpha=NOISE)


def peppered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Some pixels black, some white."""
    share = _amounts(images, generator) * SALT
    drawn = torch.rand(images.shape, generator=generator)
    salt = (drawn < share / 2).float()
    pepper = (drawn > 1 - share / 2).float()
    return torch.maximum(images, salt) * (1 - pepper)


def clouded(images: Tensor, generator: torch.Generator) -> Tensor:
    """Clouds of several sizes before the ink, which loses its contrast."""
    clouds = torch.zeros_like(images)
    roughness = _amounts(images, generator) * 0.4 + 0.4
    for octave, size in enumerate((2, 3, 5, 9, 17)):
        grains = torch.rand(len(images), 1, size, size, generator=generator)
        clouds += roughness**octave * functional.interpolate(
            grains, size=images.shape[2:], mode="bilinear", align_corners=True
        )
    clouds -= clouds.amin(dim=(2, 3), keepdim=True)
    clouds /= clouds.amax(dim=(2, 3), keepdim=True)
    strength = _amounts(images, generator) * FOG
    return (images + strength * clouds) / (1 + strength)


def faint(images: Tensor, generator: torch.Generator) -> Tensor:
    """Less contrast, on a background of any brightness that leaves room for it."""
    contrast = _amounts(images, generator) * (1 - FAINTEST) + FAINTEST
    return images * contrast + (1 - contrast) * _amounts(images, generator)


def banded(images: Tensor, generator: torch.Generator) -> Tensor:
    """Part of the picture inverted: what lies beyond a line at any angle, or beyond two on either side."""
    height, width = images.shape[2:]
    angle = _amounts(images, generator) * 2 * math.pi
    # Half of the lines are parallel to the border.
    upright = torch.rand(angle.shape, generator=generator) < 0.5
    angle = torch.where(upright, (angle / (math.pi / 2)).round() * (math.pi / 2), angle)
    y, x = torch.arange(height)[:, None] - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    across = x * angle.cos() + y * angle.sin()
    first, second = (_amounts(images, generator) * 11 + 2 for _ in range(2))
    both = torch.rand(angle.shape, generator=generator) < 0.5
    inverted = (across > first) | (both & (across < -second))
    return torch.where(inverted, 1 - images, images)


def outlined(images: Tensor, generator: torch.Generator) -> Tensor:
    """The edges of the strokes only: what a wider stroke has and a finer one has not."""
    wider = functional.max_pool2d(images, 3, stride=1, padding=1)
    finer = -functional.max_pool2d(-images, 3, stride=1, padding=1)
    outside, inside = (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.67 for _ in range(2))
    edges = torch.where(outside, wider, images) - torch.where(inside | ~outside, finer, images)
    hard = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(hard, (edges > 0.5).float(), edges)


def scratched(images: Tensor, generator: torch.Generator) -> Tensor:
    """One to three fine lines across the picture, straight or bent, of ink or erased."""
    count, _, height, width = images.shape
    lines = torch.zeros_like(images)
    t = torch.linspace(0, 1, 40)
    for number in range(LINES):
        start, middle, end = torch.rand(3, count, 2, 1, generator=generator) * 1.2 - 0.1
        middle = middle.lerp((start + end) / 2, 0.5)
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        radius = _amounts(images, generator).squeeze(1) * 0.4 + 0.4
        across = torch.exp(-((torch.arange(width) - path[:, 0, :, None] * width) ** 2) / (2 * radius**2))
        down = torch.exp(-((torch.arange(height) - path[:, 1, :, None] * height) ** 2) / (2 * radius**2))
        steps = path.diff(dim=2).norm(dim=1).mean(dim=1)[:, None, None] * width
        # The ink of one line, however close its points are.
        drawn = (down.mT @ across * (1.2 * steps / (radius * math.sqrt(2 * math.pi)))).clamp_(max=1)
        keep = torch.rand(count, 1, 1, generator=generator) < 1 / (1 + number)
        lines = torch.maximum(lines, (drawn * keep)[:, None])
    inked = torch.rand(count, 1, 1, 1, generator=generator) < 0.67
    return torch.where(inked, torch.maximum(images, lines), images * (1 - lines))


def blotted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Drops of ink or of water."""
    size = images.shape[2:]
    coarse, fine = (
        functional.interpolate(torch.randn(len(images), 1, grid, grid, generator=generator), size=size, mode="bicubic")
        for grid in (6, 11)
    )
    field = coarse + fine
    level = 2.6 - _amounts(images, generator) * 1.2
    drops = ((field - level) * 2).clamp_(0, 1)
    inked = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(inked, torch.maximum(images, drops), images * (1 - drops))


def speckled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise that grows with the brightness, over a grey background in some."""
    paper = (_amounts(images, generator) - 0.5).clamp_(min=0)
    noise = torch.randn(images.shape, generator=generator) * _amounts(images, generator)
    return torch.maximum(images, paper) * (1 + noise)


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Out of focus, or from fewer pixels than 28×28."""
    sharpness = torch.rand(len(images), generator=generator)
    sigma = (1 - sharpness) * BLUR + 0.3
    reach = torch.arange(-REACH, REACH + 1.0)
    kernels = torch.exp(-(reach**2) / (2 * sigma[:, None] ** 2))
    kernels /= kernels.sum(dim=1, keepdim=True)
    # One kernel an image: images as channels, each convolved with its own.
    rows = functional.conv2d(images.transpose(0, 1), kernels[:, None, :, None], padding=(REACH, 0), groups=len(images))
    both = functional.conv2d(rows, kernels[:, None, None, :], padding=(0, REACH), groups=len(images)).transpose(0, 1)
    size = int(torch.randint(COARSEST, images.shape[2], (1,), generator=generator))
    coarse = functional.interpolate(
        functional.interpolate(both, size=size, mode="area"),
        size=images.shape[2:],
        mode="bilinear",
        align_corners=False,
    )
    return torch.where(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, both, coarse)


def misplaced(images: Tensor, generator: torch.Generator) -> Tensor:
    """Far from the middle, or small."""
    size = torch.rand(len(images), 1, generator=generator) * (1 - SMALLEST) + SMALLEST
    shift = torch.rand(len(images), 2, generator=generator) * 2 - 1
    return warp(images, scale=(1 / size).expand(-1, 2), shift=shift * MOVED)


KINDS: Final[tuple[Change, ...]] = (
    noisy,
    peppered,
    clouded,
    faint,
    banded,
    outlined,
    scratched,
    blotted,
    speckled,
    misplaced,
    blurred,
)


def _amounts(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, generator=generator)
