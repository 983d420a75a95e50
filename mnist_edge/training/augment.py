"""Random affine distortion of a whole batch by one `grid_sample`."""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

ROTATION: Final = math.radians(10)
"""Radians either way; a 6 turned by more begins to read as a 9's neighbour."""

SCALE: Final = 0.1
"""Relative growth or shrinkage either way, drawn for width and height apart."""

SHEAR: Final = 0.15
"""Slant either way, as the tangent of the angle: hands slant along x only."""

SHIFT: Final = 2.0
"""Pixels either way, along each axis."""


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned, scaled, slanted and moved by its own random amount, bilinear, background outside.

    Args:
        images: float32 [N, 1, H, W], background zero.
        generator: on the CPU; the same state gives the same distortions on any device.

    Returns:
        Tensor of the same shape, type and device.
    """
    count, _, height, width = images.shape
    draw = torch.rand(6, count, generator=generator).mul_(2).sub_(1)
    angle = draw[0] * ROTATION
    scale_x, scale_y = 1 + draw[1] * SCALE, 1 + draw[2] * SCALE
    cos, sin, slant = angle.cos(), angle.sin(), draw[3] * SHEAR
    # Row by row the matrix rotation · shear · scale, from output to input coordinates, which span -1…1.
    theta = torch.stack(
        [
            torch.stack([cos * scale_x, (cos * slant - sin) * scale_y, draw[4] * (2 * SHIFT / width)], dim=1),
            torch.stack([sin * scale_x, (sin * slant + cos) * scale_y, draw[5] * (2 * SHIFT / height)], dim=1),
        ],
        dim=1,
    ).to(images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
