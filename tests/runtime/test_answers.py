"""Probabilities, out-of-distribution scores and abstaining."""

import json
import math
import re

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.bundle.decoding import decode
from mnist_edge.contract import Calibration
from mnist_edge.errors import ImageNotFoundError, ImageTypeError, ModelFormatError, UsageError
from mnist_edge.runtime import prediction

CALIBRATION = Calibration(temperature=0.5, ood_scores=(0.0, 0.5, 0.999), energies=(-12.0, -10.0, -2.0), images=1000)


@pytest.fixture(scope="module")
def classifier(bundle_dir):
    return Classifier(bundle_dir, format="onnx")


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_softmax_at_a_temperature(temperature):
    logits = np.array([[1.0, -2.0, 0.5], [900.0, 899.0, -900.0]], dtype=np.float32)
    actual = prediction.softmax(logits, temperature)
    for row, values in zip(actual, logits.tolist(), strict=True):
        shifted = [math.exp((value - max(values)) / temperature) for value in values]
        assert row.tolist() == pytest.approx([share / math.fsum(shifted) for share in shifted], rel=1e-12)


def test_the_energy_is_the_negative_log_of_the_summed_exponentials():
    logits = np.array([[0.0, 0.0], [1.0, 3.0], [-1000.0, 1000.0]], dtype=np.float32)
    assert (-prediction.energy(logits)).tolist() == pytest.approx([math.log(2), math.log(math.e + math.e**3), 1000.0])


def test_the_score_is_the_share_of_the_calibration_split_with_less_energy():
    # With one class the energy is the negated logit.
    logits = np.array([[20.0], [12.0], [11.0], [10.0], [6.0], [2.0], [-5.0]], dtype=np.float32)
    expected = [0, 0, 0.25, 0.5, (0.5 + 0.999) / 2, 0.999, 0.999]
    assert prediction.ood_score(logits, CALIBRATION).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("images", [1, 500, 4992])
def test_no_score_is_finer_than_its_images_can_tell(images):
    finest = images / (images + 1)
    scores = {"ood_scores": (0.0, finest / 2, finest), "images": images}
    calibration = structs.replace(CALIBRATION, **scores)
    assert calibration.finest_ood_score == finest
    logits = np.array([[-1e30], [-5.0], [2.0]], dtype=np.float32)
    assert prediction.ood_score(logits, calibration).tolist() == [finest] * 3
    with pytest.raises(ValueError, match=f"{images} images cannot give an out-of-distribution score of 1"):
        structs.replace(CALIBRATION, **scores | {"ood_scores": (0.0, finest, 1.0)})


def test_a_limit_that_would_refuse_nothing_is_refused(classifier, expected):
    calibration = classifier.contract.calibration
    finest = calibration.images / (calibration.images + 1)
    image = expected["images"][0]
    for limit in (np.nextafter(finest, 1), 0.99999, np.nextafter(1, 0)):
        with pytest.raises(UsageError, match=f"calibrated on {calibration.images} images") as caught:
            classifier.predict(image, max_ood=limit)
    named = re.search(r"no score exceeds (0\.\d+): give that or less, or 1 for no limit", str(caught.value))[1]
    assert 0 < finest - float(named) < 2e-6
    for limit in (float(named), finest, 1, 1.0):
        assert classifier.predict(image, max_ood=limit).label is not None


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": math.nan},
        {"temperature": "0.5"},
        {"energies": (-12.0, -10.0)},
        {"energies": (-2.0, -10.0, -12.0)},
        {"ood_scores": (1.0, 0.5, 0.0)},
        {"energies": (), "ood_scores": ()},
        {"ood_scores": (-0.1, 0.5, 1.0)},
        {"ood_scores": (0.0, 0.5, 1.1)},
        {"images": 0},
        {"images": "1000"},
        {"images": True},
        {"images": 1000.0},
    ],
)
def test_a_malformed_calibration_is_refused(change):
    values = structs.asdict(CALIBRATION) | change
    text = json.dumps({name: list(value) if isinstance(value, tuple) else value for name, value in values.items()})
    with pytest.raises(ModelFormatError, match=r"a calibration: (malformed|not JSON)"):
        decode(text, Calibration, "a calibration", "no matter")


@pytest.mark.numeric
def test_probabilities_are_calibrated(classifier, expected):
    temperature = classifier.contract.calibration.temperature
    logits = expected["logits"].astype(np.float64) / temperature
    by_hand = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predictions = classifier.predict_many(list(expected["images"]))
    actual = [list(prediction.probabilities.values()) for prediction in predictions]
    np.testing.assert_allclose(actual, by_hand, atol=1e-4)
    assert [prediction.probability for prediction in predictions] == pytest.approx(by_hand.max(axis=1), abs=1e-4)


