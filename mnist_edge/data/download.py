"""Download the data sets known by name, once, and keep them as IDX folders in the user's cache.

They come from the mirrors that torchvision uses. One process at a time fetches a data set; the others wait for it. The
folder appears when everything in it has been checked and synced. QMNIST and EMNIST have formats of their own and are
turned into MNIST's.
"""

import contextlib
import hashlib
import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from mnist_edge.bundle.locking import locked
from mnist_edge.bundle.writing import place_folder
from mnist_edge.data import idx
from mnist_edge.data.gzipped import Unzipped
from mnist_edge.data.idx_folders import IDX_FILES, LABELS_FILE
from mnist_edge.errors import DataError, DataNotFoundError

if TYPE_CHECKING:
    from mnist_edge.data.fetching import OnBytes

NAMES: Final = ("mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-digits")
"""The names that `datasets.load` accepts."""

MIRRORS: Final[dict[str, tuple[str, ...]]] = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "kmnist": ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    "qmnist": ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
    "emnist-digits": ("https://biometrics.nist.gov/cs_links/EMNIST/",),
}
"""Base URLs of each data set's files, as in torchvision, tried in order."""

ROUNDS: Final = 2
"""How often every mirror is tried: most data sets have only one, and a connection that broke may hold the next time."""

MNIST_FILES: Final = tuple(f"{file}.gz" for pair in IDX_FILES.values() for file in pair)

FILES: Final[dict[str, tuple[str, ...]]] = {
    "qmnist": (
        "qmnist-train-images-idx3-ubyte.gz",
        "qmnist-train-labels-idx2-int.gz",
        "qmnist-test-images-idx3-ubyte.gz",
        "qmnist-test-labels-idx2-int.gz",
    ),
    "emnist-digits": ("gzip.zip",),
}
"""What the mirrors call the files of a data set, where it is not `MNIST_FILES`."""

MNIST_SIZES: Final = (47_040_016, 60_008, 7_840_016, 10_008)

SIZES: Final[dict[str, tuple[int, ...]]] = {
    "qmnist": (47_040_016, 1_920_012, 47_040_016, 1_920_012),
    "emnist-digits": (600_000_000,),  # a little more than it has
}
"""Bytes of each file once decompressed, where they are not `MNIST_SIZES`. Nothing larger is fetched or decompressed."""

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
    "qmnist": (
        "ed72d4157d28c017586c42bc6afe6370",
        "0058f8dd561b90ffdd0f734c6a30e5e4",
        "1394631089c404de565df7b7aeaf9412",
        "5b5b05890a5e13444e108efe57b788aa",
    ),
    "emnist-digits": ("58c8d27c78d21e728a6bc7b3cc06412e",),
}
"""MD5 of the files as they are fetched, as in torchvision."""

