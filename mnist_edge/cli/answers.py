"""What `predict` prints: JSON lines, CSV, tab-separated lines, or on a terminal a table."""

import csv
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mnist_edge.cli.display import Table, json_line, one_line
from mnist_edge.cli.output import printable, say
from mnist_edge.errors import MnistEdgeError

if TYPE_CHECKING:
    from mnist_edge.runtime.prediction import Prediction

Answer = tuple[str, "Prediction | MnistEdgeError"]
"""The name of an input, and its prediction or the error that prevented one."""

STDIN: Final = "-"
"""The name that stands for a picture on stdin."""

NONE: Final = "none"
"""Printed in place of a label when the model abstains."""

FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"); some take full-width signs, too."""

COLUMNS: Final = ("image", "label", "probability", "ood_score")
ERROR: Final = "error"
"""The field of an image that could not be classified."""

HELP: Final = f"""\b
Fields:
  --csv   {", ".join([*COLUMNS, ERROR])}
  --json  {", ".join(COLUMNS)},
          probabilities, logits, digits, file; or image and {ERROR}

\b
Exit codes:
  0 all images are classified    2 wrong usage
  3 an image cannot be used      4 the model cannot be used
"""


def printer(file: str, *, as_json: bool, as_csv: bool) -> Callable[[Sequence[Answer]], None]:
    """Return a function that prints answers on stdout, one chunk per call.

    Without `as_json` and `as_csv` it prints a table on a terminal, and tab-separated lines elsewhere.

    Args:
        file: name of the model file that answers.
        as_json: print JSON lines.
        as_csv: print CSV. The header is printed at once.
    """
    if as_json:
        return functools.partial(_print_json_lines, file)
    if as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerow([*COLUMNS, ERROR])
        return _print_csv
    return functools.partial(_print_rows, Table(COLUMNS)) if sys.stdout.isatty() else _print_lines


def _print_json_lines(file: str, answers: Sequence[Answer]) -> None:
    sys.stdout.write("".join([json_line(_as_dict(name, answer, file)) for name, answer in answers]))


def _as_dict(name: str, answer: "Prediction | MnistEdgeError", file: str) -> dict[str, object]:
    if isinstance(answer, MnistEdgeError):
        return {"image": name, ERROR: str(answer)}
    return {"image": name, **answer.to_dict(), "file": file}


def _print_csv(answers: Sequence[Answer]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerows(_csv_row(name, answer) for name, answer in answers)


def _csv_row(name: str, answer: "Prediction | MnistEdgeError") -> tuple[str, str, str, str, str]:
    name = _as_cell(name)
    if isinstance(answer, MnistEdgeError):
        return name, "", "", "", _as_cell(str(answer))
    score = "" if answer.ood_score is None else f"{answer.ood_score:.6f}"
    return name, _as_cell(answer.label or NONE), f"{answer.probability:.6f}", score, ""


def _as_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula and no terminal for a command."""
    return printable(f"'{text}" if text.startswith(FORMULAS) and text != STDIN else text)


def _print_lines(answers: Sequence[Answer]) -> None:
    for name, answer in answers:
        if not isinstance(answer, MnistEdgeError):
            say(f"{one_line(name)}\t{answer.label or NONE}\t{answer.probability:.4f}")


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
