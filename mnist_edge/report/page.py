"""The report on a bundle: one HTML page that needs nothing else, neither scripts nor the network.

Equal facts give equal bytes with the same versions of matplotlib and Pillow: the page holds no dates and no paths.
"""

import base64
import hashlib
from importlib import resources
from typing import Final

from mnist_edge.extras import require
from mnist_edge.report import records, results, words
from mnist_edge.report.facts import Facts
from mnist_edge.report.markup import Markup, joined, section, tag

MARK: Final = '<meta name="generator" content="mnist-edge report">'
"""Stands in the head of every report."""

SECTIONS: Final = {
    "model": ("What the model is", records.model),
    "learning": ("Learning curves", results.learning),
    "confusion": ("Confusion matrix", results.confusion),
    "mistakes": ("Worst mistakes", results.worst),
    "reliability": ("Reliability", results.reliability),
    "coverage": ("Coverage", results.coverage),
    "distortions": ("Distorted images", results.distortions),
    "parity": ("Parity with PyTorch", records.parity),
    "formats": ("Formats", records.formats),
    "provenance": ("Provenance and digests", records.provenance),
    "run": ("How to run it", records.run),
}


def page(facts: Facts) -> str:
    """The whole page.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", extra="plot")
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(MARK),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{facts.name}: model report"),
        tag("style", Markup(style)),
    )
    contents = tag(
        "nav",
        tag("h2", "Contents", id="contents"),
        tag("ol", *(tag("li", tag("a", title, href=f"#{name}")) for name, (title, _) in SECTIONS.items())),
        aria_labelledby="contents",
    )
    body = tag(
        "body",
        tag("a", "Skip to the results", class_="skip", href="#main"),
        tag("header", tag("h1", joined(facts.name, ": model report")), _summary(facts)),
        contents,
        tag(
            "main",
            *(section(name, title, draw(facts)) for name, (title, draw) in SECTIONS.items()),
            id="main",
            tabindex="-1",
        ),
        tag("footer", tag("p", "Made by mnist-edge report from the bundle's records and its model's answers.")),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _summary(facts: Facts) -> Markup:
    result = facts.evaluation
    file = facts.files.get(facts.file)
    latency = facts.measured.get(facts.file)
    tiles = [
        ("accuracy", words.percent(result.accuracy), f"{result.correct:,} of {result.total:,} test images"),
        ("mistakes", f"{result.total - result.correct:,}", f"of {result.total:,} test images"),
        ("calibration error", words.percent(result.calibration_error), "of the probabilities"),
    ]
    if file is not None:
        tiles.append(("size", words.size(file.bytes), facts.file))
    if latency is not None:
        tiles.append(("latency", f"{latency.microseconds:.0f} µs", "an image, on the exporting machine"))
    lead = (
        f"{facts.source.architecture}, a classifier of 28×28 images with {facts.source.parameters:,} parameters and "
        f"{len(facts.labels)} classes. Confusion, mistakes, reliability, coverage and distortions are those of "
        f"{facts.file} on the test set of {facts.data}; the other sections name the data of their figures."
    )
    shown = (tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in tiles)
    return joined(tag("p", lead), tag("dl", *shown, class_="tiles"))
