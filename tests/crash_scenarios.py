"""What may be on disk after an interruption, and how to judge it: every reader reads it, then the next command goes on.

The scenarios are what writes a bundle. `tests.crash_points` interrupts them at each file operation,
`tests.power_failures` drops what they have not synced.
"""

import contextlib
import dataclasses
import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

import msgspec
from msgspec import UNSET, structs
from torch import nn

from mnist_edge.bundle import checksum, layout, reading
from mnist_edge.bundle import writing as staging
from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Epoch, ImportRecord, TrainingRecord
from mnist_edge.data import datasets
from mnist_edge.errors import ModelError, ModelNotFoundError
from mnist_edge.export import forms, importing, metadata, onnx_graph, pipeline
from mnist_edge.runtime.describe import State as FileState
from mnist_edge.runtime.describe import describe
from mnist_edge.runtime.model import open_model
from mnist_edge.training import checkpoint
from mnist_edge.training.checks import check_folder
from mnist_edge.training.train import finish, resume
from tests.graphs import remembered
from tests.helpers import quick_recipe, train

FOREIGN: Final = "notes.txt"

UNFINISHED: Final = ModelNotFoundError.__name__

State = dict[str, bytes] | None
"""The contents of a folder's files by name; None if there is no folder."""

Key = tuple[tuple[str, str], ...] | None

Found = dict[Key, tuple[State, list[str]]]
"""The distinct states, each with the interruptions that left it."""


def read(folder: Path) -> State:
    return {path.name: content_of(path) for path in folder.iterdir()} if folder.exists() else None


