"""Fold normalization into the weights of a graph: of the pixels, and of batches, wherever it stands.

The weights become float64 for that and are rounded once, at the end. Most of the work is the library's
(`onnxscript.optimizer`): it computes what is constant, drops what does nothing, and folds batch normalization into the
convolution or linear layer right before it. This module does the rest:

* what follows a layer's max pool is folded into the layer, if all scales are positive,
* what precedes a layer is folded into it; a convolution that pads gets its padding from a Pad, with the value that was
  made zero,
* what is left becomes one multiplication and one addition.

A layer whose weight is used twice stays as it is.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import ModelProto
from onnxscript import optimizer

from mnist_edge.export import affine
from mnist_edge.export.affine import IDENTITY, Affine, Array, by_channel, constant, run_before, used_once, varying

_LAYERS: Final = {"Conv", "Gemm", "MatMul"}

_ALL: Final = 2**31 - 1
"""Constants of any size are computed: the library's limits would leave the weights of an LSTM in pieces."""


def fold(model: ModelProto) -> ModelProto:
    """An equal graph, up to rounding, in float32."""
    copied = ModelProto()
    copied.CopyFrom(model)
    found = ir.from_proto(copied)
    optimizer.inline(found)
    _retype(found, ir.DataType.FLOAT, ir.DataType.DOUBLE)
    optimizer.optimize(found, input_size_limit=_ALL, output_size_limit=_ALL)
    graph = found.graph
    layers = [node for node in graph if node.op_type in _LAYERS and _has_own_weight(node)]
    for layer in layers:
        _fold_what_follows(graph, layer)
    for layer in layers:
        _fold_what_precedes(graph, layer)
        _fold_what_follows(graph, layer)  # a MatMul has got an addition now
    for node in reversed(graph):
        _collapse(graph, node)
        _as_pool(graph, node)
    _retype(found, ir.DataType.DOUBLE, ir.DataType.FLOAT)
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.DeduplicateInitializersPass(),
        passes.NameFixPass(),
    )(found)
    return ir.to_proto(found)


