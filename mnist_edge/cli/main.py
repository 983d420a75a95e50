"""The entry point of the program."""

import contextlib
import functools
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable


def main() -> None:
    """Run the command line. An expected failure becomes one line on stderr and an exit code."""
    # Ctrl-C is held back until there are words for it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    from mnist_edge.cli.failures import Failed, complain, explain, interruption
    from mnist_edge.cli.output import tell

    _prepare_streams()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # unusable pictures raise errors of our own
    restore = _handle_signals()
    try:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        from mnist_edge.cli.app import app

        try:
            app(prog_name="mnist-edge")
        except SystemExit as stop:
            if isinstance(stop.__context__, BrokenPipeError):  # the parser makes 1 of it
                raise stop.__context__ from None
            sys.stdout.flush()
            raise
    except BaseException as error:
        explained = explain(error)
        if explained is None:
            raise
        words, code = explained
        with contextlib.suppress(BrokenPipeError):  # nobody reads stderr either
            if interruption(error) is not None:  # before the command began
                tell(words)
            elif not isinstance(error, (Failed, BrokenPipeError)):
                complain(words, error)
        _drop_unwritten()
        sys.exit(code)
    finally:
        restore()


def _handle_signals() -> Callable[[], object]:
    """Note Ctrl-C and let SIGTERM unwind like it. Returns what brings the handler of Ctrl-C back."""
    from mnist_edge.cli.failures import TERMINATED, interrupts

    def interrupt(number: int, _: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    interrupts.clear()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # the parent may ignore it on purpose, as below
        # Half-written files are removed then.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return lambda: None
    signal.signal(signal.SIGINT, interrupt)
    return functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)


def _prepare_streams() -> None:
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            file = _pipe_without_a_reader() if name == "stdout" else os.devnull
            setattr(sys, name, open(file, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for the process's life
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack characters of a file name
            stream.reconfigure(errors="backslashreplace")


def _pipe_without_a_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def _drop_unwritten() -> None:
    """Discard what cannot be written: the interpreter would try again at exit, and report that."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
