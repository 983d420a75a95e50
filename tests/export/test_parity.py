"""The comparison with PyTorch and the proof of a file, in seconds: a kept training, and a few drawn images."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from msgspec import structs

from mnist_edge.bundle.layout import Format
from mnist_edge.data.datasets import Dataset, Split
from mnist_edge.errors import ModelFormatError, ParityError
from mnist_edge.export import metadata, parity, proof, recommendation, torchscript
from mnist_edge.export import onnx as float32
from mnist_edge.export.proof import ParityContext, prove
from mnist_edge.export.recommendation import Measured
from mnist_edge.runtime.contents import read_contents
from mnist_edge.training import checkpoint
from tests.fuzzing import seeds
from tests.make_bundle import once

TESTED = 20


def drawn(count, seed):
    """Bars and noise: uint8 [count, 28, 28]."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 30, (count, 28, 28), np.uint8)
    for number, image in enumerate(images):
        image[4:24, 6 + number % 14 : 9 + number % 14] = 255
        image[4 + number % 11 : 7 + number % 11, 6:22] = 200
    return images


@pytest.fixture(scope="module")
def trained():
    return checkpoint.load(seeds.TESTS / "made_by_0_1_0")


@pytest.fixture(scope="module")
def module(trained):
    """The trained module on raw pixels, put together anew."""
    normalization = trained.contract.normalization

    def run(images):
        with torch.inference_mode():
            scaled = (torch.tensor(images).float() / 255 - normalization.mean) / normalization.std
            return trained.model(scaled).numpy()

    return run


@pytest.fixture(scope="module")
def data(module, shared_folder):
    """Labelled by the model itself, but for one test image."""

    def make(folder):
        folder.mkdir()
        np.save(folder / "labels.npy", module(drawn(6000, 1)[:, None]).argmax(axis=1).astype(np.uint8))

    labels = np.load(once(shared_folder / "drawn-labels", make) / "labels.npy")
    wanted = module(drawn(TESTED, 2)[:, None]).argmax(axis=1).astype(np.uint8)
    wanted[3] = (wanted[3] + 1) % 10
    splits = Split(drawn(6000, 1), labels), Split(drawn(TESTED, 2), wanted)
    return Dataset("drawn", "drawn", tuple("0123456789"), *splits)


@pytest.fixture(scope="module")
def reference(trained, data):
    return parity.Reference(trained, data.test)


@pytest.fixture(scope="module")
def steps():
    return []


@pytest.fixture(scope="module")
def context(trained, data, steps):
    return ParityContext(trained, data, steps.append, "prefix")


@pytest.fixture(scope="module")
def content(context, shared_folder):
    """The exported file; the exporter takes longer than all the rest."""

    def make(folder):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(float32.convert(context.examples))

    return (once(shared_folder / "drawn", make) / "model.onnx").read_bytes()


# The reference


def test_the_reference(reference, module, data):
    assert reference.images.shape == (TESTED + 64, 1, 28, 28)
    assert (reference.images[:TESTED, 0] == data.test.images).all()
    probes = reference.images[TESTED:]
    assert (probes.min(), probes.max()) == (0, 255)
    assert abs(probes.mean() - 127.5) < 2
    assert (reference.labels == data.test.labels).all()
    assert [*reference.logits] == [*reference.compared] == [128, 1, 2, 7, 64, 300]
    expected = module(reference.images)
    for size, logits in reference.logits.items():
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert sorted(reference.compared[size]) == list(range(TESTED + 64))
    assert reference.accuracy == 1 - 1 / TESTED
    assert reference.logit_std == pytest.approx(expected[:TESTED].std(), rel=1e-5)


def test_other_images_than_those_for_the_scales(reference, context):
    assert not np.isin(reference.images[TESTED:].reshape(64, -1)[0], 256).any()
    assert (reference.images[TESTED:] != context.examples.extremes[1:]).any(axis=(1, 2, 3)).all()


