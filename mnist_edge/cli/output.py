"""The one way from the command line to a person's terminal, for text that may hold anything, and how much of it."""

import contextvars
import os
import shlex
import sys
import textwrap
from enum import IntEnum
from pathlib import Path
from typing import Final

WIDTH: Final = 80
"""Columns that tables and paragraphs keep to, on a terminal and piped."""


class Loudness(IntEnum):
    """How much is printed on stderr. Errors and warnings always are."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_LOUDNESS: Final = contextvars.ContextVar("loudness", default=Loudness.NORMAL)


def set_loudness(loudness: Loudness) -> None:
    """Choose how much this command tells."""
    _LOUDNESS.set(loudness)


def is_quiet() -> bool:
    """Whether --quiet was given."""
    return _LOUDNESS.get() is Loudness.QUIET


def is_verbose() -> bool:
    """Whether --verbose was given."""
    return _LOUDNESS.get() is Loudness.VERBOSE


def printable(text: str) -> str:
    r"""Text with every character escaped that a terminal would obey or hide, but for line ends and tabs.

    File names, labels and messages may come from strangers, and an escape sequence in them could repaint the screen.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1] for character in text
    )


def say(text: str = "") -> None:
    """Print a line on stdout."""
    print(printable(text))


def say_wrapped(start: str, text: str) -> None:
    """Print a paragraph on stdout, its lines indented as far as the `start` of the first. Words are never cut."""
    lines = textwrap.wrap(text, WIDTH - len(start), break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        say(f"{' ' * len(start) if number else start}{line}")


def tell(message: str) -> None:
    """Print a line on stderr, also with --quiet."""
    print(printable(message), file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr, also with --quiet."""
    tell(f"warning: {message}")


def note(message: str) -> None:
    """Print a progress message or note on stderr."""
    if not is_quiet():
        tell(message)


def detail(message: str) -> None:
    """Print a line on stderr that only --verbose asks for."""
    if is_verbose():
        tell(message)


def suggest(*arguments: str | Path) -> None:
    """Tell the command to type next."""
    note(f"next:  {command(*arguments)}")


def command(*arguments: str | Path) -> str:
    """A command of ours to copy into a shell; paths become absolute.

    >>> command("selftest", Path("/my models/cnn.onnx"))
    "mnist-edge selftest '/my models/cnn.onnx'"
    """
    words = (os.path.abspath(each) if isinstance(each, Path) else each for each in arguments)  # noqa: PTH100  # removes ".."
    return shlex.join(["mnist-edge", *words])


def counted(count: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "image"), counted(2000, "image")
    ('1 image', '2,000 images')
    """
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
