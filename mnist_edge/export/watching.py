"""Watch the inner values of a float32 graph while it computes images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from mnist_edge.contract import INPUT_NAME
from mnist_edge.export.threads import in_threads
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.session import Session


def ranges_of(model: ModelProto, names: Sequence[str], images: NDArray[np.uint8]) -> dict[str, tuple[float, float]]:
    """The smallest and largest number of each named value over all images, and zero; 0…1 where all are zero."""
    chunks = _watch(model, names, images, lambda array: (float(array.min()), float(array.max())))
    ranges = {}
    for name, *found in zip(names, *chunks, strict=True):
        low, high = min(0.0, *(low for low, _ in found)), max(0.0, *(high for _, high in found))
        ranges[name] = (low, high) if low < high else (0.0, 1.0)
    return ranges


def inputs_of(model: ModelProto, layers: Sequence[NodeProto], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The input of every layer for all images."""
    names = [layer.input[0] for layer in layers]
    different = [*dict.fromkeys(names)]
    chunks = _watch(model, different, images, lambda array: array)
    inputs = {name: np.concatenate(arrays) for name, *arrays in zip(different, *chunks, strict=True)}
    return [inputs[name] for name in names]


def _watch(
    model: ModelProto, names: Sequence[str], images: NDArray[np.uint8], keep: Callable[[NDArray[np.float32]], Any]
) -> list[list[Any]]:
    """Run the images in chunks of `CHUNK`, and apply `keep` to every named value: one list per chunk."""
    if not names:  # onnxruntime would return all outputs
        return []
    watched = ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    session = Session(watched.SerializeToString())
    chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    return in_threads(lambda chunk: [keep(array) for array in session.run(names, {INPUT_NAME: chunk})], chunks)
