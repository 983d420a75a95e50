"""Describe a bundle or a single ``.onnx`` file."""

import os
from enum import StrEnum
from pathlib import Path

from msgspec import UNSET, Struct, UnsetType, structs

from mnist_edge.bundle import reading
from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.records import File, Latency, Manifest, Provenance, PyTorch, Recommendation
from mnist_edge.contract import Contract
from mnist_edge.errors import AlteredModelError, ModelNotFoundError
from mnist_edge.runtime.contents import read_contents
from mnist_edge.runtime.model import file_that_answers, locate


class State(StrEnum):
    """Whether a file is the one that was exported."""

    INTACT = "intact"
    ALTERED = "altered"
    MISSING = "missing"


class DescribedFile(File, frozen=True, kw_only=True):
    """A file and its state."""

    state: State


class Description(Struct, frozen=True, kw_only=True):
    """The result of `describe`."""

    contract: Contract
    provenance: Provenance
    pytorch: PyTorch | UnsetType = UNSET
    recommended: Recommendation | UnsetType = UNSET
    measured: dict[str, Latency] | UnsetType = UNSET

    answers: str | None
    """The name of the file that `Classifier` runs by default; None if there is none."""

    files: dict[str, DescribedFile]


def describe(target: str | os.PathLike[str]) -> Description:
    """Describe a model: contract, provenance, and each file's size, digest, state and, in a bundle, measured parity.

    Raises:
        ModelError: `target` is no bundle or ``.onnx`` file, cannot be read, or is a single file that was altered.
    """
    path = Path(locate(target))
    if not path.is_dir():
        return _single(path)
    manifest = reading.read_manifest(path)
    files = _files(path, manifest)
    if any(file.state is not State.INTACT for file in files.values()):
        renewed = reading.read_manifest(path)
        if renewed != manifest:  # re-exported between the two reads
            manifest, files = renewed, _files(path, renewed)
    return Description(
        contract=manifest.contract,
        provenance=manifest.provenance,
        pytorch=manifest.pytorch,
        recommended=manifest.recommended,
        measured=manifest.measured,
        answers=_answers(path, manifest),
        files=files,
    )


def _single(path: Path) -> Description:
    data = reading.read_file(path, "give a bundle or an .onnx file")
    found = read_contents(data, str(path))
    file = DescribedFile(sha256=sha256(data), bytes=len(data), state=State.INTACT, format=found.format)
    return Description(contract=found.contract, provenance=found.provenance, answers=path.name, files={path.name: file})


def _answers(folder: Path, manifest: Manifest) -> str | None:
    try:
        return file_that_answers(folder, manifest)
    except ModelNotFoundError:
        return None


def _files(folder: Path, manifest: Manifest) -> dict[str, DescribedFile]:
    return {
        name: DescribedFile(**structs.asdict(file), state=_state(folder, name, manifest))
        for name, file in manifest.files.items()
    }


def _state(folder: Path, name: str, manifest: Manifest) -> State:
    try:
        reading.read_verified(folder, name, manifest)
    except AlteredModelError:
        return State.ALTERED
    except ModelNotFoundError:
        return State.MISSING
    return State.INTACT
