"""The digits of people outside the United States, drawn to judge models."""

import numpy as np
import pytest

from mnist_edge import Classifier
from tests.handwriting import DEVELOPMENT, DIGITS, FORMS, JUDGED, drawn, pictures
from tests.helpers import script

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_drawn_by_many_writers_the_same_way_each_time(name):
    first, second = drawn(name, 6), drawn(name, 3)
    np.testing.assert_array_equal(first.images[:3], second.images)
    assert first.images.shape == (6, 28, 28)
    assert first.images.dtype == np.uint8
    assert (first.labels == FORMS[name].digit).all()
    assert len({image.tobytes() for image in first.images}) == 6


@pytest.mark.parametrize("name", FORMS)
def test_drawings_are_framed_as_mnist_frames_its_digits(name):
    images = drawn(name, 6).images.astype(float)
    assert (images.max(axis=(1, 2)) > 200).all()
    total = images.sum(axis=(1, 2))
    for rest, axis in ((2, 1), (1, 2)):
        centre = (images.sum(axis=rest) * np.arange(28)).sum(axis=1) / total
        # Unless the ink would leave the image.
        at_the_edge = images.any(axis=rest)[:, [0, -1]].any(axis=1)
        assert (at_the_edge | (abs(centre - 14) < 0.1)).all(), axis
        assert (abs(centre - 14) < 1.5).all(), axis
    longer = np.maximum(images.any(axis=1).sum(axis=1), images.any(axis=2).sum(axis=1))
    assert ((longer >= 20) & (longer <= 21)).all()


@pytest.mark.parametrize("name", FORMS)
def test_the_same_drawings_come_as_pictures_of_dark_ink_on_light_paper(name):
    for picture, again in zip(pictures(name, 2), pictures(name, 2), strict=True):
        np.testing.assert_array_equal(picture, again)
        assert picture.dtype == np.uint8
        assert 110 <= max(picture.shape) <= 210
        assert np.median(picture[:10]) > 170
        assert picture.min() < 110


def test_no_skeleton_is_both_for_choosing_and_for_judging():
    assert not {stroke for form in DEVELOPMENT.values() for stroke in form.strokes} & {
        stroke for form in JUDGED.values() for stroke in form.strokes
    }
    assert not DEVELOPMENT.keys() & JUDGED.keys()
    assert len(DEVELOPMENT) >= 10
    assert len(JUDGED) >= 35


def test_every_digit_has_several_forms_of_which_one_is_plain():
    for digit, word in enumerate(DIGITS):
        names = [name for name, form in JUDGED.items() if form.digit == digit]
        assert len(names) >= 2
        assert all(name.startswith(f"{word}, ") for name in names)
        assert f"{word}, plain" in names or word == "four"


@pytest.fixture
def measure():
    return script("measure_handwriting")


def test_what_a_model_reads_is_counted(measure, monkeypatch):
    monkeypatch.setattr(measure, "FRAMED", 8)
    monkeypatch.setattr(measure, "PICTURES", 4)
    names, classifier = ["one, plain", "one, broad up-stroke"], Classifier("cnn-nano")
    table = measure.measured([classifier, classifier], names)
    assert list(table) == names
    for name, (first, second) in table.items():
        assert first == second
        wrong = (classifier.logits(drawn(name, 8).images).argmax(axis=1) != 1).sum()
        assert (first.framed, first.framed_errors) == (100 * (8 - wrong) / 8, wrong)
        misread = sum(classifier.predict(picture).label != "1" for picture in pictures(name, 4))
        assert (first.pictures, first.picture_errors) == (100 * (4 - misread) / 4, misread)


def scores(measure, *errors):
    """Of one model for each number of errors: of 200 framed images, and half as many of 40 pictures."""
    return [measure.Score(100 - each / 2, 100 - each / 2 / 0.4, each, each // 2) for each in errors]


def test_only_forms_that_a_model_misreads_have_a_row(measure):
    table = {"easy": scores(measure, 0, 0), "one error": scores(measure, 0, 1), "hard": scores(measure, 0, 20)}
    assert list(measure.hard(table)) == ["hard"]
    assert measure.lines(["a", "b"], table, measure.hard(table)) == [
        "| | a | b |",
        "|---|--:|--:|",
        "| hard | 100.0 / 100.0 | 90.0 / 75.0 |",
        "| the other 2 forms | 100.0 / 100.0 | 99.8 / 99.4 |",
        "| **mean of all 3 forms** | 100.00 / 100.00 | 96.50 / 91.25 |",
        "| errors of 600 / 120 | 0 / 0 | 21 / 10 |",
    ]
    assert not any("other" in line for line in measure.lines(["a", "b"], table, table))


def test_the_typefaces_that_a_model_reads_worst_have_a_row(measure, monkeypatch):
    monkeypatch.setattr(measure, "WORST", 2)
    groups = {
        "school typefaces": {"A": scores(measure, 2, 0), "B": scores(measure, 4, 8)},
        "handwriting typefaces": {"C": scores(measure, 0, 10)},
    }
    lines = measure.typeface_lines(["a", "b"], groups, 1)
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| **mean of 2 school typefaces**",
        "| **mean of 1 handwriting typefaces**",
        "| C",
        "| B",
    ]
    assert lines[2] == "| **mean of 2 school typefaces** | 98.5 / 96.2 | 98.0 / 95.0 |"
