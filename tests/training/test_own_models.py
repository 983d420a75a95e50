"""Train a class of the user's own."""

import numpy as np
import pytest
import torch
from msgspec import structs

from mnist_edge.bundle import reading
from mnist_edge.bundle.source import Ending
from mnist_edge.errors import AlteredModelError
from mnist_edge.training import checkpoint, sources
from mnist_edge.training.recipes import OWN
from mnist_edge.training.train import begin, finish, resume
from tests.helpers import cli_in_process, fails, subset, write_idx

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(width * 13 * 13, num_classes)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()
        return torch.softmax(self.out(self.drop(x.view(x.shape[0], -1))), dim=1)
"""


@pytest.fixture(scope="module")
def data(mnist):
    return subset(mnist, train=3000, test=500)


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def test_a_class_of_the_users_own_is_trained_before_its_softmax(net, data, tmp_path):
    recipe = structs.replace(OWN, epochs=2, lr=0.01, calibration_split=0)
    with begin(data, sources.find(f"{net}:Net", {"width": 4}), recipe, tmp_path / "bundle") as training:
        finish(training, data, tmp_path / "bundle")
    record = reading.read_training(tmp_path / "bundle")
    assert (record.architecture, record.ending, record.source.arguments) == ("Net", Ending.SOFTMAX, {"width": 4})
    assert record.test.accuracy > 0.8
    trained = checkpoint.load(tmp_path / "bundle")
    with torch.no_grad():
        probabilities = trained.model(torch.tensor(data.test.images)[:, None] / 255).numpy()
    assert (probabilities.argmax(axis=1) == data.test.labels).sum() == record.test.correct
    loss = -np.log(probabilities[np.arange(500), data.test.labels]).mean()
    assert record.test.loss == pytest.approx(loss, rel=1e-4)


def test_an_interrupted_training_with_dropout_ends_with_the_same_bits(net, data, tmp_path):
    recipe, source = structs.replace(OWN, epochs=3, calibration_split=0), sources.find(f"{net}:Net", {})
    with begin(data, source, recipe, tmp_path / "whole") as training:
        finish(training, data, tmp_path / "whole")

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    torch.manual_seed(1)  # what else draws random numbers does not count
    with pytest.raises(KeyboardInterrupt), begin(data, source, recipe, tmp_path / "parts") as training:
        finish(training, data, tmp_path / "parts", on_epoch=stop)
    torch.manual_seed(2)
    with resume(data, checkpoint.load_paused(tmp_path / "parts"), tmp_path / "parts") as training:
        finish(training, data, tmp_path / "parts")
    whole, parts = (checkpoint.load(tmp_path / name).model.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_changed_class_is_not_resumed(net, data, tmp_path):
    recipe, source = structs.replace(OWN, epochs=2, calibration_split=0), sources.find(f"{net}:Net", {})
    with begin(data, source, recipe, tmp_path / "bundle") as training:
        pass
    net.write_text(NET.replace("0.3", "0.5"))
    with (
        pytest.raises(AlteredModelError, match="altered since the model was made"),
        resume(data, checkpoint.load_paused(tmp_path / "bundle"), tmp_path / "bundle") as training,
    ):
        finish(training, data, tmp_path / "bundle")


def test_the_command_trains_and_resumes_a_class(net, data, tmp_path):
    idx = write_idx(tmp_path / "data", data)
    options = ["--model", f"{net}:Net", "--data", idx, "--epochs", 1]
    result = cli_in_process("train", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().startswith("artifacts/net: ")
    fails(cli_in_process("train", *options, "--fast", "--overwrite", cwd=tmp_path), 2, "has no short recipe")
    fails(cli_in_process("train", "--model", f"{net}:Nets", "--data", idx, cwd=tmp_path), 2, "did you mean Net?")
