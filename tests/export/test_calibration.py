"""Temperatures, out-of-distribution scores, and the calibration split that they are fitted on."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from msgspec import structs

from mnist_edge.bundle import checksum, reading
from mnist_edge.bundle.decoding import decode, encode
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.contract import CHECKSUM_KEY, CONTRACT_KEY, Calibration, Contract
from mnist_edge.data.datasets import Split
from mnist_edge.errors import ModelFormatError
from mnist_edge.evaluation import metrics
from mnist_edge.export import calibration, examples
from mnist_edge.runtime.model import load
from mnist_edge.runtime.prediction import ood_score
from mnist_edge.training import checkpoint
from mnist_edge.training.loop import fit
from tests.helpers import cli_in_process, fails, keep_only, quick_recipe, subset


@pytest.fixture(scope="module")
def guesses():
    """Logits that are three times too large, and labels drawn from the true probabilities."""
    rng = np.random.default_rng(seed=0)
    honest = torch.tensor(rng.normal(0, 2, (4000, 10)))
    labels = torch.multinomial(honest.softmax(dim=1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    return (3 * honest).float().numpy(), labels.numpy().astype(np.uint8)


@pytest.mark.numeric
def test_the_temperature_is_the_one_of_the_least_cross_entropy(guesses):
    logits, labels = guesses
    found = calibration.temperature(logits, labels)
    assert found == pytest.approx(3, rel=0.05)

    def loss(temperature):
        scaled = torch.tensor(logits).double() / temperature
        return float(torch.nn.functional.cross_entropy(scaled, torch.tensor(labels).long()))

    assert loss(found) < min(loss(found * 1.005), loss(found / 1.005))


def sure(share, images=500, classes=10):
    """Logits that give class 0 the probability `share`, and the other classes equal parts of the rest."""
    logits = np.zeros((images, classes), np.float32)
    logits[:, 0] = np.log(share / (1 - share) * (classes - 1))
    return logits


FIRST = np.zeros(500, np.uint8)


def probability(logits, temperature):
    scaled = torch.tensor(logits).double() / temperature
    return scaled.softmax(dim=1)[:, 0].mean().item()


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("share", [0.6, 0.98, 0.999999])
def test_images_without_an_error_promise_no_certainty(classes, share):
    """After 500 correct answers, the next one is wrong with probability 1/1002 (Jeffreys' rule)."""
    logits = sure(share, classes=classes)
    assert probability(logits, calibration.temperature(logits, FIRST)) == pytest.approx(500.5 / 501, abs=1e-5)


def test_one_error_counts_beside_what_is_not_known():
    logits = sure(0.98)
    labels = FIRST.copy()
    labels[7] = 3
    expected = (499 * 500.5 / 501 + 0.5 / 501 / 9) / 500
    assert probability(logits, calibration.temperature(logits, labels)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e3, 1e8, 1e30])
def test_logits_of_any_size_find_their_temperature(size):
    logits = np.where(np.arange(10) == 0, size, 0)[None].repeat(500, axis=0).astype(np.float32)
    found = calibration.temperature(logits, FIRST)
    assert probability(logits, found) == pytest.approx(500.5 / 501, abs=1e-5)
    kept = Split(np.zeros((500, 28, 28), np.uint8), FIRST)
    stored = calibration.fit(lambda images: logits[: len(images)], kept).temperature
    assert stored == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize(
    "logits", [np.full((500, 10), 3.3, np.float32), -sure(0.98)], ids=["equal", "worse than chance"]
)
def test_what_does_not_favour_the_right_class_is_not_calibrated(logits):
    assert calibration.temperature(logits, FIRST) is None
    kept = Split(np.zeros((500, 28, 28), np.uint8), FIRST)
    assert calibration.fit(lambda images: logits[: len(images)], kept) is None


def test_five_thousand_images_with_errors_are_calibrated_as_ever():
    rng = np.random.default_rng(seed=1)
    honest = torch.tensor(rng.normal(0, 1, (5000, 10)))
    honest[torch.arange(5000), torch.tensor(rng.integers(10, size=5000))] += 8
    labels = torch.multinomial(honest.softmax(dim=1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    assert 0.002 < (honest.argmax(dim=1) != labels).double().mean() < 0.05

    def loss(temperature):
        return torch.nn.functional.cross_entropy(honest / temperature, labels).item()

    plain = min(np.arange(0.8, 1.2, 0.001), key=loss)
    assert calibration.temperature(honest.float().numpy(), labels.numpy().astype(np.uint8)) == pytest.approx(
        plain, rel=0.01
    )


def test_the_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.91, 0.09], [0.6, 0.4], [0.3, 0.7]])
    labels = np.array([0, 1, 0, 1], dtype=np.uint8)
    # With fifteen bins, 0.9 and 0.91 share one (one of two correct); 0.6 and 0.7 have one each (both correct).
    assert metrics.calibration_error(probabilities, labels) == pytest.approx((abs(1.81 - 1) + 0.4 + 0.3) / 4)


