"""Write the first half of a bundle and the checkpoint of a training, and read them back without trusting them."""

import copy
import hashlib
import io
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import torch
from msgspec import UNSET, Meta, Struct, structs
from torch import Tensor, nn

from mnist_edge import __version__
from mnist_edge.bundle import layout, legacy, reading
from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.decoding import encode, encode_indented
from mnist_edge.bundle.layout import CHECKPOINT, LARGEST_CHECKPOINT, MANIFEST, METRICS, TRAINING, WEIGHTS
from mnist_edge.bundle.recipe import MAX_EPOCHS, Architecture, Recipe, Seed
from mnist_edge.bundle.records import Data, Digests, Epoch, Machine, ModelRecord, TrainingRecord, Versions
from mnist_edge.bundle.source import Place, Source, name_of
from mnist_edge.bundle.writing import Staging, signals_held
from mnist_edge.contract import Contract, Name, Version
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import AlteredModelError, ModelFormatError, UsageError
from mnist_edge.training import weight_files
from mnist_edge.training.loop import Training
from mnist_edge.training.models import build
from mnist_edge.training.recipes import check_recipe
from mnist_edge.training.threads import MAX_THREADS
from mnist_edge.training.weights import fitted

CHECKPOINT_VERSION: Final = 4


@dataclass(frozen=True)
class Trained:
    """A trained model, as stored in the first half of a bundle."""

    architecture: str
    contract: Contract
    model: nn.Module
    """In evaluation mode, on the CPU."""

    training: ModelRecord
    """The content of ``training.json``."""


@dataclass(frozen=True)
class Paused:
    """An interrupted training, as saved in its checkpoint after the last finished epoch."""

    architecture: Architecture | Source
    recipe: Recipe
    seed: int
    source: str
    """The argument with which `mnist_edge.data.datasets.load` finds the training's data again."""

    digests: dict[str, str]
    """SHA-256 of each part of the data."""

    device: str
    """The device that it ran on."""

    threads: int | None
    """How many threads PyTorch computed on; None in a checkpoint that does not say so."""

    state: dict[str, Any]
    """For `Training.load_state_dict`."""

    finished_epochs: int
    """How many of the recipe's epochs are finished."""

    @property
    def name(self) -> str:
        """The architecture's name; of a user's class, its own."""
        return name_of(self.architecture)

    sha256: str
    """Of the checkpoint file."""


def save(folder: Path, training: Training, data: Dataset) -> None:
    """Write the state of a training: the first half of a bundle, and a checkpoint to resume from.

    Before the first epoch is finished only the checkpoint is written, and an earlier bundle in the folder stays intact.
    After the last epoch only the bundle is left. Once there is a new model, the files exported from an earlier one are
    removed, because they answer as the old model did. An interrupt is held back until everything is written, so that
    its handler finds every finished epoch.
    """
    with signals_held(), Staging(folder) as staging:
        if not training.complete:
            staging.add(CHECKPOINT, _checkpoint(training, data))
        if not training.epochs:
            staging.commit()
            return
        for name, content in _first_half(training, data).items():
            staging.add(name, content)
        # The checkpoint stays until the last record is in place, so that the last epoch can be repeated from it.
        obsolete = (CHECKPOINT,) if training.complete else ()
        staging.commit(records=(MANIFEST, TRAINING), remove=layout.EXPORTED, afterwards=obsolete)


def _first_half(training: Training, data: Dataset) -> dict[str, bytes]:
    state_dict = {name: tensor.detach().cpu().contiguous() for name, tensor in training.deployed.state_dict().items()}
    record = TrainingRecord(
        architecture=training.name,
        source=training.architecture if isinstance(training.architecture, Source) else UNSET,
        ending=training.ending,
        parameters=parameters_of(training.deployed),
        labels=data.labels,
        preprocessing=data.preprocessing,
        recipe=training.recipe,
        seed=training.seed,
        finished=training.complete,
        data=record_of(data),
        model_sha256="",
        epochs=training.epochs,
        versions=versions(),
        machine=Machine(
            platform=platform.platform(),
            threads=torch.get_num_threads(),
            device=training.device,
            dtype="bfloat16" if training.in_bfloat16 else "float32",
        ),
    )
    return first_half(state_dict, record) | {
        METRICS: b"".join(encode(epoch) + b"\n" for epoch in training.epochs),
    }


def first_half(state_dict: Mapping[str, Tensor], record: ModelRecord) -> dict[str, bytes]:
    """The files of a bundle's first half, by name. The record gets the digest of the model."""
    digest = model_digest(state_dict, record.contract)
    return {
        WEIGHTS: _saved(state_dict),
        TRAINING: encode_indented(structs.replace(record, model_sha256=digest)),
    }


def record_of(data: Dataset) -> Data:
    """The data set's entry in a record."""
    return Data(data.name, data.source, len(data.train), len(data.test), data.digests)


def parameters_of(model: nn.Module) -> int:
    """How many parameters a module has."""
    return sum(parameter.numel() for parameter in model.parameters())


