"""Golden vectors: a few images and the logits that PyTorch gives for them, stored in the metadata of an ONNX file.

With them a device can prove, offline and without torch, that its onnxruntime reproduces the trained model.
"""

import zlib
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from mnist_edge.bundle.decoding import decode, encode
from mnist_edge.contract import HEIGHT, WIDTH, Positive
from mnist_edge.errors import ModelFormatError


class Golden(Struct, frozen=True):
    """Images and their expected logits."""

    images: NDArray[np.uint8]
    """[n, 1, 28, 28]"""

    logits: NDArray[np.float32]
    """[n, classes], from the PyTorch model in float64."""

    tolerance: float
    """The largest |Δlogit| that passes."""


class _Packed(Struct, frozen=True):
    """`Golden` as it is stored in JSON: the arrays little-endian, zlib-compressed, in base64."""

    count: Annotated[int, Meta(ge=1)]
    images: bytes
    logits: bytes
    tolerance: Positive


def pack(golden: Golden) -> bytes:
    """Serialise golden vectors to JSON."""
    images, logits = (zlib.compress(array.tobytes(), level=9) for array in (golden.images, golden.logits.astype("<f4")))
    return encode(_Packed(len(golden.images), images, logits, golden.tolerance))


def unpack(text: str, classes: int, where: str) -> Golden:
    """Deserialise the output of `pack`, for a model with that many classes. Raises ModelFormatError if malformed."""
    packed = decode(text, _Packed, f"{where}: its golden vectors", "export it again")
    try:
        return Golden(
            images=np.frombuffer(zlib.decompress(packed.images), "u1").reshape(packed.count, 1, HEIGHT, WIDTH),
            logits=np.frombuffer(zlib.decompress(packed.logits), "<f4").reshape(packed.count, classes).astype("f4"),
            tolerance=packed.tolerance,
        )
    except (ValueError, zlib.error) as error:
        raise ModelFormatError(f"{where}: its golden vectors: malformed ({error}): export it again") from error
