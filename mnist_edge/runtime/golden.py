"""Golden vectors: a few images and the logits that PyTorch gives for them, stored in the metadata of an ONNX file.

With them a device can prove, offline and without torch, that its onnxruntime reproduces the trained model.
"""

import zlib
from typing import Annotated, Final

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from mnist_edge.bundle.decoding import decode, encode
from mnist_edge.contract import HEIGHT, PIXELS, WIDTH, Positive
from mnist_edge.errors import ModelFormatError

MOST: Final = 10_000_000
"""Bytes of golden images, or of their logits: ours are a dozen images of 784 bytes."""


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

    count: Annotated[int, Meta(ge=1, le=MOST // PIXELS)]
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
            images=np.frombuffer(_inflated(packed.images, packed.count * PIXELS), "u1").reshape(-1, 1, HEIGHT, WIDTH),
            logits=np.frombuffer(_inflated(packed.logits, packed.count * classes * 4), "<f4")
            .reshape(-1, classes)
            .astype("f4"),
            tolerance=packed.tolerance,
        )
    except (ValueError, OverflowError, zlib.error) as error:
        raise ModelFormatError(f"{where}: its golden vectors: malformed ({error}): export it again") from error


def _inflated(data: bytes, size: int) -> bytes:
    """Decompressed data, which must be of that size; no more of it is ever held."""
    if not 0 < size <= MOST:
        raise ValueError(f"{size:,} bytes are not within 1…{MOST:,}")
    content = zlib.decompressobj().decompress(data, size + 1)
    if len(content) != size:
        raise ValueError(f"{len(content):,} bytes or more instead of {size:,}")
    return content
