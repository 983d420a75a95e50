"""ONNX in float32: one file, self-describing, the same bytes for the same weights."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import torch
from onnx import ModelProto, numpy_helper

from mnist_edge.bundle import Format
from mnist_edge.contract import BATCH_AXIS, INPUT_NAME, OPSET, OUTPUT_NAME
from mnist_edge.errors import ParityError
from mnist_edge.export import metadata, parity
from mnist_edge.export.graph import example, fold
from mnist_edge.export.parity import Run
from mnist_edge.runtime.model import load
from mnist_edge.training.checkpoint import Trained

if TYPE_CHECKING:
    from mnist_edge.export.examples import Examples

TOLERANCE: Final = parity.FLOAT32


def convert(examples: "Examples") -> bytes:
    """The file's content."""
    model = examples.graph()
    onnx.checker.check_model(model, full_check=True)
    return metadata.complete(model, Format.ONNX, examples)


def variants(data: bytes, name: str) -> Mapping[str, Run]:
    """The file's content, ready to run as the runtime does and without graph optimisation. Raises ModelError."""

    def run(optimize: bool) -> Run:
        session = load(data, name, optimize=optimize).session
        return lambda images: session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]

    return {"optimized": run(optimize=True), "not optimized": run(optimize=False)}


def check_weights(data: bytes, name: str, trained: Trained) -> None:
    """Every weight in the file must be the trained one after folding, bit for bit. Raises ParityError.

    Some weights hardly move the logits of any image; a changed one is found here all the same.
    """
    stored = initializers(onnx.load_from_string(data))
    for key, exact in weights(trained).items():
        if key not in stored or not np.array_equal(stored[key], exact):
            raise ParityError(f"{name}: its weight {key} is not the trained one")


def weights(trained: Trained) -> dict[str, np.ndarray]:
    """The trained weights after folding, by the names that they have in an exported graph."""
    state_dict = fold(trained.model, trained.contract.normalization).state_dict()
    return {key: tensor.numpy() for key, tensor in state_dict.items() if tensor.is_floating_point()}


def build(trained: Trained) -> ModelProto:
    """The bare graph, without metadata, its initializers named as the folded module's weights are."""
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
    # The exporter leaves source paths and stack traces on nodes and values, and shapes of intermediate values that the
    # quantizers of onnxruntime trip over.
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
