"""Names that users choose from, and hints for those that are almost right."""

from collections.abc import Collection, Iterable
from typing import Final, TypeVar

from mnist_edge.errors import UsageError


def is_unicode(text: str) -> bool:
    """Whether a text can be written in a record. The name of a file need not be UTF-8.

    >>> [is_unicode(name) for name in ("Größe", "Gr\udcf6\udcdfe")]
    [True, False]
    """
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


Name = TypeVar("Name", bound=str)

CLOSE: Final = 0.7
"""How alike, by `difflib`, two names must be; ``onxx`` and ``onnx`` are 0.75."""

PREFIX: Final = 3
"""Characters with which a name must begin to stand for all that begin so."""

LONGEST: Final = 80
"""Longer names resemble none of ours, and would take long to compare."""


def choose(name: str, among: Collection[Name], what: str) -> Name:
    """The one of that name. Raises UsageError, which says what it should name, if there is none."""
    for each in among:
        if each == name:
            return each
    advice = did_you_mean(name, among, f"choose from {', '.join(among)}")
    raise UsageError(f"unknown {what} {name!r:.80}: {advice}")


def did_you_mean(name: object, known: Iterable[str], otherwise: str) -> str:
    """What to do about an unknown name: a hint at the known name that was meant, or else the advice `otherwise`.

    >>> did_you_mean("int8_static", ("onnx", "int8-static"), "choose another")
    'did you mean int8-static?'
    >>> did_you_mean("coreml", ("onnx", "int8-static"), "choose another")
    'choose another'
    """
    found = near(name, known)
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def near(name: object, known: Iterable[str]) -> list[str]:
    """The known names that begin like a name, else the one most like it; case, hyphens, underscores do not count."""
    if not isinstance(name, str) or len(name) > LONGEST:
        return []
    import difflib  # not needed where all names are right

    wanted = _bare(name)
    by_bare = {_bare(each): each for each in known}
    if wanted in by_bare:
        return [by_bare[wanted]]
    beginning = [each for bare, each in by_bare.items() if len(wanted) >= PREFIX and bare.startswith(wanted)]
    return beginning or [by_bare[bare] for bare in difflib.get_close_matches(wanted, by_bare, n=1, cutoff=CLOSE)]


def _bare(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "-_ "))
