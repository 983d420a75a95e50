"""A bundle: the folder that the stages hand to each other. Its file names, its manifest, digests, and atomic writes.

========================== ==================================================================
``model.pth``              the PyTorch state_dict
``training.json``          recipe, seed, data digests, metrics of every epoch, versions
``metrics.jsonl``          the metrics again, a line an epoch, for plots
``checkpoint.pth``         while a training is not finished: what it needs to go on
``model.torchscript`` …    the exported forms, one file each (`Format`)
``manifest.json``          contract, provenance, and each file's digest, size, measured parity
========================== ==================================================================
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

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
        raise ModelFormatError(f"{name}: not a model that mnist-edge exported, or cut short: export it again") from None
    sealed = model[start : start + len(UNSEALED)]
    unsealed = model[:start] + UNSEALED.encode() + model[start + len(UNSEALED) :]
    if sealed != sha256(unsealed).encode():
        raise AlteredModelError(f"{name}: altered since its export (its own digest differs): copy or export it again")


def _seal_start(model: bytes) -> int:
    return model.index(_SEAL) + len(_SEAL)


class Staging:
    """Files written beside their names in a folder, then put in place together, or not at all.

    Leaving the context removes what was not committed. An interrupt waits until a commit is through; only a machine
    that stops between two renames leaves a mixture, and then the digests tell.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staged: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for scratch in self._staged.values():
            scratch.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> Path:
        """Write the future content of a file beside it; returns where."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f".{name}.{os.urandom(16).hex()}"
        self._staged[name] = scratch
        with scratch.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return scratch

    def commit(self, remove: Iterable[str] = ()) -> None:
        """Give every staged file its name, then remove the files that these make obsolete."""
        with _interrupts_held():
            for name, scratch in self._staged.items():
                scratch.replace(self._folder / name)
            self._staged.clear()
            for name in remove:
                (self._folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    import signal  # only writers need it, and readers start faster without

    if threading.current_thread() is not threading.main_thread():  # only the main one is interrupted
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received:
        raise KeyboardInterrupt


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, its name holds either the old content or all of the new."""
    with Staging(path.parent) as staging:
        staging.add(path.name, data)
        staging.commit()


def as_json(value: object) -> bytes:
    """A value as indented JSON, the way a bundle's files hold it."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def retrain(folder: Path) -> str:
    """What to do about the first half of a bundle."""
    return f"train again:  mnist-edge train --model … --out {folder}"


def reexport(folder: Path) -> str:
    """What to do about the second half of a bundle."""
    return f"export again:  mnist-edge export {folder}"


def read_file(path: Path, remedy: str) -> bytes:
    """The content of a bundle's file; `remedy` tells what to do when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path}: no such file: {remedy}") from error
    except OSError as error:
        raise ModelNotFoundError(f"{path}: not a file that can be read ({error.strerror}): {remedy}") from error


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
    if "recommended" in manifest:
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
