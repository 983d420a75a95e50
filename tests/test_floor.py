"""The work that an image costs at least is counted right."""

from pathlib import Path

import pytest
import torch

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.runtime.model import PRETRAINED
from mnist_edge.training import models
from tests.helpers import script

floor = script("measure_floor")


@pytest.mark.parametrize("name", ["cnn-nano", "cnn-large"])
def test_multiply_adds_are_those_of_the_layers(name):
    model = models.build(Architecture(name), 10).eval()
    counted = []
    for layer in model.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(
                lambda layer, _, output: counted.append((layer.weight.numel(), output[0, 0].numel()))
            )
    with torch.inference_mode():
        model(torch.zeros(1, 1, 28, 28))
    products, weights = floor.work(Path(PRETRAINED, name))
    assert products == sum(count * positions for count, positions in counted)
    assert weights == sum(count for count, _ in counted)
