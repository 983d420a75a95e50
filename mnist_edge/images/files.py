"""Decode image files to grey values. Only the formats listed here are ever decoded, and only in bounded memory."""

import functools
import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mnist_edge import shipped
from mnist_edge.errors import ImageFormatError
from mnist_edge.images import content, jpeg, png, tiff

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

SAMPLES: Final = shipped.folder("samples")
"""The pictures that ship with the package; `scripts/draw_samples.py` in its repository draws them."""

PAGED: Final = (".tif", ".tiff", ".gif")
"""Suffixes of files that may hold several pictures."""

MAX_PIXELS: Final = 64_000_000
"""Larger pictures are refused before decoding; a 48-megapixel photograph passes."""

MAX_SIDE: Final = 32_768
"""Pixels of a side: longer strips are no pictures of digits."""

MAX_BYTES: Final = 200_000_000
"""Bytes that a file, its decoded picture and its decoder may take together."""

MAX_READS: Final = 600_000
"""How often a decoder may read from a file. Pillow reads a file's chunks, blocks and headers in Python, one by one, a
microsecond or more each. All frames of a GIF of 25 million bytes take about 400,000: once to count, once to decode."""

MAX_SLOW: Final = 1_000_000
"""Values of a picture whose decoder is written in Python, a microsecond each: text and unusual depths in PPM, RLE."""

MAX_EXIF: Final = 1_000_000
"""Bytes of EXIF data that are searched for the orientation; cameras write at most 65,533."""

SPREAD: Final = 1000
"""Pixels that the pages of a file may have for each of its bytes, beyond `MAX_PIXELS`. A page of text takes about 10,
a blank one in the best compression of TIFF several thousand, one more frame of a GIF as many as its maker likes."""

_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""What Pillow takes for a pixel, by mode; the others take four."""

_COPIES: Final = {"JPEG": 1, "MPO": 1, "WEBP": 3.75, "GIF": 2.5}
"""How many times that much decoding and reducing take, by format: some decoders keep frames of their own, and JPEG is
reduced while it is decoded. Measured."""

_OTHER_COPIES: Final = 1.25

ENOUGH: Final = 1600
"""Larger pictures are reduced to this many pixels on the longer side, or up to twice as many. `read` needs so many."""

_ORIENTATION: Final = 0x0112


class _Counted(io.BytesIO):
    """A file in memory that can be read `MAX_READS` times."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name = name
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            raise ImageFormatError(f"{self._name}: consists of too many small pieces: save it again, as PNG or JPEG")
        return super().read(size)


class Document:
    """A file of several pictures, read once for all of them."""

    def __init__(self, path: str) -> None:
        self.path = path

    @functools.cached_property
    def data(self) -> bytes:
        """The file's content; raises as `content.read` does."""
        return content.read(self.path, self.path)

    @functools.cached_property
    def image(self) -> "Image.Image":
        """The file, opened; raises as Pillow does, or ImageFormatError."""
        return _opened(self.data, self.path)

    @functools.cached_property
    def count(self) -> int:
        """The number of pictures. Raises as `image` does."""
        width, height = self.image.size
        count: int = tiff.count_pages(self.data) if tiff.is_tiff(self.data) else getattr(self.image, "n_frames", 1)
        if count > tiff.MAX_PAGES or count * width * height > MAX_PIXELS + SPREAD * len(self.data):
            raise ImageFormatError(
                f"{self.path}: {count:,} pages of {width}×{height} pixels in {len(self.data):,} bytes, too many: "
                "save those that count as pictures of their own"
            )
        return count


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

    scale: float = 1.0
    """Pixels of the original for one of these: large pictures are reduced."""

    coloured: bool = False
    """Whether the original shows colours."""


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
    # Not recursive: folders may lie thousands deep.
    listings = [_listing(folder, on_error)]
    while listings:
        entry = next(listings[-1], None)
        if entry is None:
            listings.pop()
            continue
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  # many names
        if suffix in SUFFIXES and is_file(entry):
            yield os.fspath(entry)
        elif suffix in OTHERS:
            on_other(os.fspath(entry))
        elif entry.is_dir(follow_symlinks=False):
            listings.append(_listing(entry, on_error))


def _listing(
    folder: str | os.PathLike[str], on_error: Callable[[OSError], object] | None
) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            shown = [entry for entry in listing if not entry.name.startswith(".")]
    except OSError as error:
        if on_error is None:
            raise
        on_error(error)
        return iter(())
    return iter(sorted(shown, key=lambda entry: entry.name))


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether there is a regular file, or a link to one; a link that leads to itself leads nowhere."""
    try:
        return entry.is_file()
    except OSError:
        return False


Source = content.Source | Page
"""What is decoded: a path, the bytes of an encoded picture, a binary file object at its start, or a page of a file."""


def decode(source: Source) -> NDArray[np.uint8]:
    """`decode_scaled` without the scale: uint8 [height, width]."""
    return decode_scaled(source).pixels


def decode_scaled(source: Source) -> Grey:
    """Decode a picture to grey values, rotated as its EXIF data say.

    Args:
        source: see `Source`. An error names the path, or the ``filename`` or ``name`` of a file object if it has one.

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
    name = content.name_of(source)
    return grey_scaled(content.read(source, name), name)


