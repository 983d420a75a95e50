"""Corrupted test sets that measure a model's robustness to other pens, scanners and handwriting.

`CORRUPTIONS` maps names to kinds. Each is a fixed distortion whose details (directions, positions, noise) come from a
generator seeded by its name, so every model is tested on the same pictures. Kinds that resemble what the training shows
(`mnist_edge.training`: ``augment``, ``scans``, ``drawn``) are marked as seen; the others measure robustness.

Most kinds follow MNIST-C (Mu and Gilmer 2019, arXiv:1906.02337); strokes of other pens and countries are added.
"""

import itertools
import math
import zlib
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mnist_edge.contract import WHITE
from mnist_edge.data.datasets import Split
from mnist_edge.training.warping import warp
from tests.distortions import Corruption, gaussian, random, sign
from tests.harder_corruptions import HARDER
from tests.other_corruptions import OTHER


def corrupt(split: Split, name: str) -> Split:
    """The distorted images with their labels, of only one class if the kind says so. Deterministic."""
    kind = CORRUPTIONS[name]
    chosen = np.ones(len(split), bool) if kind.only is None else split.labels == kind.only
    images = torch.tensor(split.images[chosen]).unsqueeze(1).float() / WHITE
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    distorted = kind.apply(images, generator).clamp(0, 1)
    return Split((distorted * WHITE).round().squeeze(1).byte().numpy(), split.labels[chosen])


def _rotation(images: Tensor, generator: torch.Generator) -> Tensor:
    return warp(images, angle=sign(images, generator) * math.radians(25))


def _shear(images: Tensor, generator: torch.Generator) -> Tensor:
    return warp(images, shear=sign(images, generator) * 0.4)


def _shrinking(images: Tensor) -> Tensor:
    return warp(images, scale=torch.full((len(images), 2), 1 / 0.6))


def _translation(images: Tensor, generator: torch.Generator) -> Tensor:
    return warp(images, shift=torch.stack([sign(images, generator) * 4, sign(images, generator) * 4], dim=1))


def _thicker(images: Tensor) -> Tensor:
    return functional.max_pool2d(images, 3, stride=1, padding=1)


def _marker(images: Tensor) -> Tensor:
    return functional.max_pool2d(images, 5, stride=1, padding=2)


def _thinner(images: Tensor) -> Tensor:
    return -functional.max_pool2d(-images, (1, 2), stride=1, padding=(0, 1))[..., :28]


def _thin_pen(images: Tensor) -> Tensor:
    # The ridge of the stroke, redrawn as the thinnest visible line.
    blurred = gaussian(images, 1.0)
    ridge = (blurred > 0.3) & (blurred >= functional.max_pool2d(blurred, 3, stride=1, padding=1) - 0.08)
    return gaussian(ridge.float(), 0.5) * 1.3


def _blur(images: Tensor) -> Tensor:
    return gaussian(images, 1.5)


def _motion(images: Tensor, generator: torch.Generator) -> Tensor:
    angle = random(images, generator) * math.pi
    steps = [warp(images, shift=torch.stack([angle.cos(), angle.sin()], dim=1) * distance) for distance in range(-4, 5)]
    return torch.stack(steps).mean(dim=0)


def _shot_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.poisson(images * 5 + 0.25, generator=generator) / 5


def _impulse_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(images.shape, generator=generator)
    return torch.where(drawn < 0.06, 0.0, torch.where(drawn > 0.94, 1.0, images))


def _gaussian_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + torch.randn(images.shape, generator=generator) * 0.25


def _brightness(images: Tensor) -> Tensor:
    return images * 0.6 + 0.4


def _contrast(images: Tensor) -> Tensor:
    return images * 0.3


def _fog(images: Tensor, generator: torch.Generator) -> Tensor:
    clouds = sum(
        functional.interpolate(
            torch.rand(len(images), 1, size, size, generator=generator), size=28, mode="bicubic", align_corners=True
        )
        * weight
        for size, weight in ((3, 0.5), (6, 0.3), (12, 0.2))
    )
    return images * 0.6 + clouds * 0.5


def _stripes(images: Tensor, generator: torch.Generator) -> Tensor:
    columns = torch.arange(28.0)
    start = (random(images, generator) * 8).floor()[:, None]
    striped = ((columns - start) % 9 == 0).float()
    return torch.maximum(images, striped[:, None, None, :])


def _inked(images: Tensor, paths: Tensor, thickness: float = 0.7) -> Tensor:
    """Draw strokes over images. `paths` holds points (x, y) in pixels, [n, points, 2], close enough to form a line."""
    axis = torch.arange(28.0)
    along_x = torch.exp(-((axis - paths[..., :1]) ** 2) / (2 * thickness**2))
    along_y = torch.exp(-((axis - paths[..., 1:]) ** 2) / (2 * thickness**2))
    ink = (along_y[..., :, None] * along_x[..., None, :]).amax(dim=1)
    return torch.maximum(images, ink[:, None])


