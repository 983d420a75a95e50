"""What an ``.onnx`` file of ours holds, read from its bytes alone: nothing is run, and onnxruntime is not needed."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mnist_edge.bundle import checksum
from mnist_edge.bundle.decoding import decode, decode_version
from mnist_edge.bundle.layout import RUNNABLE, Format, format_named
from mnist_edge.bundle.records import Provenance
from mnist_edge.contract import CONTRACT_KEY, CONTRACT_VERSION, FORMAT_KEY, GOLDEN_KEY, PROVENANCE_KEY, Contract
from mnist_edge.errors import ModelFormatError
from mnist_edge.runtime.onnx_file.admission import VersionError, admit
from mnist_edge.runtime.onnx_file.messages import read_model
from mnist_edge.runtime.onnx_file.shapes import ShapeError, check
from mnist_edge.runtime.onnx_file.wire import MalformedError

if TYPE_CHECKING:
    from mnist_edge.runtime.golden import Golden

BATCH_BYTES: Final = 2**28
"""Memory that a batch may need. Of the pretrained models, 128 images need 66 MB."""

_REMEDY: Final = "export it again"
_DISTRUST: Final = "export it again; if it comes from somebody else, do not use it"


class Contents(Struct, frozen=True, dict=True):
    """The metadata of a file, and what its graph needs."""

    name: str
    """The path of the file, for messages."""

    contract: Contract
    provenance: Provenance
    format: Format

    bytes_per_image: int
    """The memory that the graph needs for each image of a batch, at most."""

    golden_json: str
    """The golden vectors as stored in the file; unpacked only on demand."""

    def at_once(self, most: int) -> int:
        """How many images to compute in one batch, of at most so many."""
        return max(1, min(most, BATCH_BYTES // self.bytes_per_image))

    @cached_property
    def golden(self) -> "Golden":
        """The golden vectors. Raises ModelFormatError if they are malformed."""
        from mnist_edge.runtime.golden import unpack

        return unpack(self.golden_json, len(self.contract.labels), self.name)


def read_contents(data: bytes, name: str, *, verified: bool = False) -> Contents:
    """Check a file's content and read its metadata.

    Args:
        data: the content.
        name: the file's path, for messages.
        verified: skip the checksum, because the content has already been checked against a manifest's digest.

    Raises:
        AlteredModelError: the checksum in the file does not match.
        ModelFormatError: it is not an mnist-edge model, breaks its contract, or holds what no file of ours does.
    """
    if not verified:
        checksum.check_checksum(data, name)
    try:
        model = read_model(data)
        contract, provenance, form = _metadata(model.metadata, name)
        admitted = admit(model)
        check(admitted.classes == len(contract.labels), f"{admitted.classes} logits for {len(contract.labels)} labels")
    except VersionError as error:
        raise ModelFormatError(f"{name}: is for {error}: upgrade mnist-edge, or {_REMEDY}") from error
    except (MalformedError, ShapeError) as error:
        raise ModelFormatError(f"{name}: holds what no model of mnist-edge does ({error}): {_DISTRUST}") from error
    return Contents(name, contract, provenance, form, admitted.bytes_per_image, model.metadata[GOLDEN_KEY])


def _metadata(found: Mapping[str, str], name: str) -> tuple[Contract, Provenance, Format]:
    try:
        contract = decode_version(found[CONTRACT_KEY], Contract, CONTRACT_VERSION, f"{name}: its contract", _REMEDY)
        provenance = decode(found[PROVENANCE_KEY], Provenance, f"{name}: its provenance", _REMEDY)
        found[GOLDEN_KEY]  # unpacked on demand
        return contract, provenance, format_named(found[FORMAT_KEY], RUNNABLE)
    except ModelFormatError:
        raise
    except (KeyError, ValueError) as error:
        raise ModelFormatError(f"{name}: its metadata is incomplete ({error!r:.200}): {_REMEDY}") from error
