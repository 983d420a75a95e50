"""What a bundle or a single ``.onnx`` file says of itself, for people and programs to read."""

import os
from pathlib import Path
from typing import Any

from mnist_edge import bundle
from mnist_edge.errors import AlteredModelError, ModelNotFoundError
from mnist_edge.runtime.model import file_that_answers, load, locate


def describe(target: str | os.PathLike[str]) -> dict[str, Any]:
    """Contract, provenance, and for each file its size, digest, state and, in a bundle, its measured parity.

    ``answers`` names the file that `Classifier` takes, None where there is none. The state of a bundle's file is
    ``intact``, ``altered`` or ``missing``; a single file that is altered is refused.

    Raises:
        ModelError: it is neither, or cannot be read.
    """
    path = locate(target)
    if not path.is_dir():
        data = bundle.read_file(path, "give a bundle or an .onnx file")
        model = load(data, str(path))
        entry: dict[str, Any] = {"sha256": bundle.sha256(data), "bytes": len(data), "state": "intact"}
        if model.format is not None:
            entry["format"] = model.format.value
        if calibration := model.contract.calibration:
            entry["calibration"] = {"temperature": calibration.temperature, "images": calibration.images}
        return {
            "contract": model.contract.as_dict(),
            "provenance": model.provenance,
            "answers": path.name,
            "files": {path.name: entry},
        }
    manifest = bundle.read_manifest(path)
    files = _files(path, manifest)
    if any(entry["state"] != "intact" for entry in files.values()):
        renewed = bundle.read_manifest(path)
        if renewed != manifest:  # it was exported anew between the two readings
            manifest, files = renewed, _files(path, renewed)
    told = ("contract", "provenance", "pytorch", "recommended", "measured")
    return {key: manifest[key] for key in told if key in manifest} | {
        "answers": _answers(path, manifest),
        "files": files,
    }


def _answers(folder: Path, manifest: dict[str, Any]) -> str | None:
    try:
        return file_that_answers(folder, manifest)
    except ModelNotFoundError:
        return None


def _files(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    return {name: entry | {"state": _state(folder, name, manifest)} for name, entry in manifest["files"].items()}


def _state(folder: Path, name: str, manifest: dict[str, Any]) -> str:
    try:
        bundle.read_verified(folder, name, manifest)
    except AlteredModelError:
        return "altered"
    except ModelNotFoundError:
        return "missing"
    return "intact"