def versions() -> Versions:
    """The versions that a model's weights may depend on."""
    return {"mnist-edge": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def _checkpoint(training: Training, data: Dataset) -> bytes:
    return _saved(
        {
            "version": CHECKPOINT_VERSION,
            "architecture": msgspec.to_builtins(training.architecture),
            "recipe": msgspec.to_builtins(training.recipe),  # torch.load refuses enums
            "seed": training.seed,
            "source": data.source,
            "digests": data.digests,
            "device": training.device,
            "threads": torch.get_num_threads(),
            "state": training.state_dict(),
        }
    )


def load_paused(folder: Path) -> Paused:
    """Read the checkpoint of an interrupted training.

    Raises:
        ModelNotFoundError: there is none.
        ModelFormatError: it is damaged, or of another version.
    """
    path = folder / CHECKPOINT
    remedy = reading.train_anew(folder)
    reading.require_paused(folder)
    content, saved = weight_files.read(path, remedy, LARGEST_CHECKPOINT)
    try:
        version = msgspec.convert(saved, _Versioned).version
        if version != CHECKPOINT_VERSION:
            raise ModelFormatError(  # noqa: TRY301
                f"{path}: version {version}, but this mnist-edge reads {CHECKPOINT_VERSION}: {remedy}"
            )
        record = msgspec.convert(saved, _Checkpoint)
        check_recipe(record.recipe)
    except ModelFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: malformed ({error!s:.200}): {remedy}") from error
    return Paused(
        architecture=record.architecture,
        recipe=record.recipe,
        seed=record.seed,
        source=record.source,
        digests=record.digests,
        device=record.device,
        threads=record.threads,
        state=saved["state"],
        finished_epochs=len(record.state.epochs),
        sha256=sha256(content),
    )


class _Versioned(Struct):
    version: Version


class _State(Struct):
    epochs: Annotated[list[Epoch], Meta(max_length=MAX_EPOCHS)]


class _Checkpoint(Struct):
    """What a checkpoint holds beside tensors, which `Training.load_state_dict` checks."""

    architecture: Architecture | Source
    recipe: Recipe
    seed: Seed
    source: Place
    digests: Digests
    device: Name
    state: _State
    threads: Annotated[int, Meta(ge=1, le=MAX_THREADS)] | None = None


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load(folder: Path, model: nn.Module | Source | None = None) -> Trained:
    """Read the trained model that `save` or an import wrote.

    Args:
        folder: the bundle.
        model: for a user's own module, the module itself or where its class is now; None to look for the class where it
            was. The module's own weights are left alone.

    Raises:
        ModelNotFoundError: a file is missing.
        ModelFormatError: a file is damaged, or the weights do not fit the architecture or are not finite.
        AlteredModelError: weights, labels or normalisation do not match the digest in ``training.json``.
    """
    remedy = reading.retrain(folder)
    training = reading.read_training(folder)
    path = folder / WEIGHTS
    _, loaded = weight_files.read(path, remedy)
    architecture = Architecture(training.architecture) if training.source is UNSET else training.source
    contract = training.contract
    model = _built(architecture, model, len(contract.labels))
    try:
        state_dict = fitted(loaded, model.state_dict())
    except ValueError as error:
        raise ModelFormatError(f"{path}: does not fit {training.architecture} ({error!s:.300}): {remedy}") from error
    model.load_state_dict(state_dict)
    digest_of = legacy_model_digest if training.version == legacy.TRAINING_VERSION else model_digest
    actual, recorded = digest_of(state_dict, contract), training.model_sha256
    if actual != recorded:
        raise AlteredModelError(
            f"{path}: altered since its training (weights, labels and normalisation have SHA-256 {actual[:12]}…, "
            f"{TRAINING} says {recorded[:12]}…): {remedy}"
        )
    return Trained(training.architecture, contract, model.eval(), training)


def _built(recorded: Architecture | Source, given: nn.Module | Source | None, classes: int) -> nn.Module:
    if given is None:
        return build(recorded, classes)
    if not isinstance(recorded, Source):
        raise UsageError(f"the model is {recorded}, not a class of your own: leave out --model")
    if isinstance(given, nn.Module):
        return copy.deepcopy(given)
    if recorded.place and given.name != recorded.name:
        raise UsageError(f"the model is of the class {recorded.name}, not {given.name}: name that class with --model")
    arguments = given.arguments or recorded.arguments
    # With the recorded digest, so that another source is refused.
    sha256 = recorded.sha256 or given.sha256
    return build(structs.replace(given, arguments=arguments, sha256=sha256, input=recorded.input), classes)


def model_digest(state_dict: Mapping[str, Tensor], contract: Contract) -> str:
    """SHA-256 of the contract and of the weights' names, dtypes, shapes and values.

    Equal models have equal digests, however they were saved.
    """
    return _digest(state_dict, msgspec.to_builtins(contract))


def legacy_model_digest(state_dict: Mapping[str, Tensor], contract: Contract) -> str:
    """The digest as version 0.1.0 computed it, from its own form of the contract."""
    return _digest(state_dict, legacy.contract(contract))


def _digest(state_dict: Mapping[str, Tensor], contract: dict[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(contract, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    for name, tensor in sorted(state_dict.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
