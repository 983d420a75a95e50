"""A bundle: the folder that the stages hand to each other. Its file names, its manifest, digests, and atomic writes.

========================== ==================================================================
``model.pth``              the PyTorch state_dict
``training.json``          recipe, seed, data digests, metrics of every epoch, versions
``model.torchscript`` …    the exported forms, one file each (`Format`)
``manifest.json``          contract, provenance, and each file's digest, size, measured parity
========================== ==================================================================
"""

import hashlib
import json
import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from mnist_edge.contract import DIGEST_KEY
from mnist_edge.errors import AlteredModelError, ModelFormatError, ModelNotFoundError

ARTIFACTS: Final = Path("artifacts")
"""Where bundles go unless told otherwise, below the working directory."""

WEIGHTS: Final = "model.pth"
TRAINING: Final = "training.json"
MANIFEST: Final = "manifest.json"

TRAINING_VERSION: Final = 1
MANIFEST_VERSION: Final = 1


class Format(StrEnum):
    """The exported forms. Each is made by the module of `mnist_edge.export` that bears its name."""

    TORCHSCRIPT = "torchscript"
    ONNX = "onnx"
    INT8_DYNAMIC = "int8-dynamic"

    @property
    def file_name(self) -> str:
        """What the form's file is called in a bundle."""
        whole = self in (Format.TORCHSCRIPT, Format.ONNX)
        return f"model.{self}" if whole else f"model.{self}.onnx"


def sha256(data: bytes) -> str:
    """The digest of a file's content, in hex."""
    return hashlib.sha256(data).hexdigest()


# How protobuf writes a metadata entry whose value has 64 characters: its key, then field 2, then the length.
_SEAL: Final = DIGEST_KEY.encode() + b"\x12\x40"
UNSEALED: Final = "0" * 64
"""The value that a model's digest entry has before `seal`, and while the digest is taken."""


def seal(model: bytes) -> bytes:
    """Put into an ONNX file's metadata the digest of the file itself, taken with `UNSEALED` in the digest's place."""
    start = _seal_start(model)
    return model[:start] + sha256(model).encode() + model[start + len(UNSEALED) :]


def check_seal(model: bytes, name: str) -> None:
    """Hold an ONNX file against the digest in its own metadata. Needs no parser, so it can come before any.

    Raises:
        ModelFormatError: there is no digest, so it is not a model of ours.
        AlteredModelError: the digest differs.
    """
    try:
        start = _seal_start(model)
    except ValueError:
        raise ModelFormatError(f"{name}: not a model that mnist-edge exported, or cut short: export it again") from None
    sealed = model[start : start + len(UNSEALED)]
    unsealed = model[:start] + UNSEALED.encode() + model[start + len(UNSEALED) :]
    if sealed != sha256(unsealed).encode():
        raise AlteredModelError(f"{name}: altered since its export (its own digest differs): copy or export it again")


def _seal_start(model: bytes) -> int:
    return model.index(_SEAL) + len(_SEAL)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, its name holds either the old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp's files are its owner's alone
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_file(path: Path, remedy: str) -> bytes:
    """The content of a bundle's file; `remedy` tells what to do when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: no such file: {remedy}") from error
    except (NotADirectoryError, IsADirectoryError) as error:
        raise ModelNotFoundError(f"{path}: not a file: {remedy}") from error


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a bundle's file; raises ModelNotFoundError or ModelFormatError."""
    try:
        value = json.loads(read_file(path, remedy))
    except ValueError as error:
        raise ModelFormatError(f"{path}: not JSON ({error}): {remedy}") from error
    if not isinstance(value, dict):
        raise ModelFormatError(f"{path}: not a JSON object: {remedy}")
    return value


def read_training(folder: Path) -> dict[str, Any]:
    """What `train` recorded, complete as far as readers lean on it. Raises ModelNotFoundError or ModelFormatError."""
    remedy = f"train again:  mnist-edge train --out {folder}"
    training = read_json(folder / TRAINING, remedy)
    _require_version(training, TRAINING_VERSION, folder / TRAINING, remedy)
    shape = {
        "architecture": str,
        "parameters": int,
        "labels": list,
        "recipe": {"normalization": dict},
        "seed": int,
        "data": {"name": str, "source": str, "sha256": dict},
        "state_dict_sha256": str,
        "versions": dict,
    }
    _require_shape(training, shape, folder / TRAINING, remedy)
    return training


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, complete as far as readers lean on it. Raises ModelNotFoundError or ModelFormatError."""
    remedy = f"export again:  mnist-edge export {folder}"
    manifest = read_json(folder / MANIFEST, remedy)
    _require_version(manifest, MANIFEST_VERSION, folder / MANIFEST, remedy)
    shape = {"contract": dict, "provenance": {"state_dict_sha256": str}, "pytorch": dict, "files": dict}
    _require_shape(manifest, shape, folder / MANIFEST, remedy)
    for name, entry in manifest["files"].items():
        _require_shape({name: entry}, {name: {"sha256": str, "bytes": int}}, folder / MANIFEST, remedy)
    return manifest


def _require_version(value: dict[str, Any], version: int, path: Path, remedy: str) -> None:
    if value.get("version") != version:
        raise ModelFormatError(f"{path}: version {value.get('version')!r} instead of {version}: {remedy}")


def _require_shape(value: Any, shape: Any, path: Path, remedy: str) -> None:
    for key, kind in shape.items():
        part = value.get(key)
        if not isinstance(part, dict if isinstance(kind, dict) else kind):
            raise ModelFormatError(f"{path}: its {key!r} is missing or malformed: {remedy}")
        if isinstance(kind, dict):
            _require_shape(part, kind, path, remedy)


def read_verified(folder: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """The content of one of a bundle's files, which must be the one that its manifest lists.

    Raises:
        ModelNotFoundError: the file, or its entry in the manifest, is missing.
        AlteredModelError: the content's digest is not the listed one.
    """
    remedy = f"export again:  mnist-edge export {folder}"
    entry = manifest["files"].get(name)
    if entry is None:
        raise ModelNotFoundError(f"{folder / MANIFEST}: lists no {name}: {remedy}")
    data = read_file(folder / name, remedy)
    actual = sha256(data)
    if actual != entry["sha256"]:
        raise AlteredModelError(
            f"{folder / name}: altered since its export (SHA-256 {actual[:12]}…, the manifest says "
            f"{entry['sha256'][:12]}…): {remedy}"
        )
    return data
