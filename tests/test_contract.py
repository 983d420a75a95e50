"""The contract's constants, which every exported file relies on, and the limits of its records."""

import msgspec
import pytest
from msgspec import json, structs

from mnist_edge import contract
from mnist_edge.contract import Calibration, Contract, Normalization, Output, Preprocessing

LABELS = ("a", "b", "c")


def test_what_exported_files_rely_on():
    assert (contract.HEIGHT, contract.WIDTH, contract.PIXELS, contract.WHITE) == (28, 28, 784, 255)
    assert (contract.INPUT_NAME, contract.OUTPUT_NAME, contract.BATCH_AXIS) == ("image", "logits", "N")
    assert (contract.OPSET, contract.IR_VERSION, contract.CONTRACT_VERSION) == (18, 10, 2)
    assert contract.DIGITS == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert [*Preprocessing] == ["mnist", "whole"]
    assert [*Output] == ["logits", "log-softmax"]


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [("none", 0.0, 1.0), ("mnist", -0.42421293, 2.82148653), ("half", -1.0, 1.0), ("raw", 0.0, 255.0)],
)
def test_the_customary_normalizations(name, black, white):
    normalization = contract.NORMALIZATIONS[name]
    scaled = [(pixel / 255 - normalization.mean) / normalization.std for pixel in (0, 255)]
    assert scaled == pytest.approx([black, white])


def calibration(**changes):
    fields = {"temperature": 1.5, "ood_scores": [0.0, 0.5, 0.75], "energies": [-9.0, -5.0, -5.0], "images": 3}
    return json.encode(fields | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": 0}, "$.temperature"),
        ({"temperature": -1}, "$.temperature"),
        ({"temperature": 1e-320}, "$.temperature"),
        ({"temperature": 1e12 + 0.5}, "$.temperature"),
        ({"ood_scores": [], "energies": []}, "length >= 1"),
        ({"ood_scores": [-0.1, 0.5, 0.75]}, "$.ood_scores[0]"),
        ({"ood_scores": [0.0, 0.5, 1.1]}, "$.ood_scores[2]"),
        ({"images": 0}, "$.images"),
        ({"energies": [-9.0, -5.0]}, "differ in number"),
        ({"energies": [-9.0, -5.0, -5.0, -4.0]}, "differ in number"),
        ({"ood_scores": [0.5, 0.0, 0.75]}, "ascending"),
        ({"energies": [-5.0, -9.0, -4.0]}, "ascending"),
        ({"images": 2}, "2 images cannot give an out-of-distribution score of 0.75"),
        ({"ood_scores": [0.0, 0.5, 0.7501]}, "3 images cannot give an out-of-distribution score of 0.7501"),
        ({"scale": 1}, "unknown field `scale`"),
    ],
)
def test_a_calibration_that_cannot_be(changes, words):
    with pytest.raises(msgspec.ValidationError) as caught:
        json.decode(calibration(**changes), type=Calibration)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ood_scores": [0.5], "energies": [-1.0], "images": 1},
        {"temperature": 1e-12},
        {"temperature": 1e12},
        {"ood_scores": [0.0, 0.0, 0.1]},
        {"ood_scores": [0, 0.5, 0.75]},
    ],
)
def test_a_calibration_that_can(changes):
    found = json.decode(calibration(**changes), type=Calibration)
    assert found.finest_ood_score == found.images / (found.images + 1)
    assert json.decode(json.encode(found), type=Calibration) == found


def test_the_finest_score():
    found = json.decode(calibration(), type=Calibration)
    assert found.finest_ood_score == 0.75


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "not two or more different names"),
        (["a"], "not two or more different names"),
        (["a", "a"], "not two or more different names"),
        (["a", "b", "a"], "not two or more different names"),
        (["a", ""], "not two or more different names"),
        (["a", "b\x1b"], "cannot be printed"),
        (["\u202e", "b"], "cannot be printed"),
    ],
)
def test_labels_that_are_none(labels, words):
    with pytest.raises(ValueError, match=words):
        Contract(tuple(labels), contract.HALF, Preprocessing.MNIST)


