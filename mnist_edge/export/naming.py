"""Make graphs legible in a viewer such as Netron: name nodes and values after the module's layers, and keep shapes.

A node is named after its module, such as ``features.0``; one of several in a module after its operator too, unless it
holds the module's weight: ``attention/MatMul``. One of no module is named after its operator: ``Relu_2``. A value is
named like the node that computes it, and a parameter as in the state_dict. Names depend on the module alone: torch's
exporter numbers values on from one export to the next.
"""

import ast
from collections import Counter
from typing import Final

import onnx
from onnx import ModelProto, NodeProto

from mnist_edge import __version__
from mnist_edge.contract import OPSET

SCOPES: Final = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter keeps the modules that a node is in, outermost first, and its operation (torch 2.14)."""

MODEL: Final = "model."
"""What torch puts before the names of our wrapper's one submodule."""


def name_layers(model: ModelProto) -> None:
    """Rename all nodes, computed values and constants, and sort the constants by their first use."""
    graph = model.graph
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken = {*names.values(), ""}
    for key in constants:
        if key.startswith(MODEL):
            names[key] = _unique(key.removeprefix(MODEL), taken)
    modules = [_module(node) for node in graph.node]
    shared = Counter(modules)
    for node, module in zip(graph.node, modules, strict=True):
        stands_for_it = module and (shared[module] == 1 or f"{MODEL}{module}.weight" in node.input)
        node.name = _unique(module if stands_for_it else "/".join(filter(None, (module, node.op_type))), taken)
        for number, output in enumerate(node.output):
            if output and output not in names:
                names[output] = _unique(f"{node.name}.{number}", taken) if number else node.name
        for number, value in enumerate(node.input):
            if value in constants and value not in names:
                names[value] = _unique(f"{node.name}/{_argument(node, number)}", taken)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    used = dict.fromkeys(name for node in graph.node for name in node.input)
    renamed = {names[key]: tensor for key, tensor in constants.items() if key in names}
    ordered = [renamed[name] for name in used if name in renamed]
    for name, tensor in renamed.items():
        tensor.name = name
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in ordered]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def describe(model: ModelProto) -> None:
    """Add what a viewer shows beside the names: the shapes of computed values, and who made the file.

    The number of images stays open, without a name: tract refuses to fix one that the file has named.
    """
    values = onnx.shape_inference.infer_shapes(_of_onnx_alone(model), strict_mode=True, data_prop=True).graph.value_info
    told = [value for value in values if value.type.tensor_type.HasField("shape")]
    for value in told:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.Clear()
    del model.graph.value_info[:]
    model.graph.value_info.extend(told)
    model.producer_name, model.producer_version = "mnist-edge", __version__


def _of_onnx_alone(model: ModelProto) -> ModelProto:
    """The same shapes, with products of floats for onnxruntime's products with bytes, which onnx does not know."""
    plain: ModelProto = ModelProto.FromString(model.SerializeToString())
    for node in plain.graph.node:
        if node.op_type == "MatMulNBits":
            sides = {each.name: each.i for each in node.attribute}
            weights = f"{node.input[1]}/floats"
            dims = [sides["K"], sides["N"]]
            plain.graph.input.append(onnx.helper.make_tensor_value_info(weights, onnx.TensorProto.FLOAT, dims))
            node.CopyFrom(onnx.helper.make_node("MatMul", [node.input[0], weights], node.output))
    return plain


def _module(node: NodeProto) -> str:
    """The path of the module that a node belongs to; empty for the model itself, and if it is not known."""
    told = next((each.value for each in node.metadata_props if each.key == SCOPES), "['']")
    *modules, _ = ast.literal_eval(told)
    innermost = str(modules[-1]) if modules else ""
    return innermost.removeprefix(MODEL) if innermost.startswith(MODEL) else ""


def _argument(node: NodeProto, number: int) -> str:
    """What the operator's definition calls an input."""
    arguments = onnx.defs.get_schema(node.op_type, OPSET, node.domain).inputs
    return str(arguments[min(number, len(arguments) - 1)].name)


def _unique(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
