"""A bundle: the folder that the stages hand to each other. Its file names, its records, digests, how it is read.

========================== ==================================================================
``model.pth``              the PyTorch state_dict
``training.json``          recipe, seed, data digests, metrics of every epoch, versions
``metrics.jsonl``          the metrics again, a line an epoch, for plots
``checkpoint.pth``         while a training is not finished: what it needs to go on
``model.torchscript`` …    the exported forms, one file each (`Format`)
``manifest.json``          contract, provenance, and each file's digest, size, measured parity
========================== ==================================================================
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from mnist_edge.contract import DIGEST_KEY, Contract
from mnist_edge.errors import AlteredModelError, ModelFormatError, ModelNotFoundError

ARTIFACTS: Final = Path("artifacts")
"""Where bundles go unless told otherwise, below the working directory."""

WEIGHTS: Final = "model.pth"
TRAINING: Final = "training.json"
METRICS: Final = "metrics.jsonl"
CHECKPOINT: Final = "checkpoint.pth"
MANIFEST: Final = "manifest.json"

TRAINING_VERSION: Final = 2
CHECKPOINT_VERSION: Final = 3
MANIFEST_VERSION: Final = 2

PROVENANCE: Final = {
    "architecture": str,
    "parameters": int,
    "recipe": {"epochs": int},
    "epochs": int,
    "seed": int,
    "data": {"name": str, "sha256": dict},
    "model_sha256": str,
    "trained_by": dict,
    "exported_by": dict,
}
"""What readers lean on in what a manifest or an exported file says of its origin, for `require_shape`."""


class Format(StrEnum):
    """The exported forms. Each is made by the module of `mnist_edge.export` that bears its name."""

    TORCHSCRIPT = "torchscript"
    ONNX = "onnx"
    INT8_DYNAMIC = "int8-dynamic"
    INT8_STATIC = "int8-static"

    @property
    def file_name(self) -> str:
        """What the form's file is called in a bundle."""
        whole = self in (Format.TORCHSCRIPT, Format.ONNX)
        return f"model.{self}" if whole else f"model.{self}.onnx"

    @property
    def is_onnx(self) -> bool:
        """Whether onnxruntime reads it."""
        return self.file_name.endswith(".onnx")


EXPORTED: Final = tuple(form.file_name for form in Format)
"""The names of the exported files."""

FILES: Final = (WEIGHTS, TRAINING, METRICS, CHECKPOINT, MANIFEST, *EXPORTED)
"""The names of all files of a bundle."""


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
    if model.startswith(b"PK"):
        raise ModelFormatError(f"{name}: a PyTorch or TorchScript file, the runtime reads .onnx: give  model.onnx")
    try:
        start = _seal_start(model)
    except ValueError:
        raise ModelFormatError(
            f"{name}: not a model that mnist-edge exported, or cut short: give one that  mnist-edge export  made"
        ) from None
    sealed = model[start : start + len(UNSEALED)]
    unsealed = model[:start] + UNSEALED.encode() + model[start + len(UNSEALED) :]
    if sealed != sha256(unsealed).encode():
        raise AlteredModelError(f"{name}: altered since its export (its own digest differs): copy or export it again")


def _seal_start(model: bytes) -> int:
    return model.index(_SEAL) + len(_SEAL)


def as_json(value: object) -> bytes:
    """A value as indented JSON, the way a bundle's files hold it."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def train_first(folder: Path) -> str:
    """What to do where nothing was trained yet."""
    return f"make it:  mnist-edge train --model … --out {folder}"


def train_anew(folder: Path) -> str:
    """What to do where a training, or what it left, is of no use."""
    return f"train again:  mnist-edge train --overwrite --model … --out {folder}"


def retrain(folder: Path) -> str:
    """What to do about the first half of a bundle: missing, unfinished, or of no use."""
    if not (folder / TRAINING).exists():
        if (folder / CHECKPOINT).exists():
            return f"its training is unfinished: wait for it, or go on:  mnist-edge train --resume --out {folder}"
        if not any((folder / name).exists() for name in (WEIGHTS, *EXPORTED)):
            return train_first(folder)
    return train_anew(folder)


def reexport(folder: Path) -> str:
    """What to do about the second half of a bundle: missing, unfinished, or of no use."""
    if not (folder / MANIFEST).exists():
        if not (folder / TRAINING).exists():
            return retrain(folder)
        if any((folder / name).exists() for name in EXPORTED):
            return f"its export is unfinished: wait for it, or export again:  mnist-edge export {folder}"
        return f"export it:  mnist-edge export {folder}"
    return f"export again:  mnist-edge export {folder}"


def read_file(path: Path, remedy: str) -> bytes:
    """The content of a bundle's file; `remedy` tells what to do when it is not there, or is no regular file."""
    try:
        return _read_regular(path)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: no such file: {remedy}") from error
    except OSError as error:
        raise ModelNotFoundError(f"{path}: not a file that can be read ({error.strerror}): {remedy}") from error


