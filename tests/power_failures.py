"""Train, import and export, then lose power:  python -m tests.power_failures [--random N] [--broken HOW] [SCENARIO ...]

The operation runs once while a preloaded library (`journal.c`) records every change to the file system. For each
instant between two changes, what a power failure may leave on disk is built as in ALICE (Pillai et al. 2014, "All File
Systems Are Not Created Equal"): what was synced is there; of the rest, each file may hold nothing, part, zeros or all
of what was written, and each change of a folder is there or not, whatever was changed later. Every distinct state is
read by all readers and passed to the next command. Prints JSON.
"""

import argparse
import copy
import ctypes
import dataclasses
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from mnist_edge.bundle import writing as staging
from mnist_edge.data import datasets
from tests.crash_scenarios import Found, Scenario, Scenarios, State, judge, key, note, read, remember_graphs, write
from tests.helpers import subset

BLOCK: Final = 4096
"""Bytes that reach the disk together, at a multiple of it."""


# The disk


@dataclasses.dataclass(frozen=True)
class Write:
    """Bytes at an offset; without bytes the file's new size."""

    offset: int
    data: bytes | None

    def on(self, content: bytearray) -> None:
        """Apply it."""
        if self.data is None:
            del content[self.offset :]
        end = self.offset + len(self.data or b"")
        content.extend(bytes(max(0, end - len(content))))
        content[self.offset : end] = self.data or b""


class File:
    """A file's content: as it is for programs, as it was last synced, and the writes since."""

    def __init__(self, content: bytes = b"") -> None:
        self.current, self.synced, self.since = bytearray(content), content, list[Write]()

    def change(self, write: Write) -> None:
        write.on(self.current)
        self.since.append(write)

    def sync(self) -> None:
        self.synced, self.since = bytes(self.current), []

    def after(self, failure: "Failure") -> bytes:
        """What a power failure leaves of it."""
        content = bytearray(self.synced)
        for each in self.since:
            for survivor in failure.survivors(each):
                survivor.on(content)
        return bytes(content)


class Folder:
    """A folder's entries: as they are for programs, as they were last synced, and the changes since."""

    def __init__(self) -> None:
        self.current: dict[str, File | Folder] = {}
        self.synced = dict(self.current)
        self.since: list[dict[str, File | Folder | None]] = []

    def change(self, **entries: "File | Folder | None") -> None:
        """Set entries, or remove them where None, all at once."""
        self.since.append(entries)
        self.current = _changed(self.current, entries)

    def sync(self) -> None:
        self.synced, self.since = dict(self.current), []

    def after(self, failure: "Failure") -> "dict[str, File | Folder]":
        """The entries that a power failure leaves."""
        entries = self.synced
        for change in self.since:
            if failure.keeps_change():
                entries = _changed(entries, change)
        return entries


def _changed(entries: dict[str, File | Folder], change: dict[str, File | Folder | None]) -> dict[str, File | Folder]:
    return {name: node for name, node in (entries | change).items() if node is not None}


class Failure:
    """What becomes of writes and changes that were not synced.

    Args:
        name: for people.
        files: what is left of each write: "none", "zeros" or "all"; empty for any of these or part of it, at random.
        folders: whether the next change of a folder is there.
        chance: for what is random.
    """

    def __init__(self, name: str, files: str, folders: Callable[[], bool], chance: random.Random) -> None:
        self.name, self._files, self.keeps_change, self._chance = name, files, folders, chance

    def survivors(self, write: Write) -> Iterator[Write]:
        """The parts of a write that are on disk."""
        how = self._files or self._chance.choice(["none", "all", "zeros", "cut", "blocks"])
        if how == "none" or write.data is None:
            yield from [write] if how == "all" else []
        elif how == "zeros":
            yield Write(write.offset, bytes(len(write.data)))
        elif how == "cut":
            yield Write(write.offset, write.data[: self._chance.randrange(len(write.data) + 1)])
        else:
            starts = range(-(write.offset % BLOCK), len(write.data), BLOCK)
            for start in starts:
                piece = write.data[max(0, start) : start + BLOCK]
                lost = how == "blocks" and self._chance.random() < 0.5
                yield Write(write.offset + max(0, start), bytes(len(piece)) if lost else piece)


