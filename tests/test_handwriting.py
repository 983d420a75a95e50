"""The digits of people outside the United States, drawn to judge models."""

import numpy as np
import pytest

from tests.handwriting import DEVELOPMENT, DIGITS, FORMS, JUDGED, drawn, pictures

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
