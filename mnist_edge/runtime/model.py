"""Open an exported model: find it, verify its bytes, and load it."""

import math
import os
from collections.abc import Callable
from functools import partial
from os.path import basename, exists, isdir, isfile, join
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from msgspec import UNSET, Struct, structs
from numpy.typing import NDArray

from mnist_edge import shipped
from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import RUNNABLE, Format, format_named
from mnist_edge.bundle.reading import StrPath
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Manifest
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME, Contract
from mnist_edge.errors import ModelFormatError, ModelNotFoundError, UsageError
from mnist_edge.names import did_you_mean, near
from mnist_edge.runtime.contents import Contents, read_contents
from mnist_edge.runtime.session import Session

if TYPE_CHECKING:
    from mnist_edge.runtime.sandbox import Sandbox

PRETRAINED: Final = shipped.folder("pretrained")
"""The bundles that ship with the package, one folder per name."""

DEFAULT_PRETRAINED: Final = "cnn"


class Model(Struct, frozen=True):
    """A file's content, and a session that runs it."""

    contents: Contents
    session: "Session | Sandbox"

    @property
    def name(self) -> str:
        """The path of the file."""
        return self.contents.name

    @property
    def contract(self) -> Contract:
        """What the model takes and returns."""
        return self.contents.contract

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the model on uint8 [n, 1, 28, 28], and check what comes back: float32 [n, classes].

        Raises:
            ModelFormatError: it is of another shape, or not finite.
            ExecutionError: onnxruntime fails.
        """
        (found,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: images})
        if found.shape != (len(images), len(self.contract.labels)) or not _finite(found):
            raise ModelFormatError(
                f"{self.name}: its logits for {len(images)} images are {[*found.shape]}, or not finite: do not use it"
            )
        return cast("NDArray[np.float32]", found)

    def __reduce__(self) -> tuple[Callable[..., "Model"], tuple[bytes, str]]:
        """Pickles and copies carry the file's bytes, which are verified again when they are loaded."""
        untrusted = not isinstance(self.session, Session)
        return partial(load, optimize=self.session.optimize, untrusted=untrusted), (self.session.model, self.name)


def _finite(logits: NDArray[np.float32]) -> bool:
    # The sum of squares is only finite if all of them are, and a third as fast to tell.
    return math.isfinite(np.vdot(logits, logits)) or bool(np.isfinite(logits).all())


def open_model(
    source: StrPath | None = None,
    *,
    format: str | None = None,  # noqa: A002  # its name in the public API
    untrusted: bool = False,
) -> Model:
    """Read, verify and load a model.

    Args:
        source: the path of a bundle or of a single ``.onnx`` file, or the name of a pretrained model; None for the
            default pretrained model.
        format: which of a bundle's files to load, one of `RUNNABLE`; None to leave the choice to `file_that_answers`. A
            single file must have this format.
        untrusted: run it in a process of its own (`mnist_edge.runtime.sandbox`).

    Raises:
        ModelNotFoundError: there is no such model, or the bundle lacks the format.
        ModelFormatError: not an mnist-edge model, or one that breaks its contract.
        AlteredModelError: the file has changed since its export.
        UsageError: unknown format, or not the single file's format; or this system cannot run untrusted models.
        ExecutionError: the process for an untrusted model cannot be started.
    """
    wanted = None if format is None else checked_format(format)
    path = locate(source)
    if not isdir(path):
        data = reading.read_file(path, "give a bundle, an .onnx file or the name of a pretrained model")
        model = load(data, path, untrusted=untrusted)
        if wanted is not None and wanted is not model.contents.format:
            raise UsageError(
                f"{path}: is {model.contents.format}, not {wanted}: leave the format out, or name another file"
            )
        return model
    manifest, name, data = reading.read_chosen(path, partial(file_that_answers, path, wanted=wanted))
    # The manifest's digest covers every byte, including the checksum inside the file.
    model = load(data, join(path, name), verified=True, untrusted=untrusted)
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


def load(data: bytes, name: str, *, optimize: bool = True, verified: bool = False, untrusted: bool = False) -> Model:
    """Check the content of an ``.onnx`` file, and load it.

    Args:
        data: the content.
        name: the file's path, for messages.
        optimize: whether onnxruntime may rewrite the graph.
        verified: skip the checksum, because the content has already been checked against a manifest's digest.
        untrusted: as `open_model` takes it.

    Raises:
        MnistEdgeError: as `open_model` does.
    """
    contents = read_contents(data, name, verified=verified)
    if not untrusted:
        return Model(contents, Session(data, optimize=optimize))
    from mnist_edge.runtime.sandbox import Sandbox  # seldom needed

    return Model(contents, Sandbox(data, len(contents.contract.labels), optimize=optimize))


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
