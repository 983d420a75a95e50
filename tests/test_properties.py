"""What holds for every input, tried on many by Hypothesis.

The inputs are the same in each run. ``MNIST_EDGE_EXAMPLES=5000`` tries so many others for each property.
"""

import contextlib
import math
import os
import string
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mnist_edge import Classifier, MnistEdgeError
from mnist_edge.bundle import checksum, decoding, records, source, thresholds
from mnist_edge.bundle.recipe import Recipe
from mnist_edge.bundle.source import Source
from mnist_edge.cli.output import printable
from mnist_edge.contract import CHECKSUM_KEY, Calibration, Contract, Normalization, Preprocessing
from mnist_edge.data import idx
from mnist_edge.errors import AlteredModelError, ModelFormatError, UsageError
from mnist_edge.images import preprocess_counting
from mnist_edge.runtime.golden import Golden, pack, unpack
from mnist_edge.runtime.prediction import energy, ood_score, softmax
from tests import records_strategies
from tests.fuzzing.targets import TARGETS

EXAMPLES = int(os.environ.get("MNIST_EDGE_EXAMPLES", "0"))


def tried(examples):
    """So many examples of a property in the quick tests."""
    return settings(max_examples=EXAMPLES or examples, derandomize=not EXAMPLES, deadline=None, database=None)


def numbers(low, high):
    return st.floats(low, high, width=32)


LOGITS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(2, 12)), elements=numbers(-(2.0**60), 2.0**60)
)


# Batches

POOL = np.random.default_rng(20).integers(0, 256, (300, 28, 28), np.uint8)
POOL[::3] = np.where(POOL[::3] > 200, POOL[::3], 0)
POOL[1::7] = 0


@pytest.fixture(scope="module", params=["onnx", "int8-static"])
def model(request):
    """A classifier, and the logits of each image of the pool alone."""
    classifier = Classifier("cnn-nano", format=request.param)
    alone = np.concatenate([classifier.logits(image[None]) for image in POOL])
    # All of a static int8 graph is integers; a float32 sum may be added up in another order.
    return classifier, alone, 0.0 if request.param == "int8-static" else thresholds.MAX_BATCH_DEPENDENCE


@tried(40)
@given(chosen=st.lists(st.integers(0, 299), min_size=1, max_size=300))
def test_an_image_has_the_same_logits_in_every_batch(model, chosen):
    classifier, alone, tolerance = model
    assert np.abs(classifier.logits(POOL[chosen]) - alone[chosen]).max() <= tolerance


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 64, 127, 128, 129, 255, 256, 257, 300])
def test_every_size_of_a_batch(model, size):
    classifier, alone, tolerance = model
    assert np.abs(classifier.logits(POOL[:size]) - alone[:size]).max() <= tolerance
    assert np.abs(classifier.logits(POOL[-size:][::-1]) - alone[-size:][::-1]).max() <= tolerance


@tried(20)
@given(order=st.permutations(range(40)), cut=st.integers(0, 40))
def test_permuted_and_concatenated(model, order, cut):
    classifier, alone, tolerance = model
    whole = classifier.logits(POOL[order])
    parts = np.concatenate([classifier.logits(POOL[order[:cut]]), classifier.logits(POOL[order[cut:]])])
    assert np.abs(whole - alone[order]).max() <= tolerance
    assert np.abs(whole - parts).max() <= tolerance


# Probabilities and scores


@tried(200)
@given(LOGITS, numbers(2.0**-60, 2.0**60))
def test_probabilities(logits, temperature):
    shares = softmax(logits, temperature)
    assert shares.shape == logits.shape
    assert (shares >= 0).all()
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-12)
    best = np.take_along_axis(shares, logits.argmax(axis=1)[:, None], axis=1)
    assert (best[:, 0] == shares.max(axis=1)).all()


@tried(200)
@given(LOGITS, numbers(0.0625, 16.0), numbers(1.0, 16.0))
def test_a_higher_temperature_is_less_sure(logits, temperature, factor):
    sure, unsure = softmax(logits, temperature), softmax(logits, temperature * factor)
    assert (unsure.max(axis=1) <= sure.max(axis=1) + 1e-12).all()


@tried(200)
@given(LOGITS, records_strategies.records(Calibration))
def test_scores(logits, calibration):
    scores = ood_score(logits, calibration)
    assert ((scores >= 0) & (scores <= calibration.finest_ood_score)).all()
    order = np.argsort(energy(logits), kind="stable")
    assert (np.diff(scores[order]) >= -1e-12).all()


# Pictures


def pictures(side):
    """Grey pictures: noise, flat ones, a few values, rows and columns of others."""
    shapes = st.tuples(st.integers(1, side), st.integers(1, side))
    few = st.sampled_from([0, 1, 127, 128, 254, 255])
    return st.one_of(arrays.arrays(np.uint8, shapes, elements=values) for values in (few, st.integers(0, 255)))