def _retype(model: ir.Model, old: ir.DataType, new: ir.DataType) -> None:
    """Give every tensor of one type another."""

    def converted(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        return ir.tensor(tensor.numpy().astype(new.numpy()), name=tensor.name)

    graph = model.graph
    for node in graph.all_nodes():
        for name, attribute in [*node.attributes.items()]:
            match attribute.type, name:
                case ir.AttributeType.FLOAT, "value_float":
                    del node.attributes[name]
                    node.attributes["value"] = ir.AttrTensor("value", ir.tensor(attribute.as_float(), new))
                case ir.AttributeType.TENSOR, _ if attribute.as_tensor().dtype is old:
                    node.attributes[name] = ir.AttrTensor(name, converted(attribute.as_tensor()))
                case ir.AttributeType.INT, "to" | "dtype" if attribute.as_int() == old:
                    node.attributes[name] = ir.AttrInt64(name, new)
    computed = (value for node in graph.all_nodes() for value in node.outputs)
    for value in (*graph.inputs, *graph.initializers.values(), *computed):
        if value.const_value is not None and value.const_value.dtype is old:
            value.const_value = converted(value.const_value)
        if value.dtype is old:
            value.dtype = new


def _has_own_weight(layer: ir.Node) -> bool:
    weight, *bias = layer.inputs[1:]
    return (
        weight is not None
        and used_once(weight)
        and constant(layer.inputs[0]) is None
        and all(constant(each) is not None for each in (weight, *bias) if each is not None)
        and (layer.op_type == "Conv" or len(weight.shape or ()) == 2)
        and not layer.attributes.get_int("transA", 0)
        and layer.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    )


def _fold_what_follows(graph: ir.Graph, layer: ir.Node) -> None:
    """Fold the affine nodes after a layer into it, also those after its max pool."""
    weight = _weight(layer)
    rank, axis = _layout(layer, layer.outputs[0])
    start = end = _after_pool(layer)
    pooled = start is not layer.outputs[0]
    nodes: list[ir.Node] = []
    total = IDENTITY
    while used_once(end):
        ((node, _),) = end.uses()
        found = affine.of(node)
        if found is None or rank is None:
            break
        scale, shift = (by_channel(numbers, rank, axis, len(weight)) for numbers in (found.scale, found.shift))
        if scale is None or shift is None or (pooled and not (scale > 0).all()):
            break
        nodes.append(node)
        total = total.then(Affine(scale, shift))
        end = node.outputs[0]
    if not nodes or (layer.op_type == "MatMul" and [node.op_type for node in nodes] == ["Add"]):
        return
    for node in nodes:
        _bypass(graph, node)
    _rescale(graph, layer, weight * _outer(total.scale, weight.ndim), total.shift, total.scale)


def _fold_what_precedes(graph: ir.Graph, layer: ir.Node) -> None:
    """Fold the affine nodes before a layer into it."""
    entry = layer.inputs[0]
    assert entry is not None
    rank, axis = _layout(layer, entry)
    nodes, total = run_before(entry)
    if not nodes or rank is None or not used_once(entry):
        return
    weight, groups = _weight(layer), layer.attributes.get_int("group", 1)
    inputs = groups * weight.shape[1]
    scale, shift = (by_channel(numbers, rank, axis, inputs) for numbers in (total.scale, total.shift))
    pads = layer.attributes.get_ints("pads", ())
    must_pad = bool(total.shift.any() and any(pads))
    if scale is None or shift is None or (must_pad and not (total.is_scalar and total.scale.all())):
        return
    # Each output sees the inputs of its group only.
    scale, shift = (
        np.repeat(numbers.reshape(groups, -1), len(weight) // groups, axis=0).reshape(
            *weight.shape[:2], *[1] * (weight.ndim - 2)
        )
        for numbers in (scale, shift)
    )
    added = (weight * shift).reshape(len(weight), -1).sum(axis=1) * layer.attributes.get_float("alpha", 1.0)
    for node in nodes:
        _bypass(graph, node)
    if must_pad:
        _pad_before(graph, layer, pads, -total.shift / total.scale)
    _rescale(graph, layer, weight * scale, added, np.ones(len(weight)))


def _collapse(graph: ir.Graph, last: ir.Node) -> None:
    """Replace affine nodes, of which this is the last, by one multiplication and one addition, where that is fewer."""
    if last.graph is None or affine.of(last) is None:
        return
    nodes, total = run_before(last.outputs[0])
    if len(nodes) <= 2 and all(node.op_type != "BatchNormalization" for node in nodes):
        return
    for node in nodes[1:]:
        _bypass(graph, node)
    value, (output, *_) = varying(last), last.outputs
    for kind, numbers, neutral in (("Mul", total.scale, 1), ("Add", total.shift, 0)):
        if (numbers != neutral).any():
            operand = _constant(graph, f"{output.name}_{'scale' if kind == 'Mul' else 'shift'}", numbers)
            node = ir.node(kind, [value, operand])
            graph.insert_before(last, node)
            value = node.outputs[0]
            value.type, value.shape = output.type, output.shape
    _replace(output, value)
    graph.remove(last, safe=True)


def _as_pool(graph: ir.Graph, node: ir.Node) -> None:
    """Replace the mean or maximum over rows and columns by a pool, for which there are fast kernels, also on bytes."""
    if node.op_type not in ("ReduceMean", "ReduceMax") or len(node.inputs) < 2:
        return
    value, chosen = node.inputs[:2]
    axes = None if chosen is None else ir.convenience.get_const_tensor(chosen)
    if value is None or value.shape is None or axes is None:
        return
    if len(value.shape) != 4 or sorted(axes.numpy() % 4) != [2, 3]:
        return
    output = node.outputs[0]
    sides = [side for side in value.shape[2:] if isinstance(side, int)]
    if node.op_type == "ReduceMean":
        pool = ir.node("GlobalAveragePool", [value])
    elif len(sides) == 2:
        pool = ir.node("MaxPool", [value], {"kernel_shape": sides})
    else:
        return
    last = pool if node.attributes.get_int("keepdims", 1) else ir.node("Flatten", pool.outputs)
    for new in dict.fromkeys((pool, last)):
        new.outputs[0].dtype = ir.DataType.DOUBLE
        graph.insert_before(node, new)
    last.outputs[0].shape = output.shape
    _replace(output, last.outputs[0])
    graph.remove(node, safe=True)


def _rescale(graph: ir.Graph, layer: ir.Node, weight: Array, added: Array, scale: Array) -> None:
    """Give a layer another weight, and a bias that is scaled and added to."""
    kept = layer.inputs[1]
    assert kept is not None
    kept.const_value = ir.tensor(_restored(layer, weight), name=kept.name)
    if layer.op_type == "MatMul":
        if added.any():
            _add_after(graph, layer, added)
        return
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    before = constant(bias)
    if before is None and not added.any():
        return
    numbers = added if before is None else before * layer.attributes.get_float("beta", 1.0) * scale + added
    layer.attributes.pop("beta", None)
    if bias is not None and used_once(bias):
        bias.const_value = ir.tensor(numbers, name=bias.name)
    else:
        layer.resize_inputs(3)
        layer.replace_input_with(2, _constant(graph, f"{str(kept.name).removesuffix('weight')}bias", numbers))


def _pad_before(graph: ir.Graph, layer: ir.Node, pads: Sequence[int], number: Array) -> None:
    """Pad with what the affine nodes made zero, instead of padding with zeros."""
    half = len(pads) // 2
    amounts = ir.tensor(np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64))
    name = layer.outputs[0].name
    around = _register(graph, f"{name}_pads", amounts)
    node = ir.node("Pad", [layer.inputs[0], around, _constant(graph, f"{name}_padding", number.reshape(()))])
    node.outputs[0].dtype = ir.DataType.DOUBLE
    graph.insert_before(layer, node)
    layer.replace_input_with(0, node.outputs[0])
    del layer.attributes["pads"]


