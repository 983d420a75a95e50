"""How `predict` prints: JSON lines, CSV, lines with tabs, or a table for a person at a terminal."""

import csv
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mnist_edge.cli.display import json_line, one_line
from mnist_edge.errors import MnistEdgeError

if TYPE_CHECKING:
    from mnist_edge.runtime.answers import Prediction

Answer = tuple[str, "Prediction | MnistEdgeError"]
"""The name of an input, and what was found: a prediction, or why there is none."""

NONE: Final = "none"
"""Stands for the label where the model names no class."""

CSV_COLUMNS: Final = ("image", "label", "probability", "novelty", "error")


def printer(file: str, *, as_json: bool, as_csv: bool) -> Callable[[Sequence[Answer]], None]:
    """What prints answers on stdout, a chunk of them at a call, in the form that was asked for or that suits stdout.

    Args:
        file: the name of the file that answers.
        as_json: JSON lines.
        as_csv: CSV.
    """
    if as_json:
        return functools.partial(_print_json_lines, file)
    if as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerow(CSV_COLUMNS)
        return _print_csv
    return _Table().print if sys.stdout.isatty() else _print_lines


def _print_json_lines(file: str, answers: Sequence[Answer]) -> None:
    sys.stdout.write("".join([json_line(_as_dict(name, answer, file)) for name, answer in answers]))


def _as_dict(name: str, answer: "Prediction | MnistEdgeError", file: str) -> dict[str, object]:
    if isinstance(answer, MnistEdgeError):
        return {"image": name, "error": str(answer)}
    return {
        "image": name,
        "label": answer.label,
        "probability": answer.probability,
        "novelty": answer.novelty,
        "probabilities": answer.probabilities,
        "logits": answer.logits,
        "file": file,
    }


def _print_csv(answers: Sequence[Answer]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerows(_csv_row(name, answer) for name, answer in answers)


def _csv_row(name: str, answer: "Prediction | MnistEdgeError") -> tuple[str, str, str, str, str]:
    if isinstance(answer, MnistEdgeError):
        return name, "", "", "", str(answer)
    novelty = "" if answer.novelty is None else f"{answer.novelty:.6f}"
    return name, answer.label or NONE, f"{answer.probability:.6f}", novelty, ""


def _print_lines(answers: Sequence[Answer]) -> None:
    for name, answer in answers:
        if not isinstance(answer, MnistEdgeError):
            print(f"{one_line(name)}\t{answer.label or NONE}\t{answer.probability:.4f}")


class _Table:
    """Aligned columns that appear a chunk at a time: the column of names only ever grows."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def print(self, answers: Sequence[Answer]) -> None:
        rows = [
            (
                one_line(name),
                answer.label or NONE,
                f"{100 * answer.probability:.2f} %",
                "-" if answer.novelty is None else f"{answer.novelty:.3f}",
            )
            for name, answer in answers
            if not isinstance(answer, MnistEdgeError)
        ]
        header = ("image", "label", "probability", "novelty")
        lines = rows if self._widths or not rows else [header, *rows]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        self._widths = [*map(max, widths, self._widths or widths)] if rows else self._widths
        for image, *others in lines:
            cells = [cell.rjust(width) for cell, width in zip(others, self._widths[1:], strict=True)]
            print("  ".join([image.ljust(self._widths[0]), *cells]))
