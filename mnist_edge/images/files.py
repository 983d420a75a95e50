"""Convert image files, and Pillow images of any mode, to grey values. The only module here that needs Pillow."""

import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import WHITE
from mnist_edge.errors import ImageFormatError, ImageNotFoundError
from mnist_edge.images import png

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp"})
"""Suffixes, in lower case, of the files that `find` takes for images."""

MAX_PIXELS: Final = 64_000_000
"""Larger pictures are refused before decoding; a 48-megapixel photograph passes."""

DEPTHS: Final = (8, 10, 12, 14, 16)
"""Bit depths that a picture's values may have: cameras and scanners store 12-bit values in 16-bit files. White is the
largest value of the smallest depth that holds all values; scaling by the largest value itself would amplify the noise
of a blank picture."""

HIDDEN: Final = 0.25
"""Transparent pictures are composited onto white, or onto black if white gives less than this share of the contrast
that black gives."""

COLOUR_GAIN: Final = 2.5
"""A colour channel replaces the luminance if it has more than this many times its contrast: red on green, yellow on
white."""

SAMPLES: Final = 4096
"""About how many pixels of a colour picture are sampled to choose between luminance and channels."""

_ORIENTATION: Final = 0x0112


def find(folder: str | os.PathLike[str], on_error: Callable[[OSError], object] | None = None) -> Iterator[str]:
    """Yield the paths of all image files below a folder, sorted by name within each folder; hidden ones are skipped.

    Args:
        folder: where to look.
        on_error: called with the OSError of each folder that cannot be listed, which is then skipped; None raises the
            error.
    """
    try:
        with os.scandir(folder) as listing:
            shown = [entry for entry in listing if not entry.name.startswith(".")]
    except OSError as error:
        if on_error is None:
            raise
        on_error(error)
        return
    entries = sorted(shown, key=lambda entry: entry.name)
    for entry in entries:
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():  # noqa: PTH122  # many names
            yield os.fspath(entry)
        elif entry.is_dir(follow_symlinks=False):
            yield from find(entry, on_error)


def decode(source: str | os.PathLike[str] | BinaryIO) -> NDArray[np.uint8]:
    """Decode a picture to grey values, turned upright as its EXIF orientation says.

    Args:
        source: a path, or a binary file object at its start.

    Returns:
        uint8 [height, width]. Deeper pictures are scaled to 8 bits, transparent ones composited onto white or black,
        whichever shows their ink. Of several frames or pages the first is used.

    Raises:
        ImageNotFoundError: there is no file at that path.
        ImageFormatError: it is not a picture that Pillow reads, is damaged or truncated, or is larger than
            `MAX_PIXELS`.
    """
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "the image")
    try:
        data = _content(source) if isinstance(source, (str, os.PathLike)) else source.read()
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"{name}: no such file: check the path") from error
    except IsADirectoryError as error:
        raise ImageFormatError(f"{name}: is a folder: name a picture in it") from error
    except UnicodeDecodeError as error:
        raise ImageFormatError(f"{name}: opened as text: open the file in binary mode") from error
    except (OSError, ValueError) as error:
        raise ImageFormatError(f"{name}: cannot be read ({error}): check the path") from error
    if not isinstance(data, bytes):
        raise ImageFormatError(f"{name}: read() returns {type(data).__name__}, not bytes: open the file in binary mode")
    if not data:
        raise ImageFormatError(f"{name}: is empty: save or fetch the picture again")
    return grey(data, name)


def _content(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123  # takes half as long as Path.read_bytes on small files
        return file.read()


def grey(source: "bytes | Image.Image", name: str) -> NDArray[np.uint8]:
    """The grey values, as `decode` returns them, of an encoded file or a Pillow image; `name` is for error messages."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = _opened(source) if isinstance(source, bytes) else source
        _require_reasonable(image, name)
        if isinstance(source, bytes):
            _require_whole(source, name)
        return _grey_values(_upright(image), name)
    except UnidentifiedImageError as error:
        raise ImageFormatError(f"{name}: not a picture that Pillow can read: convert it to PNG or JPEG") from error
    except ImageFormatError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageFormatError(f"{name}: more than {MAX_PIXELS:,} pixels: scale the picture down") from error
    except Exception as error:  # what Pillow's decoders raise on damaged files is not documented
        raise ImageFormatError(f"{name}: cannot be decoded ({error}): save or fetch the picture again") from error


def _opened(data: bytes) -> "Image.Image":
    if data.startswith(png.SIGNATURE):
        # Image.open would first import the readers of four other formats: a twentieth of a whole process's time.
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(io.BytesIO(data))
    from PIL import Image

    return Image.open(io.BytesIO(data))


def _require_reasonable(image: "Image.Image", name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageFormatError(
            f"{name}: {image.width}×{image.height} pixels are more than {MAX_PIXELS:,}: scale the picture down"
        )


def _require_whole(data: bytes, name: str) -> None:
    if data.startswith(png.SIGNATURE) and not png.is_whole(data):
        raise ImageFormatError(f"{name}: cannot be decoded (the PNG is cut short): save or fetch the picture again")


def _upright(image: "Image.Image") -> "Image.Image":
    image.load()  # a PNG may store its orientation after its pixels
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _grey_values(image: "Image.Image", name: str) -> NDArray[np.uint8]:
    if image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode[0] in "IF":
        return _from_deep(np.asarray(image), image.mode, name)
    if image.mode == "LAB":
        return np.asarray(image.getchannel(0))
    if image.has_transparency_data:
        return _from_transparent(np.asarray(image.convert("RGBA")))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return _from_colour(np.asarray(image.convert("RGB")))


def _from_deep(values: NDArray[Any], mode: str, name: str) -> NDArray[np.uint8]:
    # Pillow's own conversion would clip values to 8 bits.
    if values.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    whites = [2**bits - 1 for bits in DEPTHS]
    if mode == "F":
        whites.insert(0, 1)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= whites[-1]):
        raise ImageFormatError(f"{name}: {mode} pixels beyond 0…{whites[-1]}: save it with 8 or 16 bits per channel")
    white = next(white for white in whites if high <= white)
    return (values.astype(np.float32) * (WHITE / white)).round().astype(np.uint8)


def _from_transparent(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.float32) / WHITE
    if rgba.size == 0 or alpha.min() == alpha.max():
        return _from_colour(rgba[..., :3])
    over_black = (rgba[..., :3] * alpha).round().astype(np.uint8)
    over_white = (rgba[..., :3] * alpha + WHITE * (1 - alpha)).round().astype(np.uint8)
    visible = _contrast(_luminance(over_white)) >= HIDDEN * _contrast(_luminance(over_black))
    return _from_colour(over_white if visible else over_black)


def _contrast(values: NDArray[Any]) -> float:
    return float(abs(values - float(np.median(values))).mean())


def _luminance(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # ITU-R 601-2 luma, with Pillow's 16-bit weights.
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((rgb @ weights + 0x8000) >> 16).astype(np.uint8)


def _from_colour(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luminance, or a single channel if that shows the ink much better (`COLOUR_GAIN`)."""
    step = max(1, int((rgb.size / 3 / SAMPLES) ** 0.5))
    sample = rgb[::step, ::step]
    luminance = _contrast(_luminance(sample)) if sample.size else 0.0
    contrasts = [_contrast(sample[..., channel]) if sample.size else 0.0 for channel in range(3)]
    best = int(np.argmax(contrasts))
    if contrasts[best] > COLOUR_GAIN * max(luminance, 1):
        return np.ascontiguousarray(rgb[..., best])
    return _luminance(rgb)
