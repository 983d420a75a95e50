"""Reading a bundle: its records and files, none of them trusted, and what to tell the user if they are unusable.

Paths are strings here and in `mnist_edge.runtime.model`: importing pathlib would take a sixth of the time that the
package adds to a cold start of onnxruntime.
"""

import errno
import os
import stat
from collections.abc import Callable
from os.path import exists, isdir, join
from typing import Final, cast

from mnist_edge.bundle import legacy
from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.decoding import decode_version, version_of
from mnist_edge.bundle.layout import (
    CHECKPOINT,
    EXPORTED,
    LARGEST_FILE,
    LARGEST_JSON,
    MANIFEST,
    TRAINING,
    WEIGHTS,
)
from mnist_edge.bundle.records import MANIFEST_VERSION, TRAINING_VERSION, Manifest, ModelRecord
from mnist_edge.errors import AlteredModelError, ModelFormatError, ModelNotFoundError

StrPath = str | os.PathLike[str]

MOST_NAMED: Final = 5
"""So many models are named where a folder of models is given for one."""


def train_first(folder: StrPath) -> str:
    """What to do if nothing has been trained yet."""
    return f"make it:  mnist-edge train --model … --out {folder}"


def train_anew(folder: StrPath) -> str:
    """What to do if a training, or its result, is unusable."""
    return f"train again:  mnist-edge train --overwrite --model … --out {folder}"


def retrain(folder: StrPath) -> str:
    """What to do if the first half of a bundle is missing, unfinished or unusable."""
    if not exists(join(folder, TRAINING)):
        if exists(join(folder, CHECKPOINT)):
            return f"its training is unfinished: wait for it, or resume it:  mnist-edge train --resume --out {folder}"
        if not any(exists(join(folder, name)) for name in (WEIGHTS, *EXPORTED)):
            return train_first(folder)
    return train_anew(folder)


def reexport(folder: StrPath) -> str:
    """What to do if the second half of a bundle is missing, unfinished or unusable."""
    if not exists(join(folder, MANIFEST)):
        if not exists(join(folder, TRAINING)):
            return retrain(folder)
        if any(exists(join(folder, name)) for name in EXPORTED):
            return f"its export is unfinished: wait for it, or export again:  mnist-edge export {folder}"
        return f"export it:  mnist-edge export {folder}"
    return f"export again:  mnist-edge export {folder}"


def is_bundle(path: StrPath) -> bool:
    """Whether a path is a bundle, perhaps an unfinished one."""
    return any(exists(join(path, name)) for name in (MANIFEST, TRAINING, CHECKPOINT, WEIGHTS))


def not_a_bundle(path: StrPath, others: str = "") -> ModelNotFoundError:
    """The error about a file or folder that is given for a bundle and is none; it says what is there instead.

    Args:
        path: the file or folder.
        others: what may be given instead of a bundle.
    """
    give = f"give a folder that mnist-edge train wrote{others}"
    if not isdir(path):
        return ModelNotFoundError(f"{path}: a file, not a bundle: {give}")
    if models := models_in(path):
        more = ", …" if len(models) > MOST_NAMED else ""
        return ModelNotFoundError(f"{path}: not a bundle, but holds: {', '.join(models[:MOST_NAMED])}{more}")
    return ModelNotFoundError(f"{path}: not a bundle (no {MANIFEST} or {TRAINING}): {give}")


def models_in(folder: StrPath) -> list[str]:
    """The paths of the bundles and ``.onnx`` files in a folder."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if entry.name.endswith(".onnx") or (entry.is_dir() and is_bundle(entry.path))
        )


def read_file(path: StrPath, remedy: str, most: int = LARGEST_FILE) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        ModelNotFoundError: it cannot be read; `remedy` is in the message.
        ModelFormatError: it is larger, or grows larger while it is read.
    """
    try:
        return _read_regular(path, remedy, most)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: no such file: {remedy}") from error
    except OSError as error:
        raise ModelNotFoundError(f"{path}: cannot be read ({error.strerror}): {remedy}") from error
    except ModelFormatError:
        raise
    except ValueError as error:  # NUL or half a surrogate pair
        raise ModelNotFoundError(f"{path!a:.200}: not a path ({error}): {remedy}") from error


