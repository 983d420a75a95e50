"""Lock a file or a folder against other processes and threads. The system releases the lock when its holder dies."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, on_busy: Callable[[], None]) -> Iterator[bool]:
    """Hold the lock on a file or folder, which must exist.

    Args:
        path: the file or folder.
        on_busy: called if another holds the lock. When it returns, the lock is waited for.

    Yields:
        Whether the lock is held: False if the operating system or the file system cannot lock it.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    # NFS locks only files that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    holder = os.getpid()
    try:
        held = _lock(descriptor, on_busy)
        try:
            yield held
        finally:
            # A forked child shares the lock: closing alone would not release it, and the child must not release it.
            if held and os.getpid() == holder:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, on_busy: Callable[[], None]) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_busy()
    except OSError:
        return False
    else:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # ENOLCK: an NFS server may run out of locks only now
        return False
    return True
