"""The command line: parse, one library call, print. Nothing imports it."""

import io
import os
import sys
import warnings
from typing import Final

from mnist_edge.errors import DataError, InputError, MnistEdgeError, ModelError, UsageError

FAILED: Final = 1
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
"""What a shell reports of a tool whose reader has gone (128 + SIGPIPE)."""

_EXIT_CODES: Final = {UsageError: 2, DataError: 3, InputError: 3, ModelError: 4}


def exit_code(error: MnistEdgeError) -> int:
    """1: the operation or a quality gate failed; 2: usage; 3: bad image or data set; 4: bad or altered model."""
    return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), FAILED)


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and an exit code."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for the process's life
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or pipe may not know every letter of a file's name
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a picture that Pillow warns of is refused by us
    try:
        from mnist_edge.cli.app import app

        app(prog_name="mnist-edge")
    except MnistEdgeError as error:
        complain(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:  # no space, no permission: the system's own words say it
        complain(error)
        sys.exit(FAILED)


def complain(error: Exception) -> None:
    """One line on stderr."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
