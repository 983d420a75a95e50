"""How `predict` prints: JSON lines, CSV, lines with tabs, or a table for a person at a terminal."""

import csv
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mnist_edge.cli.display import Table, json_line, one_line
from mnist_edge.errors import MnistEdgeError

if TYPE_CHECKING:
    from mnist_edge.runtime.prediction import Prediction

Answer = tuple[str, "Prediction | MnistEdgeError"]
"""The name of an input, and what was found: a prediction, or why there is none."""

NONE: Final = "none"
"""Stands for the label where the model names no class."""

COLUMNS: Final = ("image", "label", "probability", "ood_score")


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
        csv.writer(sys.stdout, lineterminator="\n").writerow([*COLUMNS, "error"])
        return _print_csv
    return functools.partial(_print_rows, Table(COLUMNS)) if sys.stdout.isatty() else _print_lines


def _print_json_lines(file: str, answers: Sequence[Answer]) -> None:
    sys.stdout.write("".join([json_line(_as_dict(name, answer, file)) for name, answer in answers]))


def _as_dict(name: str, answer: "Prediction | MnistEdgeError", file: str) -> dict[str, object]:
    if isinstance(answer, MnistEdgeError):
        return {"image": name, "error": str(answer)}
    return {"image": name, **answer.to_dict(), "file": file}


def _print_csv(answers: Sequence[Answer]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerows(_csv_row(name, answer) for name, answer in answers)


def _csv_row(name: str, answer: "Prediction | MnistEdgeError") -> tuple[str, str, str, str, str]:
    if isinstance(answer, MnistEdgeError):
        return name, "", "", "", str(answer)
    score = "" if answer.ood_score is None else f"{answer.ood_score:.6f}"
    return name, answer.label or NONE, f"{answer.probability:.6f}", score, ""


def _print_lines(answers: Sequence[Answer]) -> None:
    for name, answer in answers:
        if not isinstance(answer, MnistEdgeError):
            print(f"{one_line(name)}\t{answer.label or NONE}\t{answer.probability:.4f}")


def _print_rows(table: Table, answers: Sequence[Answer]) -> None:
    table.print(
        [
            (
                one_line(name),
                answer.label or NONE,
                f"{100 * answer.probability:.2f} %",
                "-" if answer.ood_score is None else f"{answer.ood_score:.3f}",
            )
            for name, answer in answers
            if not isinstance(answer, MnistEdgeError)
        ]
    )
