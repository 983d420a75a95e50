"""Measure how well models read digits as they are written outside the United States.

    python scripts/measure_handwriting.py [--development] MODEL [MODEL ...]

MODEL is a bundle, an exported .onnx file or the name of a pretrained model. Each row is a form of a digit, drawn by the
writers of `tests.handwriting`; `--development` prints the forms by which settings may be chosen instead of those that
judge. A cell holds two accuracies in percent: of framed 28×28 images, and of pictures of dark ink on paper, which
`predict` has to frame itself. The means weigh all forms alike.

A second table shows typefaces (`scripts/typefaces.py`), by which settings may be chosen as well: the two groups, and
the worst typefaces by the first model.
"""

import argparse
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import typefaces
from numpy.typing import NDArray

from mnist_edge import Classifier
from mnist_edge.data.datasets import Split
from tests.handwriting import DEVELOPMENT, JUDGED, drawn, framed, on_paper, pictures

FRAMED = 200
PICTURES = 40
OF_A_TYPEFACE = 8
"""Drawings of each digit; one in four also as a picture."""

WORST = 5

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


def score(classifier: Classifier, split: Split, papers: Pictures, labels: NDArray[np.uint8]) -> Score:
    right = classifier.logits(split.images).argmax(axis=1) == split.labels
    answers = [each.label for each in classifier.predict_many(papers)]
    read = np.array(answers, dtype=object) == labels.astype(str)
    return Score(100 * float(right.mean()), 100 * float(read.mean()), int((~right).sum()), int((~read).sum()))


def form(classifiers: list[Classifier], name: str) -> list[Score]:
    split, papers = drawn(name, FRAMED), pictures(name, PICTURES)
    return [score(one, split, papers, split.labels[:PICTURES]) for one in classifiers]


def typeface(classifiers: list[Classifier], name: str) -> list[Score]:
    written = list(typefaces.drawings(name, OF_A_TYPEFACE))
    split = Split(np.array([framed(ink) for _, ink in written]), np.array([digit for digit, _ in written], np.uint8))
    rng = np.random.default_rng(zlib.crc32(f"paper of {name}".encode()))
    papers = [on_paper(ink, rng) for _, ink in written[::4]]
    return [score(one, split, papers, split.labels[::4]) for one in classifiers]


def averages(rows: list[list[Score]]) -> list[str]:
    return [
        f"{mean(one.framed for one in column):.2f} / {mean(one.pictures for one in column):.2f}"
        for column in zip(*rows, strict=True)
    ]


def errors(rows: list[list[Score]]) -> list[str]:
    return [
        f"{sum(one.framed_errors for one in column)} / {sum(one.picture_errors for one in column)}"
        for column in zip(*rows, strict=True)
    ]


def show(names: list[str], rows: dict[str, list[str]]) -> None:
    print(f"| {'':49} | " + " | ".join(names) + " |")
    print("|---|" + "--:|" * len(names))
    for name, cells in rows.items():
        print(f"| {name:49} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--development", action="store_true", help="the forms by which settings may be chosen")
    asked = parser.parse_args()
    classifiers = [Classifier(name) for name in asked.models]

    forms = DEVELOPMENT if asked.development else JUDGED
    table = {name: form(classifiers, name) for name in forms}
    rows = list(table.values())
    cells = {name: [str(one) for one in row] for name, row in table.items()}
    counts = f"errors of {FRAMED * len(rows):,} / {PICTURES * len(rows):,}"
    show(asked.models, cells | {f"mean of {len(rows)} forms": averages(rows), counts: errors(rows)})

    typefaces.fetch()
    groups = {group: {name: typeface(classifiers, name) for name in names} for group, names in typefaces.GROUPS.items()}
    print()
    summary = {f"{len(table)} {group}": averages(list(table.values())) for group, table in groups.items()}
    every = {name: row for table in groups.values() for name, row in table.items()}
    worst = sorted(every, key=lambda name: every[name][0].framed)[:WORST]
    show(asked.models, summary | {name: [str(one) for one in every[name]] for name in worst})


if __name__ == "__main__":
    main()
