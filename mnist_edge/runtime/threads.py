"""How many Python threads share a large batch, and how they do it.

Each thread takes the next chunk and runs it on the one session, which releases the GIL while it computes. The threads
start and end with the call, so nothing runs between calls and a fork loses no thread. If the system grants no thread,
the caller's own does all the work.

They are plain threads of `_thread`. `threading.Thread.start` waits until the new thread has begun, and if that thread
runs out of memory before, it waits forever.
"""

import _thread
import contextlib
import operator
import os
import reprlib
import threading
from collections.abc import Callable
from typing import Any, Final, SupportsIndex, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mnist_edge.errors import UsageError

THREADS_VARIABLE: Final = "MNIST_EDGE_THREADS"

MAX_DEFAULT_THREADS: Final = 4
"""By default a batch should not occupy a whole server; callers can ask for more threads."""

MAX_THREADS: Final = 1024
"""A larger number is treated as a mistake."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def asked_threads(threads: object = None) -> int | None:
    """The requested number of threads, by argument or else by ``MNIST_EDGE_THREADS``; None if neither is given.

    Raises:
        UsageError: it is not a whole number within 1…`MAX_THREADS`.
    """
    if threads is not None:
        return _checked(threads, "threads")
    if not (asked := os.environ.get(THREADS_VARIABLE)):
        return None
    # The length is checked first: int refuses thousands of digits.
    number = int(asked) if asked.isdecimal() and len(asked) <= len(str(MAX_THREADS)) else asked
    return _checked(number, THREADS_VARIABLE)


def _checked(threads: object, name: str) -> int:
    try:
        number = 0 if isinstance(threads, bool) else operator.index(cast("SupportsIndex", threads))
    except TypeError:  # arrays of several numbers have an __index__ that fails
        number = 0
    if not 1 <= number <= MAX_THREADS:
        raise UsageError(f"{name} must be a whole number within 1…{MAX_THREADS}, not {reprlib.repr(threads)}")
    return number


def default_threads() -> int:
    """``MNIST_EDGE_THREADS`` if set, else the number of usable CPUs up to `MAX_DEFAULT_THREADS`.

    Raises:
        UsageError: the variable is not a whole number within 1…`MAX_THREADS`.
    """
    from mnist_edge.runtime.limits import usable_cpus  # not needed for a single image

    return asked_threads() or min(usable_cpus(), MAX_DEFAULT_THREADS)


def in_chunks(
    run: Callable[[NDArray[Any]], NDArray[np.float32]],
    batch: NDArray[Any],
    *,
    chunk: int,
    width: int,
    threads: int,
) -> NDArray[np.float32]:
    """Apply a function to a large array, a chunk of rows at a time, on several threads.

    Args:
        run: takes [n, …] with n up to `chunk`, returns [n, width]; called from several threads at once.
        batch: [N, …].
        chunk: rows per call.
        width: columns of the result.
        threads: number of threads, including the caller's own.

    Returns:
        float32 [N, width], in the order of `batch`.

    Raises:
        Exception: the first that `run` raised, once all threads have stopped.
    """
    results = np.empty((len(batch), width), dtype=np.float32)
    starts = iter(range(0, len(batch), chunk))
    taking = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not errors:
                with taking:
                    start = next(starts, None)
                if start is None:
                    return
                results[start : start + chunk] = run(batch[start : start + chunk])
        except BaseException as error:  # noqa: BLE001  # re-raised by the caller once all have stopped
            errors.append(error)

    helpers = [in_background(lambda _: work(), None) for _ in range(min(threads, -(-len(batch) // chunk)) - 1)]
    work()
    try:
        for wait in helpers:
            wait()
    except BaseException as error:  # an interrupt: the others stop after their current chunk
        errors.append(error)
        raise
    if errors:
        raise errors[0]
    return results


def in_background(function: Callable[[Argument], Result], argument: Argument) -> Callable[[], Result]:
    """Start a call on its own thread. The returned function waits for it and returns its result or raises its error.

    If the thread has not begun by then, because the system grants none, it ran out of memory or a fork has lost it, the
    waiting thread makes the call itself. (An executor would wait forever.)
    """
    results: list[Result] = []
    errors: list[Exception] = []
    begun, done = threading.Lock(), threading.Lock()
    done.acquire()
    owner = os.getpid()

    def call() -> None:
        if not begun.acquire(blocking=False):
            return
        try:
            results.append(function(argument))
        except Exception as error:  # noqa: BLE001  # re-raised by `wait`
            errors.append(error)
        finally:
            done.release()

    with contextlib.suppress(RuntimeError):  # the system grants no more
        _thread.start_new_thread(call, ())

    def wait() -> Result:
        if os.getpid() == owner:
            call()
            with done:
                pass
        if errors:
            raise errors[0]
        return results[0] if results else function(argument)  # lost by a fork, or for lack of memory

    return wait
