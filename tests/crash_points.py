"""Train and export with every file operation failing:  python -m tests.crash_points BREAKAGE [SCENARIO ...]

The operation runs once. Before each file operation it forks one child per fault; the child fails with that fault and
unwinds in the real folder, then the parent records the folder's content, restores it and goes on. At the end every
distinct state is read by all readers and passed to the next command. Prints JSON.

A BREAKAGE other than "" first breaks the code under test (see `BREAKAGES`) and only injects SIGKILL: tests use it to
see the check fail.
"""

import contextlib
import copy
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

from mnist_edge.bundle import writing as staging
from mnist_edge.data import datasets
from tests.crash_scenarios import Found, Scenario, Scenarios, judge, note, read, remember_graphs, write
from tests.helpers import subset

FAULTS: Final = ("SIGKILL", "SIGTERM", "SIGINT", "ENOSPC", "EIO")


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
        # A "file" that is a folder has no name there: `places` sees whether one can write, and leaves nothing.
        if "r" in mode or not isinstance(file, (str, os.PathLike)) or Path(file).is_dir():
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
        self.found: Found = {}

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
        note(self.found, read(self._folder), label)

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
        for name in wanted or scenarios.makers:
            scenario = scenarios.makers[name]()
            shutil.rmtree(Path(scratch) / "work", ignore_errors=True)
            (Path(scratch) / "work").mkdir()
            failing = fail_everywhere(scenario, folder, Path(scratch), faults)
            end = next(state for state, labels in failing.found.values() if "the end" in labels)
            found[name] = judge(failing.found, end, scenario, folder, data) | {
                "points": len(failing.points),
                "faults": sum(len(labels) for _, labels in failing.found.values()) - 1,
                "kinds": sorted({point.split()[0] for point in failing.points}),
            }
    sys.stdout.write(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
