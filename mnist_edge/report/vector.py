"""Matplotlib figures as SVG inside a page: text stays text, and every colour is one of the page's own.

Matplotlib writes colours and fonts as ``style`` attributes, which a strict content security policy forbids. Here they
become classes and attributes, so that the page's style sheet decides what they look like, in the dark, too.
"""

import io
import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from mnist_edge.errors import UsageError
from mnist_edge.report.markup import Markup, tag, text
from mnist_edge.report.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: Final = {"svg.fonttype": "none", "svg.hashsalt": "mnist-edge", "path.simplify_threshold": 0.3}
"""The salt makes equal figures equal files."""

_SVG: Final = "{http://www.w3.org/2000/svg}"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"
_LONG_NUMBER: Final = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_FONT: Final = re.compile(r"(?:(bold|\d{3}) )?([\d.]+)px")

KEPT: Final = frozenset(
    [
        *("stroke-width", "stroke-linecap", "stroke-linejoin", "stroke-dasharray", "stroke-opacity", "fill-opacity"),
        *("opacity", "font-size", "font-weight", "text-anchor"),
    ]
)
"""What is an attribute of the same name."""

DROPPED: Final = frozenset(("font-family", "stroke-dashoffset", "stroke-miterlimit", "font-style", "font-stretch"))
"""What the page decides or does without. So it does without any other property of a later matplotlib."""


def inline(figure: "Figure", name: str, title: str, description: str) -> Markup:
    """A figure as an ``svg`` element.

    Args:
        figure: drawn in the colours of `COLOURS` only.
        name: no other figure of the page may have it.
        title: what the figure is.
        description: what it shows, for those who cannot see it.

    Raises:
        UsageError: the figure has another colour.
    """
    root = ET.fromstring(_svg_of(figure))  # noqa: S314  # matplotlib's own
    for parent in root.iter():
        for child in [*parent]:
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style", f"{_SVG}title") or child.tag is ET.Comment:
                parent.remove(child)
    for element in root.iter():
        _restyle(element, name)
    titles = Markup(tag("title", title, id=f"{name}-title") + tag("desc", description, id=f"{name}-desc"))
    content = "".join(_markup(child) for child in root)
    return Markup(
        f'<svg class="plot" viewBox="{root.get("viewBox")}" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'stroke-linejoin="round" stroke-linecap="butt">{titles}{content}</svg>'
    )


def _svg_of(figure: "Figure") -> str:
    from matplotlib import style

    stream = io.StringIO()
    with style.context(["default", SETTINGS]):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return stream.getvalue()


def _restyle(element: ET.Element, name: str) -> None:
    """Make a style sheet's classes of the style, and ids unique in the page."""
    element.tag = element.tag.removeprefix(_SVG)
    attributes = element.attrib
    found = dict(part.split(":", 1) for part in attributes.pop("style", "").split(";") if part.strip())
    for key, value in _attributes({key.strip(): value.strip() for key, value in found.items()}).items():
        attributes[key] = value
    if link := attributes.pop(_LINK, None):
        attributes["href"] = link
    for key, value in attributes.items():
        if key == "id":
            attributes[key] = f"{name}-{value}"
        elif key == "href" or value.startswith("url(#"):
            attributes[key] = value.replace("#", f"#{name}-")
        else:
            attributes[key] = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)


def _attributes(style: dict[str, str]) -> dict[str, str]:
    """The attributes that do what a style does; the colours become classes."""
    attributes: dict[str, str] = {}
    classes = []
    for key, value in style.items():
        if key in ("fill", "stroke") and value != "none":
            classes.append(f"{key}-{_colour(value)}")
        elif key == "font":
            if font := _FONT.search(value):
                attributes |= {"font-size": f"{font[2]}px", **({"font-weight": font[1]} if font[1] else {})}
        elif key in KEPT or value == "none":
            attributes[key] = value
    return attributes | ({"class": " ".join(classes)} if classes else {})


def _colour(value: str) -> str:
    for name, colour in COLOURS.items():
        if value.lower() == colour.lower():
            return name
    raise UsageError(f"{value} is not a colour of the page: choose from {', '.join(COLOURS)}")


def _markup(element: ET.Element) -> str:
    """As HTML: elements without a prefix and without white space between them."""
    inner = text((element.text or "").strip()) + "".join(map(_markup, element))
    is_named = "id" in element.attrib
    if element.tag == "g" and not inner:
        return ""
    given = "".join(
        f' {key}="{text(" ".join(value.split()))}"'
        for key, value in sorted(element.attrib.items())
        if not (is_named and element.tag == "g" and key == "id")  # matplotlib names every group
    )
    return f"<{element.tag}{given}/>" if not inner else f"<{element.tag}{given}>{inner}</{element.tag}>"
