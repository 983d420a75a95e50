"""Networks as tutorials write and train them, imported, exported and proved: scripts/measure_zoo.py does all."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.source import InputForm
from mnist_edge.contract import NORMALIZATIONS
from mnist_edge.data.datasets import CHECKOUT_DATASETS
from mnist_edge.export import import_weights, pipeline
from mnist_edge.training import sources
from tests import train_zoo, zoo
from tests.helpers import subset

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("cheaper")]


@pytest.mark.parametrize("name", ["ConvSoftmax", "SmallResNet", "RowLSTM"])
def test_a_network_of_the_zoo(name, mnist, tmp_path):
    entry = next(each for each in zoo.ZOO if each.name == name)
    data = subset(mnist, train=10_000, test=5000)
    model = train_zoo.train(entry, data.train.images, data.train.labels, epochs=2)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    source = sources.find(f"{zoo.__file__}:{name}", {}, InputForm(entry.input))
    found = import_weights(tmp_path / "weights.pth", source, tmp_path / "bundle", data=data)
    assert str(found.chosen.preparation) == entry.normalization
    accuracy = train_zoo.accuracy(entry, model, data.test.images, data.test.labels)
    assert found.record.test.accuracy == pytest.approx(accuracy, abs=1 / 5000)
    manifest = pipeline.export(tmp_path / "bundle", data)
    for form in (Format.TORCHSCRIPT, Format.ONNX):
        assert manifest.files[form.file_name].parity.flips == 0
    assert all(outcome.error is None for outcome in pipeline.verify(tmp_path / "bundle", data))


def test_what_a_script_without_us_has_trained(mnist, tmp_path):
    script = EXAMPLES / "sigmoid_nn.py"
    command = [sys.executable, script, CHECKOUT_DATASETS / "mnist", "2"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    correct = int(re.findall(r"Accuracy: (\d+)/10000", result.stdout)[-1])
    source = sources.find(f"{script}:NeuralNetwork", {}, InputForm.FLAT)
    # After two of its ten epochs, the network is too unsure of itself for the normalization to be found.
    weights, given = tmp_path / "mnist_model.pth", NORMALIZATIONS["none"]
    found = import_weights(weights, source, tmp_path / "bundle", data=mnist, given=given)
    assert found.record.test.correct == correct
    manifest = pipeline.export(tmp_path / "bundle", mnist, [Format.TORCHSCRIPT, Format.ONNX])
    for form in (Format.TORCHSCRIPT, Format.ONNX):
        parity = manifest.files[form.file_name].parity
        assert (parity.flips, round(parity.accuracy * 10_000)) == (0, correct)
