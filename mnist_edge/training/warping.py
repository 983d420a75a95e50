"""Rotate, scale, shear and shift images."""

import torch
from torch import Tensor
from torch.nn import functional


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