def test_the_images_compared_at_every_size():
    random = np.random.default_rng(0)
    assert parity._choose(random.normal(0, 1, (512, 3)).astype(np.float32)).tolist() == list(range(512))
    logits = random.normal(0, 1, (2000, 60)).astype(np.float32)
    logits[::7, 0] = logits[::7, 1] + np.arange(286) * 1e-4 + 5
    found = parity._choose(logits)
    assert (len(found), len({*found})) == (512, 512)
    sorted_ = np.sort(logits, axis=1)
    by_margin = np.argsort(sorted_[:, -1] - sorted_[:, -2], kind="stable")
    assert found[:256].tolist() == by_margin[:256].tolist()
    others = np.sort(by_margin[256:])
    assert (found[256], found[-1]) == (others[0], others[-1])
    assert (np.diff(found[256:]) > 0).all()


def test_batches():
    seen = []

    def run(images):
        seen.append(len(images))
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    images = np.arange(7 * 784, dtype=np.uint64).astype(np.uint8).reshape(7, 1, 28, 28)
    for threaded in (False, True):
        found = parity.in_batches(run, images, 3, threaded=threaded)
        assert (found == images.reshape(7, -1)[:, :2]).all()
    assert sorted(seen) == [1, 1, 3, 3, 3, 3]


def test_pixels_as_torch_lays_them_out():
    odd = np.lib.stride_tricks.as_strided(np.zeros((2, 1, 28, 28), np.uint8), strides=(784, 1, 28, 1))
    assert parity.as_tensor(odd).stride() == (784, 784, 28, 1)
    found = parity.run_module(torch.nn.Flatten())(odd)
    assert found.shape == (2, 784)


# Comparisons


def changed(module, reference, change):
    """The model, with `change` applied to the logits of one image: called with its index and the batch's size."""
    places = {image.tobytes(): index for index, image in enumerate(reference.images)}

    def run(images):
        logits = module(images).copy()
        for image, row in zip(images, logits, strict=True):
            change(places[image.tobytes()], len(images), row)
        return logits

    return run


def compared(reference, *runs):
    return parity.compare(reference, {f"way {number}": run for number, run in enumerate(runs)}, "file")


def test_the_same_model(reference, module):
    found, logits = compared(reference, module, module)
    assert found.max_abs_diff < 1e-4
    assert found.max_abs_diff_on_noise < 1e-4
    assert (found.flips, found.agreement, found.non_finite) == (0, 1.0, 0)
    assert (found.accuracy, found.accuracy_drop, found.images) == (reference.accuracy, 0.0, TESTED)
    assert found.logit_std == reference.logit_std
    assert found.batch_sizes == {str(size): TESTED for size in (128, 1, 2, 7, 64, 300)}
    assert found.variants == ("way 0", "way 1")
    np.testing.assert_allclose(logits, module(reference.images[:TESTED]), atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 7, 84])
@pytest.mark.parametrize(("index", "figure"), [(5, "max_abs_diff"), (TESTED, "max_abs_diff_on_noise")])
def test_a_logit_that_is_off(reference, module, size, index, figure):
    def change(place, count, row):
        if (place, count) == (index, size):
            row[2] -= 0.25

    found, _ = compared(reference, module, changed(module, reference, change))
    assert getattr(found, figure) == pytest.approx(0.25, abs=1e-3)
    other = {"max_abs_diff", "max_abs_diff_on_noise"} - {figure}
    assert getattr(found, other.pop()) < 1e-4


def test_answers_that_flip(reference, module):
    def change(place, count, row):
        if count == 84 and place in (3, 4, TESTED + 1):
            row[:] = np.roll(row, 1)  # of the one that was wrong, the answer becomes the label

    found, logits = compared(reference, changed(module, reference, change))
    assert (found.flips, found.agreement) == (2, 1 - 2 / TESTED)
    assert found.accuracy == reference.accuracy
    assert (logits.argmax(axis=1) == module(reference.images[:TESTED]).argmax(axis=1)).sum() == TESTED - 2

    def worse(place, count, row):
        if count == 7 and place == 6:
            row[:] = np.roll(row, 1)

    found, _ = compared(reference, changed(module, reference, worse), module)
    assert (found.flips, found.accuracy) == (1, pytest.approx(reference.accuracy - 1 / TESTED))
    assert found.accuracy_drop == pytest.approx(1 / TESTED)