@st.composite
def drawings(draw):
    """Pictures of up to 300×300 pixels with some rectangles of ink on paper, and noise."""
    shape = draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    picture = np.full(shape, draw(st.integers(0, 255)), np.uint8)
    for _ in range(draw(st.integers(0, 8))):
        top, left = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        height, width = draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1]))
        picture[top : top + height, left : left + width] = draw(st.integers(0, 255))
    noise = draw(st.sampled_from([0, 0, 1, 30]))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    return (picture.astype(int) + random.integers(-noise, noise + 1, shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def nano():
    return Classifier("cnn-nano")


@tried(60)
@given(st.one_of(pictures(30), drawings()))
def test_any_picture_is_answered(nano, picture):
    before = picture.copy()
    answer = nano.predict(picture)
    assert (picture == before).all()
    assert math.isclose(sum(answer.probabilities.values()), 1)
    assert answer.label is None or answer.label in nano.labels
    assert 0 <= answer.ood_score <= 1
    assert answer.probability == max(answer.probabilities.values())
    with contextlib.suppress(MnistEdgeError):
        for digit in nano.read(picture).digits:
            left, top, right, bottom = digit.box
            assert 0 <= left < right <= picture.shape[1]
            assert 0 <= top < bottom <= picture.shape[0]


@tried(60)
@given(st.one_of(pictures(30), drawings()), st.sampled_from(Preprocessing))
def test_a_preprocessed_picture_stays_as_it_is(picture, preprocessing):
    pixels, _ = preprocess_counting(picture, preprocessing)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (28, 28))
    if preprocessing is Preprocessing.WHOLE:
        assert (preprocess_counting(pixels, preprocessing)[0] == pixels).all()


# Bytes


@pytest.mark.parametrize("name", TARGETS)
@tried(25)
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_any_bytes_give_an_answer_or_our_error(tmp_path_factory, name, data):
    with contextlib.suppress(MnistEdgeError):
        TARGETS[name].run(data, folder_of(tmp_path_factory, name))


FOLDERS = {}


def folder_of(tmp_path_factory, name):
    """One folder a target: an input finds what the earlier ones left."""
    if name not in FOLDERS:
        FOLDERS[name] = tmp_path_factory.mktemp(name)
    return FOLDERS[name]


@tried(100)
@given(arrays.arrays(np.uint8, st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple)))
def test_idx_there_and_back(tmp_path_factory, array):
    path = folder_of(tmp_path_factory, "idx") / "array"
    path.write_bytes(idx.encode(array))
    assert (idx.read(path, dimensions=array.ndim) == array).all()
    assert idx.digest(array) == checksum.sha256(path.read_bytes()) == idx.digest(np.asfortranarray(array))


# Records

KINDS = [
    *(records.TrainingRecord, records.ImportRecord, records.Manifest, records.Provenance, records.Parity, records.File),
    *(Contract, Calibration, Normalization, Recipe, Source),
]


@pytest.mark.parametrize("kind", KINDS)
@tried(30)
@given(data=st.data())
def test_a_record_there_and_back(kind, data):
    record = data.draw(records_strategies.records(kind))
    content = decoding.encode(record)
    for written in (content, decoding.encode_indented(record)):
        assert decoding.decode(written, kind, "there", "") == record
    assert decoding.encode(decoding.decode(content, kind, "there", "")) == content


@tried(50)
@given(st.integers(1, 4), st.integers(2, 12), st.integers(0, 2**32 - 1), numbers(2.0**-20, 2.0**20))
def test_golden_vectors_there_and_back(count, classes, seed, tolerance):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 1, 28, 28), np.uint8)
    golden = Golden(images, random.normal(0, 10, (count, classes)).astype(np.float32), tolerance)
    packed = pack(golden).decode()
    found = unpack(packed, classes, "it")
    assert (found.images == images).all()
    assert (found.logits == golden.logits).all()
    assert found.tolerance == tolerance
    with pytest.raises(ModelFormatError, match="its golden vectors"):
        unpack(packed, classes + 1, "it")


@tried(200)
@given(st.binary(max_size=200), st.binary(max_size=200), st.data())
def test_the_checksum_notices_any_change(before, after, data):
    entry = CHECKSUM_KEY.encode() + b"\x12\x40"
    assume(entry not in before and not before.startswith(b"PK"))
    model = checksum.with_checksum(before + entry + checksum.UNSET_CHECKSUM.encode() + after)
    checksum.check_checksum(model, "it")
    place = data.draw(st.integers(0, len(model) - 1))
    changed = bytearray(model)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((AlteredModelError, ModelFormatError)):
        checksum.check_checksum(bytes(changed), "it")


# Text


@tried(300)
@given(st.text())
def test_what_is_printed_obeys_nothing(text):
    shown = printable(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert printable(shown) == shown
    shown.encode()  # no lone surrogates
    if text.isprintable():
        assert shown == text


VALUES = st.one_of(
    st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)


@tried(200)
@given(st.dictionaries(st.text(string.ascii_lowercase, min_size=6, max_size=9), VALUES, max_size=4))
def test_arguments_there_and_back(arguments):
    found = source.parse_arguments([f"{name}={value}" for name, value in arguments.items()])
    assert found == arguments
    assert [*map(type, found.values())] == [*map(type, arguments.values())]


@tried(300)
@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_arguments_are_parsed_or_refused(items):
    with contextlib.suppress(UsageError):
        assert len(source.parse_arguments(items)) == len(items)


@pytest.mark.parametrize("parse", [source.split_place, partial(decoding.version_of, where="", remedy="")])
@tried(300)
@given(text=st.text(max_size=30))
def test_any_text_is_parsed_or_refused(parse, text):
    with contextlib.suppress(MnistEdgeError):
        parse(text)
