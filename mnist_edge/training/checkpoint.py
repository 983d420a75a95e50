"""The first half of a bundle: writing what a training made, and reading it back without trusting it."""

import hashlib
import io
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_edge import __version__, bundle
from mnist_edge.bundle import TRAINING, WEIGHTS
from mnist_edge.contract import Contract, Framing, Normalization, to_json
from mnist_edge.errors import AlteredModelError, ModelFormatError
from mnist_edge.training.datasets import Dataset
from mnist_edge.training.loop import Epoch
from mnist_edge.training.models import build
from mnist_edge.training.recipes import Architecture, Recipe


@dataclass(frozen=True)
class Trained:
    """A trained model, as the first half of a bundle holds it."""

    architecture: Architecture
    contract: Contract
    model: nn.Module
    """In evaluation mode, on the CPU."""

    training: dict[str, Any]
    """What ``training.json`` says."""


def save(
    folder: Path,
    model: nn.Module,
    architecture: Architecture,
    recipe: Recipe,
    seed: int,
    data: Dataset,
    epochs: list[Epoch],
) -> None:
    """Write ``model.pth`` and ``training.json``; an earlier training's exported files go, for they answer as it did."""
    contract = Contract(data.labels, recipe.normalization, data.framing)
    state_dict = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    training = {
        "version": bundle.TRAINING_VERSION,
        "architecture": architecture.value,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "labels": list(data.labels),
        "framing": contract.framing.value,
        "recipe": asdict(recipe),
        "seed": seed,
        "finished": len(epochs) == recipe.epochs,
        "data": {
            "name": data.name,
            "source": data.source,
            "train": len(data.train),
            "test": len(data.test),
            "sha256": data.digests,
        },
        "model_sha256": model_digest(state_dict, contract),
        "epochs": [epoch.as_dict() for epoch in epochs],
        "versions": {"mnist-edge": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"platform": platform.platform(), "threads": torch.get_num_threads()},
    }
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    with bundle.Staging(folder) as staging:
        staging.add(WEIGHTS, buffer.getvalue())
        staging.add(TRAINING, bundle.as_json(training))
        staging.commit(remove=(bundle.MANIFEST, *(form.file_name for form in bundle.Format)))


def load(folder: Path) -> Trained:
    """Read what `save` wrote.

    Raises:
        ModelNotFoundError: a file is missing.
        ModelFormatError: a file is damaged, the weights do not fit the architecture, or are not finite.
        AlteredModelError: the weights are not those that ``training.json`` describes.
    """
    remedy = bundle.retrain(folder)
    training = bundle.read_training(folder)
    path = folder / WEIGHTS
    state_dict = _read_state_dict(path, remedy)
    try:
        architecture = Architecture(training["architecture"])
        normalization = Normalization(**training["recipe"]["normalization"])
        contract = Contract(tuple(training["labels"]), normalization, Framing(training["framing"]))
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{folder / TRAINING}: malformed ({error}): {remedy}") from error
    for name, tensor in state_dict.items():
        if not torch.isfinite(tensor).all():
            raise ModelFormatError(f"{path}: {name} holds NaN or infinite weights: {remedy}, with a lower --lr")
    model = build(architecture, len(contract.labels))
    try:
        for name, tensor in model.state_dict().items():
            if name in state_dict and state_dict[name].dtype != tensor.dtype:
                raise RuntimeError(f"{name} is {state_dict[name].dtype} instead of {tensor.dtype}")  # noqa: TRY301
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise ModelFormatError(f"{path}: does not fit {architecture} ({detail[:200]}): {remedy}") from error
    actual = model_digest(state_dict, contract)
    recorded = training["model_sha256"]
    if actual != recorded:
        raise AlteredModelError(
            f"{path}: altered since its training (weights, labels and normalisation have SHA-256 {actual[:12]}…, "
            f"{TRAINING} says {recorded[:12]}…): {remedy}"
        )
    return Trained(architecture, contract, model.eval(), training)


def model_digest(state_dict: Mapping[str, Tensor], contract: Contract) -> str:
    """SHA-256 over the contract and over the weights' names, types, shapes and values.

    It is the same for equal models, however they were saved.
    """
    sha256 = hashlib.sha256(to_json(contract.as_dict()).encode())
    for name, tensor in sorted(state_dict.items()):
        sha256.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def _read_state_dict(path: Path, remedy: str) -> dict[str, Tensor]:
    data = bundle.read_file(path, remedy)
    try:
        state_dict = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged files make torch raise is not documented
        raise ModelFormatError(f"{path}: not a readable state_dict: {remedy}") from error
    if not isinstance(state_dict, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state_dict.items()
    ):
        raise ModelFormatError(f"{path}: not a state_dict of tensors: {remedy}")
    return state_dict
