"""What a picture of several digits says. Apart from `answers`, so that a single digit is answered sooner."""

from dataclasses import dataclass
from itertools import groupby
from typing import Final


@dataclass(frozen=True)
class Digit:
    """One digit of a picture of several."""

    label: str | None
    """As in `mnist_edge.Prediction`."""

    probability: float
    """As in `mnist_edge.Prediction`."""

    novelty: float | None
    """As in `mnist_edge.Prediction`."""

    box: tuple[int, int, int, int]
    """Left, top, right, bottom in the picture's pixels; right and bottom exclusive."""

    line: int
    """Which line of the picture it stands in, counted from 0 at the top."""


UNNAMED: Final = "?"
"""Stands in a text for a digit that is not named."""


@dataclass(frozen=True)
class Reading:
    """What a picture of several digits says."""

    digits: tuple[Digit, ...]
    """In reading order."""

    @property
    def text(self) -> str:
        """The labels one after another, a line of text for each of the picture's; `UNNAMED` where there is none."""
        lines = groupby(self.digits, key=lambda digit: digit.line)
        return "\n".join("".join(digit.label or UNNAMED for digit in line) for _, line in lines)
