"""Tables and paragraphs in Markdown."""

import textwrap
from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    """The lines of a table.

    Args:
        head: the headings of the columns.
        rows: the cells of each row.
        left: how many columns are set flush left; the others, which hold figures, are set flush right.
    """
    ruler = "|" + "---|" * left + "--:|" * (len(head) - left)
    first, *others = ("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in (head, *rows))
    return [first, ruler, *others]


def paragraph(text: str, *, indent: str = "") -> list[str]:
    """The lines of a paragraph; `indent` goes before all but the first."""
    return textwrap.wrap(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
