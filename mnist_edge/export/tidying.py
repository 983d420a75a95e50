"""Tidy the graphs that torch's exporter writes: names, spelling, and shapes that need not be computed."""

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from mnist_edge.export import naming
from mnist_edge.runtime.onnx_file.admission import VersionError, admit
from mnist_edge.runtime.onnx_file.messages import Images, Tensor, read_model
from mnist_edge.runtime.onnx_file.shapes import ShapeError
from mnist_edge.runtime.onnx_file.wire import MalformedError


def tidy(model: ModelProto) -> None:
    """Name the layers, leave out what only describes the exporting machine, and make shapes constant."""
    _relu_before_pool(model)
    naming.name_layers(model)
    # torch's exporter leaves source paths and stack traces on nodes and values, and shapes of intermediate values that
    # onnxruntime's quantizers trip over.
    model.graph.name = "mnist-edge"
    del model.graph.value_info[:]
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
    spell_plainly(model)
    _fix_shapes(model)


def spell_plainly(model: ModelProto) -> None:
    """Write every constant as raw bytes, and no texts that describe: the runtime reads no other spelling."""
    for tensor in model.graph.initializer:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), name))
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("doc_string")


def _fix_shapes(model: ModelProto) -> None:
    """Give every Reshape a constant, also where torch's exporter (before 2.14) computes the number of images."""
    constants = {tensor.name for tensor in model.graph.initializer}
    computed = [node for node in model.graph.node if node.op_type == "Reshape" and node.input[1] not in constants]
    try:
        values = admit(read_model(model.SerializeToString())).values if computed else {}
    except (MalformedError, ShapeError, VersionError):  # refused later, with the reason
        return
    for node in computed:
        sides = _constant(values[node.input[1]])
        if sides:
            node.input[1] = f"{node.name}/shape"
            model.graph.initializer.append(numpy_helper.from_array(np.array(sides), node.input[1]))
    _remove_unused(model)


def _constant(shape: Tensor) -> list[int]:
    """A shape with -1 for the number of images; empty if that cannot be told."""
    sides = shape.values or ()
    if sum(isinstance(side, Images) or side == -1 for side in sides) > 1:
        return []
    return [-1 if isinstance(side, Images) else int(side) for side in sides]


def _remove_unused(model: ModelProto) -> None:
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed & {*node.output}:
            kept.append(NodeProto.FromString(node.SerializeToString()))
            needed |= {*node.input}
    if len(kept) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(reversed(kept))
        unused = [tensor for tensor in model.graph.initializer if tensor.name not in needed]
        for tensor in unused:
            model.graph.initializer.remove(tensor)


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
