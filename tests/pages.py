"""What is wrong with an HTML page that must stand alone, told without a browser."""

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"br", "img", "meta", "wbr"}
HEADINGS = ("h1", "h2", "h3", "h4")
ADDRESSES = ("src", "href", "action", "data", "poster", "srcset", "xlink:href")
ALONE = ("script", "link", "iframe", "object", "embed", "base", "form")


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, dict(attributes), parent
        self.children = []

    def all(self, *tags):
        """The elements below it, in order, of these tags or of any."""
        for child in self.children:
            if isinstance(child, Element):
                if not tags or child.tag in tags:
                    yield child
                yield from child.all(*tags)

    def with_id(self, name):
        (found,) = (each for each in self.all() if each.attributes.get("id") == name)
        return found

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def cells(self):
        """The text of a table's body, row by row."""
        (body,) = self.all("tbody")
        return [[cell.text for cell in row.all("th", "td")] for row in body.all("tr")]


class Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.current = Element("", {}, None)
        self.wrong = []

    def handle_starttag(self, tag, attrs):
        if len(dict(attrs)) < len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        element = Element(tag, attrs, self.current)
        self.current.children.append(element)
        if tag not in VOID:
            self.current = element

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if self.current.tag != tag:
            self.wrong.append(f"</{tag}> closes <{self.current.tag}>")
        else:
            self.current = self.current.parent

    def handle_data(self, data):
        self.current.children.append(data)


def parsed(html):
    """The page's root element, and what does not nest."""
    parser = Parser()
    parser.feed(html)
    parser.close()
    if parser.current is not parser.root:
        parser.wrong.append(f"<{parser.current.tag}> stays open")
    return parser.root, parser.wrong


def problems(html):
    """What is wrong with a page, a line each."""
    root, wrong = parsed(html)
    return [
        *wrong,
        *_alone(root, html),
        *_policy(root),
        *_named(root),
        *_ordered(root),
        *_described(root),
        *_tables(root),
    ]


def _alone(root, html):
    if re.search("https?:", html):
        yield "an address of the network"
    for element in root.all():
        if element.tag in ALONE:
            yield f"a <{element.tag}>"
        for name, value in element.attributes.items():
            if name in ADDRESSES and not value.startswith(("#", "data:")):
                yield f"<{element.tag}> asks for {value}"
            if name == "style" or name.startswith("on"):
                yield f"<{element.tag}> has the attribute {name}"


def _policy(root):
    found = [each for each in root.all("meta") if each.attributes.get("http-equiv") == "Content-Security-Policy"]
    policy = found[0].attributes["content"] if found else ""
    (style,) = root.all("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    if "default-src 'none'" not in policy or "unsafe" in policy:
        yield "no strict content security policy"
    elif f"style-src 'sha256-{digest}'" not in policy:
        yield "the policy forbids the style sheet"
    if re.search(r"url\(|@import", style.text):
        yield "the style sheet asks for something"


def _named(root):
    ids = Counter(each.attributes["id"] for each in root.all() if "id" in each.attributes)
    yield from (f"{count} elements have the id {name}" for name, count in ids.items() if count > 1)
    for element in root.all():
        link, clip = element.attributes.get("href", ""), element.attributes.get("clip-path", "")
        labels = element.attributes.get("aria-labelledby", "").split()
        for name in (*labels, *re.findall("^#(.*)", link), *re.findall(r"url\(#(.*)\)", clip)):
            if name not in ids:
                yield f"<{element.tag}> refers to {name}, which is not there"
    names = [(each.attributes.get("aria-label") or each.attributes.get("aria-labelledby")) for each in _scrolling(root)]
    if not all(names) or any(each.attributes.get("tabindex") != "0" for each in _scrolling(root)):
        yield "a region that the keyboard cannot reach or that has no name"
    yield from (f"{count} regions are named {name}" for name, count in Counter(names).items() if count > 1)


def _scrolling(root):
    return [each for each in root.all() if each.attributes.get("role") in ("region", "group")]


def _ordered(root):
    levels = [int(each.tag[1]) for each in root.all(*HEADINGS)]
    if levels.count(1) != 1 or levels[0] != 1 or any(below > above + 1 for above, below in pairwise(levels)):
        yield f"headings out of order: {levels}"
    yield from (f"not one <{each}>" for each in ("main", "nav", "header", "footer") if len([*root.all(each)]) != 1)
    if not next(root.all("html")).attributes.get("lang"):
        yield "no language"
    first = next(next(root.all("body")).all())
    if first.tag != "a" or first.attributes.get("href") != "#main":
        yield "no skip link"


def _described(root):
    yield from ("an image without words" for each in root.all("img") if not each.attributes.get("alt"))
    for svg in root.all("svg"):
        if svg.attributes.get("role") != "img" or not (any(svg.all("title")) and any(svg.all("desc"))):
            yield "a drawing without words"
        if not any(svg.all("text")):
            yield "a drawing without text"


def _tables(root):
    for table in root.all("table"):
        if not any(table.all("caption")):
            yield "a table without a caption"
        yield from ("a table's header without a scope" for each in table.all("th") if "scope" not in each.attributes)
        widths = {len([*row.all("th", "td")]) for row in table.all("tr")}
        if len(widths) != 1:
            yield f"a table with rows of {widths} cells"
