"""Adaptive rounding: against all alternatives where they can be enumerated, and against plain convolutions."""

import itertools

import numpy as np
import pytest
import torch
from onnx import helper
from torch.nn import functional

from mnist_edge.export import rounding

pytestmark = pytest.mark.numeric

GEMM = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
LIMIT = 63


@pytest.fixture
def rng():
    return np.random.default_rng(seed=0)


def alike(rng, *shape):
    """Correlated inputs, like neighbouring pixels."""
    return rng.random(shape) + 3 * rng.random((shape[0], *[1] * (len(shape) - 1)))


def error(given, rounded, meant, exact):
    return ((given @ rounded.T - meant @ exact.T) ** 2).sum(axis=0)


def test_no_single_weight_would_be_better_the_other_way(rng):
    exact = rng.normal(0, 5, (20, 100))
    given = alike(rng, 300, 100)
    meant = given + rng.normal(0, 0.05, given.shape)
    rounded = rounding.up_or_down(GEMM, exact, LIMIT, given, meant)
    found, nearest = error(given, rounded, meant, exact), error(given, exact.round(), meant, exact)
    assert np.median(found / nearest) < 0.3
    for weight in range(100):
        other = rounded.copy()
        other[:, weight] += np.where(rounded[:, weight] > exact[:, weight], -1, 1)
        assert (error(given, other, meant, exact) >= found - 1e-6).all()


def test_between_the_nearest_and_the_best_of_all_choices(rng):
    exact = rng.normal(0, 5, (20, 8))
    given = alike(rng, 100, 8)
    meant = given + rng.normal(0, 0.05, given.shape)
    rounded = rounding.up_or_down(GEMM, exact, LIMIT, given, meant)
    choices = np.floor(exact)[:, None] + np.array(list(itertools.product((0, 1), repeat=8)))
    errors = np.stack([error(given, choices[:, k], meant, exact) for k in range(256)], axis=1)
    found, nearest = error(given, rounded, meant, exact), error(given, exact.round(), meant, exact)
    assert (found >= errors.min(axis=1) - 1e-6).all()
    assert (found <= nearest + 1e-6).all()


@pytest.mark.parametrize(("pads", "strides", "dilations"), [(1, 1, 1), (0, 2, 1), (2, 1, 2)])
def test_convolutions_come_closer_to_the_exact_one(rng, pads, strides, dilations):
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], pads=[pads] * 4, strides=[strides] * 2, dilations=[dilations] * 2
    )
    exact = rng.normal(0, 20, (6, 4, 3, 3))
    exact[0, 0, 0, 0] = 63
    inputs = alike(rng, 70, 4, 9, 9)
    rounded = rounding.up_or_down(node, exact, LIMIT, inputs, inputs)

    def off(weight):
        options = {"stride": strides, "padding": pads, "dilation": dilations}
        difference = torch.tensor(weight.clip(-LIMIT, LIMIT) - exact.clip(-LIMIT, LIMIT))
        return functional.conv2d(torch.tensor(inputs), difference, **options).square().sum(dim=(0, 2, 3)).numpy()

    assert off(rounded).sum() < 0.6 * off(exact.round()).sum()
    for place in np.ndindex(4, 3, 3):
        other = rounded.copy()
        other[:, *place] += np.where(other[:, *place] > exact[:, *place], -1, 1)
        assert (off(other) >= off(rounded) - 1e-6)[abs(exact[:, *place]) < LIMIT - 1].all()
    assert (rounded == rounded.round()).all()
    assert (abs(rounded) <= LIMIT).all()
    inside = abs(exact) <= LIMIT
    assert (abs(rounded - exact)[inside] < 1).all()


def test_what_is_not_rounded_stays(rng):
    exact = rng.integers(-LIMIT, LIMIT + 1, (3, 7)).astype(float)
    inputs = alike(rng, 30, 7)
    np.testing.assert_array_equal(rounding.up_or_down(GEMM, exact, LIMIT, inputs, inputs), exact)


def test_groups_are_rounded_to_the_nearest(rng):
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2)
    exact = rng.normal(0, 5, (4, 2, 3, 3))
    inputs = alike(rng, 5, 4, 9, 9)
    np.testing.assert_array_equal(rounding.up_or_down(node, exact, LIMIT, inputs, inputs), exact.round())
