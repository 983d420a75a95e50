"""The canonical 28×28 form: recognise the pictures that have it, and bring the others into it."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, WHITE, WIDTH, Preprocessing
from mnist_edge.errors import ImageFormatError

INK: Final = 0.25 * WHITE
"""Pixels above this value are ink when the bounding box of a digit is measured."""

OFF_CENTRE: Final = 1.0
"""Maximum distance of the centre of mass from index 14.0, MNIST's mean, on each axis, in pixels. In MNIST itself it is
at most 0.52."""

LONGER_SIDE: Final = (16, 21)
"""Accepted longer side of the ink's bounding box, in pixels. In MNIST it is 20, minus edges fainter than `INK`."""

BACKGROUND: Final = 32
"""At least half of a preprocessed picture is darker than this: MNIST's fullest training image has 38 % ink."""

FEWEST: Final = 8
"""If fewer pixels stand out by `BACKGROUND`, there is no ink: the sparsest of MNIST's 70,000 digits has 32."""

_MOMENTS: Final = np.stack(
    [np.ones(HEIGHT * WIDTH), np.repeat(np.arange(HEIGHT), WIDTH), np.tile(np.arange(WIDTH), HEIGHT)]
).astype(np.float32)
"""Multiplied by an image's pixels, this gives its mass and its first moments in y and x."""


def preprocess(pixels: NDArray[np.uint8], preprocessing: Preprocessing = Preprocessing.MNIST) -> NDArray[np.uint8]:
    """`preprocess_counting` without the number of digits."""
    return preprocess_counting(pixels, preprocessing)[0]


def preprocess_counting(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], int | None]:
    """Bring a grey picture of any size into the canonical form, and count the digits that it shows.

    Args:
        pixels: uint8 [height, width]: one digit, dark on light or light on dark.
        preprocessing: the one that the model was trained with.

    Returns:
        uint8 [28, 28], 0 = background, 255 = full ink. With `Preprocessing.MNIST`, all zero if no ink stands out from
        the background. A picture that already has the form is returned as it is. Beside it the number of digits, the
        one in the result included; None if the picture was not searched for any.

    Raises:
        ImageFormatError: the picture is empty.
    """
    if pixels.size == 0:
        raise ImageFormatError(f"a picture of {pixels.shape[1]}×{pixels.shape[0]} pixels is empty: give another")
    if preprocessing is Preprocessing.WHOLE:
        already = pixels.shape == (HEIGHT, WIDTH)
    else:
        already = pixels.shape == (HEIGHT, WIDTH) and _is_preprocessed(pixels)
    if already:
        return pixels, None
    from mnist_edge.images.preprocessing import cropped, whole  # most of the package, not needed until here

    return (whole(pixels), None) if preprocessing is Preprocessing.WHOLE else cropped(pixels)


def has_ink(images: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Which images show ink, light or dark, rather than blank paper, faint noise or a few specks.

    Args:
        images: integers 0…255, [n, 28, 28] or [n, 1, 28, 28].

    Returns:
        bool [n].
    """
    flat = images.reshape(len(images), HEIGHT * WIDTH).astype(np.int16)
    light = np.count_nonzero(flat >= flat.min(axis=1, keepdims=True) + BACKGROUND, axis=1)
    dark = np.count_nonzero(flat <= flat.max(axis=1, keepdims=True) - BACKGROUND, axis=1)
    shown: NDArray[np.bool_] = np.minimum(light, dark) >= FEWEST
    return shown


def is_preprocessed(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which images are light ink on a dark background, with the size and position of MNIST's digits.

    Args:
        images: uint8 [n, 28, 28].

    Returns:
        bool [n].
    """
    ink = images > INK
    longer = np.maximum(_extent(ink.any(axis=2)), _extent(ink.any(axis=1)))
    mass = images.sum(axis=(1, 2), dtype=np.int64).clip(1)
    y = images.sum(axis=2, dtype=np.int64) @ np.arange(HEIGHT) / mass
    x = images.sum(axis=1, dtype=np.int64) @ np.arange(WIDTH) / mass
    centred = (abs(y - HEIGHT / 2) <= OFF_CENTRE) & (abs(x - WIDTH / 2) <= OFF_CENTRE)
    right: NDArray[np.bool_] = (LONGER_SIDE[0] <= longer) & (longer <= LONGER_SIDE[1]) & centred
    return right


def _extent(lit: Any) -> Any:
    # From the first to the last lit index of each row, inclusive; meaningless if none is lit.
    return lit.shape[1] - lit[:, ::-1].argmax(axis=1) - lit.argmax(axis=1)


def _is_preprocessed(image: NDArray[np.uint8]) -> bool:
    """`is_preprocessed` for a single image, in a few microseconds; also checks that the background is dark."""
    mass, y, x = _MOMENTS.dot(image.reshape(-1).astype(np.float32)).tolist()
    if abs(y - mass * HEIGHT / 2) > OFF_CENTRE * mass or abs(x - mass * WIDTH / 2) > OFF_CENTRE * mass:
        return False
    if np.count_nonzero(image < BACKGROUND) < image.size // 2:
        return False
    # Searching bytes, row by row and then column by column, is much faster on one image than numpy's nonzero.
    lit = image > int(INK)
    lines = (lit.tobytes(), lit.tobytes("F"))
    longer = max(line.rfind(b"\x01") // WIDTH - line.find(b"\x01") // WIDTH for line in lines) + 1
    return LONGER_SIDE[0] <= longer <= LONGER_SIDE[1]
