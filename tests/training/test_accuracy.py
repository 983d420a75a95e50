"""The accuracies in docs/benchmarks.md, on the whole of MNIST, with bounds far below the result of any seed."""

import pytest

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.training import loop
from mnist_edge.training.recipes import FAST, RECIPES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("architecture", "recipe", "least"),
    [
        (Architecture.SIMPLE_NN, RECIPES[Architecture.SIMPLE_NN], 0.965),
        pytest.param(Architecture.CNN_NANO, FAST[Architecture.CNN_NANO], 0.98, marks=pytest.mark.long),
    ],
)
def test_accuracy_after_the_last_epoch(mnist, architecture, recipe, least):
    *_, (epoch, _) = loop.fit(mnist, architecture, recipe)
    assert epoch.number == recipe.epochs
    assert epoch.test.accuracy >= least


def test_sigmoid_nn_learns_slowly_but_in_every_epoch(mnist):
    epochs = [epoch for epoch, _ in loop.fit(mnist, Architecture.SIGMOID_NN, RECIPES[Architecture.SIGMOID_NN])]
    assert epochs[-1].number == RECIPES[Architecture.SIGMOID_NN].epochs
    losses = [epoch.test.loss for epoch in epochs]
    assert losses == sorted(losses, reverse=True)
    assert epochs[-1].test.accuracy >= 0.83