CLASSES: Final = {
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
"""Class names of the data sets whose classes are not the digits."""


def cache_folder(name: str) -> Path:
    """The folder, under the platform's cache directory, that holds the named data set once it is downloaded."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("mnist-edge", appauthor=False)) / "datasets" / name


def ensure(
    name: str, on_bytes: "OnBytes" = lambda url, done, total: None, on_wait: Callable[[], None] = lambda: None
) -> Path:
    """The cached IDX folder of a named data set, downloaded first if it is not there yet.

    Args:
        name: one of `NAMES`.
        on_bytes: called while a file is downloaded.
        on_wait: called if another process or thread is downloading it; then that one is waited for.

    Raises:
        DataNotFoundError: it is not in the cache, and cannot be downloaded or written to the cache.
    """
    folder = cache_folder(name)
    if folder.is_dir():
        return folder
    with _saving(name, folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent / f".{name}.lock"  # stays: the others may be waiting for it
        lock.touch()
        with locked(lock, on_wait) as alone:
            if alone:
                _remove_leftovers(name, folder.parent)
            if not folder.is_dir():  # nor has another process fetched it meanwhile
                _fetch(name, folder, on_bytes)
    return folder


@contextlib.contextmanager
def _saving(name: str, cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataNotFoundError(
            f"{name}: cannot be saved in {cache} ({error.strerror or error}): check its free space and "
            "permissions, or give --data with a folder that holds the four IDX files"
        ) from error


def _remove_leftovers(name: str, cache: Path) -> None:
    for leftover in cache.glob(f".{name}.*.part"):  # of killed processes
        shutil.rmtree(leftover, ignore_errors=True)


def _fetch(name: str, folder: Path, on_bytes: "OnBytes") -> None:
    with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".part", dir=folder.parent) as scratch:
        fetched, made = Path(scratch, "fetched"), Path(scratch, "made")
        fetched.mkdir()
        files, sizes = FILES.get(name, MNIST_FILES), SIZES.get(name, MNIST_SIZES)
        for file, digest, size in zip(files, MD5.get(name) or MNIST_DIGESTS.values(), sizes, strict=True):
            _fetch_file(name, fetched / file, digest, size, on_bytes)
        made.mkdir()
        match name:
            case "qmnist":
                _turn_qmnist(fetched, made)
            case "emnist-digits":
                _unpack_emnist(fetched, made)
            case _:
                for file in files:
                    (fetched / file).rename(made / file)
        if name in CLASSES:
            (made / LABELS_FILE).write_text("".join(f"{label}\n" for label in CLASSES[name]), encoding="utf-8")
        try:
            place_folder(made, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, where files cannot be locked
                raise


def _fetch_file(name: str, path: Path, digest: str, size: int, on_bytes: "OnBytes") -> None:
    from http.client import HTTPException
    from urllib.error import URLError

    from mnist_edge.data.fetching import fetch

    reasons: dict[str, str] = {}
    for mirror in MIRRORS[name] * ROUNDS:
        url = mirror + path.name
        with path.open("wb") as file:
            try:
                for block in fetch(url, size + size // 100 + 1000, on_bytes):  # gzip adds no more to any content
                    with _saving(name, path.parents[2]):
                        file.write(block)
                        file.flush()
                found = _digest_of(name, path, size)
            except DataError:
                raise
            except (OSError, HTTPException, EOFError, zlib.error) as error:
                what = str(error.reason if type(error) is URLError else error)  # str(URLError) adds <angle brackets>
                reasons[url] = " ".join(what.split())[:200] or type(error).__name__
            else:
                if found == digest:
                    return
                reasons[url] = f"wrong content, {found[:12]}… instead of {digest[:12]}…"
    told = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    raise DataNotFoundError(
        f"{name}: not in the cache and cannot be downloaded ({told}): connect to the network once, or give --data "
        "with a folder that holds the four IDX files"
    )


def _digest_of(name: str, path: Path, size: int) -> str:
    with path.open("rb") as file:
        if name in MD5:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return hashlib.sha256(_unzipped(file, size)).hexdigest()


def _unzipped(file: BinaryIO, size: int) -> bytes:
    content = io.BufferedReader(Unzipped(file)).read(size + 1)
    if len(content) > size:
        raise EOFError(f"more than {size:,} bytes once decompressed")
    return content


def _turn_qmnist(fetched: Path, made: Path) -> None:
    """Keep the first of a label's eight numbers: the class."""
    files = FILES["qmnist"]
    for (images_file, labels_file), images, labels in zip(IDX_FILES.values(), files[::2], files[1::2], strict=True):
        (fetched / images).rename(made / f"{images_file}.gz")
        with (fetched / labels).open("rb") as file:
            content = _unzipped(file, SIZES["qmnist"][1])
        classes = np.frombuffer(content, ">i4", offset=12).reshape(-1, 8)[:, 0].astype(np.uint8)
        (made / labels_file).write_bytes(idx.encode(classes))


def _unpack_emnist(fetched: Path, made: Path) -> None:
    """Keep the files of its digits, which `mnist_edge.data.idx_folders` reads as they are."""
    with zipfile.ZipFile(fetched / FILES["emnist-digits"][0]) as archive:
        for split in IDX_FILES:
            for kind in ("images-idx3", "labels-idx1"):
                file = f"emnist-digits-{split}-{kind}-ubyte.gz"
                with archive.open(f"gzip/{file}") as source, (made / file).open("wb") as target:
                    shutil.copyfileobj(source, target)
