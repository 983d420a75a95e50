"""HTML that is safe by construction: what is no `Markup` is text, and is escaped."""

import base64
import html
import io
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

VOID: Final = frozenset(("br", "img", "meta", "wbr"))
"""Elements without an end tag."""

LONGEST_LINE: Final = 26
"""Characters of a row's header that stay on one line."""


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


def text(value: str) -> Markup:
    r"""Any text as HTML. What a browser would obey or hide, such as a change of writing direction, is spelled out.

    >>> text("a<b\u202e")
    'a&lt;b\\u202e'
    """
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in value)
    return Markup(html.escape(shown))


def joined(*parts: str) -> Markup:
    """Markup and text, one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in parts))


def tag(name: str, /, *content: str, **attributes: str | int | None) -> Markup:
    """An element. An attribute of value None is left out; an underscore in its name stands for a hyphen.

    >>> tag("p", "1 < 2", tag("b", "!"), class_="note", aria_label=None)
    '<p class="note">1 &lt; 2<b>!</b></p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{joined(*content)}</{name}>")


def name_of(label: str) -> Markup:
    """A label, kept apart from the text around it: it may run from right to left."""
    return tag("bdi", label)


def file_name(name: str) -> Markup:
    """The name of a file, which may break after its first point."""
    first, point, rest = name.partition(".")
    return joined(first, point, tag("wbr"), rest)


def scroller(name: str, content: Markup) -> Markup:
    """A table that may be wider than the page: it scrolls, also with the keyboard, and is named by its caption.

    Args:
        name: the caption's id.
        content: the table.
    """
    return tag("div", content, class_="scroll", role="group", aria_labelledby=name, tabindex="0")


def caption(words: str, name: str | None = None) -> Markup:
    """What a table shows; it wraps at the edge of the screen, however wide the table."""
    return tag("caption", tag("span", words), id=name)


def id_of(words: str) -> str:
    """A caption's id.

    >>> id_of("The most frequent of 1,200 confusions")
    'table-the-most-frequent-of-1-200-confusions'
    """
    return "-".join(["table", *re.findall("[a-z0-9]+", words.lower())])


def table(
    words: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    texts: Collection[int] = (),
    tall: int | None = None,
) -> Markup:
    """A table that scrolls if it is too wide. The first cell of each row is its header.

    Args:
        words: what the table shows.
        header: the name of each column.
        rows: text or markup; as many cells as the header has.
        texts: the columns that hold text, beside the first; the others hold numbers.
        tall: of these, one whose cells may have several lines.
    """
    kinds = ["text" if each == tall else None if each in {0, *texts} else "number" for each in range(len(header))]
    head = tag("tr", *(tag("th", cell, scope="col", class_=kind) for cell, kind in zip(header, kinds, strict=True)))
    body = [
        tag(
            "tr",
            row_header(first),
            *(tag("td", cell, class_=kind) for cell, kind in zip(others, kinds[1:], strict=True)),
        )
        for first, *others in rows
    ]
    name = id_of(words)
    return scroller(name, tag("table", caption(words, name), tag("thead", head), tag("tbody", *body)))


def row_header(content: str) -> Markup:
    """The first cell of a row. Only a long one has several lines, so that names stay whole."""
    shown = html.unescape(re.sub("<[^>]*>", "", content)) if isinstance(content, Markup) else content
    is_long = len(shown) > LONGEST_LINE
    return tag("th", content, scope="row", class_="long" if is_long else None)


def pairs(words: str, rows: Iterable[tuple[str, str]]) -> Markup:
    """A table of two columns: names and values."""
    body = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows)
    return tag("table", caption(words), tag("tbody", *body), class_="facts")


def picture(image: NDArray[np.uint8], alt: str, scale: int) -> Markup:
    """A small grey image, uint8 [height, width], each pixel drawn `scale` wide."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    height, width = image.shape
    return tag("img", src=source, alt=alt, width=width * scale, height=height * scale)


def section(name: str, title: str, *content: str) -> Markup:
    """A part of the page, whose heading gives it its name."""
    heading = tag("h2", title, id=name)
    return tag("section", heading, *content, aria_labelledby=name)


def command_lines(label: str, *lines: str) -> Markup:
    """Lines to copy."""
    return tag("pre", tag("code", Markup("\n".join(map(text, lines)))), tabindex="0", role="region", aria_label=label)
