"""Measure how well models read digits as they are written outside the United States.

    python scripts/measure_handwriting.py [--development] MODEL [MODEL ...]

MODEL is a bundle, an exported .onnx file or the name of a pretrained model. Each row is a form of a digit, drawn by the
writers of `tests.handwriting`. A cell holds two accuracies in percent: of framed 28×28 images, and of pictures of dark
ink on paper, which `predict` has to frame itself. The means weigh all forms alike.

A second table shows typefaces (`scripts/typefaces.py`): the two groups, and the worst typefaces by the first model.
Nothing may be chosen by either table. `--development` prints the forms by which settings may be chosen instead.
"""

import argparse
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import typefaces
from numpy.typing import NDArray
from tables import markdown

from mnist_edge import Classifier
from mnist_edge.data.datasets import Split
from mnist_edge.errors import DataError
from tests.handwriting import DEVELOPMENT, JUDGED, drawn, framed, on_paper, pictures

FRAMED = 200
PICTURES = 40
OF_A_TYPEFACE = 8
"""Drawings of each digit; one in four also as a picture."""

WORST = 5
"""How many typefaces are shown."""

EASY = 99.5
"""Percent of framed images from which on a form needs no row of its own in a document."""

Pictures = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Score:
    """What a model got right."""

    framed: float
    pictures: float
    """Percent."""

    framed_errors: int
    picture_errors: int

    def __str__(self) -> str:
        return f"{self.framed:.1f} / {self.pictures:.1f}"


Table = dict[str, list[Score]]
"""By form or typeface: the score of each model."""


def score(classifier: Classifier, split: Split, papers: Pictures, labels: NDArray[np.uint8]) -> Score:
    right = classifier.logits(split.images).argmax(axis=1) == split.labels
    answers = [each.label for each in classifier.predict_many(papers)]
    read = np.array(answers, dtype=object) == labels.astype(str)
    return Score(100 * float(right.mean()), 100 * float(read.mean()), int((~right).sum()), int((~read).sum()))


def of_form(classifiers: Sequence[Classifier], name: str) -> list[Score]:
    split, papers = drawn(name, FRAMED), pictures(name, PICTURES)
    return [score(one, split, papers, split.labels[:PICTURES]) for one in classifiers]


def of_typeface(classifiers: Sequence[Classifier], name: str) -> list[Score]:
    written = list(typefaces.drawings(name, OF_A_TYPEFACE))
    split = Split(np.array([framed(ink) for _, ink in written]), np.array([digit for digit, _ in written], np.uint8))
    rng = np.random.default_rng(zlib.crc32(f"paper of {name}".encode()))
    papers = [on_paper(ink, rng) for _, ink in written[::4]]
    return [score(one, split, papers, split.labels[::4]) for one in classifiers]


def measured(classifiers: Sequence[Classifier], forms: Iterable[str] = JUDGED) -> Table:
    """How each model reads drawings of each form."""
    return {name: of_form(classifiers, name) for name in forms}


def measured_typefaces(classifiers: Sequence[Classifier]) -> dict[str, Table]:
    """How each model reads each typeface, by group. Raises DataError if the typefaces cannot be had."""
    typefaces.fetch()
    return {
        group: {name: of_typeface(classifiers, name) for name in names} for group, names in typefaces.GROUPS.items()
    }


def mean_of(scores: Sequence[Score]) -> Score:
    """The mean accuracies, which weigh all rows alike, and the sums of errors."""
    return Score(
        mean(one.framed for one in scores),
        mean(one.pictures for one in scores),
        sum(one.framed_errors for one in scores),
        sum(one.picture_errors for one in scores),
    )


def summary(table: Table) -> list[Score]:
    """`mean_of` each model."""
    return [mean_of(column) for column in zip(*table.values(), strict=True)]


def hard(table: Table) -> Table:
    """The forms of which some model reads fewer framed images than `EASY`."""
    return {name: scores for name, scores in table.items() if min(one.framed for one in scores) < EASY}


def lines(names: Sequence[str], table: Table, rows: Table) -> list[str]:
    """A table in Markdown: some rows of `table`, the mean of the others, and the mean and the errors of all."""
    others = {name: scores for name, scores in table.items() if name not in rows}
    cells = {name: [str(one) for one in scores] for name, scores in rows.items()}
    if others:
        cells[f"the other {len(others)} forms"] = [str(one) for one in summary(others)]
    whole = summary(table)
    cells[f"**mean of all {len(table)} forms**"] = [f"{one.framed:.2f} / {one.pictures:.2f}" for one in whole]
    counts = f"errors of {FRAMED * len(table):,} / {PICTURES * len(table):,}"
    cells[counts] = [f"{one.framed_errors:,} / {one.picture_errors:,}" for one in whole]
    return markdown(["", *names], [[name, *row] for name, row in cells.items()])


def typeface_lines(names: Sequence[str], groups: Mapping[str, Table], by: int = 0) -> list[str]:
    """A table in Markdown: the mean of each group, and the typefaces that the model number `by` reads worst."""
    means = {f"**mean of {len(table)} {group}**": summary(table) for group, table in groups.items()}
    every = {name: scores for table in groups.values() for name, scores in table.items()}
    worst = sorted(every, key=lambda name: every[name][by].framed)[:WORST]
    rows = means | {name: every[name] for name in worst}
    return markdown(["", *names], [[name, *(str(one) for one in scores)] for name, scores in rows.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--development", action="store_true", help="only the forms by which settings may be chosen")
    asked = parser.parse_args()
    classifiers = [Classifier(name) for name in asked.models]

    table = measured(classifiers, DEVELOPMENT if asked.development else JUDGED)
    print("\n".join(lines(asked.models, table, table)), flush=True)
    if not asked.development:
        try:
            groups = measured_typefaces(classifiers)
        except DataError as error:
            sys.exit(f"error: {error}")
        print("\n".join(["", *typeface_lines(asked.models, groups)]))


if __name__ == "__main__":
    main()
