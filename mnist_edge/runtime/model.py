"""Opening an exported model: the bytes are verified first, then loaded, then held against their contract."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mnist_edge import bundle
from mnist_edge.bundle import Format
from mnist_edge.contract import (
    BATCH_AXIS,
    CONTRACT_KEY,
    FORMAT_KEY,
    GOLDEN_KEY,
    HEIGHT,
    INPUT_NAME,
    OUTPUT_NAME,
    PROVENANCE_KEY,
    WIDTH,
    Contract,
)
from mnist_edge.errors import ModelFormatError, ModelNotFoundError, UsageError
from mnist_edge.runtime.session import Session

if TYPE_CHECKING:
    from mnist_edge.runtime.golden import Golden

PRETRAINED: Final = Path(__file__).parents[1] / "pretrained"
"""The bundles that come with the package, one folder a name."""

DEFAULT_PRETRAINED: Final = "cnn"

FORMATS: Final = tuple(form for form in Format if form.is_onnx)
"""The formats that onnxruntime runs."""


@dataclass(frozen=True)
class Model:
    """A session and what its file says of itself."""

    name: str
    """The path that it was read from, for messages."""

    session: Session
    contract: Contract
    provenance: dict[str, Any]

    format: Format | None
    """None where the file does not say."""

    golden_json: str
    """The golden vectors as the file holds them: unpacked only when they are asked for."""

    @cached_property
    def golden(self) -> "Golden":
        """The golden vectors. Raises ModelFormatError where they are malformed."""
        from mnist_edge.runtime.golden import Golden

        try:
            packed = json.loads(self.golden_json)
        except ValueError as error:
            raise _incomplete(self.name, error) from error
        return Golden.from_dict(packed, len(self.contract.labels))

    def __reduce__(self) -> tuple[Callable[..., "Model"], tuple[bytes, str]]:
        """Pickles and copies carry the file's bytes, which are verified again where they arrive."""
        return partial(load, optimize=self.session.optimize), (self.session.model, self.name)


def open_model(source: str | os.PathLike[str] | None = None, *, format: str | None = None) -> Model:  # noqa: A002  # its name everywhere
    """Read, verify and load a model.

    Args:
        source: a bundle, one ``.onnx`` file, or the name of a pretrained model; None for the default pretrained one.
        format: which of a bundle's files, one of `FORMATS`; None for `file_that_answers`. A single file must be of it.

    Raises:
        ModelNotFoundError: nothing there.
        ModelFormatError: not a model of ours, or one that does not keep its contract.
        AlteredModelError: not the file that was exported.
        UsageError: no such format, or not the single file's own.
    """
    wanted = None if format is None else checked_format(format)
    path = locate(source)
    if not path.is_dir():
        model = load(
            bundle.read_file(path, "give a bundle, an .onnx file or the name of a pretrained model"), str(path)
        )
        if wanted is not None and wanted is not model.format:
            own = model.format or "of a format that it does not name"
            raise UsageError(f"{path}: is {own}, not {wanted}: leave the format out, or name another file")
        return model
    manifest, name, data = bundle.read_chosen(path, partial(file_that_answers, path, wanted=wanted))
    # The manifest's digest has vouched for every byte, the file's own among them.
    model = load(data, str(path / name), verified=True)
    # The manifest's contract is what all files share; a calibration is a file's own.
    if replace(model.contract, calibration=None).as_dict() != manifest["contract"]:
        raise ModelFormatError(
            f"{path}: {bundle.MANIFEST} and {name} hold different contracts: {bundle.reexport(path)}"
        )
    return model


def checked_format(name: str) -> Format:
    """The format of that name. Raises UsageError where onnxruntime runs none of that name."""
    if name in FORMATS:
        return Format(name)
    choices = ", ".join(FORMATS)
    if name in tuple(Format):
        raise UsageError(f"{name} is not run by onnxruntime: choose from {choices}")
    raise UsageError(f"unknown format {name!r:.80}: choose from {choices}")


