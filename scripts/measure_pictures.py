"""Measure accuracy on drawn pictures of digits, with our preprocessing and with plain resizing.

    python scripts/measure_pictures.py [MODEL]

Single digits by case (tests/pictures.py), compared with the usual recipe: convert to grey, resize to 28×28, invert if
the picture is light. Then lines of 3–8 digits (tests/lines.py): the share of digits read correctly, aligned with the
true text, and of whole lines. MODEL defaults to the pretrained `cnn`.
"""

import io
import sys
from collections import defaultdict
from difflib import SequenceMatcher
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image

from mnist_edge import Classifier, images
from mnist_edge.data import datasets
from mnist_edge.images.lines import find_digits
from tests import paper
from tests.lines import lines
from tests.pictures import pictures

SEEDS = range(10)


def resized(content: bytes) -> np.ndarray:
    small = np.asarray(Image.open(io.BytesIO(content)).convert("L").resize((28, 28)))
    return 255 - small if small.mean() > 127 else small


def single_digits(classifier: Classifier, test: datasets.Split) -> None:
    right: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for seed in SEEDS:
        for picture in pictures(test.images, test.labels, seed=seed):
            both = np.stack([images.preprocess(images.decode(io.BytesIO(picture.content))), resized(picture.content)])
            ours, naive = classifier.logits(both).argmax(axis=1) == picture.label
            right[picture.case].append((ours, naive))
    print(f"{'case':45} pictures  ours  resized")
    for case, pairs in right.items():
        print(f"{case:45} {len(pairs):8} {sum(o for o, _ in pairs):5} {sum(n for _, n in pairs):8}")
    everything = np.array([pair for pairs in right.values() for pair in pairs])
    print(f"{'all':45} {len(everything):8} {everything[:, 0].sum():5} {everything[:, 1].sum():8}")
    print(f"{'all, %':45} {'':8} {100 * everything[:, 0].mean():5.1f} {100 * everything[:, 1].mean():8.1f}")


def on_paper(classifier: Classifier, test: datasets.Split) -> None:
    print(f"\n{'digits on paper':45} pictures  right, %  taken for several, %")
    for kind in paper.SINGLE:
        sheets = [sheet for seed in SEEDS for sheet in paper.single(kind, test.images, test.labels, seed=seed)]
        answers = classifier.predict_many([Image.fromarray(sheet.pixels) for sheet in sheets])
        right = np.mean([answer.label == sheet.text for answer, sheet in zip(answers, sheets, strict=True)])
        several = np.mean([(answer.digits or 0) > 1 for answer in answers])
        print(f"{kind:45} {len(sheets):8} {100 * right:9.1f} {100 * several:21.1f}")
    sheets = [sheet for seed in SEEDS for sheet in paper.several(test.images, test.labels, seed=seed)]
    counts = [answer.digits for answer in classifier.predict_many([sheet.pixels for sheet in sheets])]
    right = np.mean([count == len(sheet.text) for count, sheet in zip(counts, sheets, strict=True)])
    several = np.mean([(count or 0) > 1 for count in counts])
    print(f"{'two to four digits, right: counted':45} {len(sheets):8} {100 * right:9.1f} {100 * several:21.1f}")
    print(f"\n{'lines on paper':45} digits right, %  of  lines right, %  of")
    for kind in paper.PAPERS:
        written = [sheet for seed in SEEDS for sheet in paper.written(kind, test.images, test.labels, seed=seed)]
        show(kind, [read(classifier, sheet.pixels, sheet.text) for sheet in written])


def read(classifier: Classifier, pixels: np.ndarray, text: str) -> tuple[int, int, bool]:
    """Digits right, digits there, and whether all of it is right."""
    framed = np.array([digit.image for digit in find_digits(pixels)], dtype=np.uint8).reshape(-1, 28, 28)
    found = "".join(str(label) for label in classifier.logits(framed).argmax(axis=1))
    blocks = SequenceMatcher(None, text, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks), len(text), found == text


def show(group: str, rows: list[tuple[int, int, bool]]) -> None:
    right, total, whole = (sum(column) for column in zip(*rows, strict=True))
    print(f"{group:45} {100 * right / total:14.1f} {total:5} {100 * whole / len(rows):13.1f} {len(rows):4}")


def several_digits(classifier: Classifier, test: datasets.Split) -> None:
    counts: dict[str, list[tuple[int, int, bool]]] = defaultdict(list)
    for line in lines(test.images, test.labels):
        for group in ("all lines", "with touching neighbours" if line.touching else "without"):
            counts[group].append(read(classifier, line.pixels, line.text))
    print(f"\n{'lines':45} digits right, %  of  lines right, %  of")
    for group, rows in counts.items():
        show(group, rows)


def main(model: str | None) -> None:
    classifier = Classifier(model)
    test = datasets.load().test
    single_digits(classifier, test)
    on_paper(classifier, test)
    several_digits(classifier, test)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
