"""Drawn digits and random strokes as part of a training."""

import dataclasses
import json

import pytest
import torch
from msgspec import structs
from torch.nn import functional

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.data.datasets import Split
from mnist_edge.errors import UsageError
from mnist_edge.training import loop
from mnist_edge.training.recipes import FAST, ON_MNIST, RECIPES, with_drawings
from tests.helpers import cli_in_process, fails, quick_recipe, subset

QUICK = structs.replace(quick_recipe(Architecture.CNN_NANO), epochs=1, batch_size=100)


def test_recipes_that_augment_get_drawings_on_mnist_only(mnist):
    for recipe in (*FAST.values(), RECIPES[Architecture.CNN_LARGE]):
        with_them = with_drawings(recipe, mnist)
        assert {name: getattr(with_them, name) for name in ON_MNIST} == ON_MNIST
        assert structs.replace(with_them, drawn_digits=0.0, outliers=0.0) == recipe
    assert with_drawings(RECIPES[Architecture.SIMPLE_NN], mnist) == RECIPES[Architecture.SIMPLE_NN]
    kept = with_drawings(structs.replace(recipe, drawn_digits=0.3), mnist, but={"drawn_digits"})
    assert (kept.drawn_digits, kept.outliers) == (0.3, ON_MNIST["outliers"])


def test_mnist_is_known_by_its_pixels_whatever_it_is_called(mnist):
    assert dataclasses.replace(mnist, name="mine", source="mine").is_mnist
    changed = mnist.train.images.copy()
    changed[0, 0, 0] += 1
    assert not dataclasses.replace(mnist, train=Split(changed, mnist.train.labels)).is_mnist
    other = dataclasses.replace(mnist, train=Split(changed, mnist.train.labels))
    recipe = RECIPES[Architecture.CNN]
    assert with_drawings(recipe, other) == recipe


def one_step(data, recipe):
    """What the model is given in the first step, its answers, the loss that is reported, and the labels."""
    training = loop.Training(data, Architecture.CNN_NANO, recipe)
    seen = {}

    def forward(module, arguments, logits):
        seen.update(images=arguments[0].detach().clone(), logits=logits)

    training._model.register_forward_hook(forward)
    training._model.train()
    loss = training._step(*next(training._prepared(torch.arange(100))))
    return seen["images"], seen["logits"].detach(), loss, training._labels[:100]


def test_outliers_come_in_addition_and_their_probabilities_become_equal(small):
    data = subset(small, 1000, 100)
    plain, *_ = one_step(data, QUICK)
    more, answers, reported, labels = one_step(data, structs.replace(QUICK, outliers=0.25))
    assert len(plain) == 100
    assert len(more) == 125
    assert torch.equal(more[:100], plain)
    # The reported loss is of the training images alone.
    assert reported == pytest.approx(float(functional.cross_entropy(answers[:100], labels, label_smoothing=0.1)))

    def unsure(share):
        recipe = structs.replace(quick_recipe(Architecture.SIMPLE_NN), epochs=4, outliers=share)
        training = loop.Training(data, Architecture.SIMPLE_NN, recipe)
        while not training.complete:
            training.run_epoch()
        strokes = loop.draw_strokes(500, torch.Generator().manual_seed(9))
        with torch.no_grad():
            probabilities = training._logits(training.deployed.eval(), strokes).softmax(dim=1)
        return float(probabilities.amax(dim=1).mean())

    assert unsure(0.5) < unsure(0.0) - 0.1


def test_batches_of_any_size_will_do(small):
    """In the last batch of an epoch, a share may come to nothing."""
    data = subset(small, 105, 20)
    recipe = structs.replace(QUICK, epochs=3, augment=True, drawn_digits=0.1, outliers=0.05)
    training = loop.Training(data, Architecture.CNN_NANO, recipe)
    assert training.run_epoch().number == 1
    for size in (2, 3, 8):
        training._model.train()
        assert training._step(*next(training._prepared(torch.arange(size)))) > 0


def test_drawn_digits_need_labels_that_are_digits(small):
    letters = dataclasses.replace(small, labels=("0", "1", "2", "3", "four", "5", "6", "7", "eight", "9"))
    with pytest.raises(UsageError, match="have no 4, 8: leave out --drawn-digits"):
        loop.Training(letters, Architecture.CNN_NANO, structs.replace(QUICK, drawn_digits=0.1))
    # Digits that come after other labels are found by their names.
    mixed = dataclasses.replace(small, labels=(*"ab", *"0123456789"))
    training = loop.Training(mixed, Architecture.CNN_NANO, structs.replace(QUICK, drawn_digits=0.5))
    assert training._digits.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("option", "value"), [("--drawn-digits", "1"), ("--drawn-digits", "-0.1"), ("--outliers", "2")]
)
def test_shares_beyond_a_batch_are_refused(tmp_path, option, value):
    words = option.removeprefix("--").replace("-", " ")
    result = cli_in_process("train", "--out", tmp_path / "out", option, value)
    fails(result, 2, f"{words} cannot be {float(value)}: choose another value")


def test_users_data_get_drawings_if_asked(small_idx, tmp_path):
    quick = ["train", "--model", "cnn-nano", "--data", small_idx, "--epochs", 1, "--batch-size", 64]

    def recipe(name, *options):
        assert cli_in_process(*quick, "--out", tmp_path / name, *options).returncode == 0
        return json.loads((tmp_path / name / "training.json").read_text())["recipe"]

    without = recipe("without")
    assert (without["drawn_digits"], without["outliers"]) == (0, 0)
    asked = recipe("asked", "--drawn-digits", 0.25, "--outliers", 0.1)
    assert (asked["drawn_digits"], asked["outliers"]) == (0.25, 0.1)
