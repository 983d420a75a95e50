"""The first half of a bundle and a training's checkpoint: written, and read back without being trusted."""

import hashlib
import io
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_edge import __version__, bundle
from mnist_edge.bundle import CHECKPOINT, MANIFEST, METRICS, TRAINING, WEIGHTS
from mnist_edge.contract import Contract, Framing, Normalization, to_json
from mnist_edge.errors import AlteredModelError, ModelFormatError, ModelNotFoundError
from mnist_edge.staging import Staging, signals_held
from mnist_edge.training.datasets import Dataset
from mnist_edge.training.loop import Training
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


@dataclass(frozen=True)
class Paused:
    """A training that was interrupted, as its checkpoint holds it after the last finished epoch."""

    architecture: Architecture
    recipe: Recipe
    seed: int
    source: str
    """What `mnist_edge.training.datasets.load` takes to find the training's data again."""

    digests: dict[str, str]
    """The data's own."""

    device: str
    """Where it was computed."""

    state: dict[str, Any]
    """For `Training.load_state_dict`."""

    finished_epochs: int
    """How many of the recipe's epochs it has behind it."""

    sha256: str
    """The checkpoint file's digest."""


def save(folder: Path, training: Training, data: Dataset) -> None:
    """Write what a training has come to: the first half of a bundle, and what is needed to go on.

    Before the first epoch is finished there is only the latter, and an earlier bundle in the folder stays as it was;
    after the last one only the former. Once there is a new model an earlier training's exported files go, for they
    answer as that did. An interrupt waits until all is written, so that whoever handles it finds every finished epoch.
    """
    with signals_held(), Staging(folder) as staging:
        if not training.complete:
            staging.add(CHECKPOINT, _checkpoint(training, data))
        if not training.epochs:
            staging.commit()
            return
        for name, content in _first_half(training, data).items():
            staging.add(name, content)
        # Until the last record is in place the checkpoint stays: from it the last epoch can be run once more.
        obsolete = (CHECKPOINT,) if training.complete else ()
        staging.commit(records=(MANIFEST, TRAINING), remove=bundle.EXPORTED, afterwards=obsolete)


def _first_half(training: Training, data: Dataset) -> dict[str, bytes]:
    contract = Contract(data.labels, training.recipe.normalization, data.framing)
    state_dict = {name: tensor.detach().cpu().contiguous() for name, tensor in training.deployed.state_dict().items()}
    epochs = [epoch.as_dict() for epoch in training.epochs]
    record = {
        "version": bundle.TRAINING_VERSION,
        "architecture": training.architecture.value,
        "parameters": sum(parameter.numel() for parameter in training.deployed.parameters()),
        "labels": list(data.labels),
        "framing": contract.framing.value,
        "recipe": asdict(training.recipe),
        "seed": training.seed,
        "finished": training.complete,
        "data": {
            "name": data.name,
            "source": data.source,
            "train": len(data.train),
            "test": len(data.test),
            "sha256": data.digests,
        },
        "model_sha256": model_digest(state_dict, contract),
        "epochs": epochs,
        "versions": {"mnist-edge": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "device": training.device,
            "dtype": "bfloat16" if training.in_bfloat16 else "float32",
        },
    }
    return {
        WEIGHTS: _saved(state_dict),
        TRAINING: bundle.as_json(record),
        METRICS: "".join(f"{json.dumps(epoch)}\n" for epoch in epochs).encode(),
    }


def _checkpoint(training: Training, data: Dataset) -> bytes:
    return _saved(
        {
            "version": bundle.CHECKPOINT_VERSION,
            "architecture": training.architecture.value,
            "recipe": json.loads(json.dumps(asdict(training.recipe))),  # without enumerations, which torch.load refuses
            "seed": training.seed,
            "source": data.source,
            "digests": data.digests,
            "device": training.device,
            "state": training.state_dict(),
        }
    )


def load_paused(folder: Path) -> Paused:
    """Read the checkpoint of a training that was interrupted.

    Raises:
        ModelNotFoundError: there is none.
        ModelFormatError: it is damaged.
    """
    path = folder / CHECKPOINT
    remedy = bundle.train_anew(folder)
    if not path.exists():
        raise ModelNotFoundError(f"{folder}: holds no interrupted training: leave out --resume to begin one")
    content = bundle.read_file(path, remedy)
    saved = _torch_load(content, path, remedy)
    try:
        if saved["version"] != bundle.CHECKPOINT_VERSION:
            raise ValueError(f"version {saved['version']!r}")  # noqa: TRY301
        return Paused(
            architecture=Architecture(saved["architecture"]),
            recipe=Recipe.from_dict(saved["recipe"]),
            seed=saved["seed"],
            source=saved["source"],
            digests=saved["digests"],
            device=saved["device"],
            state=saved["state"],
            finished_epochs=len(saved["state"]["epochs"]),
            sha256=bundle.sha256(content),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{path}: malformed ({error!r}): {remedy}") from error


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


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


def _torch_load(content: bytes, path: Path, remedy: str) -> Any:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged files make torch raise is not documented
        raise ModelFormatError(f"{path}: not a readable state_dict: {remedy}") from error


def _read_state_dict(path: Path, remedy: str) -> dict[str, Tensor]:
    state_dict = _torch_load(bundle.read_file(path, remedy), path, remedy)
    if not isinstance(state_dict, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state_dict.items()
    ):
        raise ModelFormatError(f"{path}: not a state_dict of tensors: {remedy}")
    return state_dict