def content_of(path: Path) -> bytes:
    status = path.stat()
    return _content_of(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.cache
def _content_of(path: Path, *version: int) -> bytes:
    return path.read_bytes()


digest = functools.cache(checksum.sha256)


def write(folder: Path, state: State) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if state is not None:
        folder.mkdir(parents=True)
        for name, content in state.items():
            (folder / name).write_bytes(content)


def key(state: State) -> Key:
    if state is None:
        return None
    hidden = {name: re.sub(r"[0-9a-f]{32}$", "*", name) for name in state}
    return tuple(sorted((hidden[name], digest(content)) for name, content in state.items()))


def note(found: Found, state: State, label: str) -> None:
    """Add a state."""
    _, labels = found.setdefault(key(state), (state, []))
    labels.append(label)


# Reading and continuing from what is left


def _classified(folder: Path, data: datasets.Dataset) -> str:
    return open_model(folder).contents.provenance.model_sha256


def _loaded(folder: Path, data: datasets.Dataset) -> str:
    return checkpoint.load(folder).training.model_sha256


def _evaluated(folder: Path, data: datasets.Dataset) -> str:
    file = forms.file_of(folder)
    forms.evaluate(file, data.labels, data.test)
    if file.suffix == ".onnx":
        return open_model(file).contents.provenance.model_sha256
    return reading.read_training(folder).model_sha256


def _verified(folder: Path, data: datasets.Dataset) -> str:
    manifest = reading.read_manifest(folder)
    for name in manifest.files:
        reading.read_verified(folder, name, manifest)
    return manifest.provenance.model_sha256


def _described(folder: Path, data: datasets.Dataset) -> str:
    facts = describe(folder)
    states = {name: file.state for name, file in facts.files.items()}
    if set(states.values()) != {FileState.INTACT}:
        raise ModelError(f"info: {states}")
    return facts.provenance.model_sha256


def _logged(folder: Path, data: datasets.Dataset) -> str:
    """As the user's own programs may read `metrics.jsonl`."""
    training = reading.read_training(folder)
    path = folder / layout.METRICS
    if not isinstance(training, TrainingRecord):
        return training.model_sha256
    lines = path.read_bytes() if path.exists() else b""
    epochs = [msgspec.json.decode(line, type=Epoch) for line in lines.splitlines()]
    if epochs != list(training.epochs):
        raise ModelError(f"{layout.METRICS}: not the epochs of {layout.TRAINING}")
    return training.model_sha256


READERS: Final = {
    "Classifier": _classified,
    "evaluate model.pth": _loaded,
    "evaluate": _evaluated,
    "verify": _verified,
    "info": _described,
    "metrics": _logged,
}
"""Each returns the digest of the model that it answers with."""


def told_by(folder: Path, data: datasets.Dataset) -> dict[str, str]:
    """The result of every reader: the model that it answers with, or its error."""
    told = {}
    for name, reader in READERS.items():
        try:
            told[name] = f"answers {reader(folder, data)}"
        except ModelError as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told


def is_mixture(told: dict[str, str]) -> bool:
    """Whether two different models answer, or a reader reports an unfinished bundle as damaged."""
    answers = {text for text in told.values() if text.startswith("answers")}
    return len(answers) > 1 or not all(text in answers or text.startswith(UNFINISHED) for text in told.values())


def go_on_training(
    folder: Path, data: datasets.Dataset, architecture: Architecture, recipe: Any, *, overwrite: bool
) -> None:
    """Do what the command line does or tells the user to do."""
    staging.require_free(folder)
    if (folder / layout.CHECKPOINT).exists():
        with resume(data, checkpoint.load_paused(folder), folder) as training:
            finish(training, data, folder)
    elif not (folder / layout.TRAINING).exists() or overwrite:
        train(data, architecture, recipe, folder, overwrite=overwrite)


@dataclasses.dataclass(frozen=True)
class Scenario:
    run: Callable[[], object]
    start: State
    go_on: Callable[[], object]
    model: str
    """Digest of the weights that it must end with."""


def judge(found: Found, end: State, scenario: Scenario, folder: Path, data: datasets.Dataset) -> dict[str, Any]:
    """Read every state and go on from it. Each list of the result has the interruptions and what is wrong.

    Args:
        found: the states.
        end: what an undisturbed run leaves.
        scenario: what was interrupted.
        folder: where the states are put.
        data: what the models were trained on.
    """
    mixtures, wrong, leftovers = [], [], []
    assert end is not None
    for state, labels in found.values():
        write(folder, state)
        told = told_by(folder, data)
        if is_mixture(told):
            mixtures.append([labels, told])
        try:
            scenario.go_on()
            problem = differs(folder, after := read(folder) or {}, end, scenario)
        except Exception as error:  # noqa: BLE001  # reported
            wrong.append([labels, repr(error)])
            continue
        hidden = [name for name in after if name.startswith(".")]
        if hidden:
            leftovers.append([labels, hidden])
        if problem is not None:
            wrong.append([labels, problem])
    return {"states": len(found), "mixtures": mixtures, "wrong": wrong, "leftovers": leftovers}


def differs(folder: Path, after: dict[str, bytes], end: dict[str, bytes], scenario: Scenario) -> str | None:
    """How a folder differs from that of an undisturbed run, apart from timings; None if it does not."""
    visible = {name for name in after if not name.startswith(".")}
    required = set(end) - {
        Format.TORCHSCRIPT.file_name
    }  # of the earlier export: removed with its manifest, or still listed
    if not required <= visible <= set(end):
        return f"holds {sorted(visible)}, not {sorted(end)}"
    if (found := checkpoint.load(folder).training.model_sha256) != scenario.model:
        return f"its model is {found}"
    for name in (Format.ONNX.file_name, FOREIGN):
        if after.get(name) != end.get(name):
            return f"another {name}"
    if layout.MANIFEST in after:
        listed = reading.read_manifest(folder).files
        if set(listed) & set(layout.EXPORTED) != visible & set(layout.EXPORTED):
            return f"lists {sorted(listed)}, holds {sorted(visible)}"
        for name in listed:
            reading.read_verified(folder, name, reading.read_manifest(folder))
    return None


# Scenarios


class Scenarios:
    """The scenarios by name. Each is made when it is asked for, with the state that it starts with."""

    def __init__(self, folder: Path, data: datasets.Dataset) -> None:
        self._folder, self._data = folder, data
        self.makers: dict[str, Callable[[], Scenario]] = {
            "train": lambda: self._training(None, overwrite=False),
            "train --overwrite": lambda: self._training(self._made(self._export_another_model), overwrite=True),
            "train --resume": lambda: dataclasses.replace(
                self._training(self._made(self._pause), overwrite=False), run=self._go_on(overwrite=False)
            ),
            "import": lambda: self._importing(None),
            "import --overwrite": lambda: self._importing(self._made(self._export_another_model)),
            "export": lambda: Scenario(self._export, self._trained, self._export, self._model),
            "export once more": lambda: Scenario(
                self._export, self._made(self._export_by_an_earlier_version), self._export, self._model
            ),
        }
        self.more = {"train over an import": lambda: self._training(self._made(self._export_an_import), overwrite=True)}
        """Too slow to be interrupted in every way."""

    def _made(self, step: Callable[[], object]) -> State:
        write(self._folder, None)
        step()
        return read(self._folder)

    @functools.cached_property
    def _trained(self) -> State:
        return self._made(self._train)

    @functools.cached_property
    def _model(self) -> str:
        write(self._folder, self._trained)
        return reading.read_training(self._folder).model_sha256

    def _train(self, architecture: Architecture = Architecture.CNN_NANO, **options: Any) -> None:
        train(self._data, architecture, quick_recipe(architecture), self._folder, **options)

    def _training(self, start: State, *, overwrite: bool) -> Scenario:
        run = functools.partial(self._train, overwrite=overwrite)
        return Scenario(run, start, self._go_on(overwrite=overwrite), self._model)

    def _go_on(self, *, overwrite: bool) -> Callable[[], object]:
        nano = Architecture.CNN_NANO
        return lambda: go_on_training(self._folder, self._data, nano, quick_recipe(nano), overwrite=overwrite)

    def _importing(self, start: State) -> Scenario:
        self._made(functools.partial(self._import, overwrite=False))
        model = reading.read_training(self._folder).model_sha256
        run = functools.partial(self._import, overwrite=start is not None)
        return Scenario(run, start, functools.partial(self._import, overwrite=True), model)

    def _import(self, *, overwrite: bool) -> None:
        model, record = self._elsewhere
        check_folder(self._folder, overwrite=overwrite)
        importing.write(self._folder, model, record, overwrite=overwrite)

    @functools.cached_property
    def _elsewhere(self) -> tuple[nn.Module, ImportRecord]:
        """The trained model as if its weights came from elsewhere."""
        write(self._folder, self._trained)
        trained = checkpoint.load(self._folder)
        known = structs.asdict(trained.training)
        common = {name: known[name] for name in ImportRecord.__struct_fields__ if name in known}
        record = ImportRecord(
            **common,
            weights=UNSET,
            normalization=trained.contract.normalization,
            inverted=False,
            transposed=False,
            test=known["epochs"][-1].test,
        )
        write(self._folder, None)
        return trained.model, record

    def _export(self) -> object:
        return pipeline.export(self._folder, self._data, [Format.ONNX])

    def _export_by_an_earlier_version(self) -> None:
        write(self._folder, self._trained)
        with mock.patch.object(metadata, "__version__", "0.0.9"):
            pipeline.export(self._folder, self._data, [Format.ONNX, Format.TORCHSCRIPT])

    def _export_another_model(self) -> None:
        self._train(Architecture.SIGMOID_NN)
        self._export()
        (self._folder / FOREIGN).write_text("mine")

    def _export_an_import(self) -> None:
        self._import(overwrite=False)
        self._export()

    def _pause(self) -> None:
        def stop(epoch: int, seen: int, total: int, loss: float) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            self._train(on_batch=stop)


def remember_graphs() -> None:
    """Trace each model only once."""
    onnx_graph._exported = remembered(onnx_graph._exported)
