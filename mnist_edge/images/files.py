"""Decode image files to grey values. Only the formats listed here are ever decoded, and only in bounded memory."""

import functools
import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_edge.errors import ImageFormatError
from mnist_edge.images import content, png

if TYPE_CHECKING:
    from PIL import Image

FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are decoded, by content and whatever a file is called. Others could start a
program (PostScript) or hide a picture of any size (ICO)."""

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp"})
"""Suffixes, in lower case, of the files that `find` takes for images."""

OTHERS: Final = frozenset(
    {".heic", ".heif", ".avif", ".svg", ".pdf", ".eps", ".psd", ".ico", ".jp2", ".jxl", ".dng", ".cr2", ".nef", ".arw"}
)
"""Suffixes of pictures in formats that are not decoded."""

PAGED: Final = (".tif", ".tiff", ".gif")
"""Suffixes of files that may hold several pictures."""

MAX_PIXELS: Final = 64_000_000
"""Larger pictures are refused before decoding; a 48-megapixel photograph passes."""

MAX_SIDE: Final = 32_768
"""Pixels of a side: longer strips are no pictures of digits."""

MAX_BYTES: Final = 160_000_000
"""Bytes that a decoded picture and its decoder may take."""

_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""What Pillow takes for a pixel, by mode; the others take four."""

_COPIES: Final = {"WEBP": 3.25, "GIF": 2}
"""How many times that much decoding takes, by format: some decoders keep frames of their own. Measured."""

ENOUGH: Final = 1600
"""Larger pictures are reduced to this many pixels on the longer side, or up to twice as many. `read` needs so many."""

_ORIENTATION: Final = 0x0112


class Document:
    """A file of several pictures, read once for all of them."""

    def __init__(self, path: str) -> None:
        self.path = path

    @functools.cached_property
    def image(self) -> "Image.Image":
        """The file, opened; raises as Pillow does."""
        return _opened(content.read(self.path, self.path))


class Page(NamedTuple):
    """One of the pictures in a file. Taken in their order, each is decoded once."""

    document: Document
    number: int
    """From 0."""

    @property
    def name(self) -> str:
        """Such as ``file.tif[0]``."""
        return f"{self.document.path}[{self.number}]"


class Grey(NamedTuple):
    """A decoded picture."""

    pixels: NDArray[np.uint8]
    """[height, width]"""

    scale: float
    """Pixels of the original for one of these: large pictures are reduced."""