def failures(count: int, chance: random.Random) -> list[Failure]:
    """The extremes, then `count` random ones."""
    extremes = [
        Failure("nothing unsynced is there", "none", lambda: False, chance),
        Failure("all names, no content", "none", lambda: True, chance),
        Failure("all names, zeros", "zeros", lambda: True, chance),
        Failure("everything is there", "all", lambda: True, chance),
    ]
    return extremes + [Failure("some", "", lambda: chance.random() < 0.5, chance) for _ in range(count)]


class Disk:
    """The file system below a folder, changed by the records of a journal."""

    def __init__(self, root: Path) -> None:
        self._path = root
        self._nodes: dict[int, File | Folder] = {}
        self._root = self._scanned(root)

    def _scanned(self, path: Path) -> File | Folder:
        node: File | Folder
        if path.is_dir():
            node = Folder()
            node.change(**{each.name: self._scanned(each) for each in path.iterdir()})
            node.sync()
        else:
            node = File(path.read_bytes())
        self._nodes[path.stat().st_ino] = node
        return node

    def _place(self, path: bytes) -> tuple[Folder, str]:
        *parents, name = Path(os.fsdecode(path)).relative_to(self._path).parts
        folder = self._root
        for parent in parents:
            assert isinstance(folder, Folder)
            folder = folder.current[parent]
        assert isinstance(folder, Folder)
        return folder, name

    def apply(self, record: "Record") -> None:
        """Make a recorded change."""
        match record.what:
            case "write" | "truncate" if record.inode not in self._nodes:
                pass  # to a file that never had a name, as `places` makes one
            case "create" | "mkdir":
                folder, name = self._place(record.one)
                self._nodes[record.inode] = node = File() if record.what == "create" else Folder()
                folder.change(**{name: node})
            case "write" | "truncate":
                file = self._nodes[record.inode]
                assert isinstance(file, File)
                file.change(Write(record.offset, record.one if record.what == "write" else None))
            case "sync":
                for node in [self._nodes[record.inode]] if record.inode else self._nodes.values():
                    node.sync()
            case "unlink":
                folder, name = self._place(record.one)
                folder.change(**{name: None})
            case "rename" | "link":
                (source, old), (target, new) = self._place(record.one), self._place(record.other)
                moved = {new: source.current[old]}
                if record.what == "link":
                    target.change(**moved)
                elif source is target:
                    source.change(**{old: None}, **moved)
                else:
                    target.change(**moved)
                    source.change(**{old: None})
            case _:
                raise NotImplementedError(record)

    def after(self, failure: Failure, folder: Path) -> State:
        """What a power failure leaves in a folder."""
        node = self._root
        for name in folder.relative_to(self._path).parts:
            assert isinstance(node, Folder)
            entries = node.after(failure)
            if name not in entries:
                return None
            node = entries[name]
        assert isinstance(node, Folder)
        return {name: file.after(failure) for name, file in node.after(failure).items() if isinstance(file, File)}


# The journal


@dataclasses.dataclass(frozen=True)
class Record:
    """A line of the journal, with its two byte strings."""

    what: str
    inode: int
    offset: int
    one: bytes
    other: bytes

    def __str__(self) -> str:
        paths = [Path(os.fsdecode(path)).name for path in (self.one, self.other) if path and self.what != "write"]
        return " ".join([self.what, *paths])


def parsed(journal: bytes) -> Iterator[Record]:
    """The journal's records."""
    while journal:
        head, _, journal = journal.partition(b"\n")
        what, inode, offset, first, second = head.split()
        ends = int(first), int(first) + int(second)
        yield Record(what.decode(), int(inode), int(offset), journal[: ends[0]], journal[ends[0] : ends[1]])
        journal = journal[ends[1] :]