def file_that_answers(folder: Path, manifest: dict[str, Any], *, wanted: Format | None = None) -> str:
    """The name of the file in a bundle that answers.

    It is the one of the wanted format; else the one that the manifest recommends, else ``model.onnx``, else the only
    one that onnxruntime runs. The manifest decides and never the device, so that a bundle gives the same answers
    everywhere.

    Raises:
        ModelNotFoundError: the manifest lists none, or several without ``model.onnx``.
    """
    listed = [form.file_name for form in FORMATS if form.file_name in manifest["files"]]
    if wanted is not None:
        if wanted.file_name in listed:
            return wanted.file_name
        raise ModelNotFoundError(
            f"{folder}: was exported without {wanted.file_name}: leave the format out, or "
            f"run  mnist-edge export {folder} --formats {wanted}"
        )
    recommended = manifest.get("recommended", {}).get("file")
    for name in (recommended, Format.ONNX.file_name):
        if name in listed:
            return str(name)
    if len(listed) == 1:
        return listed[0]
    if listed:
        raise ModelNotFoundError(f"{folder}: holds {' and '.join(listed)}: name one with format (--format)")
    raise ModelNotFoundError(
        f"{folder}: was exported without a file that onnxruntime runs: {bundle.reexport(folder)} --formats onnx"
    )


def load(data: bytes, name: str, *, optimize: bool = True, verified: bool = False) -> Model:
    """Load an ``.onnx`` file's content after checking the digest that it carries.

    Args:
        data: the content.
        name: the file's path, for messages.
        optimize: whether onnxruntime may rewrite the graph.
        verified: a manifest's digest has been checked already.

    Raises:
        ModelError: as `open_model` does.
    """
    if not verified:
        bundle.check_seal(data, name)
    session = Session(data, optimize=optimize)
    metadata = session.metadata()
    try:
        contract = Contract.from_dict(json.loads(metadata[CONTRACT_KEY]))
        provenance = json.loads(metadata[PROVENANCE_KEY])
        bundle.require_shape(
            {"provenance": provenance}, {"provenance": bundle.PROVENANCE}, Path(name), "export it again"
        )
        form = Format(metadata[FORMAT_KEY]) if FORMAT_KEY in metadata else None
        model = Model(name, session, contract, provenance, form, metadata[GOLDEN_KEY])
    except (KeyError, ValueError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise _incomplete(name, error) from error
    check_signature(session, contract, name)
    return model


def _incomplete(name: str, error: Exception) -> ModelFormatError:
    return ModelFormatError(f"{name}: its metadata are incomplete ({error!r}): export it again")


def locate(source: str | os.PathLike[str] | None) -> Path:
    """The path of a bundle, of an ``.onnx`` file, or of the pretrained model of that name.

    A bare word that is the name of a pretrained model means that model, also where a file or folder is called so:
    ``./cnn`` is the folder, and so is a `Path`.

    Raises:
        ModelNotFoundError: nothing there.
        UsageError: it is neither a path nor a name.
    """
    if source is None:
        source = DEFAULT_PRETRAINED
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise UsageError(f"a model is a path or a name, not {source!r:.80}")
    if isinstance(source, str) and is_pretrained(source):
        return PRETRAINED / source
    if os.path.exists(source):  # noqa: PTH110  # Path.exists raises on over-long names
        return Path(source)
    raise ModelNotFoundError(
        f"{source}: no such bundle, .onnx file or pretrained model: check the path, or make one with  mnist-edge train"
    )


def is_pretrained(name: str) -> bool:
    """Whether a pretrained model of that name comes with the package."""
    bare = os.path.basename(name) == name and name not in (os.curdir, os.pardir, "")  # noqa: PTH119
    return bare and os.path.isfile(PRETRAINED / name / bundle.MANIFEST)  # noqa: PTH113


def check_signature(session: Session, contract: Contract, name: str) -> None:
    """Raise ModelFormatError where a graph's tensors are not those of its contract."""
    actual = session.signature()
    promised = [
        (INPUT_NAME, "tensor(uint8)", [BATCH_AXIS, 1, HEIGHT, WIDTH]),
        (OUTPUT_NAME, "tensor(float)", [BATCH_AXIS, len(contract.labels)]),
    ]
    if actual != promised:
        raise ModelFormatError(f"{name}: takes and returns {actual}, its contract says {promised}: export it again")
