"""Files of version 0.1.0: trainings are read and can be exported again; exported files are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_edge import Classifier
from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import Format
from mnist_edge.errors import AlteredModelError, ModelFormatError
from mnist_edge.export import pipeline
from mnist_edge.training import checkpoint
from tests.helpers import cli_in_process, fails, subset

KEPT = Path(__file__).parents[1] / "made_by_0_1_0"


@pytest.fixture
def old(tmp_path):
    """A bundle as written by 0.1.0: a short training of `cnn-nano` on MNIST, and an export of another one."""
    return Path(shutil.copytree(KEPT, tmp_path / "old"))


def test_a_training_is_read(old):
    record = reading.read_training(old)
    assert record.version == 2
    assert (record.architecture, record.preprocessing, record.finished) == ("cnn-nano", "mnist", True)
    assert (record.recipe.ema_decay, record.recipe.calibration_split) == (0.99, 12)
    assert [round(epoch.test.accuracy, 4) for epoch in record.epochs] == [0.9901]
    assert checkpoint.load(old).training == record


def test_weights_that_are_not_the_trained_ones_are_found(old):
    weights = torch.load(old / "model.pth")
    weights["classifier.bias"][0] += 1
    torch.save(weights, old / "model.pth")
    with pytest.raises(AlteredModelError, match="altered since its training"):
        checkpoint.load(old)


@pytest.mark.long
def test_it_is_exported_anew(old, mnist, cheaper):
    (old / "manifest.json").unlink()
    pipeline.export(old, mnist, [Format.ONNX, Format.INT8_STATIC])
    answers = Classifier(old).logits(mnist.test.images[:1000]).argmax(axis=1)
    assert (answers == mnist.test.labels[:1000]).mean() > 0.98
    assert [outcome.error for outcome in pipeline.verify(old, mnist)] == [None, None]


def test_what_was_exported_is_refused_in_one_line(old):
    told = f"made by mnist-edge 0.1.0: export again:  mnist-edge export {old}"
    for command in (["info", old], ["verify", old], ["predict", "x.png", "--model", old]):
        fails(cli_in_process(*command), 4, "manifest.json", " ".join(told.split()))
    for command in (["info", old / "model.onnx"], ["selftest", old / "model.onnx"]):
        fails(cli_in_process(*command), 4, "model.onnx: its contract: made by mnist-edge 0.1.0: export it again")


@pytest.mark.parametrize("missing", [b'"framing"', b'"recipe"', b'"held_out"', b'"model_sha256"'])
def test_a_damaged_one_is_a_bad_model(old, missing):
    content = (old / "training.json").read_bytes()
    assert missing in content
    (old / "training.json").write_bytes(content.replace(missing, b'"nothing"'))
    with pytest.raises(ModelFormatError, match="malformed"):
        reading.read_training(old)


def test_logits_stay_what_they_were(old, mnist):
    """The model, loaded by today's code, has the accuracy that 0.1.0 recorded."""
    trained = checkpoint.load(old)
    images = subset(mnist, 10, 10_000).test
    with torch.inference_mode():
        logits = trained.model(torch.tensor(images.images[:, None]).float() / 255).numpy()
    accuracy = np.mean(logits.argmax(axis=1) == images.labels)
    assert accuracy == pytest.approx(trained.training.epochs[-1].test.accuracy, abs=2e-4)
