"""Train and export with every file operation failing:  python -m tests.crash_points BREAKAGE [SCENARIO ...]

The operation runs once. Before each file operation it forks one child per fault; the child fails with that fault and
unwinds in the real folder, then the parent records the folder's content, restores it and goes on. At the end every
distinct state is read by all readers and passed to the next command. Prints JSON.

A BREAKAGE other than "" first breaks the code under test (see `BREAKAGES`) and only injects SIGKILL: tests use it to
see the check fail.
"""

import contextlib
import copy
import dataclasses
import errno
import functools
import io
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self
from unittest import mock

from mnist_edge.bundle import checksum, layout, reading
from mnist_edge.bundle import writing as staging
from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.data import datasets
from mnist_edge.errors import ModelError, ModelNotFoundError
from mnist_edge.export import forms, metadata, onnx_graph, pipeline
from mnist_edge.runtime.model import open_model
from mnist_edge.training import checkpoint
from mnist_edge.training.train import finish, resume
from tests.helpers import quick_recipe, subset, train

FAULTS: Final = ("SIGKILL", "SIGTERM", "SIGINT", "ENOSPC", "EIO")
FOREIGN: Final = "notes.txt"

UNFINISHED: Final = ModelNotFoundError.__name__

State = dict[str, bytes] | None
"""The contents of a folder's files by name; None if there is no folder."""


# File operations


