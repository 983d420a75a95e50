"""How a command fails: one line on stderr, an exit code, and with ``--json`` a document."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from mnist_edge.cli.output import is_verbose, tell
from mnist_edge.errors import DataError, InputError, MnistEdgeError, ModelError, UsageError

FAILED: Final = 1
INTERRUPTED: Final = 130
TERMINATED: Final = 143
"""What a shell reports for a process ended by SIGTERM (128 + SIGTERM)."""
PIPE_CLOSED: Final = 141
"""What a shell reports for a process ended by SIGPIPE (128 + SIGPIPE)."""

interrupts: Final[list[int]] = []
"""The SIGINTs that the command has received."""

NOTHING_CHANGED: Final = "nothing was changed"

_EXIT_CODES: Final = {UsageError: 2, DataError: 3, InputError: 3, ModelError: 4}

_NO_MEMORY: Final = "not enough memory: close other programs, or use smaller images or a smaller --batch-size"
_NO_THREAD: Final = "the system cannot start more threads: close other programs, or raise its limit (ulimit -u)"


class Failed(Exception):  # noqa: N818  # carries errors that are already reported
    """A failure that the command has already reported, so that `main` prints nothing.

    Args:
        error: what went wrong, for ``--json``.
        code: the process's exit code.
        facts: what the command found nevertheless, for ``--json``.
    """

    def __init__(self, error: str, code: int, facts: Mapping[str, object] | None = None) -> None:
        super().__init__(error)
        self.code = code
        self.facts = facts or {}


def exit_code(error: MnistEdgeError) -> int:
    """1: the operation or a quality gate failed; 2: usage; 3: bad image or data set; 4: bad or altered model."""
    return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), FAILED)


def gravest(errors: Iterable[MnistEdgeError]) -> int:
    """The highest exit code among several failures, so that a bad model outranks bad data; 0 if there are none."""
    return max(map(exit_code, errors), default=0)


def explain(error: BaseException) -> tuple[str, int] | None:
    """The message and exit code of an expected failure; None for a bug, whose traceback should be shown."""
    if (code := interruption(error)) is not None:
        return f"interrupted: {NOTHING_CHANGED}", code
    words, code = str(error), FAILED
    match error:
        case Failed():
            code = error.code
        case MnistEdgeError():
            code = exit_code(error)
        case MemoryError():
            words = f"{words}: {_NO_MEMORY}" if words else _NO_MEMORY
        case RuntimeError() if "DefaultCPUAllocator" in words:  # torch's MemoryError
            words = _NO_MEMORY
        case RuntimeError() if "can't start new thread" in words:
            words = _NO_THREAD
        case BrokenPipeError():
            code = PIPE_CLOSED
        case OSError():  # no space, no permission: the system's message is enough
            pass
        case _:
            return None
    return words, code


def interruption(error: BaseException) -> int | None:
    """The exit code after Ctrl-C or SIGTERM; None if it is another error."""
    if interrupts and not isinstance(error, Failed):  # compilers turn an interruption into errors of their own
        return INTERRUPTED
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case SystemExit(code=int(code)) if code in (INTERRUPTED, TERMINATED):
            return code
        case BaseException(__cause__=BaseException() as cause):  # pybind11 and torch wrap it in errors of their own
            return interruption(cause)
    return None


@contextlib.contextmanager
def if_interrupted(holds: Callable[[], str]) -> Iterator[None]:
    """Tell what holds after Ctrl-C or SIGTERM, and raise `Failed`."""
    try:
        yield
    except BaseException as error:
        code = interruption(error)
        if code is None:
            raise
        words = f"interrupted: {holds()}"
        tell(words)
        raise Failed(words, code) from None


def complain(error: Exception | str, cause: BaseException | None = None) -> None:
    """Print an error as one line on stderr, with --verbose after its traceback."""
    cause = error if isinstance(error, Exception) else cause
    if cause is not None and is_verbose():
        import traceback  # only a verbose failure needs it

        tell("".join(traceback.format_exception(cause)).rstrip())
    tell(f"error: {' '.join(str(error).split())}")