def test_a_better_temperature_lowers_the_calibration_error(guesses):
    logits, labels = guesses
    errors = {
        temperature: metrics.calibration_error(
            torch.softmax(torch.tensor(logits).double() / temperature, dim=1).numpy(), labels
        )
        for temperature in (1, 3)
    }
    assert errors[3] < 0.03
    assert errors[1] > 0.2


def test_coverage_by_hand():
    sure_first = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([sure_first, 1 - sure_first], axis=1)
    labels = np.array([0, 0, 1, 0, 1], dtype=np.uint8)
    assert metrics.coverage_at(1.0, probabilities, labels) == (0.4, 0.9)
    assert metrics.coverage_at(0.75, probabilities, labels) == (0.8, 0.7)
    assert metrics.coverage_at(0.5, probabilities, labels) == (1.0, 0.6)
    assert metrics.coverage_at(0.5, probabilities[:1], 1 - labels[:1]) == (0.0, 1.0)


def test_images_of_equal_confidence_are_answered_together():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2]])
    labels = np.array([0, 0, 1], dtype=np.uint8)
    assert metrics.coverage_at(1.0, probabilities, labels) == (pytest.approx(1 / 3), 0.9)
    assert metrics.coverage_at(0.6, probabilities, labels) == (1.0, 0.8)


def test_one_image_of_so_many_is_kept(mnist):
    train, kept = mnist.train.hold_out(12)
    assert len(train) + len(kept) == 60_000
    assert len(kept) == pytest.approx(5_000, rel=0.005)
    places = _places_kept(mnist.train.labels)
    np.testing.assert_array_equal(kept.images, mnist.train.images[places])
    np.testing.assert_array_equal(kept.labels, mnist.train.labels[places])


def test_what_is_kept_lies_together(mnist):
    """The last twelfth of each fifth of each class, because images by one writer are adjacent."""
    places = _places_kept(mnist.train.labels)
    for label in range(10):
        members = np.flatnonzero(mnist.train.labels == label)
        ranks = np.searchsorted(members, np.intersect1d(members, places))
        runs = np.split(ranks, np.flatnonzero(np.diff(ranks) > 1) + 1)
        assert [run[-1] + 1 for run in runs] == pytest.approx(
            [len(members) * fifth / 5 for fifth in range(1, 6)], abs=1
        )
        assert [len(run) for run in runs] == pytest.approx([len(members) / 60] * 5, abs=1)


@pytest.mark.parametrize(("every", "images"), [(0, 60_000), (12, 5_999)])
def test_nothing_is_kept_where_none_is_wanted_or_little_is_there(mnist, every, images):
    split = Split(mnist.train.images[:images], mnist.train.labels[:images])
    train, kept = split.hold_out(every)
    assert (len(train), len(kept)) == (images, 0)


def test_the_only_image_of_a_class_is_trained_on():
    labels = np.array([0] * 6_000 + [1], np.uint8)
    train, kept = Split(np.arange(len(labels)), labels).hold_out(12)
    assert len(kept) == 500
    assert train.labels[-1] == 1


def test_the_training_does_not_see_what_is_kept(mnist):
    data = subset(mnist, train=6_000, test=100)
    images = data.train.images.copy()
    places = _places_kept(data.train.labels)
    images[places] = 255 - images[places]
    other = dataclasses.replace(data, train=Split(images, data.train.labels))
    recipe = structs.replace(quick_recipe(Architecture.CNN_NANO), epochs=1)
    weights = []
    for each in (data, other):
        ((_, model),) = fit(each, Architecture.CNN_NANO, recipe)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # Without a calibration split those images do matter.
    ((_, model),) = fit(other, Architecture.CNN_NANO, structs.replace(recipe, calibration_split=0))
    assert not torch.equal(model.state_dict()["classifier.weight"], weights[0]["classifier.weight"])


def _places_kept(labels):
    """The indices of the calibration split, found with images that are their own indices."""
    _, kept = Split(np.arange(len(labels)), labels).hold_out(12)
    return kept.images


@pytest.mark.numeric
def test_every_file_has_its_own_calibration(bundle_dir, small):
    manifest = reading.read_manifest(bundle_dir)
    _, kept = small.train.hold_out(12)
    for name in ("model.onnx", "model.int8-dynamic.onnx", "model.int8-static.onnx"):
        model = onnx.load(bundle_dir / name)
        metadata_props = {entry.key: entry.value for entry in model.metadata_props}
        found = decode(metadata_props[CONTRACT_KEY], Contract, "the contract", "no matter").calibration
        recorded = manifest.files[name].calibration
        assert found.images == recorded.images == len(kept)
        assert found.temperature == recorded.temperature
        assert 0 < recorded.error < 0.2
    assert manifest.files["model.torchscript"].calibration.temperature == pytest.approx(
        manifest.files["model.onnx"].calibration.temperature, rel=1e-3
    )
    assert manifest.contract.calibration is None


def test_what_is_not_finite_is_not_calibrated(small):
    _, kept = small.train.hold_out(12)
    assert calibration.fit(lambda images: np.full((len(images), 10), np.nan, np.float32), kept) is None
    assert (
        calibration.fit(lambda images: np.zeros((len(images), 10), np.float32), Split(*(kept.images[:0],) * 2)) is None
    )