def recorded(run: Callable[[], object], root: Path, journal: Path) -> list[Record]:
    """Run something and return what it changed below a folder."""
    library = ctypes.CDLL(None)
    assert library.journal_start(os.fsencode(root), os.fsencode(journal)) >= 0
    try:
        run()
    finally:
        library.journal_stop()
    return list(parsed(journal.read_bytes()))


def preload() -> None:
    """Start this process again with the library that keeps the journal."""
    if "journal.so" in os.environ.get("LD_PRELOAD", ""):
        return
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch, "journal.so")
        source = Path(__file__).with_name("journal.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)
        arguments = [sys.executable, "-m", "tests.power_failures", *sys.argv[1:]]
        environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        sys.exit(subprocess.run(arguments, env=environment, check=False).returncode)


# Losing power


def fail_at_every_instant(
    scenario: Scenario, folder: Path, scratch: Path, count: int
) -> tuple[dict[str, Any], Found, State]:
    """Run the scenario, and collect what power failures may leave, each instant with `count` random failures.

    Returns:
        Figures, among them whether everything was synced at the end; the distinct states; what is there at the end.
    """
    root = scratch / "work"
    write(folder, scenario.start)
    disk = Disk(root)
    records = recorded(scenario.run, root, scratch / "journal")
    found: Found = {}
    chance = random.Random(0)
    end, states = read(folder), 0
    for number in range(len(records) + 1):
        if number:
            disk.apply(records[number - 1])
        now = f"after {number}: {records[number - 1]}" if number else "before all"
        last = set()
        for failure in failures(count, chance):
            state = disk.after(failure, folder)
            note(found, state, f"{failure.name}, {now}")
            last.add(key(state))
            states += 1
    everything = disk.after(failures(0, chance)[-1], folder)
    assert key(everything) == key(end), "something was written that the journal does not tell of"
    return {"instants": len(records) + 1, "built": states, "durable": last == {key(end)}}, found, end


def without_fsync() -> None:
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # broken on purpose


def without_folder_sync() -> None:
    staging._sync = lambda folder: None  # broken on purpose


PAGE: Final = "report"
OLD, NEW = ({"report.html": text * BLOCK} for text in (b"old", b"new"))


def page_of(folder: Path) -> Scenario:
    """A single file that is replaced, as `report` replaces its page."""
    ((name, content),) = NEW.items()
    run = functools.partial(staging.write_atomically, folder / name, content)
    return Scenario(run, OLD, run, model="")


def judge_page(found: Found) -> dict[str, Any]:
    """Whether each state holds one of the two pages; a temporary file may be left beside it."""
    visible = [
        ({name: page for name, page in (state or {}).items() if name in NEW}, how) for state, how in found.values()
    ]
    return {"states": len(found), "mixtures": [how for state, how in visible if state not in (OLD, NEW)]}


BREAKAGES: Final = {"fsync": without_fsync, "folder-sync": without_folder_sync}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] if __doc__ else "")
    parser.add_argument("--random", type=int, default=8, metavar="N", help="random failures at each instant")
    parser.add_argument("--broken", choices=BREAKAGES, help="what to break first, to see the check fail")
    parser.add_argument("scenarios", nargs="*", help="all by default")
    options = parser.parse_args()
    preload()
    if options.broken:
        BREAKAGES[options.broken]()
    remember_graphs()
    data = copy.deepcopy(subset(datasets.load(), 192, 60))
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary).resolve()
        folder = scratch / "work" / "artifacts" / "bundle"
        scenarios = Scenarios(folder, data)
        makers = scenarios.makers | scenarios.more
        for name in options.scenarios or (*makers, PAGE):
            scenario = makers[name]() if name != PAGE else page_of(folder)
            shutil.rmtree(scratch / "work", ignore_errors=True)
            (scratch / "work").mkdir()
            counts, found, end = fail_at_every_instant(scenario, folder, scratch, options.random)
            judged = judge_page(found) if name == PAGE else judge(found, end, scenario, folder, data)
            results[name] = counts | judged
    sys.stdout.write(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
