"""The bare float32 graph from which all ONNX formats are made, and its weights."""

from typing import Any, Final

import torch
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, numpy_helper

from mnist_edge.contract import BATCH_AXIS, INPUT_NAME, OPSET, OUTPUT_NAME
from mnist_edge.errors import ExecutionError, ModelFormatError, UnsupportedFormatError
from mnist_edge.export import folding, naming, tidying
from mnist_edge.export.graph import example, fold, raw_pixels
from mnist_edge.export.refusals import refusals_of
from mnist_edge.runtime.session import Session
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.models import CNN, SigmoidNN, SimpleNN

REMEDY: Final = "export it with --formats torchscript, or write its forward with other operators"


def is_own(trained: Trained) -> bool:
    """Whether it is one of our architectures with our arrangement of the pixels, which `fold` folds as a module."""
    contract = trained.contract
    return type(trained.model) in (CNN, SigmoidNN, SimpleNN) and not (contract.inverted or contract.transposed)


def weights(trained: Trained) -> dict[str, NDArray[Any]]:
    """The trained weights of our own architectures after folding, by their names in the exported graph."""
    state_dict = fold(trained.model, trained.contract.normalization).state_dict()
    return {
        key.removeprefix(naming.MODEL): tensor.numpy()
        for key, tensor in state_dict.items()
        if tensor.is_floating_point()
    }


def build(trained: Trained) -> ModelProto:
    """Export the bare graph, without metadata.

    Nodes and values are named after the module's layers (`naming`).

    Raises:
        UnsupportedFormatError: the exporter does not take a user's module, or makes a graph that is not plain.
    """
    if is_own(trained):
        model = _exported(fold(trained.model, trained.contract.normalization))
        tidying.tidy(model)
        return model
    with refusals_of("torch.onnx.export", REMEDY):
        model = folding.fold(_exported(raw_pixels(trained), optimize=False))
    _require_plain(model)
    tidying.tidy(model)
    require_any_batch(model)
    return model


def _exported(module: torch.nn.Module, *, optimize: bool = True) -> ModelProto:
    program = torch.onnx.export(
        module,
        (example(),),
        dynamo=True,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=({0: torch.export.Dim(BATCH_AXIS)},),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
        optimize=optimize,
    )
    assert program is not None
    return program.model_proto


def initializers(model: ModelProto) -> dict[str, NDArray[Any]]:
    """A graph's constant tensors by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _require_plain(model: ModelProto) -> None:
    """Raise UnsupportedFormatError if a graph has what our files never have, and a reader need not trust."""
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    subgraphs = {
        node.op_type
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    }
    kinds = {node.op_type for node in model.graph.node}
    random = {kind for kind in kinds if kind.startswith(("Random", "Bernoulli", "Multinomial"))}
    objections = {
        f"it branches or loops on values ({', '.join(sorted(subgraphs))})": subgraphs,
        f"it draws random numbers ({', '.join(sorted(random))})": random,
        f"it needs {opsets}": opsets != {"": OPSET},
        "it has functions": model.functions,
    }
    for objection, holds in objections.items():
        if holds:
            raise UnsupportedFormatError(f"its graph is not plain: {objection}: {REMEDY}")


def require_any_batch(model: ModelProto) -> None:
    """Raise UnsupportedFormatError if onnxruntime cannot run a graph on one image and on three."""
    try:
        session = Session(model.SerializeToString())
        counts = [len(session.run([OUTPUT_NAME], {INPUT_NAME: example(count).numpy()})[0]) for count in (1, 3)]
    except (ExecutionError, ModelFormatError) as error:
        raise UnsupportedFormatError(str(error)) from error
    if counts != [1, 3]:
        raise UnsupportedFormatError(
            f"its graph answers {counts[0]} and {counts[1]} times to one image and to three: "
            "write its forward so that it takes any number of images"
        )
