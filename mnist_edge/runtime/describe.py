"""What a bundle or a single ``.onnx`` file says of itself, for people and programs to read."""

from pathlib import Path
from typing import Any

from mnist_edge import bundle
from mnist_edge.errors import AlteredModelError, ModelNotFoundError
from mnist_edge.runtime.model import load, locate


def describe(target: Path) -> dict[str, Any]:
    """Contract, provenance, and for each file its size, digest, state and, in a bundle, its measured parity.

    The state of a bundle's file is ``intact``, ``altered`` or ``missing``; a single file that is altered is refused.

    Raises:
        ModelError: it is neither, or cannot be read.
    """
    target = locate(target)
    if not target.is_dir():
        data = bundle.read_file(target, "give a bundle or an .onnx file")
        model = load(data, str(target))
        entry: dict[str, Any] = {"sha256": bundle.sha256(data), "bytes": len(data), "state": "intact"}
        if calibration := model.contract.calibration:
            entry["calibration"] = {"temperature": calibration.temperature, "images": calibration.images}
        files: dict[str, Any] = {target.name: entry}
        return {"contract": model.contract.as_dict(), "provenance": model.provenance, "files": files}
    manifest = bundle.read_manifest(target)
    files = {name: entry | {"state": _state(target, name, manifest)} for name, entry in manifest["files"].items()}
    told = ("contract", "provenance", "pytorch", "recommended", "measured")
    return {key: manifest[key] for key in told if key in manifest} | {"files": files}


def _state(folder: Path, name: str, manifest: dict[str, Any]) -> str:
    try:
        bundle.read_verified(folder, name, manifest)
    except AlteredModelError:
        return "altered"
    except ModelNotFoundError:
        return "missing"
    return "intact"
