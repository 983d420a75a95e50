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
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_edge import Classifier, images
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Split
from mnist_edge.images.lines import find_digits
from tests import paper
from tests.lines import lines
from tests.pictures import pictures

SEEDS = range(10)


def resized(content: bytes) -> np.ndarray:
    small = np.asarray(Image.open(io.BytesIO(content)).convert("L").resize((28, 28)))
    return 255 - small if small.mean() > 127 else small


def single_digits(classifier: Classifier, test: Split) -> dict[str, NDArray[np.bool_]]:
    """By case: whether each picture is read, with our preprocessing and with plain resizing, [seeds, pictures, 2]."""
    right: dict[str, list[list[NDArray[np.bool_]]]] = defaultdict(list)
    for seed in SEEDS:
        cases: dict[str, list[NDArray[np.bool_]]] = defaultdict(list)
        for picture in pictures(test.images, test.labels, seed=seed):
            both = np.stack([images.preprocess(images.decode(io.BytesIO(picture.content))), resized(picture.content)])
            cases[picture.case].append(classifier.logits(both).argmax(axis=1) == picture.label)
        for case, pairs in cases.items():
            right[case].append(pairs)
    return {case: np.array(seeds) for case, seeds in right.items()}


class OnPaper(NamedTuple):
    """The answers to pictures of one kind."""

    pictures: int
    right: float
    """The share that is read, 0…1."""

    several: float
    """The share that is taken for several digits, 0…1."""


def on_paper(classifier: Classifier, test: Split) -> dict[str, OnPaper]:
    """By kind of paper, single digits."""
    found = {}
    for kind in paper.SINGLE:
        sheets = [sheet for seed in SEEDS for sheet in paper.single(kind, test.images, test.labels, seed=seed)]
        answers = classifier.predict_many([Image.fromarray(sheet.pixels) for sheet in sheets])
        right = np.mean([answer.label == sheet.text for answer, sheet in zip(answers, sheets, strict=True)])
        several = np.mean([(answer.digits or 0) > 1 for answer in answers])
        found[kind] = OnPaper(len(sheets), float(right), float(several))
    return found


def counted(classifier: Classifier, test: Split) -> OnPaper:
    """Two to four digits in a picture; right are those whose digits are counted."""
    sheets = [sheet for seed in SEEDS for sheet in paper.several(test.images, test.labels, seed=seed)]
    counts = [answer.digits for answer in classifier.predict_many([sheet.pixels for sheet in sheets])]
    right = np.mean([count == len(sheet.text) for count, sheet in zip(counts, sheets, strict=True)])
    return OnPaper(len(sheets), float(right), float(np.mean([(count or 0) > 1 for count in counts])))


Line = tuple[int, int, bool]
"""Digits right, digits there, and whether all of it is right."""


class Lines(NamedTuple):
    """How lines of one group were read."""

    lines: int
    digits: int
    digits_right: float
    """The share, 0…1."""

    lines_right: float
    """The share, 0…1."""


def lines_on_paper(classifier: Classifier, test: Split) -> dict[str, Lines]:
    """By kind of paper."""
    return {
        kind: summed(
            [
                read(classifier, sheet.pixels, sheet.text)
                for seed in SEEDS
                for sheet in paper.written(kind, test.images, test.labels, seed=seed)
            ]
        )
        for kind in paper.PAPERS
    }


def drawn_lines(classifier: Classifier, test: Split) -> dict[str, Lines]:
    """By whether neighbours touch."""
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines(test.images, test.labels):
        for group in ("all lines", "two neighbours touch" if line.touching else "no neighbours touch"):
            groups[group].append(read(classifier, line.pixels, line.text))
    return {group: summed(rows) for group, rows in groups.items()}


def read(classifier: Classifier, pixels: NDArray[np.uint8], text: str) -> Line:
    framed = np.array([digit.image for digit in find_digits(pixels)], dtype=np.uint8).reshape(-1, 28, 28)
    found = "".join(str(label) for label in classifier.logits(framed).argmax(axis=1))
    blocks = SequenceMatcher(None, text, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks), len(text), found == text


def summed(rows: list[Line]) -> Lines:
    right, total, whole = (sum(column) for column in zip(*rows, strict=True))
    return Lines(len(rows), total, right / total, whole / len(rows))


def print_singles(right: dict[str, NDArray[np.bool_]]) -> None:
    print(f"{'case':45} pictures  ours  resized")
    for case, pairs in right.items():
        print(f"{case:45} {pairs[..., 0].size:8} {pairs[..., 0].sum():5} {pairs[..., 1].sum():8}")
    everything = np.array([*right.values()])
    ours, naive = everything[..., 0], everything[..., 1]
    print(f"{'all':45} {ours.size:8} {ours.sum():5} {naive.sum():8}")
    print(f"{'all, %':45} {'':8} {100 * ours.mean():5.1f} {100 * naive.mean():8.1f}")


def print_papers(papers: dict[str, OnPaper]) -> None:
    print(f"\n{'digits on paper':45} pictures  right, %  taken for several, %")
    for kind, found in papers.items():
        print(f"{kind:45} {found.pictures:8} {100 * found.right:9.1f} {100 * found.several:21.1f}")


def print_lines(heading: str, groups: dict[str, Lines]) -> None:
    print(f"\n{heading:45} digits right, %  of  lines right, %  of")
    for group, found in groups.items():
        digits = f"{100 * found.digits_right:14.1f} {found.digits:5}"
        print(f"{group:45} {digits} {100 * found.lines_right:13.1f} {found.lines:4}")


def main(model: str | None) -> None:
    classifier = Classifier(model)
    test = datasets.load().test
    print_singles(single_digits(classifier, test))
    several = {"two to four digits, right: counted": counted(classifier, test)}
    print_papers(on_paper(classifier, test) | several)
    print_lines("lines on paper", lines_on_paper(classifier, test))
    print_lines("lines", drawn_lines(classifier, test))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