def test_defaults_and_fields():
    made = Contract(("a", "b"), contract.HALF, Preprocessing.WHOLE)
    assert structs.asdict(made) == {
        "labels": ("a", "b"),
        "normalization": contract.HALF,
        "preprocessing": "whole",
        "inverted": False,
        "transposed": False,
        "output": "logits",
        "calibration": None,
        "version": 2,
    }
    assert json.decode(json.encode(made), type=Contract) == made
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        json.decode(json.encode(made)[:-1] + b',"more":1}', type=Contract)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_a_normalization_needs_both_and_nothing_else(field):
    whole = {"mean": 0.5, "std": 0.25}
    assert json.decode(json.encode(whole), type=Normalization) == Normalization(0.5, 0.25)
    del whole[field]
    with pytest.raises(msgspec.ValidationError, match=field):
        json.decode(json.encode(whole), type=Normalization)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        json.decode(json.encode({"mean": 0.5, "std": 0.25, "max": 1}), type=Normalization)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (contract.Share, [0, 0.5, 1], [-0.001, 1.001]),
        (contract.Positive, [1e-12, 1, 1e12], [0, -1, 0.9e-12, 1.1e12]),
        (contract.Count, [0, 1, 2**53], [-1, 0.5, 2**53 + 1, 10**400]),
        (contract.NonZero, [1, 2**53], [0, 2**53 + 1]),
        (contract.Version, [0, 2**31], [-1, 2**31 + 1]),
        (contract.Figure, [-1e39, 0, 1e39], [-1.1e39, 1.1e39, float("inf")]),
    ],
)
def test_ranges_of_numbers(kind, right, wrong):
    for number in right:
        assert msgspec.convert(number, kind) == number
    for number in wrong:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(number, kind)


@pytest.mark.parametrize(
    ("kind", "shortest", "longest"), [(contract.Name, 0, 256), (contract.Text, 0, 1000), (contract.Digest, 64, 64)]
)
def test_lengths_of_texts(kind, shortest, longest):
    for length in (shortest, longest):
        assert msgspec.convert("a" * length, kind) == "a" * length
    for length in ({shortest, longest + 1} | {shortest - 1}) - {shortest, -1}:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert("a" * length, kind)


def test_bounds_of_a_contract():
    names = tuple(map(str, range(255)))
    for labels in ((*names, "a" * 256), ("a", "b")):
        made = Contract(labels, contract.HALF, Preprocessing.MNIST)
        assert json.decode(json.encode(made), type=Contract) == made
    for labels in ((*names, "a", "b"), ("a" * 257, "b")):
        with pytest.raises(ValueError, match="more than 256 labels, or one of more than 256 characters"):
            Contract(labels, contract.HALF, Preprocessing.MNIST)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(labels, contract.Labels)


@pytest.mark.parametrize("sign", [-1, 1])
def test_bounds_of_a_normalization(sign):
    assert msgspec.convert({"mean": sign * 1e12, "std": 1.0}, Normalization).mean == sign * 1e12
    with pytest.raises(msgspec.ValidationError, match=r"Expected `float` .*\$.mean"):
        msgspec.convert({"mean": sign * (1e12 + 0.5), "std": 1.0}, Normalization)


def test_a_calibration_has_at_most_a_thousand_steps():
    most = {"ood_scores": [0.5] * 1000, "energies": [-1.0] * 1000}
    assert len(json.decode(calibration(**most), type=Calibration).energies) == 1000
    for field in most:
        with pytest.raises(msgspec.ValidationError, match=rf"length <= 1000 - at `\$.{field}`"):
            json.decode(calibration(**most | {field: [0.5] * 1001}), type=Calibration)


def test_records_cannot_be_changed():
    for kind in (Normalization, Calibration, Contract):
        assert kind.__struct_config__.frozen
