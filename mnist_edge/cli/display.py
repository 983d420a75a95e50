"""Printing: tables and JSON on stdout, notes and progress on stderr."""

import codecs
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mnist_edge.cli.output import WIDTH, counted, detail, is_verbose, note, say, say_wrapped
from mnist_edge.report import words

if TYPE_CHECKING:
    from mnist_edge.bundle.recipe import Recipe
    from mnist_edge.bundle.records import Manifest
    from mnist_edge.cli.doctor import Finding
    from mnist_edge.export.proof import Outcome
    from mnist_edge.runtime.describe import Description

SEPARATOR: Final = "  "
"""What stands between the cells of a table."""


def note_if_shadowed(name: str, *, known: bool) -> None:
    """Tell the user that a known name takes precedence over the file or folder of that name."""
    if known and os.path.lexists(name):
        note(f"note: {name} is taken as a known name; for the file or folder, write .{os.sep}{name}")


def note_if_model_shadowed(name: str) -> None:
    """`note_if_shadowed` for the names of pretrained models."""
    from mnist_edge.runtime.model import is_pretrained

    note_if_shadowed(name, known=is_pretrained(name))


def as_argument(target: str) -> str | Path:
    """A model for the command that is suggested next: the name of a pretrained one, or a path."""
    from mnist_edge.runtime.model import is_pretrained

    return target if is_pretrained(target) else Path(target)


def detail_model(target: str | None, form: str | None, file: str) -> None:
    """Tell with --verbose which file of a model answers, and why."""
    if not is_verbose():
        return
    from importlib.metadata import version

    from mnist_edge.bundle import layout, reading
    from mnist_edge.runtime.model import locate
    from mnist_edge.runtime.threads import default_threads

    place = Path(locate(target))
    if form is not None:
        why = "named by --format"
    elif not place.is_dir():
        why = "named on the command line"
    elif not (place / layout.MANIFEST).exists():
        why = "not exported yet"
    else:
        recommended = reading.read_manifest(place).recommended
        why = "recommended by the manifest" if recommended and recommended.file == file else "by default"
    detail(f"model: {place / file if place.is_dir() else place}, {why}")
    detail(f"onnxruntime {version('onnxruntime')}, {counted(default_threads(), 'thread')} for large batches")


def in_brief(recipe: "Recipe") -> str:
    """The main settings of a recipe, in one line."""
    return f"{counted(recipe.epochs, 'epoch')}, batch size {recipe.batch_size}, {recipe.optimizer}, lr {recipe.lr:g}"


def print_json(value: object, indent: int | None = 2) -> None:
    """Print a JSON document on stdout, on one line if `indent` is None."""
    print(_as_json(value, indent), flush=True)


def one_line(name: str) -> str:
    """A file name for a line of text: an escaped literal if it holds a tab, line break or the like."""
    return name if name.isprintable() else ascii(name)


def json_line(value: object) -> str:
    """A value as one line of JSON, newline included."""
    return f"{_as_json(value)}\n"


def _as_json(value: object, indent: int | None = None) -> str:
    # stdout's error handler would escape characters that its encoding lacks, and the result would not be JSON.
    ascii_only = codecs.lookup(sys.stdout.encoding).name != "utf-8"
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    if text.isprintable():
        return text
    # JSON need not escape all that a terminal obeys.
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


class Table:
    """A table on stdout, printed a few rows at a time, the first column flush left. Columns grow and never shrink.

    A first cell that would make the table wider than `WIDTH` has a line of its own.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        self._widths: list[int] = []

    def print(self, rows: Sequence[Sequence[str]]) -> None:
        """Print more rows, with the header before the first."""
        lines = rows if self._widths or not rows else [self._header, *rows]
        whole = [self._header, *rows]
        room = WIDTH - table_width([("", *others) for _, *others in whole])
        widths = _widths([(first if len(first) <= room else "", *others) for first, *others in whole])
        self._widths = [*map(max, widths, self._widths or widths)] if rows else self._widths
        for first, *others in lines:
            cells = [cell.rjust(width) for cell, width in zip(others, self._widths[1:], strict=True)]
            if len(first) > self._widths[0]:
                say(first)
                first = ""  # noqa: PLW2901
            say(SEPARATOR.join([first.ljust(self._widths[0]), *cells]).rstrip())


def table_width(lines: Sequence[Sequence[str]]) -> int:
    """How many columns of the terminal a table takes whose lines hold these cells."""
    widths = _widths(lines)
    return sum(widths) + len(SEPARATOR) * (len(widths) - 1)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a whole table on stdout."""
    Table(header).print([*rows])


def print_outcomes(outcomes: Iterable["Outcome"]) -> None:
    """Print how each exported file compares with PyTorch."""
    print_table(
        ("file", "size", "max |Δlogit|", "flips", "accuracy", "result"),
        [
            (
                outcome.format.file_name,
                words.size(outcome.bytes) if outcome.bytes else "-",
                f"{outcome.parity.max_abs_diff:.1e}" if outcome.parity else "-",
                f"{outcome.parity.flips}" if outcome.parity else "-",
                f"{100 * outcome.parity.accuracy:.2f} %" if outcome.parity else "-",
                "left out" if outcome.left_out else "failed" if outcome.error else "ok",
            )
            for outcome in outcomes
        ],
    )


def print_recommendation(facts: "Manifest | Description") -> None:
    """Print which ONNX file is recommended, and why not the others. Prints nothing if none is."""
    if not facts.recommended:
        return
    file = facts.recommended.file
    times = {name: f" ({latency.microseconds:.0f} µs an image)" for name, latency in (facts.measured or {}).items()}
    say()
    say_wrapped("recommended: ", f"{file}{times.get(file, '')}")
    for name, reason in facts.recommended.reasons_against.items():
        say_wrapped("not recommended: ", f"{name}: {reason}")


def print_findings(findings: Iterable["Finding"]) -> None:
    """Print one paragraph per topic, with the remedy below each problem."""
    marks = {"ok": " ", "remark": "!", "broken": "✗"}
    topic = None
    for finding in findings:
        if finding.topic != topic:
            say(finding.topic if topic is None else f"\n{finding.topic}")
            topic = finding.topic
        say_wrapped(f"{marks[finding.state]} {finding.name:20} ", finding.value)
        if finding.remedy:
            say_wrapped("    → ", finding.remedy)
