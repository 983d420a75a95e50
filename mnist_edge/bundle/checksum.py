"""Digests of files, and the checksum that an ONNX file carries of itself.

It finds accidents: whoever changes a file on purpose can compute it anew.
"""

import hashlib
from typing import Final

from mnist_edge.contract import CHECKSUM_KEY
from mnist_edge.errors import AlteredModelError, ModelFormatError


def sha256(data: bytes) -> str:
    """The digest of a file's content, in hex."""
    return hashlib.sha256(data).hexdigest()


# How protobuf writes a metadata entry whose value has 64 characters: its key, then field 2, then the length.
_ENTRY: Final = CHECKSUM_KEY.encode() + b"\x12\x40"
UNSET_CHECKSUM: Final = "0" * 64
"""The value that a model's digest entry has before `with_checksum`, and while the digest is taken."""


def with_checksum(model: bytes) -> bytes:
    """Put into an ONNX file's metadata its own digest, which is taken with `UNSET_CHECKSUM` in the digest's place."""
    start = _checksum_start(model)
    return model[:start] + sha256(model).encode() + model[start + len(UNSET_CHECKSUM) :]


def check_checksum(model: bytes, name: str) -> None:
    """Hold an ONNX file against the digest in its own metadata. Needs no parser, so it can come before any.

    Raises:
        ModelFormatError: there is no digest, so it is not a model of ours.
        AlteredModelError: the digest differs.
    """
    if model.startswith(b"PK"):
        raise ModelFormatError(f"{name}: a PyTorch or TorchScript file, the runtime reads .onnx: give  model.onnx")
    try:
        start = _checksum_start(model)
    except ValueError:
        raise ModelFormatError(
            f"{name}: not a model that mnist-edge exported, or cut short: give one that  mnist-edge export  made"
        ) from None
    stored = model[start : start + len(UNSET_CHECKSUM)]
    blank = model[:start] + UNSET_CHECKSUM.encode() + model[start + len(UNSET_CHECKSUM) :]
    if stored != sha256(blank).encode():
        raise AlteredModelError(f"{name}: altered since its export (its own digest differs): copy or export it again")


def _checksum_start(model: bytes) -> int:
    return model.index(_ENTRY) + len(_ENTRY)
