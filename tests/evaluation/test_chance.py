"""A training that does no better than answers that ignore the image has failed."""

import json

import numpy as np
import pytest
import torch
from msgspec import structs
from torch.nn import functional

from mnist_edge.bundle.recipe import Architecture, OptimizerName
from mnist_edge.errors import TrainingError
from mnist_edge.evaluation.chance import constant_loss, is_near_chance
from mnist_edge.evaluation.metrics import Metrics
from mnist_edge.training.loop import Training
from mnist_edge.training.recipes import RECIPES
from tests.helpers import cli_in_process, fails, quick_recipe, subset, train, write_idx

SIMPLE, SIGMOID, NANO, CNN = Architecture.SIMPLE_NN, Architecture.SIGMOID_NN, Architecture.CNN_NANO, Architecture.CNN


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("counts", [(5, 5), (90, 9, 1), (3, 0, 7), (6, 6, 6, 6, 6, 6, 6, 6, 6, 7)])
def test_the_best_constant_answer_by_pytorchs_cross_entropy(counts, label_smoothing):
    labels = np.repeat(np.arange(len(counts)), counts)
    answer = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)

    def loss():
        return functional.cross_entropy(
            answer.expand(len(labels), -1), torch.tensor(labels), label_smoothing=label_smoothing
        )

    optimizer = torch.optim.LBFGS([answer], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    assert constant_loss(labels, len(counts), label_smoothing) == pytest.approx(loss().item(), abs=1e-6)


def test_near_chance():
    labels = np.repeat(np.arange(10), [150, 100, 100, 100, 100, 100, 100, 100, 50, 100])
    # Chance is 150 of 1000; three standard errors are 3 * sqrt(0.15 * 0.85 / 1000) = 0.0339.
    assert [
        is_near_chance(Metrics(2.3, correct, 1000, correct / 1000), labels) for correct in (0, 150, 183, 184, 900)
    ] == [
        True,
        True,
        True,
        False,
        False,
    ]


def changed(architecture, **changes):
    return structs.replace(RECIPES[architecture], **changes)


@pytest.mark.parametrize(
    ("architecture", "images", "recipe"),
    [
        (SIMPLE, 6400, changed(SIMPLE, epochs=2, lr=0.1)),
        (SIMPLE, 6400, changed(SIMPLE, epochs=1, lr=1.0)),
        (SIMPLE, 6400, changed(SIMPLE, epochs=2, lr=1000.0)),
        (SIMPLE, 640, changed(SIMPLE, epochs=1, lr=10.0)),
        (SIMPLE, 6400, changed(SIMPLE, epochs=2, optimizer=OptimizerName.SGD, lr=1000.0)),
        (SIGMOID, 6400, changed(SIGMOID, epochs=2, lr=10.0)),
        (SIGMOID, 640, changed(SIGMOID, epochs=1, lr=100.0)),
        (NANO, 1500, changed(NANO, epochs=2, lr=10.0)),
        # Its batches do no worse than fresh weights, but the final weights do.
        (NANO, 1500, structs.replace(quick_recipe(NANO), lr=10.0)),
    ],
)
def test_a_loss_that_diverged_is_an_error_though_it_is_finite(mnist, tmp_path, architecture, images, recipe):
    with pytest.raises(TrainingError, match="lower") as caught:
        train(subset(mnist, images, 100), architecture, recipe, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoint.pth").exists()
    if (tmp_path / "training.json").exists():  # from the first epoch
        assert json.loads((tmp_path / "training.json").read_text())["finished"] is False


def test_an_earlier_model_stays(mnist, tmp_path):
    data = subset(mnist, 640, 100)
    train(data, SIMPLE, quick_recipe(SIMPLE), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TrainingError, match="the training diverged"):
        train(data, SIMPLE, changed(SIMPLE, epochs=1, lr=10.0), tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("images", [2, 64, 300, 640])
@pytest.mark.parametrize("architecture", [SIMPLE, SIGMOID, NANO, CNN])
def test_a_short_training_may_be_bad_at_it(mnist, architecture, images, seed):
    for recipe in (changed(architecture, epochs=1), changed(architecture, epochs=1, batch_size=64)):
        training = Training(subset(mnist, images, 100), architecture, recipe, seed=seed)
        training.run_epoch()
        assert training.complete


def test_what_the_command_says(small, tmp_path):
    data = write_idx(tmp_path / "data", subset(small, 640, 100))
    out = tmp_path / "out"
    command = ["train", "--model", "sigmoid-nn", "--epochs", "1", "--data", data, "--out"]
    warned = cli_in_process(*command, out)
    assert warned.returncode == 0, warned.stderr.decode()
    assert "warning: the model is hardly better than guessing" in warned.stderr.decode()
    fails(cli_in_process(*command, tmp_path / "new", "--lr", "1000"), 1, "the training diverged", "(1000)", "lower")
    assert not (tmp_path / "new" / "training.json").exists()
    good = cli_in_process(*command, tmp_path / "good", "--lr", "0.5", "--batch-size", "16", "--epochs", "3")
    assert good.returncode == 0
    assert b"warning" not in good.stderr