@pytest.mark.parametrize("index", [0, TESTED])
def test_what_is_no_number_is_counted(reference, module, index):
    def change(place, count, row):
        if (place, count) == (index, 2):
            row[:2] = np.nan, np.inf

    found, _ = compared(reference, module, changed(module, reference, change))
    assert found.non_finite == 2
    assert np.isnan(found.max_abs_diff if index < TESTED else found.max_abs_diff_on_noise)


@pytest.mark.parametrize("wrong", [lambda x: x.astype(np.float64), lambda x: x[:, :-1], lambda x: x[:, None]])
def test_types_and_shapes_come_first(reference, module, wrong):
    with pytest.raises(ParityError, match=r"file: returns float.. \[.*instead of float32 \[84, 10\] \(way 1, batch"):
        compared(reference, module, lambda images: wrong(module(images)))


def test_bit_for_bit(reference, module):
    parity.require_equal(module, module, reference.images, "file")

    def change(place, count, row):
        if place in (1, 2):
            row[9] = np.nextafter(row[9], np.float32(1e9))

    with pytest.raises(ParityError, match="file: 2 of 84 images have other logits"):
        parity.require_equal(changed(module, reference, change), module, reference.images, "file")


GOOD = parity.Parity(
    max_abs_diff=1e-4,
    max_abs_diff_on_noise=1e-4,
    flips=0,
    agreement=1.0,
    non_finite=0,
    accuracy=0.99,
    accuracy_drop=0.0,
    logit_std=2.0,
    images=1000,
    batch_sizes={},
    variants=(),
)
AT_THE_EDGE = {
    "max_abs_diff": 0.5001,
    "max_abs_diff_on_noise": 1.0001,
    "flips": 3,
    "accuracy_drop": 0.0024,
}


def test_the_edges_of_int8():
    parity.require_within(structs.replace(GOOD, **AT_THE_EDGE), parity.INT8, "file")
    parity.require_within(structs.replace(GOOD, accuracy_drop=-0.5), parity.FLOAT32, "file")
    parity.require_within(structs.replace(GOOD, images=100, flips=1, accuracy_drop=0.014), parity.INT8, "file")


@pytest.mark.parametrize(
    ("tolerance", "changes", "words"),
    [
        (parity.INT8, {"max_abs_diff": 0.50011}, "max |Δlogit| 0.5, allowed 0.5"),
        (parity.INT8, {"max_abs_diff_on_noise": 1.00011}, "max |Δlogit| on noise 1, allowed 1"),
        (parity.INT8, {"flips": 4}, "4 of 1000 images answered differently, allowed 3"),
        (parity.INT8, {"accuracy_drop": 0.0026}, "accuracy 0.26 points below PyTorch's, allowed 0.2"),
        (parity.INT8, {"images": 100, "flips": 2}, "2 of 100 images answered differently, allowed 1"),
        (parity.INT8, {"images": 100, "accuracy_drop": 0.016}, "accuracy 1.60 points below"),
        (parity.INT8, {"max_abs_diff": np.nan}, "max |Δlogit| nan"),
        (parity.INT8, {"accuracy_drop": np.nan}, "accuracy nan points"),
        (parity.INT8, {"non_finite": 1}, "1 logits are NaN or infinite"),
        (parity.FLOAT32, {"flips": 1}, "1 of 1000 images answered differently, allowed 0"),
        (parity.FLOAT32, {"accuracy_drop": 0.001}, "accuracy 0.10 points below PyTorch's, allowed 0"),
        (parity.FLOAT32, {"images": 100, "flips": 1}, "1 of 100 images answered differently, allowed 0"),
    ],
)
def test_beyond_the_edges(tolerance, changes, words):
    with pytest.raises(ParityError) as caught:
        parity.require_within(structs.replace(GOOD, **changes), tolerance, "file")
    assert str(caught.value).startswith(f"file: does not answer as PyTorch does: {words}")
    assert ";" not in str(caught.value)


