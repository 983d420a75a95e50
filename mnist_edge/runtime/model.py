"""Opening an exported model: the bytes are verified first, then loaded, then held against their contract."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from mnist_edge import bundle
from mnist_edge.contract import (
    BATCH_AXIS,
    CONTRACT_KEY,
    GOLDEN_KEY,
    HEIGHT,
    INPUT_NAME,
    OUTPUT_NAME,
    PROVENANCE_KEY,
    WIDTH,
    Contract,
)
from mnist_edge.errors import ModelFormatError, ModelNotFoundError, UsageError
from mnist_edge.runtime.golden import Golden
from mnist_edge.runtime.session import Session

PRETRAINED: Final = Path(__file__).parents[1] / "pretrained"
"""The bundles that come with the package, one folder a name."""

DEFAULT_PRETRAINED: Final = "cnn"


@dataclass(frozen=True)
class Model:
    """A session and what its file says of itself."""

    name: str
    session: Session
    contract: Contract
    provenance: dict[str, Any]
    golden: Golden

    def __reduce__(self) -> tuple[Callable[..., "Model"], tuple[bytes, str]]:
        """Pickles and copies carry the file's bytes, which are verified again where they arrive."""
        again = partial(load, threads=self.session.threads, optimize=self.session.optimize)
        return again, (self.session.model, self.name)


def open_model(source: str | os.PathLike[str] | None = None, *, threads: int | None = None) -> Model:
    """Read, verify and load a model.

    Args:
        source: a bundle (its ``model.onnx`` is taken), one ``.onnx`` file, or the name of a pretrained model; None for
            the default pretrained one.
        threads: size of the compute pool; None follows the policy of `mnist_edge.runtime.session`.

    Raises:
        ModelNotFoundError: nothing there.
        ModelFormatError: not a model of ours, or one that does not keep its contract.
        AlteredModelError: not the file that was exported.
        UsageError: impossible `threads`.
    """
    path = locate(source)
    if not path.is_dir():
        data = bundle.read_file(path, "give a bundle, an .onnx file or the name of a pretrained model")
        return load(data, str(path), threads=threads)
    manifest = bundle.read_manifest(path)
    if bundle.Format.ONNX.file_name not in manifest["files"]:
        raise ModelNotFoundError(
            f"{path}: was exported without {bundle.Format.ONNX.file_name}: name one of its files, or "
            f"{bundle.reexport(path)}"
        )
    model = load(bundle.read_verified(path, bundle.Format.ONNX.file_name, manifest), str(path), threads=threads)
    # The manifest's contract is what all files share; a calibration is a file's own.
    if replace(model.contract, calibration=None).as_dict() != manifest["contract"]:
        raise ModelFormatError(
            f"{path}: {bundle.MANIFEST} and {bundle.Format.ONNX.file_name} hold different contracts: "
            f"{bundle.reexport(path)}"
        )
    return model


def load(data: bytes, name: str, *, threads: int | None = None, optimize: bool = True) -> Model:
    """Load an ``.onnx`` file's content after checking the digest that it carries. Raises as `open_model` does."""
    bundle.check_seal(data, name)
    session = Session(data, threads=threads, optimize=optimize)
    metadata = session.metadata()
    try:
        contract = Contract.from_dict(json.loads(metadata[CONTRACT_KEY]))
        provenance = json.loads(metadata[PROVENANCE_KEY])
        bundle.require_shape(
            {"provenance": provenance}, {"provenance": bundle.PROVENANCE}, Path(name), "export it again"
        )
        golden = Golden.from_dict(json.loads(metadata[GOLDEN_KEY]), len(contract.labels))
    except (KeyError, ValueError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(f"{name}: its metadata are incomplete ({error!r}): export it again") from error
    _check_signature(session, contract, name)
    return Model(name, session, contract, provenance, golden)


def locate(source: str | os.PathLike[str] | None) -> Path:
    """The path of a bundle, of an ``.onnx`` file, or of the pretrained model of that name; raises as `open_model`."""
    if source is None:
        path = PRETRAINED / DEFAULT_PRETRAINED
        if not path.is_dir():
            raise ModelNotFoundError(
                "no model was named, and none comes with this version: name a bundle or .onnx file"
            )
        return path
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise UsageError(f"a model is a path or a name, not {source!r:.80}")
    path = Path(source)
    if not os.path.exists(path) and len(path.parts) == 1:  # noqa: PTH110  # Path.exists raises on over-long names
        path = PRETRAINED / path / bundle.MANIFEST
        path = path.parent if os.path.exists(path) else Path(source)  # noqa: PTH110
    if os.path.exists(path):  # noqa: PTH110
        return path
    raise ModelNotFoundError(
        f"{source}: no such bundle, .onnx file or pretrained model: check the path, or make one with  mnist-edge train"
    )


def _check_signature(session: Session, contract: Contract, name: str) -> None:
    actual = session.signature()
    promised = [
        (INPUT_NAME, "tensor(uint8)", [BATCH_AXIS, 1, HEIGHT, WIDTH]),
        (OUTPUT_NAME, "tensor(float)", [BATCH_AXIS, len(contract.labels)]),
    ]
    if actual != promised:
        raise ModelFormatError(f"{name}: takes and returns {actual}, its contract says {promised}: export it again")
