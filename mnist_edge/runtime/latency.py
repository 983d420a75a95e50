"""Latency of several functions, timed in turns."""

import contextlib
import gc
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def latencies(calls: Mapping[Name, Callable[[int], object]], *, rounds: int, repeats: int) -> dict[Name, list[float]]:
    """Time every call, in seconds.

    The functions take turns of `repeats` calls each, so that a busy moment of the machine does not hit just one. The
    garbage collector is off meanwhile: it would stop some calls for what others left.

    Args:
        calls: the functions by name; each takes the index of the repeat.
        rounds: turns per function.
        repeats: calls per turn.

    Returns:
        For each name `rounds` × `repeats` durations.

    >>> {name: len(seconds) for name, seconds in latencies({"nothing": abs}, rounds=2, repeats=3).items()}
    {'nothing': 6}
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    with _uncollected():
        for _ in range(rounds):
            for name, call in calls.items():
                for number in range(repeats):
                    start = time.perf_counter()
                    call(number)
                    seconds[name].append(time.perf_counter() - start)
    return seconds


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