@pytest.mark.parametrize("kind", [parity.Tolerance, proof.Outcome, proof.Step])
def test_what_cannot_be_changed(kind):
    assert kind.__dataclass_params__.frozen


def test_tolerances():
    between = parity.BETWEEN_ENGINES
    assert (between.in_std, between.in_std_on_noise, between.min_agreement) == (0.1, 0.5, 0.997)
    assert parity.INT8.largest(2.0) == (0.5001, 1.0001)
    assert parity.FLOAT32.largest(2.0) == (1e-4, 1e-4)
    assert (parity.CHOSEN, parity.PROBES, parity.GOLDEN_SLACK) == (512, 64, 0.15)
    assert parity.BATCH_SIZES == (1, 2, 7, 64, 300)
    assert (parity.TORCHSCRIPT.max_abs_diff, parity.TORCHSCRIPT.min_agreement) == (1e-5, 1.0)
    assert (parity.INT8.max_accuracy_drop, parity.FLOAT32.max_accuracy_drop) == (0.002, 0.0)
    assert parity.TORCHSCRIPT.max_accuracy_drop == 0.0


# Rounded weights

EXACT = np.array([[0.6, -1.26, 0.1]], np.float32)
STEP = np.array([[0.02]])


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, True),
        ({"value": EXACT + 0.01}, True),
        ({"value": EXACT + 0.0101}, False),
        ({"value": EXACT - 0.0101}, False),
        ({"value": EXACT + 0.0199, "within": 1.0}, True),
        ({"value": EXACT + 0.0201, "within": 1.0}, False),
        ({"step": STEP * 1.00005}, True),
        ({"step": STEP * 1.001}, False),
        ({"step": STEP / 1.00005}, True),
        ({"step": STEP / 1.001}, False),
        ({"peak": 0.0, "value": EXACT * 0, "exact": EXACT * 0, "step": STEP * 9}, True),
        ({"limit": 62}, False),
    ],
)
def test_weights_rounded_to_the_finest_steps(changes, right):
    given = {"value": EXACT, "step": STEP, "exact": EXACT, "peak": 1.26, "limit": 63} | changes
    assert parity.is_quantized(**given) is right


def test_weights_are_rounded_to_nearest():
    exact = np.float32([0.1, -0.2, 0])
    assert parity.is_rounded(exact + 0.05, np.float32([0.1]), exact)
    assert not parity.is_rounded(exact + 0.0501, np.float32([0.1]), exact)
    assert parity.is_rounded(exact + 0.1, np.float32([0.1]), exact, within=1)


def test_one_weight_of_many_counts():
    value = np.array([[0.6, -1.26, 0.12]])
    assert not parity.is_rounded(value, STEP, EXACT)
    assert parity.is_rounded(value, STEP, EXACT, within=1.0)
    assert not parity.is_quantized(value, STEP, EXACT, 1.26, 63)


# The proof


def test_a_sound_file(context, content, steps, data):
    del steps[:]
    outcome = prove(Format.ONNX, content, "model.onnx", context)
    assert outcome.error is None
    assert (outcome.format, outcome.bytes, outcome.left_out) == (Format.ONNX, len(content), False)
    assert outcome.parity.flips == 0
    assert outcome.parity.variants == ("optimized", "not optimized")
    assert outcome.calibration.images == read_contents(content, "x").contract.calibration.images
    assert context.known[Format.ONNX] == content
    assert [(step.file, step.name, step.seconds is None) for step in steps] == [
        ("model.onnx", "parity", True),
        ("model.onnx", "parity", False),
        ("model.onnx", "calibration", True),
        ("model.onnx", "calibration", False),
    ]
    assert all(0 < step.seconds < 1000 for step in steps if step.seconds is not None)


def test_torchscript(context):
    made = torchscript.convert(context.examples)
    outcome = prove(Format.TORCHSCRIPT, made, "model.torchscript", context)
    assert outcome.error is None
    assert outcome.calibration is not None
    assert context.known[Format.TORCHSCRIPT] == made


