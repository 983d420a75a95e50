"""The accuracies that the README promises, on the whole of MNIST."""

import dataclasses
import statistics

import pytest

from mnist_edge.training import loop
from mnist_edge.training.recipes import RECIPES, Architecture

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("architecture", "seeds", "accuracy"),
    [(Architecture.SIMPLE_NN, 3, 0.975), (Architecture.SIGMOID_NN, 1, 0.83), (Architecture.CNN_NANO, 1, 0.993)],
)
def test_mean_accuracy_after_the_last_epoch(mnist, architecture, seeds, accuracy):
    last = [list(loop.fit(mnist, architecture, RECIPES[architecture], seed=seed))[-1][0] for seed in range(seeds)]
    assert {epoch.number for epoch in last} == {RECIPES[architecture].epochs}
    assert statistics.mean(epoch.test.accuracy for epoch in last) >= accuracy


def test_sigmoid_nn_goes_on_learning(mnist):
    recipe = dataclasses.replace(RECIPES[Architecture.SIGMOID_NN], epochs=2)
    (first, _), (second, _) = loop.fit(mnist, Architecture.SIGMOID_NN, recipe)
    assert second.test.loss < first.test.loss