def test_less_probable_classes_are_not_named(classifier, expected):
    images = list(expected["images"])
    plain = classifier.predict_many(images)
    limited = classifier.predict_many(images, min_probability=0.9)
    assert any(prediction.probability < 0.9 for prediction in plain)
    for before, after in zip(plain, limited, strict=True):
        assert after.label == (before.label if before.probability >= 0.9 else None)
        assert after.probabilities == before.probabilities


def test_strange_pictures_are_not_named(classifier, expected):
    rng = np.random.default_rng(seed=0)
    digits = list(expected["images"][:200])
    # The pixels of the digits in random order: the same ink, but no digit.
    scrambled = [rng.permutation(image.ravel()).reshape(image.shape) for image in digits]
    familiar = [prediction.ood_score for prediction in classifier.predict_many(digits)]
    logits = classifier.logits(np.stack(scrambled))
    strange = prediction.ood_score(logits, classifier.contract.calibration)
    # The test bundle is trained too briefly for more; the pretrained model has its own test.
    assert np.median(strange) > np.median(familiar) + 0.1
    limit = float(np.median(familiar))
    limited = classifier.predict_many(digits, max_ood=limit)
    assert [prediction.label is None for prediction in limited] == [score > limit for score in familiar]


def test_what_is_not_calibrated_takes_no_limit_of_the_score(bundle_dir, expected, monkeypatch):
    classifier = Classifier(bundle_dir, format="onnx")
    model = classifier._model
    contents = structs.replace(model.contents, contract=structs.replace(model.contract, calibration=None))
    uncalibrated = structs.replace(model, contents=contents)
    monkeypatch.setattr(classifier, "_model", uncalibrated)
    assert classifier.predict(expected["images"][0]).ood_score is None
    with pytest.raises(UsageError, match=r"not calibrated.*: set no limit for it, or train with a calibration split"):
        classifier.predict(expected["images"][0], max_ood=0.99)


@pytest.mark.parametrize(
    "blank", [np.zeros((28, 28), np.uint8), np.full((100, 80), 255, np.uint8), np.full((9, 300), 77, np.uint8)]
)
def test_a_blank_picture_shows_nothing(classifier, blank):
    assert classifier.predict(blank).label is None


@pytest.mark.parametrize(
    "limits",
    [
        {"min_probability": 1.1},
        {"max_ood": -0.1},
        {"min_probability": math.nan},
        {"max_ood": "0.5"},
        {"min_probability": True},
    ],
)
def test_impossible_limits(classifier, expected, limits):
    with pytest.raises(UsageError, match="must be within 0…1"):
        classifier.predict(expected["images"][0], **limits)


def test_errors_take_their_place_among_the_answers(classifier, expected):
    pictures = [expected["images"][0], "nowhere.png", expected["images"][1], None]
    first, missing, second, nothing = classifier.predict_each(pictures)
    assert first == classifier.predict(expected["images"][0])
    assert second == classifier.predict(expected["images"][1])
    assert isinstance(missing, ImageNotFoundError)
    assert isinstance(nothing, ImageTypeError)


def test_pictures_are_taken_a_chunk_at_a_time(classifier, expected):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield expected["images"][0]

    answers = classifier.predict_each(endless())
    assert next(answers).label == str(expected["logits"][0].argmax())
    assert len(taken) <= 10  # the first answers come early
    for _ in range(1000):
        next(answers)
    assert len(taken) <= 2000


def test_what_the_model_is_shown(classifier, expected):
    np.testing.assert_array_equal(classifier.preprocess(expected["images"][0]), expected["images"][0])
    inverted = classifier.preprocess(255 - np.pad(expected["images"][0], 10))
    assert inverted.shape == (28, 28)
    assert inverted[0, 0] == 0


def test_a_buffer_that_is_used_again_does_not_change_earlier_answers(classifier, expected):
    """Like a camera loop that refills one array for every picture."""
    images = expected["images"][:300]

    def camera():
        buffer = np.empty((28, 28), np.uint8)
        for image in images:
            buffer[:] = image
            yield buffer

    assert classifier.predict_many(camera()) == classifier.predict_many(list(images))
    seen = classifier.preprocess(images[0])
    assert not np.shares_memory(seen, images[0])


@pytest.mark.parametrize("pictures", [0, 1, 5, 300, 700])
def test_what_was_taken_before_an_iterator_failed_is_answered(classifier, expected, pictures):
    def failing():
        for index in range(pictures):
            yield expected["images"][index % 500]
        raise ZeroDivisionError

    answers = classifier.predict_each(failing())
    found = [next(answers).label for _ in range(pictures)]
    assert found == [str(expected["logits"][index % 500].argmax()) for index in range(pictures)]
    with pytest.raises(ZeroDivisionError):
        next(answers)


@pytest.mark.parametrize("images", ["7.png", b"", np.zeros((28, 28), np.uint8), Image.new("L", (9, 9)), None, 3])
def test_a_single_picture_is_not_several(classifier, images):
    with pytest.raises(ImageTypeError, match="several pictures are expected"):
        classifier.predict_many(images)
