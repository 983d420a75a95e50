"""The corrupted test sets that measure robustness."""

import numpy as np
import pytest

from mnist_edge.data.datasets import Split
from tests.corruptions import CORRUPTIONS, corrupt

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
