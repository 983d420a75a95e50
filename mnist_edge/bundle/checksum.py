"""SHA-256 digests, and the checksum that an exported ONNX file carries in its own metadata.

The checksum detects accidents only: anyone who changes a file on purpose can recompute it.
"""

import hashlib
from typing import Final

from mnist_edge.contract import CHECKSUM_KEY
from mnist_edge.errors import AlteredModelError, ModelFormatError


def sha256(data: bytes) -> str:
    """The SHA-256 of a file's content, in hex."""
    return hashlib.sha256(data).hexdigest()


# How protobuf encodes a metadata entry with a value of 64 characters: its key, the tag of field 2, the length.
_ENTRY: Final = CHECKSUM_KEY.encode() + b"\x12\x40"
UNSET_CHECKSUM: Final = "0" * 64
"""Placeholder in the checksum's place before `with_checksum`, and while the digest is computed."""


def with_checksum(model: bytes) -> bytes:
    """Replace `UNSET_CHECKSUM` in an ONNX file's metadata with the file's digest, computed before the replacement."""
    start = _checksum_start(model)
    return model[:start] + sha256(model).encode() + model[start + len(UNSET_CHECKSUM) :]


def check_checksum(model: bytes, name: str) -> None:
    """Check an ONNX file against its own checksum. Needs no parser, so it can run before one sees the file.

    Raises:
        ModelFormatError: there is no checksum, so mnist-edge did not export the file.
        AlteredModelError: the checksum does not match.
    """
    if model.startswith(b"PK"):
        raise ModelFormatError(f"{name}: a PyTorch or TorchScript file, but the runtime reads .onnx: give  model.onnx")
    try:
        start = _checksum_start(model)
    except ValueError:
        raise ModelFormatError(
            f"{name}: not a model that mnist-edge exported, or cut short: give a file made by  mnist-edge export"
        ) from None
    stored = model[start : start + len(UNSET_CHECKSUM)]
    blank = model[:start] + UNSET_CHECKSUM.encode() + model[start + len(UNSET_CHECKSUM) :]
    if stored != sha256(blank).encode():
        raise AlteredModelError(
            f"{name}: altered since its export (its checksum does not match): copy or export it again"
        )


def _checksum_start(model: bytes) -> int:
    return model.index(_ENTRY) + len(_ENTRY)
