"""Golden vectors: a few images and the logits that PyTorch gives for them, carried in the metadata of an ONNX file.

With them a device can prove, offline and without torch, that its own onnxruntime computes what was trained.
"""

import base64
import binascii
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, WIDTH
from mnist_edge.errors import ModelFormatError


@dataclass(frozen=True)
class Golden:
    """Images and the answers expected for them."""

    images: NDArray[np.uint8]
    """[n, 1, 28, 28]"""

    logits: NDArray[np.float32]
    """[n, classes], from the PyTorch model in float64."""

    tolerance: float
    """The largest max |Δlogit| that passes."""

    def as_dict(self) -> dict[str, Any]:
        """The vectors as JSON values: the arrays little-endian, compressed, in base64."""
        return {
            "count": len(self.images),
            "images": _pack(self.images),
            "logits": _pack(self.logits.astype("<f4")),
            "tolerance": self.tolerance,
        }

    @classmethod
    def from_dict(cls, data: Any, classes: int) -> "Golden":
        """Read what `as_dict` wrote; raises ModelFormatError where it is something else."""
        try:
            count = int(data["count"])
            golden = cls(
                images=_unpack(data["images"], "u1").reshape(count, 1, HEIGHT, WIDTH),
                logits=_unpack(data["logits"], "<f4").reshape(count, classes).astype(np.float32),
                tolerance=float(data["tolerance"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, zlib.error, binascii.Error) as error:
            raise ModelFormatError(f"the model's golden vectors cannot be read ({error!r}): export it again") from error
        if not len(golden.images) or not 0 < golden.tolerance < math.inf:
            raise ModelFormatError(
                f"the model's golden vectors prove nothing ({len(golden.images)} with a tolerance of "
                f"{golden.tolerance}): export it again"
            )
        return golden


def _pack(array: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), level=9)).decode()


def _unpack(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype=dtype)
