"""The model that comes with the package, on what its users bring."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from mnist_edge import Classifier, bundle
from mnist_edge.runtime import answers, selftest
from mnist_edge.runtime.model import PRETRAINED, open_model
from mnist_edge.training import metrics
from tests.helpers import fails, run_cli

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def classifier():
    return Classifier()


@pytest.fixture(scope="module")
def test_logits(classifier, mnist):
    return classifier.logits(mnist.test.images)


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_the_file_of_its_manifest_and_answers_as_pytorch_did():
    for folder in PRETRAINED.iterdir():
        if folder.is_dir():
            manifest = bundle.read_manifest(folder)
            assert list(manifest["files"]) == ["model.onnx"]
            assert {path.name for path in folder.iterdir()} == {"model.onnx", "manifest.json"}
            bundle.read_verified(folder, "model.onnx", manifest)
            assert selftest.run(open_model(folder.name)).vectors >= 20


def test_its_figures_are_those_of_its_manifest(classifier, mnist, test_logits):
    recorded = bundle.read_manifest(PRETRAINED / "cnn")["files"]["model.onnx"]
    accuracy = (test_logits.argmax(axis=1) == mnist.test.labels).mean()
    assert accuracy == pytest.approx(recorded["parity"]["accuracy"], abs=2e-4)
    assert accuracy > 0.996
    error = metrics.calibration_error(classifier.probabilities(test_logits), mnist.test.labels)
    assert error == pytest.approx(recorded["calibration"]["error"], abs=5e-4)
    assert error < 0.005
    assert metrics.calibration_error(answers.softmax(test_logits), mnist.test.labels) > 0.05


def test_most_digits_can_be_answered_with_one_error_in_a_thousand(classifier, mnist, test_logits):
    share, _ = metrics.coverage_at(0.999, classifier.probabilities(test_logits), mnist.test.labels)
    assert share > 0.98


def test_novelty_means_what_it_says(classifier, test_logits):
    novelty = answers.novelty(test_logits, classifier.contract.calibration)
    for limit in (0.5, 0.9, 0.99):
        assert (novelty > limit).mean() == pytest.approx(1 - limit, rel=0.25, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "least"),
    [("letters", 0.9), ("shapes", 0.88), ("scribbles", 0.94), ("noise", 0.97), ("shuffled", 0.99)],
)
def test_it_tells_digits_from_what_is_none(classifier, mnist, test_logits, kind, least):
    measure = script("measure_novelty")
    rng = np.random.default_rng(seed=0)
    digits = mnist.test.images[:500]
    match kind:
        case "noise":
            others = measure.noise(digits, rng)
        case "shuffled":
            others = measure.shuffled(digits, 7, rng)
        case _:
            drawn = getattr(measure, kind)(rng)
            some = rng.choice(len(drawn), 300, replace=False)
            others = np.stack([classifier.see(drawn[index]) for index in some])
    strange = -answers.evidence(classifier.logits(others))
    assert measure.auroc(-answers.evidence(test_logits), strange) > least


def test_the_auroc_by_hand():
    auroc = script("measure_novelty").auroc
    assert auroc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert auroc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 0
    assert auroc(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == (1 + 0 + 1 + 0.5) / 4


def test_its_name_stands_for_it_on_the_command_line():
    for command in ("info", "selftest"):
        result = run_cli(command, "cnn", cwd=Path("/"))
        assert result.returncode == 0, result.stderr
    fails(run_cli("verify", PRETRAINED / "cnn"), 4, "has no PyTorch model to compare with", "selftest")
    result = run_cli("evaluate", PRETRAINED / "cnn", "--json")
    assert json.loads(result.stdout)["accuracy"] > 0.996
    fails(run_cli("info", "README.md", cwd=Path("/")), 4, "README.md: no such bundle")
