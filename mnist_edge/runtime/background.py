"""One call on a thread of its own. Not an executor: an executor that is used in a forked child waits for ever."""

import threading
from collections.abc import Callable
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_background(function: Callable[[Argument], Result], argument: Argument) -> Callable[[], Result]:
    """Start a call; what is returned waits for it, and gives its result or raises its error."""
    results: list[Result] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(function(argument))
        except Exception as error:  # noqa: BLE001  # raised where the result is asked for
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    def wait() -> Result:
        thread.join()
        if not results and not errors:
            call()  # in a forked child the thread is gone
        if errors:
            raise errors[0]
        return results[0]

    return wait