def _read_regular(path: StrPath, remedy: str, most: int) -> bytes:
    # Without O_NONBLOCK, opening a FIFO that has no writer would block forever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        size = status.st_size
        if size <= most:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(most + 1)  # it may have grown, and reading on may never end
            size = len(content)
        if size > most:
            raise ModelFormatError(f"{path}: larger than the limit of {most:,} bytes: {remedy}")
        return content
    finally:
        os.close(descriptor)


def read_training(folder: StrPath) -> ModelRecord:
    """Read what `train` or `import` recorded, version 0.1.0 included. Raises ModelNotFoundError or ModelFormatError."""
    remedy, where = retrain(folder), join(folder, TRAINING)
    content = read_file(where, remedy, LARGEST_JSON)
    if version_of(content, where, remedy) == legacy.TRAINING_VERSION:
        return legacy.training_record(content, where, remedy)
    kind = cast("type[ModelRecord]", ModelRecord)  # msgspec takes a union, which is no type to a type checker
    return decode_version(content, kind, TRAINING_VERSION, where, remedy)


def read_manifest(folder: StrPath) -> Manifest:
    """Read what `export` recorded. Raises ModelNotFoundError or ModelFormatError."""
    remedy = reexport(folder)
    content = read_file(join(folder, MANIFEST), remedy, LARGEST_JSON)
    return decode_version(content, Manifest, MANIFEST_VERSION, join(folder, MANIFEST), remedy)


def require_paused(folder: StrPath) -> None:
    """Raise ModelNotFoundError if a folder holds no interrupted training."""
    if not exists(join(folder, CHECKPOINT)):
        raise ModelNotFoundError(f"{folder}: holds no interrupted training: leave out --resume to begin one")


def require_first_half(folder: StrPath, manifest: Manifest) -> None:
    """Raise ModelNotFoundError if a bundle holds only what a device needs, as the pretrained ones do."""
    if WEIGHTS not in manifest.files:
        raise ModelNotFoundError(
            f"{folder}: has no PyTorch model to compare with: verify the bundle it was made from, or run  "
            f"mnist-edge selftest {folder}"
        )


def read_verified(folder: StrPath, name: str, manifest: Manifest) -> bytes:
    """Read a file of a bundle and check it against the digest in the manifest.

    Raises:
        ModelNotFoundError: the file, or its entry in the manifest, is missing.
        AlteredModelError: the digest differs.
    """
    remedy = reexport(folder)
    entry = manifest.files.get(name)
    if entry is None:
        raise ModelNotFoundError(f"{join(folder, MANIFEST)}: lists no {name}: {remedy}")
    data = read_file(join(folder, name), remedy)
    actual = sha256(data)
    if actual != entry.sha256:
        raise AlteredModelError(
            f"{join(folder, name)}: altered since its export (SHA-256 {actual[:12]}…, the manifest says "
            f"{entry.sha256[:12]}…): {remedy}"
        )
    return data


def read_chosen(folder: StrPath, choose: Callable[[Manifest], str]) -> tuple[Manifest, str, bytes]:
    """Read a bundle's manifest and one of its files, consistently even if an export replaces both in between.

    Args:
        folder: the bundle.
        choose: takes the manifest and returns the name of the file to read.

    Returns:
        The manifest, the file's name, and its content, whose digest is the one in that manifest.

    Raises:
        ModelError: as `read_manifest`, `read_verified` and `choose` do.
    """
    manifest = read_manifest(folder)
    name = choose(manifest)
    try:
        return manifest, name, read_verified(folder, name, manifest)
    except (AlteredModelError, ModelNotFoundError):
        renewed = read_manifest(folder)
        if renewed == manifest:
            raise
        name = choose(renewed)
        return renewed, name, read_verified(folder, name, renewed)
