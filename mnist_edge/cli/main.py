"""Where the program begins."""

import io
import os
import signal
import sys
import warnings

from mnist_edge.cli.failures import TERMINATED, Failed, complain, explain


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and an exit code."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for the process's life
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or pipe may not know every letter of a file's name
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a picture that Pillow warns of is refused by us
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # whoever ignores it has a reason
        # Unwinds as Ctrl-C does, so that what is half written is removed.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    try:
        from mnist_edge.cli.app import app

        app(prog_name="mnist-edge")
    except BaseException as error:
        explained = explain(error)
        if explained is None:
            raise
        words, code = explained
        if not isinstance(error, (Failed, KeyboardInterrupt, SystemExit)):
            complain(words)
        sys.exit(code)
