"""Preprocessing and finding digits, tested on real digits: MNIST's own method, and drawn pictures of every kind."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mnist_edge import Classifier, images
from mnist_edge.images.canonical import _is_preprocessed, is_preprocessed
from mnist_edge.images.lines import find_digits
from tests.helpers import long_after
from tests.lines import lines
from tests.paper import row
from tests.pictures import CASES, pictures


@pytest.fixture(scope="module")
def classifier(bundle_dir):
    return Classifier(bundle_dir)


@pytest.fixture(scope="module")
def drawn(mnist):
    return list(pictures(mnist.test.images, mnist.test.labels, each=1))


def test_mnist_goes_through_unchanged(mnist):
    digits = mnist.test.images[:2000]
    assert all(images.preprocess(digit) is digit for digit in digits)
    buffer = io.BytesIO()
    Image.fromarray(digits[0]).save(buffer, "PNG")
    np.testing.assert_array_equal(images.preprocess(images.decode(io.BytesIO(buffer.getvalue()))), digits[0])


def test_one_image_is_judged_as_a_batch_is(mnist):
    digits = np.concatenate(
        [mnist.test.images[:300], 255 - mnist.test.images[:50], np.roll(mnist.test.images[:50], 3, 1)]
    )
    assert [_is_preprocessed(digit) for digit in digits] == is_preprocessed(digits).tolist()


def test_large_digits_get_mnists_size_place_and_weight(mnist):
    for digit in mnist.test.images[:50]:
        large = np.asarray(Image.fromarray(digit).resize((140, 140), Image.Resampling.BICUBIC))
        framed = images.preprocess(np.pad(255 - large, ((30, 200), (90, 10)), constant_values=255)).astype(float)
        rows, columns = np.flatnonzero((framed > 100).any(1)), np.flatnonzero((framed > 100).any(0))
        assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
        centre = [framed.sum(axis) @ np.arange(28) / framed.sum() for axis in (0, 1)]
        assert centre == pytest.approx([14, 14], abs=0.5)
        assert framed.max() > 240
        assert 0.6 < framed.sum() / digit.sum() < 1.7


def test_the_pictures_cover_their_cases(drawn, mnist):
    assert len(CASES) >= 60
    assert Counter(picture.case for picture in drawn) == dict.fromkeys(CASES, 1)
    again = next(iter(pictures(mnist.test.images, mnist.test.labels, each=1)))
    assert again == drawn[0]


@pytest.mark.numeric
def test_pictures_of_every_kind_are_read(drawn, classifier):
    framed = np.stack([images.preprocess(images.decode(io.BytesIO(picture.content))) for picture in drawn])
    found = classifier.logits(framed).argmax(axis=1)
    wrong = [picture.name for picture, label in zip(drawn, found, strict=True) if picture.label != label]
    # The small test model errs on a few per cent of MNIST itself; scripts/measure_pictures.py measures the real ones.
    assert len(wrong) <= 0.1 * len(drawn), wrong


@pytest.mark.numeric
def test_lines_are_read(mnist, classifier):
    right = close = total = 0
    for line in lines(mnist.test.images, mnist.test.labels, count=25):
        if line.touching:
            continue
        found = find_digits(line.pixels)
        text = "".join(str(label) for label in classifier.logits(np.stack([f.image for f in found])).argmax(axis=1))
        assert {digit.line for digit in found} == {0}
        assert abs(len(text) - len(line.text)) <= 1
        if len(text) == len(line.text):
            right += sum(a == b for a, b in zip(text, line.text, strict=True))
            close += sum(np.allclose(digit.box, box, atol=6) for digit, box in zip(found, line.boxes, strict=True))
        total += len(line.text)
    assert right / total > 0.9
    assert close / total > 0.95


def is_wide(digit):
    return np.ptp(np.flatnonzero((digit > 100).any(axis=0))) > np.ptp(np.flatnonzero((digit > 100).any(axis=1)))


@pytest.mark.parametrize("height", long_after(1, [20, 40, 75, 140]))
def test_a_wide_digit_is_not_cut_in_two(mnist, height):
    digits, rng = mnist.test.images / 255, np.random.default_rng(height)
    wide = rng.permutation([index for index, digit in enumerate(mnist.test.images) if is_wide(digit)])
    found = []
    for index in wide[:150]:
        others = rng.choice(len(digits), 3, replace=False)
        ink = row([digits[others[0]], digits[index], *digits[others[1:]]], rng, height)
        found.append(len(find_digits(np.round(230 - 200 * np.pad(ink, height // 2)).astype(np.uint8))))
    assert np.mean(np.array(found) == 4) >= 0.97, Counter(found)


def test_digits_that_touch_are_cut_where_they_touch(mnist):
    touching = [line for line in lines(mnist.test.images, mnist.test.labels) if line.touching]
    right = 0
    for line in touching:
        boxes = [digit.box for digit in find_digits(line.pixels)]
        right += len(boxes) == len(line.boxes) and np.allclose(boxes, line.boxes, atol=8)
    assert right >= 0.35 * len(touching)


def test_no_digit_is_taken_for_a_blank_page(mnist):
    for split in (mnist.train, mnist.test):
        assert images.has_ink(split.images).all()
        assert images.has_ink(255 - split.images).all()
        assert images.has_ink(split.images // 4).mean() > 0.999  # at a quarter of the contrast