def restamped(content, own, **changes):
    """The same graph with other metadata, and the right checksum."""
    found = read_contents(content, "x")
    stamped = {
        "form": Format.ONNX,
        "trained": own,
        "golden": found.golden,
        "calibration": found.contract.calibration,
    } | changes
    model = onnx.load_from_string(content)
    return metadata.stamp(model, stamped["form"], stamped["trained"], stamped["golden"], stamped["calibration"])


def with_record(trained, **changes):
    training = structs.replace(trained.training, **changes)
    contract = structs.replace(training.contract)
    return dataclasses.replace(trained, training=training, contract=contract)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda found, trained: {"form": Format.INT8_STATIC}, ModelFormatError, "its metadata say int8-static, not"),
        (
            lambda found, trained: {"trained": with_record(trained, labels=tuple("abcdefghij"))},
            ModelFormatError,
            "its contract is not the training's",
        ),
        (
            lambda found, trained: {"trained": with_record(trained, seed=7, parameters=8)},
            ModelFormatError,
            "its provenance (parameters, seed) is not the training's",
        ),
        (
            lambda found, trained: {"golden": structs.replace(found.golden, images=found.golden.images ^ 1)},
            ModelFormatError,
            "its golden vectors are not PyTorch's answers",
        ),
        (
            lambda found, trained: {"golden": structs.replace(found.golden, logits=found.golden.logits + 2e-4)},
            ModelFormatError,
            "its golden vectors are not PyTorch's answers",
        ),
        (
            lambda found, trained: {"golden": structs.replace(found.golden, tolerance=1e3)},
            ParityError,
            "its golden vectors allow 1e+03, more than",
        ),
        (
            lambda found, trained: {"golden": structs.replace(found.golden, tolerance=1e-12)},
            ParityError,
            "on this machine its logits are",
        ),
        (lambda found, trained: {"calibration": None}, ModelFormatError, "its calibration does not match"),
        (
            lambda found, trained: {"calibration": structs.replace(found.contract.calibration, temperature=9.0)},
            ModelFormatError,
            "its calibration does not match",
        ),
    ],
)
def test_files_with_other_metadata(context, content, change, error, words):
    spoilt = restamped(content, context.trained, **change(read_contents(content, "x"), context.trained))
    context.known.pop(Format.ONNX, None)
    outcome = prove(Format.ONNX, spoilt, "model.onnx", context)
    assert isinstance(outcome.error, error)
    assert words in str(outcome.error)
    assert outcome.parity is not None
    assert outcome.calibration is None
    assert Format.ONNX not in context.known


def test_golden_vectors_up_to_the_limit(context, content):
    found = read_contents(content, "x").golden
    limit = 1e-4 + 0.15 * float(np.abs(context.examples.golden.logits).max())
    for factor, passes in ((0.999, True), (1.001, False)):
        spoilt = restamped(content, context.trained, golden=structs.replace(found, tolerance=factor * limit))
        assert (prove(Format.ONNX, spoilt, "model.onnx", context).error is None) is passes


def test_a_file_made_from_another_needs_it(context):
    known = {**context.known}
    context.known.clear()
    with pytest.raises(ParityError, match=r"model.h: is made from model.int8-static.onnx, which is missing or failed"):
        context.examples_for(Format.C)
    context.known[Format.INT8_STATIC] = b"content"
    given = context.examples_for(Format.C)
    assert (given.origin, given.c_prefix) == (b"content", "prefix")
    assert context.examples_for(Format.ONNX) is context.examples
    context.known.clear()
    context.known.update(known)


def test_what_is_reported_while_it_lasts(trained, data):
    told = []
    context = ParityContext(trained, data, told.append)
    assert [(step.file, step.name) for step in told] == [("model.pth", "PyTorch's answers")] * 2
    assert [step.seconds is None for step in told] == [True, False]
    with pytest.raises(KeyError), context.step("file", "work"):
        raise KeyError
    assert (len(told), told[-1].seconds) == (3, None)


