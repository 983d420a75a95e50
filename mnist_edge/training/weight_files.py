"""Read a file that should hold weights, without running what it holds, and say what it is if it holds none.

``torch.load(weights_only=True)`` runs no code, but it inflates whatever is compressed, and a tuple nested deeply enough
crashes the process. So the pickle is surveyed first (`mnist_edge.training.pickles`), and a zip archive is copied entry
by entry: torch sees only what was checked.
"""

import importlib
import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import LARGEST_FILE
from mnist_edge.errors import MissingExtraError, ModelFormatError
from mnist_edge.training import pickles
from mnist_edge.training.pickles import Survey

MOST_ENTRIES: Final = 20_000
"""In an archive; torch.save makes one a tensor, and a few more."""

WRITTEN: Final = 'give the file that  torch.save(model.state_dict(), "weights.pth")  wrote'

SAVE: Final = 'save the weights alone:  torch.save(model.state_dict(), "weights.pth")'

_LEGACY: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number with which torch.save began a file before it wrote zip archives."""

_PICKLES_IN_LEGACY: Final = 5
"""The number, the version, the machine, the object, and the names of its storages."""

_DOWNLOAD: Final = "download the file itself"
_CONVERT: Final = (
    f"load it with the program that wrote it, copy the arrays into the same network in PyTorch, and {SAVE}"
)

_KINDS: Final = (
    (rb"\Z", "an empty file", "copy or download it again"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file that it stands for", "run  git lfs pull"),
    (rb"(?i)\s*(<!doctype|<html|<\?xml|<head)", "a web page", f"{_DOWNLOAD}, not the page that shows it"),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras and TensorFlow write", _CONVERT),
    (rb"....TFL3", "a TensorFlow Lite file", _CONVERT),
    (
        rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]",
        "an ONNX file",
        "give the PyTorch weights that it was made from",
    ),
    (rb"\x93NUMPY", "a NumPy array", f"an array has no layers' names: load it into a network, and {SAVE}"),
    (
        rb"\x89PNG|\xff\xd8\xff|GIF8|BM....\0\0\0\0|RIFF....WEBP|II\*\0|MM\0\*",
        "an image",
        "give the weights of a model",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar",
        "a compressed file or archive",
        "unpack it",
    ),
)
"""How files begin (a pattern), what they are, and what to do."""


class _File(NamedTuple):
    path: Path

    remedy: str | None
    """What to do if it is unusable; None to advise what suits its content."""

    def unusable(self, what: str, advice: str) -> ModelFormatError:
        """The error that says what the file is instead of weights."""
        return ModelFormatError(f"{self.path}: {what}: {self.remedy or advice}")


def read(path: Path, remedy: str | None = None, most: int = LARGEST_FILE) -> tuple[bytes, Any]:
    """Read a file of weights: as torch.save writes it, old form or new, or safetensors.

    Args:
        path: the file.
        remedy: what error messages tell the user to do; None for a file from elsewhere, which may be safetensors.
        most: of how many bytes it may be.

    Returns:
        The file's content, and the object that it holds, on the CPU. Its tensors are not to be touched before layout,
        shape and device are checked: they may be expanded, sparse, quantized or without values. Its dictionaries may
        have attributes that hide their methods.

    Raises:
        ModelNotFoundError: there is no such file, or it is no regular file.
        ModelFormatError: it is too large, damaged or hostile, or something else than weights.
        MissingExtraError: it is in safetensors' form, and that package is not installed.
    """
    content = reading.read_file(path, remedy or WRITTEN, most)
    file = _File(path, remedy)
    if remedy is None and content[8:9] == b"{" and 0 < int.from_bytes(content[:8], "little") <= len(content) - 8:
        return content, _safetensors(file, content)
    if content.startswith(b"PK"):
        return content, _torch_load(file, *_unzipped(file, content))
    if content[2:].startswith(_LEGACY):
        survey = _surveyed(file, content, _PICKLES_IN_LEGACY)
        return content, _torch_load(file, content, survey)
    raise _foreign(file, content)


def _foreign(file: _File, content: bytes) -> ModelFormatError:
    """The error for a file that is neither of torch.save nor safetensors."""
    for pattern, what, advice in _KINDS:
        if re.match(pattern, content[:512], re.DOTALL):
            return file.unusable(what, advice)
    if content[:1] == b"\x80":
        survey = _surveyed(file, content, 1)
        return _dangerous(file, survey) or file.unusable(
            "a plain pickle, which may run code", f"where you trust it, load it with pickle, and {SAVE}"
        )
    if re.fullmatch(rb"[\t\n\r\x20-\x7e]+", content[:512]):
        return file.unusable("a text file", "give the file that torch.save wrote")
    return file.unusable("not a file that torch.save wrote, or damaged", SAVE)


def _unzipped(file: _File, content: bytes) -> tuple[bytes, Survey]:
    """A copy of an archive that torch.save wrote, and the survey of its pickle."""
    buffer = io.BytesIO()
    if content.count(b"PK\x01\x02") > MOST_ENTRIES:  # each begins so in the directory, which is read as a whole
        raise file.unusable("an archive of far more entries than weights need", SAVE)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(buffer, "w") as copy:
            entries = archive.infolist()
            names = [entry.filename.partition("/")[2] for entry in entries]
            _check_archive(file, [entry.filename for entry in entries], names)
            compressed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if compressed or sum(entry.file_size for entry in entries) > len(content) or len({*names}) < len(names):
                raise file.unusable(
                    "an archive with compressed or repeated entries, which torch.save does not write", SAVE
                )
            for entry in entries:
                copy.writestr(entry.filename, archive.read(entry))
            survey = _surveyed(file, archive.read(entries[names.index("data.pkl")]), 1)
    except ModelFormatError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise file.unusable(f"damaged or cut short ({error!s:.100})", "copy or download it again") from error
    return buffer.getvalue(), survey


def _check_archive(file: _File, whole: list[str], names: list[str]) -> None:
    """Raise an error that says what an archive is, by the names of its entries, if torch.save did not write it."""
    load = None
    if "constants.pkl" in names:
        what, load = "a TorchScript archive", f"torch.jit.load({file.path.name!r}).state_dict()"
    elif "archive_format" in names or "serialized_exported_program.json" in whole:
        what, load = "a program of torch.export", f"torch.export.load({file.path.name!r}).state_dict"
    elif all(name.endswith(".npy") for name in whole):
        arrays = f"numpy.load({file.path.name!r}).items()"
        what, load = "NumPy arrays", f"{{name: torch.from_numpy(array) for name, array in {arrays}}}"
    elif "model.weights.h5" in whole:
        raise file.unusable("a Keras file", _CONVERT)
    elif "data.pkl" not in names:
        raise file.unusable("a zip archive, but not of torch.save", "unpack it, and give the weights inside")
    if load:
        raise file.unusable(what, f'save the weights alone:  torch.save({load}, "weights.pth")')


def _surveyed(file: _File, content: bytes, count: int) -> Survey:
    try:
        return pickles.surveyed(content, count)
    except Exception as error:  # pickletools does not document what damaged pickles raise
        raise file.unusable("damaged or cut short", "copy or download it again") from error


_RUNS_CODE: Final = re.compile(
    r"(os|posix|nt|sys|subprocess|runpy|pty|shutil|socket|importlib|ctypes|webbrowser|__builtin__|builtins)\."
)
_HARMLESS: Final = re.compile(r"(__builtin__|builtins)\.(set|frozenset|bytearray|complex|slice|range|object)$")
"""Not weights, for most of them, but nothing to warn of either."""


def _dangerous(file: _File, survey: Survey) -> ModelFormatError | None:
    """The error for a pickle that would run code, or that is a whole module."""
    for name in survey.names:
        if _RUNS_CODE.match(name) and not _HARMLESS.match(name):
            return file.unusable(f"would run {name!r:.80} when it is loaded", "do not load it")
    if {"_modules", "_parameters"} <= survey.texts:
        load = f"torch.load({file.path.name!r}, weights_only=False).state_dict()"
        return file.unusable(
            "a whole pickled module, which runs code when loaded",
            f'where its class is, and if you trust it, save the weights alone:  torch.save({load}, "weights.pth")',
        )
    return None


def _torch_load(file: _File, content: bytes, survey: Survey) -> Any:
    refused = _dangerous(file, survey)
    if refused:
        raise refused
    if survey.foreign:
        raise file.unusable(f"holds {survey.foreign:.100} beside weights, which may run code", SAVE)
    if survey.fault:
        raise file.unusable(survey.fault, SAVE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old kinds of storage, and of protocols
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True, mmap=False)
    except MemoryError:
        raise
    except Exception as error:  # torch does not document what damaged or hostile files raise
        if survey.protocol != 2:
            raise file.unusable(
                f"pickled with protocol {survey.protocol}", "save it again without pickle_protocol="
            ) from error
        raise file.unusable("damaged, or holds what no state_dict does", SAVE) from error


def _safetensors(file: _File, content: bytes) -> Any:
    try:
        safetensors = importlib.import_module("safetensors.torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{file.path}: needs a package to be read: run  pip install safetensors") from error
    try:
        return safetensors.load(content)
    except MemoryError:
        raise
    except Exception as error:  # its SafetensorError derives from Exception alone
        raise file.unusable(f"not readable by safetensors ({error!s:.100})", "copy it again") from error
