"""The bare float32 graph from which all ONNX formats are made, and its weights."""

from collections import Counter
from typing import Any, Final

import torch
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, numpy_helper

from mnist_edge.contract import BATCH_AXIS, INPUT_NAME, OPSET, OUTPUT_NAME
from mnist_edge.errors import ExecutionError, ModelFormatError, UnsupportedFormatError
from mnist_edge.export import folding, naming
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
        _tidy(model)
        return model
    with refusals_of("torch.onnx.export", REMEDY):
        model = folding.fold(_exported(raw_pixels(trained), optimize=False))
    _require_plain(model)
    _tidy(model)
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


def _tidy(model: ModelProto) -> None:
    _relu_before_pool(model)
    naming.name_layers(model)
    # torch's exporter leaves source paths and stack traces on nodes and values, and shapes of intermediate values that
    # onnxruntime's quantizers trip over.
    model.graph.name = "mnist-edge"
    del model.graph.value_info[:]
    for item in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        del item.metadata_props[:]
        item.doc_string = ""


def _relu_before_pool(model: ModelProto) -> None:
    """Let a ReLU after a convolution's max pool come before it, which gives the same numbers.

    In training it is faster after the pool, with fewer numbers; onnxruntime makes it part of a convolution before.
    """
    nodes = model.graph.node
    producers = {name: node for node in nodes for name in node.output}
    readers = Counter(name for node in nodes for name in node.input)
    ends = {value.name for value in model.graph.output}
    for pool, relu in [(producers.get(node.input[0]), node) for node in nodes if node.op_type == "Relu"]:
        if pool is None or pool.op_type != "MaxPool" or len(pool.output) > 1 or readers[pool.output[0]] > 1:
            continue
        layer = producers.get(pool.input[0])
        if layer is None or layer.op_type != "Conv" or readers[pool.input[0]] > 1 or ends & {*pool.input, *pool.output}:
            continue
        entry, between, end = pool.input[0], pool.output[0], relu.output[0]
        pool.input[0], pool.output[0], relu.input[0], relu.output[0] = between, end, entry, between
        early, late = (NodeProto.FromString(node.SerializeToString()) for node in (relu, pool))
        pool.CopyFrom(early)
        relu.CopyFrom(late)