def _add_after(graph: ir.Graph, layer: ir.Node, numbers: Array) -> None:
    output = layer.outputs[0]
    node = ir.node("Add", [output, _constant(graph, f"{output.name}_shift", numbers)])
    node.outputs[0].type, node.outputs[0].shape = output.type, output.shape
    _replace(output, node.outputs[0])
    node.replace_input_with(0, output)
    graph.insert_after(layer, node)


def _constant(graph: ir.Graph, name: str, numbers: Array) -> ir.Value:
    return _register(graph, name, ir.tensor(numbers))


def _register(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor.name = name
    shape = ir.Shape(tensor.numpy().shape)
    value = ir.Value(name=name, const_value=tensor, shape=shape, type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def _bypass(graph: ir.Graph, node: ir.Node) -> None:
    _replace(node.outputs[0], varying(node))
    graph.remove(node, safe=True)


def _replace(old: ir.Value, new: ir.Value) -> None:
    if old.is_graph_output():
        old.name, new.name = None, old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def _after_pool(layer: ir.Node) -> ir.Value:
    """A layer's output, or that of the max pool that follows."""
    output = layer.outputs[0]
    if layer.op_type == "Conv" and used_once(output):
        ((node, _),) = output.uses()
        if node.op_type == "MaxPool" and len(node.outputs) == 1:
            return node.outputs[0]
    return output


def _layout(layer: ir.Node, value: ir.Value) -> tuple[int | None, int]:
    """The rank of a layer's input or output, None if it is not known, and the axis of its channels."""
    if layer.op_type == "Conv":
        return _weight(layer).ndim, 1
    return (2 if layer.op_type == "Gemm" else None if value.shape is None else len(value.shape)), -1


def _weight(layer: ir.Node) -> Array:
    """A layer's weight with its outputs first, then its inputs: [outputs, inputs, …]."""
    weight = constant(layer.inputs[1])
    assert weight is not None
    return _restored(layer, weight)


def _restored(layer: ir.Node, weight: Array) -> Array:
    """The weight as the layer stores it, and the other way round."""
    outputs_first = layer.op_type == "Conv" or layer.attributes.get_int("transB", 0) == 1
    return weight if outputs_first else weight.T


def _outer(numbers: Array, rank: int) -> Array:
    return numbers.reshape(-1, *[1] * (rank - 1))