class Tap:
    """Intercepts the file operations of the code under test below one folder."""

    def __init__(self, root: Path, before: Callable[[str, Path, Callable[[], None]], None]) -> None:
        self._root, self._before, self._open = root, before, True
        self._real = {name: getattr(os, name) for name in ("open", "mkdir", "replace", "unlink", "fsync")}
        self._real_open = io.open
        self._paths: dict[int, Path] = {}

    def __enter__(self) -> Self:
        for name in self._real:
            setattr(os, name, getattr(self, name))
        setattr(io, "open", self.open_file)  # noqa: B010  # type checkers reject the plain assignment
        return self

    def __exit__(self, *exception: object) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)
        setattr(io, "open", self._real_open)  # noqa: B010

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Pass all operations through unreported."""
        self._open = False
        yield
        self._open = True

    def _tell(self, what: str, path: Any, half: Callable[[], None] = lambda: None) -> None:
        path = Path(path)
        if self._open and path.is_relative_to(self._root):
            with self.closed():
                self._before(f"{what} {re.sub('[0-9a-f]{32}', '*', path.name)}", path, half)

    def open(self, path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags == os.O_RDONLY:  # a folder, to lock or sync it; opening a file to read sets more flags
            self._tell("open folder", path)
        descriptor = self._real["open"](path, flags, *arguments, **options)
        self._paths[descriptor] = Path(path) if isinstance(path, (str, os.PathLike)) else Path("/")
        return int(descriptor)

    def mkdir(self, path: Any, *arguments: Any, **options: Any) -> None:
        self._tell("mkdir", path)
        self._real["mkdir"](path, *arguments, **options)

    def replace(self, source: Any, target: Any) -> None:
        self._tell("replace", target)
        self._real["replace"](source, target)

    def unlink(self, path: Any, *arguments: Any, **options: Any) -> None:
        self._tell("unlink", path)
        self._real["unlink"](path, *arguments, **options)

    def fsync(self, descriptor: int) -> None:
        self._tell("fsync", self._paths.get(descriptor, "/"))
        self._real["fsync"](descriptor)

    def open_file(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "r" in mode or not isinstance(file, (str, os.PathLike)):
            return self._real_open(file, mode, *arguments, **options)
        self._tell("open", file)
        opened = self._real_open(file, mode, *arguments, **options)
        self._paths[opened.fileno()] = Path(file)
        return Written(opened, functools.partial(self._tell, "write", file))


class Written:
    """A file open for writing that reports each write."""

    def __init__(self, file: Any, tell: Callable[[Callable[[], None]], None]) -> None:
        self._file, self._tell = file, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        def half() -> None:
            os.pwrite(self._file.fileno(), data[: len(data) // 2], 0)

        self._tell(half)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)  # a child may have moved the offset
        return int(self._file.write(data))


class Failing:
    """Forks a child per fault at every operation of a run, and records what each leaves in the folder."""

    def __init__(self, folder: Path, backup: Path, faults: Sequence[str]) -> None:
        self._folder, self._backup, self._faults, self._runner = folder, backup, faults, os.getpid()
        self.points: list[str] = []
        self.found: dict[tuple[tuple[str, str], ...] | None, tuple[State, list[str]]] = {}

    def __call__(self, point: str, path: Path, half: Callable[[], None]) -> None:
        if os.getpid() != self._runner:  # a failed child that is unwinding
            return
        self.points.append(point)
        self._save()
        for fault in self._faults:
            child = os.fork()
            if child == 0:
                half()  # writes half of the data
                if fault.startswith("E"):
                    code = getattr(errno, fault)
                    raise OSError(code, os.strerror(code))
                if fault == "SIGKILL":
                    os.kill(os.getpid(), signal.SIGKILL)
                signal.raise_signal(getattr(signal, fault))
                return  # the signal is held: the operation goes on
            _, status = os.waitpid(child, 0)
            told = os.waitstatus_to_exitcode(status)
            expected = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130}.get(fault, 1)
            assert told == expected, f"{fault} at {point}: ended with {told}"
            self._note(f"{fault} at {len(self.points)}: {point}")
            self._restore(path if point.startswith("write") else None)

    def _note(self, label: str) -> None:
        state = read(self._folder)
        _, labels = self.found.setdefault(key(state), (state, []))
        labels.append(label)

    # Hard links keep the same inodes, which the run holds open.
    def _save(self) -> None:
        shutil.rmtree(self._backup, ignore_errors=True)
        self._backup.mkdir()
        if self._folder.exists():
            for path in self._folder.iterdir():
                (self._backup / path.name).hardlink_to(path)
        self._existed = self._folder.exists()

    def _restore(self, cut: Path | None) -> None:
        if not self._existed:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for path in self._folder.iterdir():
            path.unlink()
        for path in self._backup.iterdir():
            (self._folder / path.name).hardlink_to(path)
        if cut is not None:
            os.truncate(cut, 0)


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


def key(state: State) -> tuple[tuple[str, str], ...] | None:
    if state is None:
        return None
    hidden = {name: re.sub(r"[0-9a-f]{32}$", "*", name) for name in state}
    return tuple(sorted((hidden[name], digest(content)) for name, content in state.items()))


def fail_everywhere(scenario: "Scenario", folder: Path, scratch: Path, faults: Sequence[str]) -> Failing:
    """Run the scenario in a separate process, so that it leaves no state in this one."""
    write(folder, scenario.start)
    result = scratch / "found"

    def observed() -> None:
        def handle(number: int, frame: object) -> None:
            sys.exit(143)  # like the command line

        signal.signal(signal.SIGTERM, handle)
        runner = os.getpid()
        failing = Failing(folder, scratch / "backup", faults)
        try:
            with Tap(folder.parent, failing):
                scenario.run()
        except BaseException as error:  # holds a child's frames, so that no session is torn down
            codes = {KeyboardInterrupt: 130, SystemExit: 143}
            if os.getpid() == runner:
                raise
            os._exit(codes.get(type(error), 1 if isinstance(error, OSError) else 99))
        if os.getpid() != runner:
            os._exit(98)  # the fault was swallowed
        failing._note("the end")
        result.write_bytes(pickle.dumps((failing.points, failing.found)))

    process = multiprocessing.get_context("fork").Process(target=observed)
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode
    failing = Failing(folder, scratch / "backup", faults)
    failing.points, failing.found = pickle.loads(result.read_bytes())
    return failing


# Reading and continuing from what is left


def told_by(folder: Path, data: datasets.Dataset) -> dict[str, str]:
    """The result of every reader: the model that it answers with, or its error."""

    def verified() -> str:
        manifest = reading.read_manifest(folder)
        for name in manifest.files:
            reading.read_verified(folder, name, manifest)
        return manifest.provenance.model_sha256

    def evaluated() -> str:
        file = forms.file_of(folder)
        forms.evaluate(file, data.labels, data.test)
        if file.suffix == ".onnx":
            return open_model(file).contents.provenance.model_sha256
        return reading.read_training(folder).model_sha256

    readers = {
        "Classifier": lambda: open_model(folder).contents.provenance.model_sha256,
        "evaluate model.pth": lambda: checkpoint.load(folder).training.model_sha256,
        "evaluate": evaluated,
        "verify": verified,
    }
    told = {}
    for name, reader in readers.items():
        try:
            told[name] = f"answers {reader()}"
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


def judge(
    scenario: Scenario, folder: Path, data: datasets.Dataset, scratch: Path, faults: Sequence[str]
) -> dict[str, Any]:
    failing = fail_everywhere(scenario, folder, scratch, faults)
    mixtures, wrong, leftovers = [], [], []
    end, _ = next(entry for entry in failing.found.values() if "the end" in entry[1])
    assert end is not None
    for state, labels in failing.found.values():
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
    return {
        "points": len(failing.points),
        "faults": sum(len(labels) for _, labels in failing.found.values()) - 1,
        "states": len(failing.found),
        "kinds": sorted({point.split()[0] for point in failing.points}),
        "mixtures": mixtures,
        "wrong": wrong,
        "leftovers": leftovers,
    }


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
    """The scenarios by name. The state that one starts with is made on demand."""

    NAMES: Final = ("train", "train --overwrite", "train --resume", "export", "export once more")

    def __init__(self, folder: Path, data: datasets.Dataset) -> None:
        self._folder, self._data = folder, data

    def __getitem__(self, name: str) -> Scenario:
        match name:
            case "train":
                return self._training(None, overwrite=False)
            case "train --overwrite":
                return self._training(self._made(self._export_another_model), overwrite=True)
            case "train --resume":
                paused = self._made(self._pause)
                return dataclasses.replace(self._training(paused, overwrite=False), run=self._go_on(overwrite=False))
            case "export":
                return Scenario(self._export, self._trained, self._export, self._model)
            case _:
                exported = self._made(self._export_by_an_earlier_version)
                return Scenario(self._export, exported, self._export, self._model)

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

    def _pause(self) -> None:
        def stop(epoch: int, seen: int, total: int, loss: float) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            self._train(on_batch=stop)


def remember_graphs() -> None:
    """Trace each model only once: the same weights give the same graph, as other tests prove."""
    real, known = onnx_graph.build, {}

    def build(trained: Any) -> Any:
        digest = trained.training.model_sha256
        if digest not in known:
            known[digest] = real(trained)
        return copy.deepcopy(known[digest])

    onnx_graph.build = build


def reversed_commit(self: Any, *, records: Any = (), remove: Any = (), afterwards: Any = ()) -> None:
    """Commit as version 0.1.0 did: first place all files, then remove obsolete ones."""
    with staging.signals_held():
        for name in [*self._staged]:
            self._place(name)
        for name in {*records, *remove, *afterwards} - PLACED[id(self)]:
            (self._folder / name).unlink(missing_ok=True)


PLACED: dict[int, set[str]] = {}


def break_order() -> None:
    real = staging.Staging.add

    def add(self: Any, name: str, data: bytes) -> Path:
        PLACED.setdefault(id(self), set()).add(name)
        return real(self, name, data)

    staging.Staging.add = add  # type: ignore[method-assign]  # broken on purpose
    staging.Staging.commit = reversed_commit  # type: ignore[method-assign]  # broken on purpose


def break_cleaning() -> None:
    staging._LEFTOVER = re.compile("nothing")  # type: ignore[misc]  # broken on purpose


BREAKAGES: Final = {"order": break_order, "cleaning": break_cleaning}


def main(breakage: str, *wanted: str) -> None:
    if breakage:
        BREAKAGES[breakage]()
    remember_graphs()
    data = copy.deepcopy(subset(datasets.load(), 192, 60))  # a copy, so that forks do not carry all of MNIST
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "work" / "artifacts" / "bundle"
        scenarios = Scenarios(folder, data)
        faults = FAULTS[:1] if breakage else FAULTS
        found = {}
        for name in wanted or scenarios.NAMES:
            scenario = scenarios[name]
            shutil.rmtree(Path(scratch) / "work", ignore_errors=True)
            (Path(scratch) / "work").mkdir()
            found[name] = judge(scenario, folder, data, Path(scratch), faults)
    sys.stdout.write(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