def test_the_same_origin(trained):
    own = metadata.provenance(trained)
    proof.require_same_origin(structs.replace(own, exported_by={"torch": "0"}), trained, "x")
    with pytest.raises(ModelFormatError, match=r"x: its provenance \(architecture, trained_by\) is not"):
        proof.require_same_origin(structs.replace(own, architecture="y", trained_by={}), trained, "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bias: np.nextafter(bias, np.float32(9)), "its weight classifier.bias is not the trained one"),
        (lambda bias: bias + np.float32(0.01), "does not answer as PyTorch does: max |Δlogit|"),
    ],
)
def test_weights_are_checked_too(context, content, change, words):
    model = onnx.load_from_string(content)
    weight = next(one for one in model.graph.initializer if one.name == "classifier.bias")
    values = np.frombuffer(weight.raw_data, np.float32).copy()
    values[0] = change(values[0])
    weight.raw_data = values.tobytes()
    spoilt = metadata.complete(model, Format.ONNX, context.examples)
    assert words in str(prove(Format.ONNX, spoilt, "x", context).error)


# The recommendation


def test_what_is_measured(content, context):
    figures = structs.replace(GOOD, accuracy=0.75, agreement=0.5)
    images = drawn(300, 4)[:, None]
    found = recommendation.measure({Format.ONNX: content}, {Format.ONNX: figures}, images)[Format.ONNX]
    assert (found.bytes, found.accuracy, found.agreement) == (len(content), 0.75, 0.5)
    assert 0.5 < found.microseconds < 1e6
    assert found.batch_dependence < 1e-4
    assert (recommendation.ROUNDS, recommendation.CALLS, recommendation.NEIGHBOURS) == (5, 100, 256)


def test_calls_in_turns(monkeypatch):
    asked = {}
    monkeypatch.setattr(recommendation, "Session", Batches)
    monkeypatch.setattr(
        recommendation,
        "latencies",
        lambda calls, **options: asked.update(options) or {form: [9e-5, 3.12501e-5, 1e-5] for form in calls},
    )
    images = drawn(300, 5)[:, None]
    found = recommendation.measure({Format.ONNX: b"abc"}, {Format.ONNX: GOOD}, images)[Format.ONNX]
    assert asked == {"rounds": 5, "repeats": 100}
    assert (found.microseconds, found.bytes) == (31.3, 3)
    assert found.batch_dependence == 255  # the sizes of the batches are the logits


class Batches:
    """A model whose logits are the number of images in the batch."""

    def __init__(self, content):
        self.content = content

    def run(self, outputs, inputs):
        images = inputs["image"]
        assert outputs == ["logits"]
        return [np.full((len(images), 10), len(images), np.float32)]


FLOAT = Measured(bytes=300_000, microseconds=100, batch_dependence=1e-6, accuracy=0.9960, agreement=1.0)
STATIC = Measured(bytes=80_000, microseconds=70, batch_dependence=0.0, accuracy=0.9958, agreement=0.9995)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "larger: 300.0 against 80.0 KB; slower: 100 against 70 µs an image"),
        ({"microseconds": 100.3}, "larger: 300.0 against 80.0 KB"),
        ({"microseconds": 99.8}, "larger: 300.0 against 80.0 KB"),
        ({"microseconds": 150.0}, "larger: 300.0 against 80.0 KB, and quicker by only 50 µs an image"),
        ({"bytes": 299_999}, "larger: 300.0 against 300.0 KB; slower: 100 against 70 µs an image"),
    ],
)
def test_why_not_float32(changes, words):
    found = recommendation.recommend({Format.ONNX: FLOAT, Format.INT8_STATIC: structs.replace(STATIC, **changes)})
    assert (found.file, found.reasons_against) == ("model.int8-static.onnx", {"model.onnx": words})


def test_several_objections():
    bad = structs.replace(STATIC, microseconds=150.5, bytes=300_000, accuracy=0.99, agreement=0.5, batch_dependence=1.0)
    assert recommendation.objections(bad, FLOAT).split("; ") == [
        "slower than float32: 150 against 100 µs an image",
        "accuracy drop of 0.60 points",
        "answers 50.00 % of the images differently",
        "an image's logits move by 1 with the rest of its batch",
        "not smaller than float32",
    ]


def test_records_of_what_is_measured():
    assert Measured.__struct_config__.frozen
    with pytest.raises(TypeError, match="Extra positional"):
        Measured(1.0, 1.0, 3)
