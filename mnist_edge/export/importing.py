"""Begin a bundle with weights that were trained elsewhere."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from msgspec import UNSET, UnsetType
from torch import Tensor, nn

from mnist_edge.bundle import layout
from mnist_edge.bundle.layout import CHECKPOINT, MANIFEST, METRICS, TRAINING
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Imported, ImportRecord
from mnist_edge.bundle.source import Ending, Source, form_of, name_of
from mnist_edge.bundle.writing import Staging, signals_held, writing
from mnist_edge.contract import TO_TENSOR, Contract, Normalization
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import UndecidedError, UsageError
from mnist_edge.evaluation.metrics import measure
from mnist_edge.export import preprocessing
from mnist_edge.export.preprocessing import Preparation, Trial
from mnist_edge.training import checkpoint, endings
from mnist_edge.training.checks import check_contents, check_folder, check_name
from mnist_edge.training.loop import PROBED, predict
from mnist_edge.training.models import build
from mnist_edge.training.user_code import described, running
from mnist_edge.training.weights import Weights, read_weights


@dataclasses.dataclass(frozen=True)
class Import:
    """What `import_weights` found out."""

    record: ImportRecord
    weights: Weights

    chosen: Trial
    """The preprocessing that was found, or given."""

    trials: list[Trial]
    """All that were compared, the best first."""

    better: Trial | None
    """A customary preprocessing with which the model does better than with the normalization that was given."""


def import_weights(
    weights: Path,
    architecture: Architecture | Source,
    folder: Path,
    *,
    data: Dataset,
    given: Normalization | None = None,
    labels: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Import:
    """Write the first half of a bundle from weights that were trained elsewhere.

    Args:
        weights: a state_dict, alone or in a checkpoint; see `mnist_edge.training.weights.read_weights`.
        architecture: the module that the weights belong to.
        folder: the bundle.
        data: what the model was trained for. Its training images tell which preprocessing the weights expect, its test
            set what the model is worth.
        given: the normalization, if it is known; None to find it.
        labels: the class names, in the order of the module's outputs; None for those of the data.
        overwrite: whether to replace an existing bundle.

    Raises:
        BusyError: another writer is working on the bundle.
        ModelError: the weights cannot be read, or do not fit the architecture.
        UndecidedError: no preprocessing is clearly the right one.
        UsageError: the user's class cannot be used, the labels do not fit the data, or the folder cannot be written.
    """
    check_folder(folder, overwrite=overwrite)
    check_name(weights)
    data = relabelled(data, labels)
    model = build(architecture, len(data.labels)).eval()
    name = name_of(architecture)
    read = read_weights(weights, model.state_dict(), name)
    model.load_state_dict(read.state_dict)
    source = architecture if isinstance(architecture, Source) else UNSET
    imported = Imported(name=weights.name, sha256=read.sha256)
    if isinstance(architecture, Source):
        endings.require_same_when_rebuilt(architecture, model, architecture.input, _few(data), len(data.labels))
    record, chosen, trials = examined(model, name, source, imported, data, given)
    write(folder, model, record, overwrite=overwrite)
    customary = [] if given is None else _tried(model, source, record.ending, data, given=None)
    return Import(record, read, chosen, trials, preprocessing.better_than(chosen, customary))


def relabelled(data: Dataset, labels: Sequence[str] | None) -> Dataset:
    """The same data with other class names. Raises UsageError if their number differs."""
    if labels is None:
        return data
    if len(labels) != len(data.labels):
        raise UsageError(
            f"{len(labels)} labels for the {len(data.labels)} classes of {data.name}: name each class once"
        )
    try:
        Contract(tuple(labels), TO_TENSOR, data.preprocessing)
    except ValueError as error:
        raise UsageError(f"{error}: give each class a name of its own") from error
    return dataclasses.replace(data, labels=tuple(labels))


def examined(
    model: nn.Module,
    name: str,
    source: Source | UnsetType,
    imported: Imported | UnsetType,
    data: Dataset,
    given: Normalization | None,
) -> tuple[ImportRecord, Trial, list[Trial]]:
    """Find out how the module wants its images and what it returns, and record it."""
    ending = endings.examine(model, form_of(source), _few(data), len(data.labels))
    trials = _tried(model, source, ending, data, given)
    decided = preprocessing.decide(trials, data.train.labels, len(data.labels))
    if isinstance(decided, str):
        raise UndecidedError(
            f"the preprocessing that {name} was trained with cannot be told from {data.name}: {decided}: "
            "give --normalization, or the data that it was trained on with --data",
            trials=tuple(trial.cells() for trial in trials),
        )
    best = decided.preparation
    run = partial(endings.to_logits, model, form_of(source), ending)
    logits = predict(lambda pixels: run(best(pixels)), data.test.images, "cpu")
    record = ImportRecord(
        architecture=name,
        source=source,
        ending=ending,
        parameters=checkpoint.parameters_of(model),
        labels=data.labels,
        preprocessing=data.preprocessing,
        data=checkpoint.record_of(data),
        model_sha256="",
        versions=checkpoint.versions(),
        weights=imported,
        normalization=best.normalization,
        inverted=best.inverted,
        transposed=best.transposed,
        test=measure(logits, data.test.labels),
    )
    return record, decided, trials


def _tried(
    model: nn.Module, source: Source | UnsetType, ending: Ending, data: Dataset, given: Normalization | None
) -> list[Trial]:
    def run(images: Tensor) -> Tensor:
        with running(
            lambda error: f"the network fails on {len(images)} images: {described(error)}: mend its forward()"
        ):
            return endings.to_logits(model, form_of(source), ending, images)

    return preprocessing.try_all(run, data.train, preprocessing.candidates(given))


def _few(data: Dataset) -> Tensor:
    """Images to try a module on, scaled to 0…1, float32 [n, 1, 28, 28]."""
    return Preparation(TO_TENSOR)(torch.tensor(data.train.images[:PROBED])[:, None].float())


def write(folder: Path, model: nn.Module, record: ImportRecord, *, overwrite: bool) -> None:
    """Write the first half of a bundle, with the model's weights."""
    state_dict = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with writing(folder, make=True):
        check_contents(folder, overwrite=overwrite)
        with signals_held(), Staging(folder) as staging:
            for name, content in checkpoint.first_half(state_dict, record).items():
                staging.add(name, content)
            staging.commit(records=(MANIFEST, TRAINING), remove=(*layout.EXPORTED, METRICS, CHECKPOINT))