def _read_regular(path: Path) -> bytes:
    # Without O_NONBLOCK a FIFO to which nobody writes would keep us waiting for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


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
    remedy = retrain(folder)
    training = read_json(folder / TRAINING, remedy)
    _require_version(training, TRAINING_VERSION, folder / TRAINING, remedy)
    shape = {
        "architecture": str,
        "parameters": int,
        "labels": list,
        "framing": str,
        "recipe": {"normalization": dict, "held_out": int, "epochs": int},
        "finished": bool,
        "seed": int,
        "data": {"name": str, "source": str, "sha256": dict},
        "model_sha256": str,
        "epochs": list,
        "versions": dict,
    }
    require_shape(training, shape, folder / TRAINING, remedy)
    return training


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, complete as far as readers lean on it. Raises ModelNotFoundError or ModelFormatError."""
    remedy = reexport(folder)
    manifest = read_json(folder / MANIFEST, remedy)
    _require_version(manifest, MANIFEST_VERSION, folder / MANIFEST, remedy)
    shape: dict[str, Any] = {"contract": dict, "provenance": PROVENANCE, "pytorch": {"accuracy": float}, "files": dict}
    if "recommended" in manifest:
        shape |= {"recommended": {"file": str, "not": dict}, "measured": dict}
    require_shape(manifest, shape, folder / MANIFEST, remedy)
    require_shape(manifest["files"], dict.fromkeys(manifest["files"], dict), folder / MANIFEST, remedy)
    _require_known(manifest["files"], (WEIGHTS, TRAINING, *EXPORTED), folder / MANIFEST, remedy)
    if "recommended" in manifest:
        recommended = manifest["recommended"]
        named = (recommended["file"], *recommended["not"], *manifest["measured"])
        _require_known(named, EXPORTED, folder / MANIFEST, remedy)
        timed = {name: {"microseconds": float} for name in manifest["measured"]}
        require_shape(manifest["measured"], timed, folder / MANIFEST, remedy)
    for name, entry in manifest["files"].items():
        listed: dict[str, Any] = {"sha256": str, "bytes": int}
        if name not in (WEIGHTS, TRAINING):
            listed["parity"] = {"max_abs_diff": float, "flips": int, "agreement": float, "accuracy": float}
            if entry.get("calibration", "missing") is not None:
                listed["calibration"] = {
                    "temperature": float,
                    "images": int,
                    "error": float,
                    "error_uncalibrated": float,
                }
        require_shape({name: entry}, {name: listed}, folder / MANIFEST, remedy)
    try:
        Contract.from_dict(manifest["contract"])
    except ModelFormatError as error:
        raise ModelFormatError(f"{folder / MANIFEST}: {error}") from error
    return manifest


def require_first_half(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise ModelNotFoundError where a bundle is only what a device needs, as the pretrained ones are."""
    if WEIGHTS not in manifest["files"]:
        raise ModelNotFoundError(
            f"{folder}: has no PyTorch model to compare with: verify the bundle it was made from, or run  "
            f"mnist-edge selftest {folder}"
        )


def _require_known(names: Iterable[str], known: Collection[str], path: Path, remedy: str) -> None:
    # A name from a manifest becomes a path: it must not lead elsewhere.
    for name in names:
        if name not in known:
            raise ModelFormatError(f"{path}: names {name!r:.80}, which is no file of a bundle: {remedy}")


def _require_version(value: dict[str, Any], version: int, path: Path, remedy: str) -> None:
    if value.get("version") != version:
        raise ModelFormatError(f"{path}: version {value.get('version')!r} instead of {version}: {remedy}")


def require_shape(value: Any, shape: Any, path: Path, remedy: str) -> None:
    """Raise ModelFormatError where a JSON object lacks a key of `shape`, or has something of another type there."""
    for key, kind in shape.items():
        part = value.get(key)
        if not isinstance(part, dict if isinstance(kind, dict) else kind):
            raise ModelFormatError(f"{path}: its {key!r} is missing or malformed: {remedy}")
        if isinstance(kind, dict):
            require_shape(part, kind, path, remedy)


def read_verified(folder: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """The content of one of a bundle's files, which must be the one that its manifest lists.

    Raises:
        ModelNotFoundError: the file, or its entry in the manifest, is missing.
        AlteredModelError: the content's digest is not the listed one.
    """
    remedy = reexport(folder)
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


def read_chosen(folder: Path, choose: Callable[[dict[str, Any]], str]) -> tuple[dict[str, Any], str, bytes]:
    """A bundle's manifest and one of its files, also where both are exported anew between the two readings.

    Args:
        folder: the bundle's.
        choose: given the manifest, names the file.

    Returns:
        The manifest, the file's name and its content, which is the one that this manifest lists.

    Raises:
        ModelError: as `read_manifest` and `read_verified` do, and what `choose` raises.
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
