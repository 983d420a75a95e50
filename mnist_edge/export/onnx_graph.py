"""The bare float32 graph from which all ONNX formats are made, and its weights."""

import numpy as np
import torch
from onnx import ModelProto, numpy_helper

from mnist_edge.contract import BATCH_AXIS, INPUT_NAME, OPSET, OUTPUT_NAME
from mnist_edge.export.graph import example, fold
from mnist_edge.training.checkpoint import Trained


def weights(trained: Trained) -> dict[str, np.ndarray]:
    """The trained weights after folding, by their names in the exported graph."""
    state_dict = fold(trained.model, trained.contract.normalization).state_dict()
    return {key: tensor.numpy() for key, tensor in state_dict.items() if tensor.is_floating_point()}


def build(trained: Trained) -> ModelProto:
    """Export the bare graph, without metadata. Initializers are named like the folded module's weights."""
    program = torch.onnx.export(
        fold(trained.model, trained.contract.normalization),
        (example(),),
        dynamo=True,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=({0: torch.export.Dim(BATCH_AXIS)},),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _strip(model)
    return model


def initializers(model: ModelProto) -> dict[str, np.ndarray]:
    """A graph's constant tensors by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _strip(model: ModelProto) -> None:
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
