"""Download the data sets known by name, once, and keep them as IDX folders in the user's cache.

Those published as MNIST's four files are fetched with the standard library, from the mirrors that torchvision uses.
QMNIST and EMNIST have formats of their own, so torchvision downloads and reads them.
"""

import gzip
import hashlib
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.writing import write_atomically
from mnist_edge.contract import DIGITS
from mnist_edge.data import idx
from mnist_edge.data.idx_folders import IDX_FILES, LABELS_FILE
from mnist_edge.errors import DataError, DataNotFoundError
from mnist_edge.extras import require

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

NAMES: Final = ("mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-digits")
"""The names that `datasets.load` accepts."""

MIRRORS: Final[dict[str, tuple[str, ...]]] = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "kmnist": ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
}
"""Base URLs of each data set's four gzipped files, as in torchvision, tried in order."""

MNIST_DIGESTS: Final[Mapping[str, str]] = {
    "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of MNIST's four files, decompressed."""

MD5: Final[dict[str, tuple[str, ...]]] = {
    "fashion-mnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "kmnist": (
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
}
"""MD5 of the gzipped files, as in torchvision, in the order of `IDX_FILES`."""

CLASSES: Final = {
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
"""Class names of the data sets whose classes are not the digits."""

TIMEOUT: Final = 30.0
"""Seconds within which a server must answer, and then send each further `LEAST` bytes."""

LEAST: Final = 30_000

MOST: Final = 100_000_000
"""Maximum size of a file in bytes, compressed or not: about twice the largest."""

_BLOCK: Final = 1 << 16

OnBytes = Callable[[str, int, int | None], None]
"""Called while a file is downloaded, with its URL, the bytes received so far, and the total if known."""


def cache_folder(name: str) -> Path:
    """The folder, under the platform's cache directory, that holds the named data set once it is downloaded."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("mnist-edge", appauthor=False)) / "datasets" / name


def ensure(name: str, on_bytes: OnBytes = lambda url, done, total: None) -> Path:
    """The cached IDX folder of a named data set, downloaded first if it is not there yet.

    Raises:
        DataNotFoundError: it is not in the cache, and cannot be downloaded or written to the cache.
        MissingExtraError: torchvision is needed for it and not installed.
    """
    folder = cache_folder(name)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            complete = Path(scratch) / name
            complete.mkdir()
            if name in MIRRORS:
                _fetch(name, complete, on_bytes)
            else:
                _fetch_by_torchvision(name, Path(scratch) / "torchvision", complete)
            try:
                complete.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster, and its copy is as good
                    raise
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataNotFoundError(
            f"{name}: cannot be saved in {folder.parent} ({error.strerror or error}): check its free space and "
            "permissions, or give --data with a folder that holds the four IDX files"
        ) from error
    return folder


def _fetch(name: str, folder: Path, on_bytes: OnBytes) -> None:
    digests = MD5.get(name) or tuple(MNIST_DIGESTS.values())
    files = [file for pair in IDX_FILES.values() for file in pair]
    for file, expected in zip(files, digests, strict=True):
        write_atomically(folder / f"{file}.gz", _from_a_mirror(name, f"{file}.gz", expected, on_bytes))
    if name in CLASSES:
        _write_labels(folder, CLASSES[name])


def _from_a_mirror(name: str, file: str, expected: str, on_bytes: OnBytes) -> bytes:
    from http.client import HTTPException
    from urllib.error import URLError

    reasons = []
    for mirror in MIRRORS[name]:
        try:
            content = _get(mirror + file, on_bytes)
            found = _md5(content) if name in MD5 else sha256(_decompressed(content))
        except (OSError, HTTPException, EOFError, zlib.error) as error:
            what = str(error.reason if type(error) is URLError else error)  # str(URLError) adds <angle brackets>
            reasons.append(f"{mirror}{file}: {' '.join(what.split())[:200] or type(error).__name__}")
        else:
            if found == expected:
                return content
            reasons.append(f"{mirror}{file}: wrong content, {found[:12]}… instead of {expected[:12]}…")
    raise _not_to_be_had(name, "; ".join(reasons))


def _get(url: str, on_bytes: OnBytes) -> bytes:
    """The content of a URL. Raises OSError or HTTPException if it is incomplete, too large or too slow."""
    from urllib.request import Request, urlopen

    request = Request(url, headers={"User-Agent": "mnist-edge"})  # noqa: S310  # one of `MIRRORS`, http or https
    with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        content = bytearray()
        # The socket's timeout alone never ends a download that sends a byte now and then.
        deadline, due = time.monotonic() + TIMEOUT, LEAST
        while block := response.read1(_BLOCK):
            content += block
            on_bytes(url, len(content), total)
            if len(content) > MOST:
                raise OSError(f"more than {MOST:,} bytes")
            if len(content) >= due:
                deadline, due = time.monotonic() + TIMEOUT, len(content) + LEAST
            elif time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {LEAST:,} bytes in {TIMEOUT:g} s")
    if total is not None and len(content) != total:
        raise OSError(f"ended after {len(content):,} of {total:,} bytes")
    return bytes(content)


def _decompressed(content: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    data = inflate.decompress(content, MOST)
    if not inflate.eof:
        raise EOFError("cut short, or too large once decompressed")
    return data


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _not_to_be_had(name: str, reason: str) -> DataNotFoundError:
    return DataNotFoundError(
        f"{name}: not in the cache and cannot be downloaded ({reason}): connect to the network once, or give --data "
        "with a folder that holds the four IDX files"
    )


def _fetch_by_torchvision(name: str, root: Path, folder: Path) -> None:
    from http.client import HTTPException
    from zipfile import BadZipFile

    datasets = require("torchvision.datasets", extra="train")
    for split, (images_file, labels_file) in IDX_FILES.items():
        try:
            data = _open(datasets, name, root=root, train=split == "train", download=True)
        except (RuntimeError, OSError, HTTPException, BadZipFile) as error:  # unreachable, or damaged content
            raise _not_to_be_had(name, str(error).partition("\n")[0].rstrip(":") or type(error).__name__) from error
        images, labels = data.data.numpy(), data.targets.numpy()
        if labels.ndim == 2:  # QMNIST: the first column is the class
            labels = labels[:, 0]
        if name == "emnist-digits":  # EMNIST stores its images column by column
            images = images.transpose(0, 2, 1)
        for file, array in ((images_file, images), (labels_file, labels.astype("uint8"))):
            write_atomically(folder / f"{file}.gz", gzip.compress(idx.encode(array), compresslevel=6, mtime=0))
    _write_labels(folder, _labels(data))


def _write_labels(folder: Path, labels: tuple[str, ...]) -> None:
    write_atomically(folder / LABELS_FILE, "".join(f"{label}\n" for label in labels).encode())


def _open(datasets: Any, name: str, **options: Any) -> "MNIST":
    match name:
        case "qmnist":
            data = datasets.QMNIST(**options)
        case "emnist-digits":
            data = datasets.EMNIST(split="digits", **options)
        case _:
            raise AssertionError(f"{name!r} is not one of {NAMES}")
    return data


def _labels(data: "MNIST") -> tuple[str, ...]:
    # QMNIST calls its classes "0 - zero" and so on.
    return DIGITS if data.classes[0].startswith("0") else tuple(data.classes)