def find(
    folder: str | os.PathLike[str],
    on_error: Callable[[OSError], object] | None = None,
    on_other: Callable[[str], object] = lambda path: None,
) -> Iterator[str]:
    """Yield the paths of all image files below a folder, sorted by name within each folder; hidden ones are skipped.

    Args:
        folder: where to look.
        on_error: called with the OSError of each folder that cannot be listed, which is then skipped; None raises the
            error.
        on_other: called with the path of each picture in a format that is not decoded.
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
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  # many names
        if suffix in SUFFIXES and entry.is_file():
            yield os.fspath(entry)
        elif suffix in OTHERS:
            on_other(os.fspath(entry))
        elif entry.is_dir(follow_symlinks=False):
            yield from find(entry, on_error, on_other)


def decode(source: str | os.PathLike[str] | BinaryIO | Page) -> NDArray[np.uint8]:
    """`decode_scaled` without the scale: uint8 [height, width]."""
    return decode_scaled(source).pixels


def decode_scaled(source: str | os.PathLike[str] | BinaryIO | Page) -> Grey:
    """Decode a picture to grey values, rotated as its EXIF data say.

    Args:
        source: a path, a binary file object at its start, or a page of a file.

    Returns:
        The picture. Deeper ones are scaled to 8 bits, transparent ones composited onto white or black, whichever shows
        their ink; of several frames or pages the first is used. Large ones are reduced to between 1,600 and 3,200
        pixels on the longer side.

    Raises:
        ImageNotFoundError: there is no file at that path.
        ImageFormatError: it is not in one of `FORMATS`, is damaged or truncated, or is too large.
    """
    if isinstance(source, Page):
        return grey_scaled(source, source.name)
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "the image")
    return grey_scaled(content.read(source, name), name)


def pages(path: str) -> list[Page]:
    """The pictures in a file; none where there is only one, or where decoding it would say what is wrong."""
    document = Document(path)
    try:
        count = getattr(document.image, "n_frames", 1)
    except Exception:  # noqa: BLE001  # what Pillow raises on damaged files is not documented
        return []
    return [Page(document, number) for number in range(count)] if count > 1 else []


def grey_scaled(source: "bytes | Image.Image | Page", name: str) -> Grey:
    """What `decode_scaled` returns, of an encoded file, a Pillow image or a page; `name` is for error messages."""
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(source, Page):
            image = source.document.image
            image.seek(source.number)
        else:
            image = _opened(source) if isinstance(source, bytes) else source
        width, height = image.size
        _require_reasonable(image, name)
        if isinstance(source, (bytes, Page)):
            factor = _factor(width, height)
            image.draft(None, (width // factor, height // factor))  # JPEG is decoded at half the size or less
            _require_small(image, width * height, name)
        if isinstance(source, bytes):
            _require_whole(source, name)
        image.load()  # a PNG may store its orientation after its pixels
        pixels = _upright(_grey_values(image, name), image.getexif().get(_ORIENTATION, 1))
    except UnidentifiedImageError as error:
        raise ImageFormatError(
            f"{name}: not a picture in a format that is read ({', '.join(FORMATS)}): convert it to PNG or JPEG"
        ) from error
    except (ImageFormatError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageFormatError(f"{name}: more than {MAX_PIXELS:,} pixels: scale the picture down") from error
    except Exception as error:  # what Pillow's decoders raise on damaged files is not documented
        raise ImageFormatError(f"{name}: cannot be decoded ({error}): save or fetch the picture again") from error
    return Grey(pixels, max(width, height) / max(1, *pixels.shape))


def _grey_values(image: "Image.Image", name: str) -> NDArray[np.uint8]:
    factor = _factor(*image.size)
    if factor == 1 and image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    from mnist_edge.images.modes import grey_values  # not needed for what MNIST's digits are saved as

    return grey_values(image, factor, name)


def _factor(width: int, height: int) -> int:
    """By how much a picture of that size is reduced."""
    return max(1, max(width, height) // ENOUGH)


def _opened(data: bytes) -> "Image.Image":
    if data.startswith(png.SIGNATURE):
        # Image.open would first import the readers of four other formats: a twentieth of a whole process's time.
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(io.BytesIO(data))
    from PIL import Image

    return Image.open(io.BytesIO(data), formats=FORMATS)


def _require_reasonable(image: "Image.Image", name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageFormatError(
            f"{name}: {image.width}×{image.height} pixels are more than {MAX_PIXELS:,}: scale the picture down"
        )
    if max(image.size) > MAX_SIDE:
        raise ImageFormatError(
            f"{name}: {image.width}×{image.height} pixels, a side is longer than {MAX_SIDE:,}: crop the picture"
        )


def _require_small(image: "Image.Image", pixels: int, name: str) -> None:
    """Raise ImageFormatError where decoding an image, of so many pixels at full size, takes more than `MAX_BYTES`."""
    needed = image.width * image.height * _BYTES.get(image.mode, 4) * _COPIES.get(image.format or "", 1)
    if image.info.get("progressive"):
        # libjpeg keeps all coefficients of the whole picture, two bytes each; colour has fewer than brightness.
        shares = [across * down for _, across, down, _ in getattr(image, "layer", [])]
        needed += 2 * pixels * sum(shares) // max(shares, default=1)
    if needed > MAX_BYTES:
        raise ImageFormatError(
            f"{name}: takes {needed / 1e6:.0f} MB once decoded, more than {MAX_BYTES / 1e6:.0f}: scale it down, or "
            "save it as JPEG"
        )


def _require_whole(data: bytes, name: str) -> None:
    if data.startswith(png.SIGNATURE) and not png.is_whole(data):
        raise ImageFormatError(f"{name}: cannot be decoded (the PNG is cut short): save or fetch the picture again")


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a picture as EXIF's orientation says, 1 to 8: mirrored, upside down, or its rows standing as columns."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
