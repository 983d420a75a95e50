"""Record what train, export, verify and evaluate show on terminals of two sizes and in a pipe, whole and interrupted.

Prints a table: the longest silence, the widest line, the exit code and the last line. Lines that hold a command to copy
are not counted as wide, because they must not be broken. Trains with --fast on ``$MNIST_EDGE_DATA`` or MNIST::

    python scripts/record_terminal.py
"""

import argparse
import contextlib
import itertools
import math
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SURFACES = {"80x24": (24, 80), "200x50": (50, 200), "pipe": None}
COLOURS: dict[str, dict[str, str]] = {"yes": {}, "NO_COLOR": {"NO_COLOR": "1"}}
COMMANDS = {
    "train": ("train", "--fast", "--model", "cnn-nano", "--out", "bundle", "--overwrite"),
    "export": ("export", "bundle"),
    "verify": ("verify", "bundle"),
    "evaluate": ("evaluate", "bundle"),
}

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Recording:
    """What a command showed."""

    seconds: float
    silence: float
    """The longest time without output, in seconds, the start and the end included."""

    text: str
    """Without escape sequences, each redrawn state of a line on a line of its own."""

    code: int

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line for line in re.split(r"[\r\n]+", self.text) if line.strip()]

    @property
    def width(self) -> int:
        """The columns of the widest line without a command to copy."""
        return max(len(line) for line in self.lines if "mnist-edge " not in line)


def record(
    arguments: Sequence[str],
    size: tuple[int, int] | None,
    folder: Path,
    environment: Mapping[str, str],
    interrupt: Callable[[str, float], bool] = lambda shown, seconds: False,
) -> Recording:
    """Run `mnist-edge` in a folder, in a terminal of this many rows and columns or, if None, in a pipe.

    Ctrl-C follows as soon as `interrupt`, called with what was shown and the seconds since the start, returns True.
    """
    ours, theirs = os.pipe() if size is None else pty.openpty()
    if size is not None:
        termios.tcsetwinsize(theirs, size)
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    start = last = time.monotonic()
    silence, shown, interrupted = 0.0, b"", False
    with subprocess.Popen(
        [sys.executable, "-m", "mnist_edge", *arguments],
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={**inherited, "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # a terminal whose other end is closed
            while True:
                if not interrupted and interrupt(shown.decode(errors="replace"), time.monotonic() - start):
                    interrupted = True
                    process.send_signal(signal.SIGINT)
                if not select.select([ours], [], [], 0.05)[0]:
                    continue
                if not (chunk := os.read(ours, 65536)):
                    break
                silence, last, shown = max(silence, time.monotonic() - last), time.monotonic(), shown + chunk
    os.close(ours)
    end = time.monotonic()
    text = ESCAPE.sub("", shown.decode(errors="replace"))
    return Recording(end - start, max(silence, end - last), text, process.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print(f"{'command':8} {'surface':7} {'colour':8} {'ends':11} {'silence':>7} {'widest':>6} {'code':>4}  last line")
    for surface, colour in itertools.product(SURFACES, COLOURS):
        with tempfile.TemporaryDirectory() as scratch:
            folder, copy = Path(scratch, "whole"), Path(scratch, "copy")
            folder.mkdir()
            for name in COMMANDS:
                shutil.copytree(folder, copy)
                whole = _shown(name, surface, colour, folder)
                _shown(name, surface, colour, copy, after=whole.seconds / 2)
                shutil.rmtree(copy)


def _shown(name: str, surface: str, colour: str, folder: Path, after: float = math.inf) -> Recording:
    found = record(COMMANDS[name], SURFACES[surface], folder, COLOURS[colour], lambda shown, seconds: seconds > after)
    ends = "by itself" if after == math.inf else "interrupted"
    print(
        f"{name:8} {surface:7} {colour:8} {ends:11} {found.silence:5.1f} s {found.width:6} {found.code:4}  "
        f"{found.lines[-1]}",
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
