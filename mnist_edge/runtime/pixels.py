"""Check and convert what callers pass to a `Classifier`: batches of raw pixels, and single pictures of any kind."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnist_edge import images as pictures
from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.errors import ExecutionError, ImageFormatError, ImageTypeError

if TYPE_CHECKING:
    from PIL import Image

_CHANNELS: Final = (3, 4)
"""Sizes of a colour picture's last axis: no stack of grey digits is that narrow."""

_BYTES: Final = (bytes, bytearray, memoryview)
"""What an encoded picture, such as an upload, is kept in."""

_GREY: Final = "turn colour into grey first, or give PIL.Image.fromarray(picture)"


def grey_picture(image: object) -> pictures.Grey:
    """Convert a picture to grey values.

    Args:
        image: a path, the bytes of an encoded picture, a page of a file, a binary file object, a Pillow image, or an
            array [height, width] of whole numbers 0…255.

    Raises:
        ImageNotFoundError: no file at that path.
        ImageFormatError: it cannot be decoded, or is an array of another shape or with values outside 0…255.
        ImageTypeError: it is none of the above kinds, or an array that does not hold integers.
        ExecutionError: there is too little memory for it.
    """
    with memory_for_a_picture():
        return _grey_picture(image)


@contextlib.contextmanager
def memory_for_a_picture() -> Iterator[None]:
    """Report too little memory as ExecutionError."""
    try:
        yield
    except MemoryError as error:
        raise ExecutionError("too little memory for this picture: free some, or scale the picture down") from error


def _grey_picture(image: object) -> pictures.Grey:
    if isinstance(image, np.ndarray):
        if image.ndim != 2:
            raise ImageFormatError(f"a picture is a grey array [height, width], not {image.shape}: {_advice(image)}")
        _require_pixels(image)
        return pictures.Grey(image.astype(np.uint8, copy=False))
    if isinstance(image, (str, os.PathLike, *_BYTES, pictures.Page)) or hasattr(image, "read"):
        return pictures.decode_scaled(cast("pictures.Source", image))
    if hasattr(image, "getbands"):  # a Pillow image, recognised without importing Pillow
        return pictures.grey_scaled(cast("Image.Image", image), "the image")
    raise ImageTypeError(
        f"cannot classify a {type(image).__name__}: give a path, bytes, a file object, a Pillow image or a uint8 array"
    )


def require_several(images: object) -> None:
    """Raise ImageTypeError if `images` is a single picture or not iterable."""
    if isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[-1] in _CHANNELS:
        raise ImageTypeError(f"several pictures are expected, not one of shape {images.shape}: {_GREY}")
    single = isinstance(images, (str, *_BYTES, os.PathLike)) or hasattr(images, "read") or hasattr(images, "getbands")
    single = single or (isinstance(images, np.ndarray) and images.ndim == 2)
    if single or not hasattr(images, "__iter__"):
        kind = type(images).__name__
        raise ImageTypeError(f"several pictures are expected, not a single {kind}: use predict, or give a list")


def as_batch(images: ArrayLike) -> NDArray[np.integer[Any]]:
    """Check images, and view them as [N, 1, 28, 28].

    The dtype stays, so that a large batch of a wide dtype is converted to uint8 chunk by chunk, never as a whole.

    Raises:
        ImageTypeError: the values are not integers.
        ImageFormatError: another shape, or values outside 0…255.
    """
    try:
        array = np.asarray(images)
    except MemoryError:
        raise
    except Exception as error:  # ragged lists; tensors and other objects that refuse to become arrays
        reason = " ".join(str(error).split())
        raise ImageFormatError(f"images do not form an array ({reason}): stack uint8 arrays of one shape") from error
    if array.ndim == 3 and array.shape[1:] == (HEIGHT, WIDTH):
        array = array[:, None]
    if array.ndim != 4 or array.shape[1:] != (1, HEIGHT, WIDTH):
        if array.size:
            _require_numbers(array)
        raise ImageFormatError(
            f"images have shape {array.shape}, expected (N, {HEIGHT}, {WIDTH}) or (N, 1, {HEIGHT}, {WIDTH}): "
            f"{_advice(array)}"
        )
    _require_pixels(array)
    return array


def as_image(image: object) -> NDArray[np.uint8]:
    """One image as uint8 [28, 28], with the same checks as a batch."""
    batch = as_batch(cast("ArrayLike", [image]))
    return np.asarray(batch[0, 0], dtype=np.uint8)


def as_tensor(batch: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Part of a checked batch as onnxruntime needs it: uint8 and contiguous."""
    return np.ascontiguousarray(batch, dtype=np.uint8)


def _require_pixels(array: NDArray[Any]) -> None:
    if array.dtype == np.uint8:
        return
    _require_numbers(array)
    if array.size and (array.min() < 0 or array.max() > WHITE):
        raise ImageFormatError(
            f"pixel values reach from {array.min()} to {array.max()}, expected 0…{WHITE}: scale them to 8 bits"
        )


def _require_numbers(array: NDArray[Any]) -> None:
    if array.dtype.kind == "f":
        finite = bool(np.isfinite(array).all())
        raise ImageTypeError(
            f"images have type {array.dtype}{'' if finite else ' and hold NaN or infinities'}, expected raw pixels as "
            "uint8 0…255: for values within 0…1 pass (images * 255).round().astype('uint8'); never normalise"
        )
    if array.dtype.kind == "b":
        raise ImageTypeError("images have type bool, expected uint8 0…255: pass images.astype('uint8') * 255")
    if array.dtype.kind not in "ui":
        raise ImageTypeError(f"images have type {array.dtype}, expected an array of uint8 0…255")


def _advice(array: NDArray[Any]) -> str:
    """What to do with an array of an unexpected shape."""
    match array.shape:
        case (28, 28):
            advice = "for a single image pass images[None], or use predict"
        case (_, 28, 28) | (_, 1, 28, 28):
            advice = (
                "for a batch in MNIST's form use predict_each(images, preprocess=False) or "
                "probabilities(logits(images)); predict_many is for pictures to be cropped and centred"
            )
        case (_, 28, 28, 1):
            advice = "drop the channel axis: images[..., 0]"
        case (_, 784):
            advice = f"unflatten: images.reshape(-1, {HEIGHT}, {WIDTH})"
        case (_, 3 | 4, _, _) | (_, _, _, 3 | 4) | (_, _, 3 | 4):
            advice = _GREY
        case (_, _):
            advice = "use predict for a picture of another size"
        case (_, _, _):
            advice = "use predict_many for pictures of another size"
        case _:
            advice = "a picture has two axes, height and width"
    return advice
