"""Measure robustness: accuracy on every kind of corruption, and the means of each group.

    python scripts/measure_corruptions.py [--pictures] MODEL [MODEL ...]

MODEL is a bundle, an exported .onnx file or the name of a pretrained model. Starred kinds resemble the training
augmentation, so the means over the others are the measure of robustness. The harder kinds name their family. What no
training imitates has a mean of its own: the strictest measure.

`--pictures` adds what a user gets who gives some of the same images to `Classifier.predict` as PNG files, which
preprocesses those that do not look like MNIST's.
"""

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
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


def measured(classifiers: Sequence[Classifier], test: Split, *, pictures: bool = False) -> Table:
    """The accuracy of each model on clean images and on every kind of corruption, of images or of some as pictures."""

    def row(split: Split) -> list[float]:
        if pictures:
            return [picture_accuracy(one, spread(split, PICTURES)) for one in classifiers]
        return [accuracy(one, split) for one in classifiers]

    return {CLEAN: row(test)} | {kind: row(corrupt(test, kind)) for kind in CORRUPTIONS}


def groups() -> dict[str, list[str]]:
    """The names of the kinds in each group."""
    told = {kind: CORRUPTIONS[kind].family for kind in CORRUPTIONS}
    return {
        "first": [kind for kind, family in told.items() if family is None],
        "harder": [kind for kind, family in told.items() if family not in {None, NEVER_TRAINED}],
        NEVER_TRAINED: [kind for kind, family in told.items() if family == NEVER_TRAINED],
    }


def row_name(kind: str) -> str:
    told = CORRUPTIONS[kind]
    family = f" ({told.family})" if told.family not in {None, NEVER_TRAINED} else ""
    return f"{kind}{family}{' *' if told.seen else ''}"


def means(table: Mapping[str, Sequence[float]]) -> dict[str, Table]:
    """The mean of each group and of those in it that the training does not imitate, by group."""

    def mean_of(kinds: Sequence[str]) -> list[float]:
        return [mean(column) for column in zip(*(table[kind] for kind in kinds), strict=True)]

    found: dict[str, Table] = {}
    for group, kinds in groups().items():
        found[group] = {f"**mean of {len(kinds)} {group}**": mean_of(kinds)}
        unseen = [kind for kind in kinds if not CORRUPTIONS[kind].seen]
        if 0 < len(unseen) < len(kinds):
            found[group][f"**the {len(unseen)} without star**"] = mean_of(unseen)
    return found


def rows(table: Table) -> Table:
    """The table's rows, each group followed by its means."""
    of_groups = means(table)
    found: Table = {CLEAN: table[CLEAN]}
    for group, kinds in groups().items():
        found |= {row_name(kind): table[kind] for kind in kinds} | of_groups[group]
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
