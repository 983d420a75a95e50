"""Graphs that a viewer shows well: named after the module's layers, with shapes, the same in every export."""

import onnx
import pytest
import torch
from torch import nn

from mnist_edge import __version__
from mnist_edge.bundle.layout import RUNNABLE
from mnist_edge.contract import HALF
from mnist_edge.export import folding, graph, naming, onnx_graph, tidying
from mnist_edge.training import checkpoint
from tests.export.networks import Residual

LAYERS = ("features.0", "features.4", "features.7", "features.11", "features.14", "features.17", "classifier")
"""The layers of the convolutional architectures."""


@pytest.mark.parametrize("form", RUNNABLE, ids=str)
def test_exported_files_are_legible(bundle_dir, form):
    model = onnx.load(bundle_dir / form.file_name)
    names = [node.name for node in model.graph.node]
    assert set(LAYERS) < set(names)
    assert "" not in names
    assert len(set(names)) == len(names)
    assert all(name.startswith((*LAYERS, "features.", "image/", "Cast")) for name in names)
    assert (model.producer_name, model.producer_version) == ("mnist-edge", __version__)


@pytest.mark.parametrize("form", RUNNABLE, ids=str)
def test_shapes_are_kept(bundle_dir, form):
    graph = onnx.load(bundle_dir / form.file_name).graph
    shapes = {
        value.name: [side.WhichOneof("value") and side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in graph.value_info
    }
    by_layer = {name: shape for name, shape in shapes.items() if name in LAYERS}
    # What PyTorch computes: five convolutions on 14×14 pixels or fewer, after one that the first pool makes smaller.
    trained = checkpoint.load(bundle_dir)
    seen = {}
    for name, layer in trained.model.named_modules():
        if name in LAYERS[1:-1]:
            layer.register_forward_hook(
                lambda layer, _, output, name=name: seen.update({name: [None, *output.shape[1:]]})
            )
    with torch.inference_mode():
        trained.model(torch.zeros(1, 1, 28, 28))
    assert {name: by_layer[name] for name in seen} == seen
    assert all(shape[0] is None for name, shape in shapes.items() if "weight" not in name and "bias" not in name)


class Block(nn.Module):
    """Three operators of its own, one of them on its weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(49, 16))
        self.gain = nn.Parameter(torch.randn(16))

    def forward(self, x):
        return torch.tanh(torch.sigmoid(x @ self.weight) * self.gain)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool, self.block, self.other, self.last = nn.AvgPool2d(4), Block(), Block(), nn.Linear(32, 10)

    def forward(self, x):
        x = self.pool(x).flatten(1)
        return self.last(torch.cat([torch.relu(self.block(x)), torch.relu(self.other(x))], dim=1))


def exported(module):
    torch.manual_seed(0)
    model = folding.fold(onnx_graph._exported(graph.RawPixels(module(), HALF).eval(), optimize=False))
    tidying.tidy(model)
    return model


def test_users_modules_give_the_names():
    model = exported(Net)
    onnx.checker.check_model(model, full_check=True)
    named = {node.name: node.op_type for node in model.graph.node}
    assert len(named) == len(model.graph.node)
    expected = {
        "pool": "AveragePool",
        "block": "MatMul",
        "block/Tanh": "Tanh",
        "block/Mul": "Mul",
        "other": "MatMul",
        "last": "Gemm",
    }
    assert expected.items() <= named.items()
    assert {"Relu", "Relu_2", "Concat"} <= named.keys()
    constants = {tensor.name for tensor in model.graph.initializer}
    assert {"block.weight", "block.gain", "other.weight", "last.weight", "last.bias"} <= constants
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "logits"]


def test_names_do_not_depend_on_earlier_exports():
    """torch's exporter numbers on, from one export of a process to the next."""
    assert exported(Residual).SerializeToString() == exported(Residual).SerializeToString()


class Clash(nn.Module):
    """A parameter with the name of the graph's input."""

    def __init__(self):
        super().__init__()
        self.image = nn.Parameter(torch.randn(784, 10))

    def forward(self, x):
        return x.flatten(1) @ self.image


def test_names_that_clash_are_numbered():
    model = exported(Clash)
    onnx.checker.check_model(model, full_check=True)
    assert "image_2" in {tensor.name for tensor in model.graph.initializer}


def test_only_the_last_words_of_a_scope_are_the_layers_name():
    node = onnx.helper.make_node("Relu", ["a"], ["b"])
    assert naming._module(node) == ""
    node.metadata_props.add(key=naming.SCOPES, value="['', 'model', 'model.a', 'model.a.0', 'relu']")
    assert naming._module(node) == "a.0"
