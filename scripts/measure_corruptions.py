"""Measure robustness: accuracy on every kind of corruption, and the means of each group.

    python scripts/measure_corruptions.py [--pictures] MODEL [MODEL ...]

MODEL is a bundle, an exported .onnx file or the name of a pretrained model. Starred kinds resemble what the training
shows, so the means over the others are the measure of robustness. The harder kinds name their family. What no training
imitates has a mean of its own: the strictest measure.

`--pictures` adds what a user gets who gives some of the same images to `Classifier.predict` as PNG files, which
preprocesses those that do not look like MNIST's.
"""

import argparse
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from tables import markdown

from mnist_edge import Classifier
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Split
from tests.corruptions import CORRUPTIONS, corrupt
from tests.distortions import NEVER_TRAINED

PICTURES: Final = 100
"""Images per kind that are given to `Classifier.predict`, which takes milliseconds for each."""

CLEAN: Final = "clean"
FIRST: Final = "first"
HARDER: Final = "harder"
"""Groups, beside `NEVER_TRAINED`."""

Table = dict[str, list[float]]
"""By row: the accuracy of each model in percent."""


def accuracy(classifier: Classifier, split: Split) -> float:
    """The share of correct answers in percent; the images are taken as they are."""
    return 100 * float((classifier.logits(split.images).argmax(axis=1) == split.labels).mean())


def spread(split: Split, count: int) -> Split:
    """At most `count` of the images, evenly spread over the split."""
    chosen = np.arange(min(count, len(split))) * len(split) // min(count, len(split))
    return Split(split.images[chosen], split.labels[chosen])


def picture_accuracy(classifier: Classifier, split: Split) -> float:
    """The share of correct answers in percent if each image is given to `Classifier.predict` as a PNG file."""
    answers = classifier.predict_many(map(png, split.images))
    right = [answer.label == classifier.labels[label] for answer, label in zip(answers, split.labels, strict=True)]
    return 100 * float(np.mean(right))


def png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def measured(
    classifiers: Sequence[Classifier], test: Split, kinds: Iterable[str] = CORRUPTIONS, *, pictures: bool = False
) -> Table:
    """The accuracy of each model on clean images and on kinds of corruption, of images or of some as pictures."""

    def row(split: Split) -> list[float]:
        if pictures:
            return [picture_accuracy(one, spread(split, PICTURES)) for one in classifiers]
        return [accuracy(one, split) for one in classifiers]

    return {CLEAN: row(test)} | {kind: row(corrupt(test, kind)) for kind in kinds}


def groups() -> dict[str, list[str]]:
    """The names of the kinds in each group."""
    told = {kind: CORRUPTIONS[kind].family for kind in CORRUPTIONS}
    return {
        FIRST: [kind for kind, family in told.items() if family is None],
        HARDER: [kind for kind, family in told.items() if family not in {None, NEVER_TRAINED}],
        NEVER_TRAINED: [kind for kind, family in told.items() if family == NEVER_TRAINED],
    }


def row_name(kind: str) -> str:
    told = CORRUPTIONS[kind]
    family = f" ({told.family})" if told.family not in {None, NEVER_TRAINED} else ""
    return f"{kind}{family}{' *' if told.seen else ''}"


def means(table: Table, group: str) -> Table:
    """The mean of a group, and of those in it without star."""

    def mean_of(kinds: Sequence[str]) -> list[float]:
        return [mean(column) for column in zip(*(table[kind] for kind in kinds), strict=True)]

    kinds = groups()[group]
    found = {f"{group}: mean of all {len(kinds)}": mean_of(kinds)}
    unseen = [kind for kind in kinds if not CORRUPTIONS[kind].seen]
    if 0 < len(unseen) < len(kinds):
        found[f"{group}: mean of the {len(unseen)} without star"] = mean_of(unseen)
    return found


def all_means(table: Table) -> Table:
    """The means of every group."""
    return {name: row for group in groups() for name, row in means(table, group).items()}


def group_rows(table: Table, group: str) -> Table:
    """The rows of a group, followed by its means."""
    kinds = {row_name(kind): table[kind] for kind in groups()[group]}
    return kinds | {f"**{name}**": row for name, row in means(table, group).items()}


def rows(table: Table) -> Table:
    """The table's rows, each group followed by its means."""
    found: Table = {CLEAN: table[CLEAN]}
    for group in groups():
        found |= group_rows(table, group)
    return found


def lines(names: Sequence[str], table: Table) -> list[str]:
    """Rows in Markdown."""
    return markdown(["", *names], [[name, *(f"{value:.2f}" for value in row)] for name, row in table.items()])


def main(names: list[str], *, pictures: bool) -> None:
    test = datasets.load().test
    classifiers = [Classifier(name) for name in names]
    table, columns = measured(classifiers, test), names
    if pictures:
        seen = measured(classifiers, test, pictures=True)
        table = {kind: row + seen[kind] for kind, row in table.items()}
        columns = names + [f"{name}, pictures" for name in names]
    print("\n".join(lines(columns, rows(table))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--pictures", action="store_true", help="also give some images to predict as PNG files")
    asked = parser.parse_args()
    main(asked.models, pictures=asked.pictures)
