"""Measure robustness: accuracy on every kind of corruption, and the means.

    python scripts/measure_corruptions.py MODEL [MODEL ...]

MODEL is a bundle, an exported .onnx file or the name of a pretrained model. Starred kinds resemble the training
augmentation, so the mean over the others is the measure of robustness.
"""

import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[1]))

from mnist_edge import Classifier
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Split
from tests.corruptions import CORRUPTIONS, corrupt


def accuracy(classifier: Classifier, split: Split) -> float:
    return 100 * float((classifier.logits(split.images).argmax(axis=1) == split.labels).mean())


def main(names: list[str]) -> None:
    test = datasets.load().test
    classifiers = [Classifier(name) for name in names]
    table = {kind: [accuracy(one, corrupt(test, kind)) for one in classifiers] for kind in CORRUPTIONS}
    starred = {f"{kind}{' *' if CORRUPTIONS[kind].seen else ''}": row for kind, row in table.items()}
    groups = {
        f"mean of all {len(table)}": list(table),
        "mean of those not trained on": [kind for kind in table if not CORRUPTIONS[kind].seen],
    }
    means = {
        words: [mean(column) for column in zip(*(table[kind] for kind in kinds), strict=True)]
        for words, kinds in groups.items()
    }
    rows = {"clean": [accuracy(one, test) for one in classifiers]} | starred | means
    print(f"| {'':28} | " + " | ".join(names) + " |")
    print("|---|" + "--:|" * len(names))
    for name, row in rows.items():
        print(f"| {name:28} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
