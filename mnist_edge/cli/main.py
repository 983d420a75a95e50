"""The entry point of the program."""

import io
import os
import signal
import sys
import warnings


def main() -> None:
    """Run the command line. An expected failure becomes one line on stderr and an exit code."""
    # Ctrl-C is held back until there are words for it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    from mnist_edge.cli.failures import TERMINATED, Failed, complain, explain, interruption
    from mnist_edge.cli.output import tell

    _prepare_streams()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # unusable pictures raise errors of our own
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # the parent may ignore it on purpose
        # Unwind as Ctrl-C does, so that half-written files are removed.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    try:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        from mnist_edge.cli.app import app

        app(prog_name="mnist-edge")
    except BaseException as error:
        explained = explain(error)
        if explained is None:
            raise
        words, code = explained
        if interruption(error) is not None:  # before the command began
            tell(words)
        elif not isinstance(error, Failed):
            complain(words, error)
        sys.exit(code)


def _prepare_streams() -> None:
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for the process's life
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack characters of a file name
            stream.reconfigure(errors="backslashreplace")