def pages(path: str) -> list[Page]:
    """The pictures in a file; none where there is only one, or where decoding it would say what is wrong.

    Raises:
        ImageFormatError: there are too many, or they are cut short.
    """
    document = Document(path)
    try:
        count = document.count
    except ImageFormatError:
        raise
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
            image = _opened(source, name) if isinstance(source, bytes) else source
        width, height = image.size
        _require_reasonable(image, name)
        if isinstance(source, (bytes, Page)):
            factor = _factor(width, height)
            image.draft(None, (width // factor, height // factor))  # JPEG is decoded at half the size or less
            data = source if isinstance(source, bytes) else source.document.data
            _require_bounded(data, image, (width, height), name)
        image.load()  # a PNG may store its orientation after its pixels
        values, coloured = _grey_values(image, name)
        pixels = _upright(values, _orientation(image))
    except UnidentifiedImageError as error:
        raise ImageFormatError(f"{name}: {_unidentified(name)}") from error
    except (ImageFormatError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageFormatError(f"{name}: more than {MAX_PIXELS:,} pixels: scale the picture down") from error
    except Exception as error:  # what Pillow's decoders raise on damaged files is not documented
        raise ImageFormatError(f"{name}: cannot be decoded ({error}): save or fetch the picture again") from error
    return Grey(pixels, max(width, height) / max(1, *pixels.shape), coloured)


def _grey_values(image: "Image.Image", name: str) -> tuple[NDArray[np.uint8], bool]:
    factor = _factor(*image.size)
    if factor == 1 and image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image), False
    from mnist_edge.images.modes import grey_values  # not needed for what MNIST's digits are saved as

    return grey_values(image, factor, name)


def _factor(width: int, height: int) -> int:
    """By how much a picture of that size is reduced."""
    return max(1, max(width, height) // ENOUGH)


def _unidentified(name: str) -> str:
    """What is wrong with a file that no decoder takes for its own, and what to do."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # any text, as the name of an upload
    if suffix in SUFFIXES:
        return f"damaged, or not a {suffix[1:].upper()} despite its name: copy it again, or save it as PNG or JPEG"
    return f"not a picture in a format that is read ({', '.join(FORMATS)}): convert it to PNG or JPEG"


def _opened(data: bytes, name: str) -> "Image.Image":
    _require_simple(data, name)
    file = _Counted(data, name)
    if data.startswith(png.SIGNATURE):
        # Image.open would first import the readers of four other formats: a twentieth of a whole process's time.
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(file)
    from PIL import Image

    return Image.open(file, formats=FORMATS)


def _require_simple(data: bytes, name: str) -> None:
    """Raise ImageFormatError where a file is made so that Pillow would take long to open or decode it."""
    advice = "save it again"
    try:
        if data.startswith(png.SIGNATURE):
            png.require_simple(data)
        elif data.startswith(jpeg.SIGNATURE):
            jpeg.require_simple(data)
        elif tiff.is_tiff(data):
            advice = "save it again, or its pages as pictures of their own"
            tiff.count_pages(data)
    except ValueError as error:
        raise ImageFormatError(f"{name}: {error}: {advice}") from error


def _require_reasonable(image: "Image.Image", name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageFormatError(
            f"{name}: {image.width}×{image.height} pixels are more than {MAX_PIXELS:,}: scale the picture down"
        )
    if max(image.size) > MAX_SIDE:
        raise ImageFormatError(
            f"{name}: {image.width}×{image.height} pixels, a side is longer than {MAX_SIDE:,}: crop the picture"
        )


def _require_bounded(data: bytes, image: "Image.Image", size: tuple[int, int], name: str) -> None:
    """Raise ImageFormatError where a file is cut short, or takes too much memory or too much time.

    Args:
        data: the file's content.
        image: the file, opened.
        size: of the whole picture, in pixels.
        name: for error messages.
    """
    if _is_decoded_in_python(image) and (values := image.width * image.height * len(image.getbands())) > MAX_SLOW:
        raise ImageFormatError(f"{name}: {values:,} values in a form that takes long to decode: save it as PNG or JPEG")
    is_png = data.startswith(png.SIGNATURE)
    needed = max(_bytes_decoded(image), png.size(data) if is_png else 0)
    if image.format in ("JPEG", "MPO"):
        needed += (coefficients := _bytes_of_coefficients(data, image, size))
        if coefficients and jpeg.has_many_scans(data):
            raise ImageFormatError(f"{name}: has more than {jpeg.MAX_SCANS} scans: save it again")
    needed += len(data)
    if needed > MAX_BYTES:
        raise ImageFormatError(
            f"{name}: takes {needed / 1e6:.0f} MB to decode, more than {MAX_BYTES / 1e6:.0f}: scale it down, or save "
            "it as JPEG"
        )
    if is_png and not png.is_whole(data):
        raise ImageFormatError(f"{name}: cannot be decoded (the PNG is cut short): save or fetch the picture again")


def _is_decoded_in_python(image: "Image.Image") -> bool:
    from PIL import Image

    return any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))


def _bytes_decoded(image: "Image.Image") -> float:
    each = 4 if "transparency" in image.info else _BYTES.get(image.mode, 4)
    return image.width * image.height * each * _COPIES.get(image.format or "", _OTHER_COPIES)


def _bytes_of_coefficients(data: bytes, image: "Image.Image", size: tuple[int, int]) -> int:
    """What libjpeg keeps of a picture of several scans: all coefficients, two bytes each."""
    layers = getattr(image, "layer", [])
    if not image.info.get("progressive") and next(jpeg.scans(data), len(layers)) == len(layers):
        return 0
    # Colour has fewer than brightness.
    shares: list[int] = [across * down for _, across, down, _ in layers]
    return 2 * size[0] * size[1] * sum(shares) // max(shares, default=1)


def _orientation(image: "Image.Image") -> int:
    if len(image.info.get("exif") or b"") > MAX_EXIF:
        return 1
    return cast("int", image.getexif().get(_ORIENTATION, 1))  # values of other types mean no orientation, too


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a picture as EXIF's orientation says, 1 to 8: mirrored, upside down, or its rows standing as columns."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
