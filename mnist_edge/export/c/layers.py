"""The layers of a quantized network, as the C code computes them: images are channels-last."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

REMEDY: Final = "export without c"

Function = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""A function of float32 numbers, rounded to bytes: any shape."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer, a max pool, and how its sums become the bytes of the next layer."""

    name: str
    size: tuple[int, int, int]
    """Height, width and channels of its input. A linear layer's kernel covers all of it."""

    weights: NDArray[np.int8]
    """[outputs, kernel height, kernel width, channels]"""

    bias: NDArray[np.int32]
    """In steps, with the input's zero point: an input byte is multiplied as it is."""

    step: NDArray[np.float32]
    """The step of the sums, one for each output."""

    zero_in: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right."""

    pool: tuple[int, int] = (1, 1)
    scale: np.float32 | None = None
    """Of its output; None for the last layer, whose sums are the logits in steps."""

    zero_out: int = 0
    function: Function | None = None
    """What is applied to the sums times their step; None for rounding alone."""

    table: NDArray[np.uint8] | None = None
    """What becomes of each byte; None if it stays as it is."""

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        _, height, width, _ = self.weights.shape
        return height, width

    @property
    def taps(self) -> int:
        """How many bytes the kernel sees at one position."""
        return self.weights.size // len(self.weights)

    @property
    def is_linear(self) -> bool:
        """Whether the kernel sees all of the input at once."""
        return self.kernel == self.size[:2] and not any(self.padding)

    @property
    def result(self) -> tuple[int, int, int]:
        """Height, width and channels of its output."""
        top, left, bottom, right = self.padding
        padded = self.size[0] + top + bottom, self.size[1] + left + right
        positions = ((padded[axis] - self.kernel[axis]) // self.stride[axis] + 1 for axis in (0, 1))
        rows, columns = (number // pool for number, pool in zip(positions, self.pool, strict=True))
        return rows, columns, len(self.weights)

    @property
    def reach(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The lowest and the highest sum of each output that bytes can give."""
        rows = self.weights.reshape(len(self.weights), -1).astype(np.int64)
        low, high = (255 * clipped.sum(axis=1) for clipped in (rows.clip(max=0), rows.clip(min=0)))
        return self.bias + low, self.bias + high

    def exact(self, sums: NDArray[np.int64]) -> NDArray[np.uint8]:
        """What onnxruntime makes of sums, in float32: [n, outputs], before the table."""
        numbers = sums.astype(np.float32)
        if self.function is not None:
            return self.function(numbers * self.step)
        assert self.scale is not None
        scaled = numbers * (self.step / self.scale)
        low = np.float32(-self.zero_out)
        rounded: NDArray[np.float32] = np.rint(scaled.clip(low, low + 255)) - low
        return rounded.astype(np.uint8)

    def tabulated(self, rounded: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the table makes of bytes."""
        return rounded if self.table is None else self.table[rounded]
