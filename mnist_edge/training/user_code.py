"""Run code that is not ours: its prints go to stderr, so that stdout stays clean, and its exceptions become ours."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Final

from mnist_edge.errors import MnistEdgeError, ModelFormatError

_TERMINATED: Final = 128 + signal.SIGTERM
"""The code of the SystemExit that the command line's handler of SIGTERM raises."""


@contextmanager
def running(message: Callable[[BaseException], str]) -> Iterator[None]:
    """Run the block as a user's code.

    Args:
        message: makes the message from an exception.

    Raises:
        ModelFormatError: the code raises anything, SystemExit included, but KeyboardInterrupt and MemoryError.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (MnistEdgeError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == _TERMINATED:
            raise
        raise ModelFormatError(message(error)) from error


def described(error: BaseException) -> str:
    """An exception's class and the first line of its message, shortened."""
    lines = (str(error.msg) if isinstance(error, SyntaxError) else str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