def _line(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Evenly spaced points from `start` to `end` (both [n, 2]): [n, points, 2]."""
    share = torch.linspace(0, 1, points)[None, :, None]
    return start[:, None] * (1 - share) + end[:, None] * share


def _dotted_line(images: Tensor, generator: torch.Generator) -> Tensor:
    heights = torch.rand(len(images), 2, generator=generator) * 16 + 6
    start = torch.stack([torch.zeros(len(images)), heights[:, 0]], dim=1)
    end = torch.stack([torch.full((len(images),), 27.0), heights[:, 1]], dim=1)
    return _inked(images, _line(start, end, 10))


def _zigzag(images: Tensor, generator: torch.Generator) -> Tensor:
    middle = random(images, generator) * 12 + 8
    corners = [
        torch.stack([torch.full_like(middle, x), middle + (3 if index % 2 else -3)], dim=1)
        for index, x in enumerate((1.0, 7.5, 14.0, 20.5, 27.0))
    ]
    parts = [_line(start, end, 8) for start, end in itertools.pairwise(corners)]
    return _inked(images, torch.cat(parts, dim=1))


def _resampled(images: Tensor, size: int) -> Tensor:
    small = functional.interpolate(images, size=size, mode="area")
    return functional.interpolate(small, size=28, mode="bilinear", align_corners=False)


def _bilevel(images: Tensor) -> Tensor:
    return (images > 0.5).float()


def _ink_box(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, right and bottom of each image's ink in pixels, [n] each."""
    inked = images[:, 0] > 0.3
    places = torch.arange(28.0)
    boxes = []
    for dimension in (1, 2):  # leaves the columns, then the rows
        hit = inked.any(dim=dimension)
        boxes += [torch.where(hit, places, 28.0).amin(dim=1), torch.where(hit, places, -1.0).amax(dim=1)]
    left, right, top, bottom = boxes
    return left, top, right, bottom


def _bar(images: Tensor, generator: torch.Generator) -> Tensor:
    _, top, _, bottom = _ink_box(images)
    height = top + (bottom - top) * (0.45 + 0.15 * random(images, generator))
    # Centred on the stem at that height.
    row = images[torch.arange(len(images)), 0, height.round().long()]
    stem = (row * torch.arange(28.0)).sum(dim=1) / row.sum(dim=1).clamp(min=0.1)
    half = 3.5 + random(images, generator)
    start = torch.stack([stem - half, height + 0.5], dim=1)
    end = torch.stack([stem + half, height - 0.5], dim=1)
    return _inked(images, _line(start, end, 12), thickness=0.8)


def _flag(images: Tensor, generator: torch.Generator) -> Tensor:
    _, top, _, bottom = _ink_box(images)
    row = images[torch.arange(len(images)), 0, (top + 1).long().clamp(max=27)]
    tip_x = (row * torch.arange(28.0)).sum(dim=1) / row.sum(dim=1).clamp(min=0.1)
    reach = (bottom - top) * (0.25 + 0.1 * random(images, generator))
    tip = torch.stack([tip_x, top + 0.5], dim=1)
    end = torch.stack([tip_x - reach, top + 0.5 + reach * 0.8], dim=1)
    return _inked(images, _line(tip, end, 12), thickness=0.8)


CORRUPTIONS: Final[dict[str, Corruption]] = {
    "rotation": Corruption(_rotation, seen=True),
    "shear": Corruption(_shear, seen=True),
    "shrinking": Corruption(lambda images, _: _shrinking(images), seen=True),
    "translation": Corruption(_translation, seen=True),
    "thicker": Corruption(lambda images, _: _thicker(images), seen=True),
    "thinner": Corruption(lambda images, _: _thinner(images), seen=True),
    "marker": Corruption(lambda images, _: _marker(images)),
    "thin pen": Corruption(lambda images, _: _thin_pen(images)),
    "blur": Corruption(lambda images, _: _blur(images), seen=True),
    "motion": Corruption(_motion),
    "shot noise": Corruption(_shot_noise, seen=True),
    "impulse noise": Corruption(_impulse_noise, seen=True),
    "gaussian noise": Corruption(_gaussian_noise, seen=True),
    "brightness": Corruption(lambda images, _: _brightness(images), seen=True),
    "contrast": Corruption(lambda images, _: _contrast(images), seen=True),
    "fog": Corruption(_fog, seen=True),
    "stripes": Corruption(_stripes, seen=True),
    "dotted line": Corruption(_dotted_line, seen=True),
    "zigzag": Corruption(_zigzag, seen=True),
    "8×8": Corruption(lambda images, _: _resampled(images, 8), seen=True),
    "16×16": Corruption(lambda images, _: _resampled(images, 16), seen=True),
    "bilevel": Corruption(lambda images, _: _bilevel(images)),
    "barred seven": Corruption(_bar, seen=True, only=7),
    "flagged one": Corruption(_flag, seen=True, only=1),
    # The two above only make sense for digits. The kinds below came later: `Corruption.family` tells them apart.
    **HARDER,
    **OTHER,
}
"""Every kind by name."""