@pytest.mark.parametrize(("images", "finest"), [(500, 500 / 501), (3, 0.75), (5000, 5000 / 5001)])
def test_no_score_is_recorded_that_the_images_cannot_tell(images, finest):
    shown = np.random.default_rng(seed=0).permutation(images).astype(float)
    scores, energies = calibration.ood_scale(shown)
    assert scores[-1] == finest
    assert scores[:-1] == tuple(score for score in calibration.OOD_SCORES if score < finest)
    assert energies[-1] == images - 1
    # The energies are 0, 1, … images - 1, so a score's energy is its rank among images + 1, minus one.
    for score, value in zip(scores, energies, strict=True):
        assert value == pytest.approx(np.clip(score * (images + 1) - 1, 0, images - 1), abs=1e-3)


def test_a_score_is_exceeded_as_often_as_it_says():
    """Over many draws of a split and one more image, that image exceeds a score s with probability 1 - s."""
    rng = np.random.default_rng(seed=0)
    found = []
    for _ in range(4000):
        shown = rng.normal(10, 1, 21)
        scores, energies = calibration.ood_scale(-shown[:20])
        scale = Calibration(temperature=1.0, ood_scores=scores, energies=energies, images=20)
        found.append(ood_score(shown[20:, None].astype(np.float32), scale)[0])
    assert max(found) == 20 / 21
    for level in (0.1, 0.5, 0.75, 0.9, 0.95):
        assert np.mean(np.array(found) > level) == pytest.approx(1 - level, abs=0.02)


def test_the_scales_are_not_set_by_what_calibrates(bundle_dir, small):
    """Checked with images that encode their own numbers."""
    trained = checkpoint.load(bundle_dir)
    numbers = np.arange(1, len(small.train) + 1, dtype=">u4")
    images = np.zeros_like(small.train.images)
    images[:, 0, :4] = numbers.view(np.uint8).reshape(-1, 4)
    data = dataclasses.replace(small, train=Split(images, small.train.labels))
    chosen = examples.choose(trained, data)
    scaling = chosen.training[:, 0]
    kept = {image.tobytes() for image in chosen.calibration.images}
    assert len(kept) == len(data.train.hold_out(12)[1]) > 500
    assert len(scaling) > 5000
    assert kept.isdisjoint(image.tobytes() for image in scaling)


def _recalibrate(folder, **change):
    """Change the calibration in a file, and update its checksum and the manifest."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == CONTRACT_KEY:
            contract = decode(entry.value, Contract, "the contract", "no matter")
            changed = structs.replace(contract.calibration, **change) if change else None
            entry.value = encode(structs.replace(contract, calibration=changed)).decode()
        elif entry.key == CHECKSUM_KEY:
            entry.value = checksum.UNSET_CHECKSUM
    path.write_bytes(checksum.with_checksum(model.SerializeToString(deterministic=True)))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name]["sha256"] = checksum.sha256(path.read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("change", [{"temperature": 2.0}, {"images": 5000}, {}])
def test_verify_finds_a_wrong_calibration(bundle_copy, small_idx, change, cheaper):
    keep_only(bundle_copy, "model.onnx")
    _recalibrate(bundle_copy, **change)
    fails(cli_in_process("verify", bundle_copy, "--data", small_idx), 4, "model.onnx", "calibration")


def test_verify_finds_wrong_energies(bundle_copy, small_idx, cheaper):
    keep_only(bundle_copy, "model.onnx")
    scores = len(load((bundle_copy / "model.onnx").read_bytes(), "model.onnx").contract.calibration.ood_scores)
    _recalibrate(bundle_copy, energies=tuple(float(index - 20) for index in range(scores)))
    fails(cli_in_process("verify", bundle_copy, "--data", small_idx), 4, "model.onnx", "calibration")


def test_a_calibration_must_be_there_if_images_were_kept():
    labels = np.arange(500, dtype=np.uint8) % 10
    kept = Split(np.broadcast_to(labels[:, None, None], (500, 28, 28)), labels)
    found = calibration.fit(lambda images: np.eye(10, dtype=np.float32)[images[:, 0, 0, 0]], kept)
    calibration.check(found, found, "model.onnx")
    calibration.check(None, None, "model.onnx")
    for recorded, measured in ((None, found), (found, None)):
        with pytest.raises(ModelFormatError, match="calibration"):
            calibration.check(recorded, measured, "model.onnx")


@pytest.mark.parametrize("change", [{"temperature": 9.0}, {"error": 0.5}, None])
def test_verify_finds_a_manifest_that_tells_another_calibration(bundle_copy, small_idx, change, cheaper):
    keep_only(bundle_copy, "model.torchscript")
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    entry = manifest["files"]["model.torchscript"]
    entry["calibration"] = entry["calibration"] | change if change else None
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    fails(
        cli_in_process("verify", bundle_copy, "--data", small_idx), 4, "model.torchscript", "calibration is recorded as"
    )
