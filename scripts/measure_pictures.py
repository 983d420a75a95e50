"""How many pictures of digits are read right: framed by us, and merely resized.

    python scripts/measure_pictures.py [MODEL]

Single digits by case (tests/pictures.py), each against the usual recipe: to grey, resized to 28×28, inverted where the
picture is light. With no model named it is the pretrained one.
"""

import io
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image

from mnist_edge import Classifier, images
from mnist_edge.training import datasets
from tests.pictures import pictures


def resized(content: bytes) -> np.ndarray:
    small = np.asarray(Image.open(io.BytesIO(content)).convert("L").resize((28, 28)))
    return 255 - small if small.mean() > 127 else small


def single_digits(classifier: Classifier, test: datasets.Split) -> None:
    right: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for picture in pictures(test.images, test.labels):
        both = np.stack([images.read(io.BytesIO(picture.content)), resized(picture.content)])
        ours, naive = classifier.logits(both).argmax(axis=1) == picture.label
        right[picture.case].append((ours, naive))
    print(f"{'case':45} pictures  ours  resized")
    for case, pairs in right.items():
        print(f"{case:45} {len(pairs):8} {sum(o for o, _ in pairs):5} {sum(n for _, n in pairs):8}")
    everything = np.array([pair for pairs in right.values() for pair in pairs])
    print(f"{'all':45} {len(everything):8} {everything[:, 0].sum():5} {everything[:, 1].sum():8}")
    print(f"{'all, %':45} {'':8} {100 * everything[:, 0].mean():5.1f} {100 * everything[:, 1].mean():8.1f}")


def main(model: str | None) -> None:
    classifier = Classifier(model)
    single_digits(classifier, datasets.load().test)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
