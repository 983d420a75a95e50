"""The accuracies that the README promises, on the whole of MNIST."""

import dataclasses

import pytest

from mnist_edge.training import loop
from mnist_edge.training.recipes import RECIPES, Architecture

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("architecture", "accuracy"),
    [(Architecture.SIMPLE_NN, 0.975), (Architecture.SIGMOID_NN, 0.83), (Architecture.CNN, 0.993)],
)
def test_accuracy_after_the_last_epoch(mnist, architecture, accuracy):
    *_, (epoch, _) = loop.fit(mnist, architecture, RECIPES[architecture])
    assert epoch.number == RECIPES[architecture].epochs
    assert epoch.test.accuracy >= accuracy


def test_sigmoid_nn_goes_on_learning(mnist):
    recipe = dataclasses.replace(RECIPES[Architecture.SIGMOID_NN], epochs=2)
    (first, _), (second, _) = loop.fit(mnist, Architecture.SIGMOID_NN, recipe)
    assert second.test.loss < first.test.loss
