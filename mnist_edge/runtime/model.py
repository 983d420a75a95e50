"""Open an exported model: verify its bytes, load it, and check it against its contract."""

import os
from collections.abc import Callable
from functools import cached_property, partial
from os.path import basename, dirname, exists, isdir, isfile, join
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, structs

from mnist_edge.bundle import checksum, layout, reading
from mnist_edge.bundle.decoding import decode, decode_version
from mnist_edge.bundle.layout import RUNNABLE, Format, format_named
from mnist_edge.bundle.reading import StrPath
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Manifest, Provenance
from mnist_edge.contract import (
    BATCH_AXIS,
    CONTRACT_KEY,
    CONTRACT_VERSION,
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
from mnist_edge.names import did_you_mean, near
from mnist_edge.runtime.session import Session

if TYPE_CHECKING:
    from mnist_edge.runtime.golden import Golden

PRETRAINED: Final = join(dirname(dirname(__file__)), "pretrained")
"""The bundles that ship with the package, one folder per name."""

DEFAULT_PRETRAINED: Final = "cnn"


class Model(Struct, frozen=True, dict=True):
    """A session and its file's metadata."""

    name: str
    """The path of the file."""

    session: Session
    contract: Contract
    provenance: Provenance
    format: Format

    golden_json: str
    """The golden vectors as stored in the file; unpacked only on demand."""

    @cached_property
    def golden(self) -> "Golden":
        """The golden vectors. Raises ModelFormatError if they are malformed."""
        from mnist_edge.runtime.golden import unpack

        return unpack(self.golden_json, len(self.contract.labels), self.name)

    def __reduce__(self) -> tuple[Callable[..., "Model"], tuple[bytes, str]]:
        """Pickles and copies carry the file's bytes, which are verified again when they are loaded."""
        return partial(load, optimize=self.session.optimize), (self.session.model, self.name)


def open_model(source: StrPath | None = None, *, format: str | None = None) -> Model:  # noqa: A002  # its name in the public API
    """Read, verify and load a model.

    Args:
        source: the path of a bundle or of a single ``.onnx`` file, or the name of a pretrained model; None for the
            default pretrained model.
        format: which of a bundle's files to load, one of `RUNNABLE`; None to leave the choice to `file_that_answers`. A
            single file must have this format.

    Raises:
        ModelNotFoundError: there is no such model, or the bundle lacks the format.
        ModelFormatError: not an mnist-edge model, or one that breaks its contract.
        AlteredModelError: the file has changed since its export.
        UsageError: unknown format, or not the single file's format.
    """
    wanted = None if format is None else checked_format(format)
    path = locate(source)
    if not isdir(path):
        model = load(reading.read_file(path, "give a bundle, an .onnx file or the name of a pretrained model"), path)
        if wanted is not None and wanted is not model.format:
            raise UsageError(f"{path}: is {model.format}, not {wanted}: leave the format out, or name another file")
        return model
    manifest, name, data = reading.read_chosen(path, partial(file_that_answers, path, wanted=wanted))
    # The manifest's digest covers every byte, including the checksum inside the file.
    model = load(data, join(path, name), verified=True)
    # The manifest's contract is the part that all files share; each file has its own calibration.
    if structs.replace(model.contract, calibration=None) != manifest.contract:
        raise ModelFormatError(
            f"{path}: {layout.MANIFEST} and {name} hold different contracts: {reading.reexport(path)}"
        )
    return model


def checked_format(name: str) -> Format:
    """The format of that name. Raises UsageError unless onnxruntime can run it."""
    if name in tuple(Format) and name not in RUNNABLE:
        raise UsageError(f"{name} is not run by onnxruntime: choose from {', '.join(RUNNABLE)}")
    return format_named(name, RUNNABLE)


def file_that_answers(folder: StrPath, manifest: Manifest, *, wanted: Format | None = None) -> str:
    """Choose which file of a bundle to run, by name.

    The choice is the file of the wanted format. Without one it is the file that the manifest recommends, else
    ``model.onnx``, else the only file that onnxruntime can run. It depends on the manifest and never on the device, so
    that a bundle gives the same answers everywhere.

    Raises:
        ModelNotFoundError: the manifest lists no such file, or several to choose from but no ``model.onnx``.
    """
    listed = [form.file_name for form in RUNNABLE if form.file_name in manifest.files]
    if wanted is not None:
        if wanted.file_name in listed:
            return wanted.file_name
        raise ModelNotFoundError(
            f"{folder}: was exported without {wanted.file_name}: leave the format out, or "
            f"run  mnist-edge export {folder} --formats {wanted}"
        )
    recommended = None if manifest.recommended is UNSET else manifest.recommended.file
    for name in (recommended, Format.ONNX.file_name):
        if name in listed:
            return name
    if len(listed) == 1:
        return listed[0]
    if listed:
        raise ModelNotFoundError(f"{folder}: holds {' and '.join(listed)}: name one with format (--format)")
    raise ModelNotFoundError(
        f"{folder}: was exported without a file that onnxruntime runs: {reading.reexport(folder)} --formats onnx"
    )


def load(data: bytes, name: str, *, optimize: bool = True, verified: bool = False) -> Model:
    """Verify the checksum inside an ``.onnx`` file's content, and load it.

    Args:
        data: the content.
        name: the file's path, for messages.
        optimize: whether onnxruntime may rewrite the graph.
        verified: skip the checksum, because the content has already been checked against a manifest's digest.

    Raises:
        ModelError: as `open_model` does.
    """
    if not verified:
        checksum.check_checksum(data, name)
    session = Session(data, optimize=optimize)
    metadata = session.metadata()
    remedy = "export it again"
    try:
        contract = decode_version(metadata[CONTRACT_KEY], Contract, CONTRACT_VERSION, f"{name}: its contract", remedy)
        provenance = decode(metadata[PROVENANCE_KEY], Provenance, f"{name}: its provenance", remedy)
        model = Model(name, session, contract, provenance, Format(metadata[FORMAT_KEY]), metadata[GOLDEN_KEY])
    except (KeyError, ValueError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(f"{name}: its metadata is incomplete ({error!r}): {remedy}") from error
    check_signature(session, contract, name)
    return model


def locate(source: StrPath | None) -> str:
    """Find the path of a bundle, an ``.onnx`` file or a pretrained model.

    A string that names a pretrained model means that model, even if a file or folder has the same name. For the folder
    write ``./cnn``, or pass a `Path`.

    Raises:
        ModelNotFoundError: there is nothing of that name.
        UsageError: `source` is neither a path nor a name.
    """
    if source is None:
        source = DEFAULT_PRETRAINED
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise UsageError(f"a model is a path or a name, not {source!r:.80}")
    if isinstance(source, str) and is_pretrained(source):
        return join(PRETRAINED, source)
    if not exists(source):
        what = "no such bundle, .onnx file or pretrained model"
        raise ModelNotFoundError(f"{source}: {what}: {_advice(os.fspath(source))}")
    if isdir(source) and not reading.is_bundle(source):
        raise reading.not_a_bundle(source, others=f", an .onnx file or {', '.join(pretrained())}")
    return os.fspath(source)


def require_own(folder: StrPath) -> None:
    """Raise ModelNotFoundError unless a path is a bundle, perhaps an unfinished one.

    Here the name of a pretrained model is just a path: only what someone trained can be exported or compared.
    """
    name = os.fspath(folder)
    if reading.is_bundle(name):
        return
    if exists(name):
        raise reading.not_a_bundle(name)
    if is_pretrained(name):
        raise ModelNotFoundError(
            f"{name}: a pretrained model, already exported: its files are in {join(PRETRAINED, name)}, and  "
            f"mnist-edge selftest {name}  checks them"
        )
    raise ModelNotFoundError(f"{name}: no such bundle: {_advice(name)}")


def _advice(name: str) -> str:
    """What to do about the name of a model that there is not."""
    places = {join(layout.ARTIFACTS, architecture): architecture for architecture in Architecture}
    if name in places:
        others = reading.models_in(layout.ARTIFACTS) if isdir(layout.ARTIFACTS) else []
        name_one = f"name one that there is ({', '.join(others[:3])}), or " if others else ""
        return f"{name_one}make it with  mnist-edge train --model {places[name]}"
    meant = near(name, pretrained()) or near(name, Architecture)
    if not meant:
        return "check the path, or make one with  mnist-edge train"
    if is_pretrained(meant[0]):
        return did_you_mean(name, meant, "")
    bundle = join(layout.ARTIFACTS, meant[0])
    return f"did you mean {bundle}?" if isdir(bundle) else f"train it with  mnist-edge train --model {meant[0]}"


def pretrained() -> list[str]:
    """The names of the pretrained models."""
    return [*filter(is_pretrained, sorted(os.listdir(PRETRAINED)))]


def is_pretrained(name: str) -> bool:
    """Whether a pretrained model of that name ships with the package."""
    bare = basename(name) == name and name not in (os.curdir, os.pardir, "")
    return bare and isfile(join(PRETRAINED, name, layout.MANIFEST))


def check_signature(session: Session, contract: Contract, name: str) -> None:
    """Raise ModelFormatError if a graph's inputs and outputs are not those of its contract."""
    actual = session.signature()
    promised = [
        (INPUT_NAME, "tensor(uint8)", [BATCH_AXIS, 1, HEIGHT, WIDTH]),
        (OUTPUT_NAME, "tensor(float)", [BATCH_AXIS, len(contract.labels)]),
    ]
    if actual != promised:
        raise ModelFormatError(f"{name}: takes and returns {actual}, its contract says {promised}: export it again")
