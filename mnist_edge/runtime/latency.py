"""How long a call takes, of several things side by side."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def latencies(calls: Mapping[Name, Callable[[int], object]], *, rounds: int, repeats: int) -> dict[Name, list[float]]:
    """The seconds that each call took.

    They take turns, a round of repeats each, so that a busy moment of the machine does not fall on one alone.

    Args:
        calls: what to call, by name, with the number of the repeat.
        rounds: turns of each.
        repeats: calls a turn.

    Returns:
        For each name `rounds` times `repeats` durations.

    >>> {name: len(seconds) for name, seconds in latencies({"nothing": abs}, rounds=2, repeats=3).items()}
    {'nothing': 6}
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for number in range(repeats):
                start = time.perf_counter()
                call(number)
                seconds[name].append(time.perf_counter() - start)
    return seconds
