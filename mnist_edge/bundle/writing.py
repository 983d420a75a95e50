"""Writing into a bundle: one writer at a time, and every change is all or nothing.

A writer locks the folder (`writing`), writes its files under temporary names (`Staging`), then renames them into place
(`Staging.commit`). The records that vouch for other files are removed first and put in place last. So at every instant
a reader finds the old bundle, the new one, or one without a record, which it reports as unfinished. Each step is synced
before the next one, so that this also holds after a power failure, which may keep a later change and lose an earlier.
"""

import contextlib
import errno
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Self

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.locking import locked
from mnist_edge.errors import BusyError, ModelNotFoundError, UsageError
from mnist_edge.extras import require

LOCK: Final = ".lock"
"""The file in a bundle that is locked where the folder itself cannot be."""

_RANDOM: Final = 16
"""Bytes that make a temporary name unique."""

_LEFTOVER: Final = re.compile(rf"\.({'|'.join(map(re.escape, layout.FILES))})\.[0-9a-f]{{{2 * _RANDOM}}}")


@contextlib.contextmanager
def writing(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Lock a bundle for writing, and remove the temporary files that a killed writer left in it.

    The operating system releases the lock when its holder dies.

    Args:
        folder: the bundle.
        make: whether to create the folder if it does not exist.

    Raises:
        BusyError: another process, another thread or a caller further up the stack is writing it.
        ModelNotFoundError: there is no such folder.
        UsageError: it cannot be made there.
    """
    if make:
        try:
            _make(folder)
        except (FileNotFoundError, PermissionError) as error:  # below /proc, for example
            raise UsageError(f"{folder}: cannot be created ({error.strerror}): choose another --out") from error
    with _locked(folder):
        for path in list(folder.iterdir()):
            if _LEFTOVER.fullmatch(path.name) and path.is_file():
                path.unlink()
        yield


def require_free(folder: Path) -> None:
    """Raise BusyError if a bundle is being written. Call this before slow work that will end in writing it."""
    if folder.is_dir():
        with writing(folder):
            pass


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such bundle: {reading.train_first(folder)}")

    def refuse() -> None:
        raise _busy(folder) from None

    with locked(folder, refuse) as held, contextlib.nullcontext() if held else _locked_by_file(folder):
        yield


@contextlib.contextmanager
def _locked_by_file(folder: Path) -> Iterator[None]:
    filelock = require("filelock", extra="train")
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise _busy(folder) from None
    try:
        yield
    finally:
        lock.release()


def _busy(folder: Path) -> BusyError:
    return BusyError(f"{folder}: another train or export is working on it: wait for it to finish, or stop it")


def temporary_name(name: str) -> str:
    """A new name under which a file's content is written before it is renamed."""
    return f".{name}.{os.urandom(_RANDOM).hex()}"


class Staging:
    """Files written under temporary names in a folder, then renamed into place together, or not at all.

    Leaving the context deletes whatever was not committed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staged: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for scratch in self._staged.values():
            with contextlib.suppress(OSError):  # the next writer removes it
                scratch.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> Path:
        """Write a file's new content under a temporary name in the same folder, and return that path."""
        _make(self._folder)
        scratch = self._folder / temporary_name(name)
        self._staged[name] = scratch
        with scratch.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return scratch

    def commit(
        self, *, records: Collection[str] = (), remove: Collection[str] = (), afterwards: Collection[str] = ()
    ) -> None:
        """Rename every staged file into place. SIGINT and SIGTERM are deferred until this is done.

        Args:
            records: files that vouch for the others. They are removed first, in this order, whether staged or not;
                those that are staged are put in place last, in reverse order.
            remove: files that the staged ones make obsolete.
            afterwards: files to remove once everything is in place.

        Raises:
            UsageError: one of the names belongs to a folder. Nothing has changed.
            OSError: a system call failed. Files already in place do not count as a bundle without their records.
        """
        for name in {*self._staged, *records, *remove, *afterwards}:
            if (self._folder / name).is_dir():
                raise UsageError(f"{self._folder / name}: is a folder where a file must be written: move it away")
        with signals_held():
            for name in records:
                self._remove([name])
            for name in [name for name in self._staged if name not in records]:
                self._place(name)
            _sync(self._folder)
            self._remove(remove)
            for name in [name for name in reversed([*records]) if name in self._staged]:
                self._place(name)
                _sync(self._folder)
            self._remove(afterwards)

    def _place(self, name: str) -> None:
        self._staged[name].replace(self._folder / name)
        del self._staged[name]

    def _remove(self, names: Collection[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        if names:
            _sync(self._folder)  # even if none was there: a killed writer may have removed it without this


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Defer SIGINT and SIGTERM to the end of the block, then pass them to their handlers.

    Only the main thread can set handlers. In other threads nothing is deferred, and the block may be cut off halfway,
    as by a kill.
    """
    import signal  # only writers need it, and readers start faster without
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in held.items():
        if handler is not None:  # None: not installed from Python, which could not restore it
            signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            if handler is not None:
                signal.signal(number, handler)
        with contextlib.ExitStack() as deliveries:  # raises each signal, even if an earlier handler raises
            for caught in dict.fromkeys(received):
                deliveries.callback(signal.raise_signal, caught)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, it holds either the old content or all of the new."""
    with Staging(path.parent) as staging:
        staging.add(path.name, data)
        staging.commit()


def place_folder(made: Path, folder: Path) -> None:
    """Sync a folder of files, then rename it into place: whatever happens, it is there whole or not at all.

    Raises:
        OSError: a system call failed, or there is such a folder already, and it is not empty.
    """
    for path in made.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    _sync(made)
    made.rename(folder)
    _sync(folder.parent)


def _make(folder: Path) -> None:
    for missing in reversed([each for each in (folder, *folder.parents) if not each.is_dir()]):
        missing.mkdir(exist_ok=True)
        _sync(missing.parent)


def _sync(folder: Path) -> None:
    """Flush a folder's entries to disk, as `os.fsync` does for a file's content."""
    if os.name == "nt":  # Windows cannot sync folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot either
            raise
    finally:
        os.close(descriptor)
