"""Digits on ruled and squared paper, in cells, unevenly inked, and several in a picture: see `tests.paper`."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_edge import Classifier
from mnist_edge.images.lines import find_digits
from mnist_edge.images.preprocessing import cropped
from mnist_edge.images.rules import of_the_paper
from tests import paper
from tests.helpers import long_after

COUNT = 60


@pytest.fixture(scope="module")
def classifier():
    return Classifier("cnn")


@pytest.mark.parametrize("kind", long_after(2, [*paper.SINGLE]))
def test_a_digit_on_such_paper_is_read(classifier, mnist, kind):
    sheets = list(paper.single(kind, mnist.test.images, mnist.test.labels, count=COUNT))
    answers = classifier.predict_many([Image.fromarray(sheet.pixels) for sheet in sheets])
    least = {"a faint stroke": 0.9, "coloured scribbles": 0.9, "coloured bands": 0.9}.get(kind, 0.95)
    assert np.mean([answer.label == sheet.text for answer, sheet in zip(answers, sheets, strict=True)]) >= least
    assert sum(answer.digits > 1 for answer in answers) <= 1


def test_digits_beside_one_another_are_counted(mnist):
    sheets = list(paper.several(mnist.test.images, mnist.test.labels, count=COUNT))
    counts = [cropped(sheet.pixels)[1] for sheet in sheets]
    assert min(counts) > 1
    assert np.mean([count == len(sheet.text) for count, sheet in zip(counts, sheets, strict=True)]) >= 0.9


def test_plain_digits_count_as_one(mnist):
    counts = [cropped(np.pad(digit, 6))[1] for digit in mnist.test.images[:300]]
    assert np.mean(np.array(counts) != 1) <= 0.01


@pytest.mark.long
def test_paper_makes_reading_no_worse(classifier, mnist):
    right = {}
    for kind in paper.PAPERS:
        right[kind] = 0
        for sheet in paper.written(kind, mnist.test.images, mnist.test.labels, count=COUNT):
            found = find_digits(sheet.pixels)
            images = np.array([digit.image for digit in found], np.uint8).reshape(-1, 28, 28)
            right[kind] += "".join(map(str, classifier.logits(images).argmax(axis=1))) == sheet.text
    assert right["blank"] >= 0.85 * COUNT
    for kind in ("ruled", "squared"):
        assert right[kind] >= 0.95 * right["blank"] - 1, right
    assert right["boxes"] >= 0.8 * right["blank"], right


SEVEN = [[(30, 40), (90, 40)], [(92, 48), (55, 140)]]
SHAPES = {
    "a seven with its bar apart": SEVEN,
    "a seven with a bar through its stem": [*SEVEN, [(45, 92), (100, 92)]],
    "a one with a foot": [[(60, 30), (60, 132)], [(35, 140), (85, 140)]],
    "a one with a foot and an up-stroke": [[(40, 60), (60, 30), (60, 132)], [(30, 140), (90, 140)]],
    "a four with its stem apart": [[(50, 30), (30, 100), (95, 100)], [(84, 40), (84, 150)]],
    "a five with its hat apart": [[(42, 52), (40, 80), (80, 90), (80, 130), (35, 140)], [(42, 40), (95, 38)]],
    "a five with its flag apart": [[(60, 70), (55, 100), (85, 110), (80, 140), (35, 145)], [(70, 60), (120, 30)]],
    "a two with a long base": [[(40, 50), (60, 35), (80, 55), (30, 138), (110, 138)]],
}


def drawn(strokes, width, margin):
    image = Image.new("L", (140, 180))
    for stroke in strokes:
        ImageDraw.Draw(image).line(stroke, fill=255, width=width, joint="curve")
    left, top, right, bottom = image.getbbox()
    return np.pad(np.asarray(image)[top:bottom, left:right] > 0, margin)


@pytest.mark.parametrize("strokes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("width", [2, 5, 9])
@pytest.mark.parametrize("margin", [0, 4, 60])
def test_the_strokes_of_digits_are_no_lines_of_the_paper(strokes, width, margin):
    assert not of_the_paper(drawn(strokes, width, margin)).any()


@pytest.mark.parametrize("width", [2, 5, 9])
def test_a_long_stem_is_no_line_of_the_paper(width):
    four = [[(50, 50), (44, 95), (75, 98)], [(82, 30), (82, 150)]]
    assert not of_the_paper(drawn(four, width, 60)).any()


@pytest.mark.parametrize("strokes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("width", [5, 9])
def test_the_pieces_of_a_digit_are_one(strokes, width):
    mask = drawn(strokes, width, 60)
    _, digits = cropped(np.where(mask, 30, 230).astype(np.uint8))
    assert digits == 1


def test_the_pieces_of_a_digit_are_kept():
    mask = drawn(SHAPES["a five with its flag apart"], 7, 60)
    image, _ = cropped(np.where(mask, 30, 230).astype(np.uint8))
    expected = np.asarray(Image.fromarray(255 * mask[60:-60, 60:-60].astype(np.uint8)).resize((16, 20))) > 127
    assert image[4:12, 12:].any()  # the flag
    assert abs(int((image > 127).sum()) - int(expected.sum())) < 60


@pytest.mark.parametrize("strokes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("angle", [-8, 0, 3])
def test_a_line_beside_them_is_one(strokes, angle):
    mask = drawn(strokes, 5, 60)
    height, width = mask.shape
    line = paper.stripe(mask.shape, (height - 35, width / 2), angle, 3) > 0.5
    taken = of_the_paper(mask | line)
    assert taken[line].all()
    assert not (taken & mask).any()


@pytest.mark.parametrize("times", [2, 3])
def test_a_line_of_a_form_ends_before_the_border(times):
    mask = drawn(SHAPES["a five with its hat apart"], 5, 150)
    line = paper.stripe(mask.shape, (mask.shape[0] - 140, 0), 0, 3) > 0.5
    middle, reach = mask.shape[1] // 2, int(times * 110 / 2)
    line[:, : middle - reach] = line[:, middle + reach :] = False
    taken = of_the_paper(mask | line)
    assert taken[line].all()
    assert not (taken & mask).any()


@pytest.mark.parametrize("angle", [-5, -1.5, 0, 2.5, 5])
def test_a_frame_goes_as_a_whole(angle):
    mask = drawn(SHAPES["a two with a long base"], 5, 60)
    height, width = mask.shape
    lines = np.zeros(mask.shape, bool)
    middle = height / 2, width / 2
    for at, turn in (
        ((8, middle[1]), 0),
        ((height - 12, middle[1]), 0),
        ((middle[0], 11), 90),
        ((middle[0], width - 8), 90),
    ):
        lines |= paper.stripe(mask.shape, at, angle + turn, 3) > 0.5
    taken = of_the_paper(mask | lines)
    assert taken[lines].all()
    assert not (taken & mask).any()
