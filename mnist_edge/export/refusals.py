"""Other people's compilers: what they raise becomes one line, and their chatter is kept from the terminal."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Final

from mnist_edge.errors import MnistEdgeError, UnsupportedFormatError

_LONGEST: Final = 200

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def refusals_of(tool: str, remedy: str) -> Iterator[None]:
    """Turn whatever a tool raises into an UnsupportedFormatError.

    Args:
        tool: which one, for the message.
        remedy: what to do about it.
    """
    try:
        with _quiet():
            yield
    except (MnistEdgeError, MemoryError):
        raise
    except Exception as error:  # no compiler documents what it raises
        raise UnsupportedFormatError(f"{tool} does not take this model ({essence(error)}): {remedy}") from error


def essence(error: BaseException) -> str:
    """The line of an exception that says what is wrong: the first one of its first cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # TorchScript ends with it, after its own traceback.
    line = lines[-1] if "TorchScript interpreter" in lines[0] else f"{type(error).__name__}: {lines[0]}"
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without log lines, warnings, and the listings of graphs that torch prints when it fails.

    What they warn of, such as a value that a trace freezes, is found by comparing the file with the model.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
