"""The corrupted test sets that measure robustness."""

import io

import numpy as np
import pytest
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.data.datasets import Split
from tests.corruptions import CORRUPTIONS, corrupt
from tests.distortions import NEVER_TRAINED
from tests.helpers import script

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_kind_changes_every_picture_the_same_way_each_time(mnist, name):
    test = Split(mnist.test.images[:300], mnist.test.labels[:300])
    before = test.images.copy()
    first, second = corrupt(test, name), corrupt(test, name)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(test.images, before)
    only = CORRUPTIONS[name].only
    chosen = np.ones(300, bool) if only is None else test.labels == only
    np.testing.assert_array_equal(first.labels, test.labels[chosen])
    assert first.images.shape == (chosen.sum(), 28, 28)
    assert first.images.dtype == np.uint8
    assert (first.images != test.images[chosen]).any(axis=(1, 2)).all()
    assert (first.images.max(axis=(1, 2)) > 30).all()  # still legible


def ink(images):
    return images.astype(float).sum(axis=(1, 2))


def test_the_kinds_do_what_they_are_called(mnist):
    test = Split(mnist.test.images[:300], mnist.test.labels[:300])
    for name in ("thicker", "marker", "stripes", "dotted line", "zigzag", "brightness", "barred seven", "flagged one"):
        only = CORRUPTIONS[name].only
        images = test.images if only is None else test.images[test.labels == only]
        assert (corrupt(test, name).images >= images.astype(int) - 1).all(), name
        assert (ink(corrupt(test, name).images) > ink(images)).all(), name
    for name in ("thinner", "contrast", "shrinking"):
        assert (ink(corrupt(test, name).images) < ink(test.images)).all(), name
    assert set(np.unique(corrupt(test, "bilevel").images)) == {0, 255}
    for name in (
        "rotation",
        "translation",
        "shear",
        "blur",
        "motion",
    ):  # the amount of ink stays, apart from what leaves the picture
        assert np.median(ink(corrupt(test, name).images) / ink(test.images)) == pytest.approx(1, abs=0.05), name


def test_at_least_twelve_kinds_are_kept_from_the_training():
    assert sum(not kind.seen for kind in CORRUPTIONS.values()) >= 12


def distorted(mnist, name):
    """300 images before and after, within 0…1."""
    test = Split(mnist.test.images[:300], mnist.test.labels[:300])
    return test.images / 255, corrupt(test, name).images / 255


@pytest.mark.parametrize("name", ["ink scratches", "curved scratches", "ink blots", "squared paper", "crossed out"])
def test_added_ink_leaves_the_digit_whole(mnist, name):
    before, after = distorted(mnist, name)
    assert (after >= before - 0.01).all()
    assert (ink(after) > ink(before) + 3).all()


@pytest.mark.parametrize("name", ["erasures", "dashes", "missing pixels", "missing rows"])
def test_lost_ink_leaves_the_rest_as_it_was(mnist, name):
    before, after = distorted(mnist, name)
    assert (after <= before + 0.01).all()
    assert 0.4 < np.median(ink(after) / ink(before)) < 0.97


@pytest.mark.parametrize("name", ["inverted bands", "inverted diagonals", "half inverted"])
def test_inverted_pixels_are_inverted_and_the_others_kept(mnist, name):
    before, after = distorted(mnist, name)
    kept, inverted = np.isclose(after, before, atol=0.01), np.isclose(after, 1 - before, atol=0.01)
    assert (kept | inverted).all()
    assert inverted.mean() == pytest.approx(0.5, abs=0.1)


def test_denser_clouds_leave_less_contrast(mnist):
    def contrast(images):
        clean = mnist.test.images[:300]
        return images[clean > 200].mean() - images[clean == 0].mean()

    by_density = [contrast(distorted(mnist, name)[1]) for name in ("light clouds", "clouds", "dense clouds")]
    assert by_density == sorted(by_density, reverse=True)
    assert by_density[0] > 0.5
    assert by_density[-1] < 0.25


@pytest.mark.parametrize("name", ["outline", "hollow strokes"])
def test_only_the_border_of_a_wide_stroke_is_left(mnist, name):
    square = np.zeros((1, 28, 28), np.uint8)
    square[:, 8:20, 8:20] = 255
    drawn = corrupt(Split(square, np.zeros(1, np.uint8)), name).images[0]
    assert drawn[10:18, 10:18].max() == 0
    assert (drawn[7, 8:20] == 255).all()


@pytest.mark.parametrize(("name", "levels"), [("halftone", 2), ("edges", 2), ("hollow strokes", 2), ("posterized", 3)])
def test_few_levels_of_grey_are_left(mnist, name, levels):
    assert len(np.unique(distorted(mnist, name)[1])) == levels


def test_jpeg_is_what_an_encoder_makes_of_the_picture(mnist):
    file = io.BytesIO()
    padded = np.pad(mnist.test.images[0], (0, 4), mode="edge")
    Image.fromarray(padded).save(file, "jpeg", quality=6)
    encoded = np.array(Image.open(file))[:28, :28]
    mine = corrupt(Split(mnist.test.images[:1], mnist.test.labels[:1]), "JPEG").images[0]
    assert np.abs(encoded.astype(int) - mine).mean() < 2


def test_the_groups_are_told_apart():
    groups = script("measure_corruptions").groups()
    assert [name for kinds in groups.values() for name in kinds] == list(CORRUPTIONS)
    assert len(groups["first"]) == 24
    assert min(map(len, groups.values())) >= 19
    assert not any(CORRUPTIONS[name].seen for name in groups[NEVER_TRAINED])


def test_each_group_is_followed_by_its_means():
    measure = script("measure_corruptions")
    table = {"clean": [99.0], **{kind: [90.0 if told.seen else 60.0] for kind, told in CORRUPTIONS.items()}}
    rows, means = measure.rows(table), measure.all_means(table)
    seen = sum(told.seen for told in CORRUPTIONS.values() if told.family is None)
    assert list(rows)[:2] == ["clean", "rotation *"]
    assert list(rows)[-1] == "**never trained on: mean of all 19**"
    assert "ink blots (blots) *" in rows
    assert means["first: mean of all 24"] == pytest.approx([60 + 30 * seen / 24])
    assert means[f"first: mean of the {24 - seen} without star"] == [60]
    assert means["harder: mean of the 5 without star"] == [60]
    assert len(rows) == 1 + len(CORRUPTIONS) + len(means)
    assert measure.lines(["a model"], {"clean": [99.0]}) == ["| | a model |", "|---|--:|", "| clean | 99.00 |"]


def test_pictures_that_are_given_as_files_are_recognised(mnist):
    measure, classifier = script("measure_corruptions"), Classifier("cnn-nano")
    few = measure.spread(mnist.test, 50)
    assert len(few) == 50
    np.testing.assert_array_equal(few.images[1], mnist.test.images[200])
    assert measure.picture_accuracy(classifier, few) == pytest.approx(measure.accuracy(classifier, few))
    assert len(measure.spread(few, 300)) == 50
