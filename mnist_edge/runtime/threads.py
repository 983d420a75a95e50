"""How many Python threads share a large batch, and how they do it.

Each takes the next chunk and gives it to the one session, which lets go of the interpreter while it computes. They are
started by the call and are gone when it returns, so that nothing runs between calls and a fork finds no thread. Where
the system grants no thread the caller's own does all the work.
"""

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
"""A program that classifies a batch should not take a whole server for it; more threads are there for the asking."""

MAX_THREADS: Final = 1024
"""More are a slip of the hand."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def asked_threads(threads: object = None) -> int | None:
    """The number of threads that was asked for, by argument or else by ``MNIST_EDGE_THREADS``; None if by neither.

    Raises:
        UsageError: it is no whole number within 1…`MAX_THREADS`.
    """
    if threads is not None:
        return _checked(threads, "threads")
    if not (asked := os.environ.get(THREADS_VARIABLE)):
        return None
    # A number of thousands of digits is more than int takes.
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
    """``MNIST_EDGE_THREADS``, or as many threads as this process may really use, at most `MAX_DEFAULT_THREADS`.

    What it may use is found by `mnist_edge.runtime.limits`.

    Raises:
        UsageError: the variable holds no whole number within 1…`MAX_THREADS`.
    """
    from mnist_edge.runtime.limits import usable_cpus  # reads files, which a single image need not wait for

    return asked_threads() or min(usable_cpus(), MAX_DEFAULT_THREADS)


def in_chunks(
    run: Callable[[NDArray[Any]], NDArray[np.float32]],
    batch: NDArray[Any],
    *,
    chunk: int,
    width: int,
    threads: int,
) -> NDArray[np.float32]:
    """A function's results for a large array, computed a chunk of rows at a time by several threads.

    Args:
        run: takes [n, …] with n up to `chunk`, returns [n, width]; called from several threads at once.
        batch: [N, …].
        chunk: rows a call.
        width: columns of the result.
        threads: how many work, the caller's own among them.

    Returns:
        float32 [N, width], in the order of `batch`.

    Raises:
        Exception: the first that `run` raised, after all threads have stopped.
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
        except BaseException as error:  # noqa: BLE001  # raised by the caller's thread, once the others have stopped
            errors.append(error)

    helpers = [_started(work) for _ in range(min(threads, -(-len(batch) // chunk)) - 1)]
    work()
    try:
        for helper in filter(None, helpers):
            helper.join()
    except BaseException as error:  # an interrupt: the others stop after the chunk that they are at
        errors.append(error)
        raise
    if errors:
        raise errors[0]
    return results


def in_background(function: Callable[[Argument], Result], argument: Argument) -> Callable[[], Result]:
    """Start a call on a thread of its own; what is returned waits for it, and gives its result or raises its error.

    Where the system grants no thread, or a fork has lost it, the call is made by who waits. (An executor would wait for
    ever in a forked child.)
    """
    results: list[Result] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(function(argument))
        except Exception as error:  # noqa: BLE001  # raised where the result is asked for
            errors.append(error)

    thread = _started(call)

    def wait() -> Result:
        if thread is not None:
            thread.join()
        if not results and not errors:
            call()
        if errors:
            raise errors[0]
        return results[0]

    return wait


def _started(work: Callable[[], None]) -> threading.Thread | None:
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system grants no more
        return None
    return thread
