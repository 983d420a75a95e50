"""Writing into a bundle: one writer at a time, and every change whole or not at all.

A writer holds the folder (`writing`), writes its files beside their names (`Staging`) and then puts them in place by
`Staging.commit`: first the records leave that vouch for other files, last they come in. So at every instant a reader
finds the old bundle, the new one, or one without a record, which it calls unfinished.
"""

import contextlib
import errno
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Self

from mnist_edge.bundle import layout, reading
from mnist_edge.errors import BusyError, ModelNotFoundError, UsageError
from mnist_edge.extras import require

LOCK: Final = ".lock"
"""The file in a bundle that its writer locks where a folder itself cannot be locked."""

_LEFTOVER: Final = re.compile(rf"\.({'|'.join(map(re.escape, layout.FILES))})\.[0-9a-f]{{32}}")


@contextlib.contextmanager
def writing(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Be the one writer of a bundle; what a killed one left beside its names is removed first.

    The system releases the folder when its holder dies.

    Args:
        folder: the bundle's.
        make: whether to make the folder where there is none.

    Raises:
        BusyError: another process, another thread or a caller of ours is writing it.
        ModelNotFoundError: there is no such folder.
    """
    if make:
        _make(folder)
    with _locked(folder):
        for path in list(folder.iterdir()):
            if _LEFTOVER.fullmatch(path.name) and path.is_file():
                path.unlink()
        yield


def require_free(folder: Path) -> None:
    """Raise BusyError where somebody is writing a bundle, before anything slow is begun that would write it."""
    if folder.is_dir():
        with writing(folder):
            pass


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such bundle: {reading.train_first(folder)}")
    descriptor = _lock_folder(folder)
    if descriptor is None:
        with _locked_by_file(folder):
            yield
        return
    import fcntl

    holder = os.getpid()
    try:
        yield
    finally:
        # A process that was forked meanwhile shares the lock: it outlives a mere closing, and is not the child's.
        if os.getpid() == holder:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock_folder(folder: Path) -> int | None:
    """The descriptor that holds the lock; None where the system, or the file system, cannot lock folders."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise _busy(folder) from None
        return None
    return descriptor


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
    return BusyError(f"{folder}: another train or export is working on it: wait until it has ended, or stop it")


class Staging:
    """Files written beside their names in a folder, then put in place together, or not at all.

    Leaving the context removes what was not committed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staged: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for scratch in self._staged.values():
            with contextlib.suppress(OSError):  # the next writer tries again
                scratch.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> Path:
        """Write the future content of a file beside it; returns where."""
        _make(self._folder)
        scratch = self._folder / f".{name}.{os.urandom(16).hex()}"
        self._staged[name] = scratch
        with scratch.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return scratch

    def commit(
        self, *, records: Collection[str] = (), remove: Collection[str] = (), afterwards: Collection[str] = ()
    ) -> None:
        """Give every staged file its name, once and for all. SIGINT and SIGTERM wait until that is through.

        Args:
            records: what vouches for the other files. They are removed first, in this order, whether staged or not, and
                those that are staged come in last, in the opposite order.
            remove: files that the staged ones make obsolete.
            afterwards: files to be removed when all is in place.

        Raises:
            UsageError: a folder has one of the names. Nothing has changed.
            OSError: the system failed. Without their records the files that are in place are not taken for a bundle.
        """
        for name in {*self._staged, *records, *remove, *afterwards}:
            if (self._folder / name).is_dir():
                raise UsageError(f"{self._folder / name}: is a folder, a file is to be written there: move it away")
        with signals_held():
            if records:
                self._remove(records)
            for name in remove:
                (self._folder / name).unlink(missing_ok=True)
            for name in [name for name in self._staged if name not in records]:
                self._place(name)
            _sync(self._folder)
            if self._staged:
                for name in [name for name in reversed([*records]) if name in self._staged]:
                    self._place(name)
                _sync(self._folder)
            if afterwards:
                self._remove(afterwards)

    def _place(self, name: str) -> None:
        self._staged[name].replace(self._folder / name)
        del self._staged[name]

    def _remove(self, names: Collection[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        _sync(self._folder)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait to the end of the block; then whoever handles them gets them.

    Only the main thread can do that. In others the block may be left half done, as by a kill.
    """
    import signal  # only writers need them, and readers start faster without
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in held.items():
        if handler is not None:  # else somebody set it whom Python does not know, and could not set it again
            signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            if handler is not None:
                signal.signal(number, handler)
        with contextlib.ExitStack() as deliveries:  # of each, also where the first one raises
            for caught in dict.fromkeys(received):
                deliveries.callback(signal.raise_signal, caught)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, its name holds either the old content or all of the new."""
    with Staging(path.parent) as staging:
        staging.add(path.name, data)
        staging.commit()


def _make(folder: Path) -> None:
    for missing in reversed([each for each in (folder, *folder.parents) if not each.is_dir()]):
        missing.mkdir(exist_ok=True)
        _sync(missing.parent)


def _sync(folder: Path) -> None:
    """Have the system write a folder's names to the disk, as `os.fsync` does with a file's content."""
    if os.name == "nt":  # it has no such thing
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)
