"""The one way from the command line to a person's terminal, for text that may hold anything."""

import sys


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


def note(message: str) -> None:
    """Print a progress message or note on stderr."""
    print(printable(message), file=sys.stderr, flush=True)
