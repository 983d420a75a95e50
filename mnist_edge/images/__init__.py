"""From a picture to the canonical 28×28: what the runtime predicts on and what an image folder trains on.

It stands above both rooms, `runtime` and `training`, because the two must see the same pixels. Pillow is imported on
the first decoding, so that arrays can be classified without it.
"""

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, WHITE, WIDTH, Framing
from mnist_edge.errors import ImageFormatError, ImageNotFoundError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp"})
"""File names with one of these endings, in lower case, are taken for images when a folder is read."""

MAX_PIXELS: Final = 64_000_000
"""Larger pictures are refused before they are decoded; a 48-megapixel photograph passes."""

INK_BOX: Final = 20
"""The longer side of the ink after framing, as in MNIST (LeCun et al. 1998: 20×20, placed by its centre of mass)."""

INK_THRESHOLD: Final = 0.25
"""Share of the picture's contrast above which a pixel counts as ink when the digit's box is sought."""


def read(source: str | os.PathLike[str] | BinaryIO, framing: Framing = Framing.MNIST) -> NDArray[np.uint8]:
    """Decode a picture and bring it to the canonical form.

    Args:
        source: a path, or a binary file object at its start.

    Returns:
        uint8 [28, 28], 0 = background, 255 = full ink. A 28×28 picture comes back as it is.

    Raises:
        ImageNotFoundError: no file at that path.
        ImageFormatError: not a picture that Pillow reads, damaged, empty, or larger than `MAX_PIXELS`.
    """
    return frame(decode(source), framing)


def find(folder: Path) -> list[Path]:
    """All image files below a folder, hidden ones left out, in the order of their paths."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def decode(source: str | os.PathLike[str] | BinaryIO) -> NDArray[np.uint8]:
    """A picture as grey values, uint8 [height, width]; transparent parts lie on white. Raises as `read` does."""
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "the image")
    try:
        data = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source.read()
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"{name}: no such file: check the path") from error
    except IsADirectoryError as error:
        raise ImageFormatError(f"{name}: a folder without pictures: name a picture, or a folder of them") from error
    except (OSError, ValueError) as error:
        raise ImageFormatError(f"{name}: cannot be read ({error}): check the path") from error
    if not isinstance(data, bytes):
        raise ImageFormatError(f"{name}: read() gives {type(data).__name__}, not bytes: open the file in binary mode")
    return grey(io.BytesIO(data), name)


def grey(source: "BinaryIO | Image.Image", name: str) -> NDArray[np.uint8]:
    """A picture, encoded or opened by Pillow, as `decode` returns it; `name` is for the messages."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, by our own limit
            image = source if isinstance(source, Image.Image) else Image.open(source)
        return _grey_values(image, name)
    except UnidentifiedImageError as error:
        raise ImageFormatError(f"{name}: not a picture that Pillow can read: convert it to PNG or JPEG") from error
    except ImageFormatError:
        raise
    except Exception as error:  # what Pillow's decoders raise on damaged files is not documented
        raise ImageFormatError(f"{name}: cannot be decoded ({error}): save or fetch the picture again") from error


def _grey_values(image: "Image.Image", name: str) -> NDArray[np.uint8]:
    from PIL import Image

    if image.width * image.height > MAX_PIXELS:
        raise ImageFormatError(
            f"{name}: {image.width}×{image.height} pixels are more than {MAX_PIXELS:,}: scale the picture down"
        )
    if image.mode.startswith("I;16"):
        # Pillow clips 16 bits to 0…255 when it converts them.
        return (np.asarray(image).astype(np.float64) / 257).round().astype(np.uint8)
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if not (values >= 0).all() or not (values <= WHITE).all():
            raise ImageFormatError(f"{name}: {image.mode} pixels beyond 0…{WHITE}: save it with 8 or 16 bits a channel")
        return values.round().astype(np.uint8)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("L"))


def frame(pixels: NDArray[np.uint8], framing: Framing = Framing.MNIST) -> NDArray[np.uint8]:
    """Grey values of any size brought to the canonical form.

    A 28×28 array is taken for canonical already. Anything else is turned to light ink on dark ground (the ground is the
    median of the border), cropped to the ink, fitted into 20×20 with its aspect kept and centred by its mass.

    Args:
        pixels: uint8 [height, width].

    Returns:
        uint8 [28, 28]; all zero where the picture has no contrast.

    Raises:
        ImageFormatError: the picture is empty.
    """
    if pixels.shape == (HEIGHT, WIDTH):
        return pixels
    if pixels.size == 0:
        raise ImageFormatError(f"a picture of {pixels.shape[1]}×{pixels.shape[0]} pixels is empty: give another")
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = float(np.median(border))
    ink = pixels.astype(np.float64)
    ink = ground - ink if ground > WHITE / 2 else ink - ground
    ink = ink.clip(0)
    if ink.max() == 0:
        return np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    ink *= WHITE / ink.max()
    return _centre(_fit(_crop(ink.round().astype(np.uint8))))


def _crop(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    dark = ink > WHITE * INK_THRESHOLD
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    height, width = ink.shape
    scale = INK_BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(
        Image.fromarray(ink).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    )


def _centre(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = ink.shape
    mass = max(int(ink.sum()), 1)
    # The mean index of MNIST's ink is 14.0 on both axes, half a pixel beyond the middle of 0…27.
    top = round(HEIGHT / 2 - float(ink.sum(axis=1) @ np.arange(height)) / mass)
    left = round(WIDTH / 2 - float(ink.sum(axis=0) @ np.arange(width)) / mass)
    top, left = min(max(top, 0), HEIGHT - height), min(max(left, 0), WIDTH - width)
    canvas = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    canvas[top : top + height, left : left + width] = ink
    return canvas
