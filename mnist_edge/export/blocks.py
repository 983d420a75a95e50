"""Let the first convolution of a quantized graph read four pixels at a time, as if they were channels.

onnxruntime's fast kernels for int8 convolutions take input channels in fours. For grey pixels it gathers every window
byte by byte instead, which took a third of the time of a small network. But a row of 28 bytes is also 7 blocks of 4. A
kernel over whole blocks, one for each of the four places that an output can have in its block, gives the same sums with
more weights, most of them zero. With channels last neither pixels nor results move in memory: onnxruntime drops the
Transposes, and the Reshapes cost next to nothing.

``scripts/measure_floor.py`` measures what it gains. The logits are the same, bit for bit.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from mnist_edge.contract import HEIGHT, INPUT_NAME, WIDTH
from mnist_edge.errors import ModelFormatError
from mnist_edge.export.onnx_graph import initializers
from mnist_edge.export.qdq import BIAS, SCALE, WEIGHT

BLOCK: Final = 4
"""Pixels in a block. The fast kernels (``MlasConvSymPackWSize`` in onnxruntime 1.32) take input channels in fours."""

OUTPUTS: Final = 16
"""They take output channels in groups of so many."""

BLOCKS: Final = f"{INPUT_NAME}/blocks"
CHANNELS: Final = f"{INPUT_NAME}/channels"

CONTRADICTION: Final = "its first convolution contradicts itself: export it again"

Constants = dict[str, NDArray[Any]]


def widen(model: ModelProto) -> ModelProto:
    """Let the first convolution read blocks, if it can; otherwise return the model as it is.

    It can if it alone reads the pixels, in steps of 1, and has as many columns and outputs as blocks need.

    Args:
        model: from `mnist_edge.export.qdq.Graph`.
    """
    nodes, constants = _parts(model)
    start = _start(nodes, INPUT_NAME)
    if start is None:
        return model
    read, conv, store = start
    kernel, (top, left, bottom, right) = constants[conv.name + WEIGHT], _pads(conv)
    outputs, _, height, width = kernel.shape
    rows, columns = HEIGHT + top + bottom - height + 1, WIDTH + left + right - width + 1
    if columns % BLOCK or BLOCK * outputs % OUTPUTS:
        return model
    wide = widened(kernel, left)
    constants[conv.name + WEIGHT] = wide
    for name in {conv.name + SCALE, conv.name + BIAS} & constants.keys():
        constants[name] = np.tile(constants[name], BLOCK)
    before = _blocks_before(left)
    _set_pads(conv, (top, before, bottom, (columns - WIDTH) // BLOCK + wide.shape[3] - 1 - before))

    result = store.output[0]
    read.input[0], store.name, store.output[0] = CHANNELS, f"{result}/blocks", f"{result}/blocks"
    place = 1 + nodes.index(store)
    nodes[place:place] = [
        _transpose(f"{result}/blocks", f"{result}/rows", (0, 2, 3, 1)),
        helper.make_node("Reshape", [f"{result}/rows", f"{result}/shape"], [f"{result}/pixels"], f"{result}/pixels"),
        _transpose(f"{result}/pixels", result, (0, 3, 1, 2)),
    ]
    nodes[:0] = [
        helper.make_node("Reshape", [INPUT_NAME, f"{BLOCKS}/shape"], [BLOCKS], BLOCKS),
        _transpose(BLOCKS, CHANNELS, (0, 3, 1, 2)),
    ]
    constants[f"{BLOCKS}/shape"] = np.array([0, HEIGHT, WIDTH // BLOCK, BLOCK])
    constants[f"{result}/shape"] = np.array([0, rows, columns, outputs])
    return _with(model, nodes, constants)


def widened(kernel: NDArray[np.int8], left: int) -> NDArray[np.int8]:
    """A kernel over blocks, for each place in a block: [4 · outputs, 4, height, blocks].

    Args:
        kernel: [outputs, 1, height, width].
        left: how many columns are padded on the left.
    """
    outputs, _, height, width = kernel.shape
    before = _blocks_before(left)
    blocks = 1 + before + (BLOCK - 1 - left + width - 1) // BLOCK
    wide = np.zeros((BLOCK, outputs, height, BLOCK * blocks), kernel.dtype)
    for place in range(BLOCK):
        start = BLOCK * before + place - left
        wide[place, ..., start : start + width] = kernel[:, 0]
    return wide.reshape(BLOCK * outputs, height, blocks, BLOCK).transpose(0, 3, 1, 2)


def narrow(model: ModelProto, extent: tuple[int, int] | None = None) -> ModelProto:
    """Undo `widen`: return the plain graph, or the model as it is if it was not widened.

    Args:
        model: from `widen`, perhaps changed.
        extent: how many columns are padded on the left, and the kernel's width. If it is not known, outer columns of
            zeros are left out as far as that saves no block.

    Raises:
        ModelFormatError: it was changed so that its weights contradict each other.
    """
    nodes, constants = _parts(model)
    start = _start(nodes, CHANNELS)
    if start is None:
        return model
    read, conv, store = start
    result = store.output[0].removesuffix("/blocks")
    shape, wide = (constants.get(name, np.zeros(0)) for name in (f"{result}/shape", conv.name + WEIGHT))
    if shape.shape != (4,) or wide.ndim != 4:
        raise ModelFormatError(CONTRADICTION)
    columns, outputs = int(shape[2]), len(wide) // BLOCK
    top, before, bottom, _ = _pads(conv)
    # What the first output of a block could see.
    seen = wide[:outputs].transpose(0, 2, 3, 1).reshape(outputs, 1, wide.shape[2], -1)
    left, width = extent or _extent(seen, before, columns)
    constants[conv.name + WEIGHT] = seen[..., BLOCK * before - left :][..., :width]
    for name in {conv.name + SCALE, conv.name + BIAS} & constants.keys():
        constants[name] = constants[name][:outputs]
    _set_pads(conv, (top, left, bottom, columns - WIDTH - left + width - 1))
    read.input[0], store.name, store.output[0] = INPUT_NAME, result, result
    added = [f"{result}/rows", f"{result}/pixels", BLOCKS, CHANNELS]
    plain = [node for node in nodes if node is store or (node.name not in added and node.name != result)]
    kept = {name: value for name, value in constants.items() if name not in (f"{BLOCKS}/shape", f"{result}/shape")}
    narrowed = _with(model, plain, kept)
    if _essence(widen(narrowed)) != _essence(model):
        raise ModelFormatError(CONTRADICTION)
    return narrowed


def extent_of(layer: NodeProto, weights: Mapping[str, NDArray[Any]]) -> tuple[int, int] | None:
    """The `extent` of a float32 graph's first layer; None if that is no convolution."""
    if layer.op_type != "Conv":
        return None
    return _pads(layer)[1], weights[layer.input[1]].shape[3]


def _extent(seen: NDArray[np.int8], before: int, columns: int) -> tuple[int, int]:
    """The left padding and the width of the narrowest kernel that needs as many blocks, and no negative padding."""
    used = np.flatnonzero(seen.any(axis=(0, 1, 2)))
    origin, blocks = BLOCK * before, seen.shape[3] // BLOCK
    start = min(*used, origin, BLOCK - 1)
    end = max(*(used + 1), origin + WIDTH + 1 - columns, BLOCK * (blocks - 1) - 2)
    return int(origin - start), int(end - start)


def _start(nodes: list[NodeProto], source: str) -> list[NodeProto] | None:
    """The nodes that read bytes, convolve them and store bytes, if nothing else reads what is between; None if not."""
    found: list[NodeProto] = []
    for kind in ("DequantizeLinear", "Conv", "QuantizeLinear"):
        readers = [node for node in nodes if source in node.input]
        if [(node.op_type, node.input[0]) for node in readers] != [(kind, source)]:
            return None
        found += readers
        source = readers[0].output[0]
    _, conv, _ = found
    return found if {attribute.name for attribute in conv.attribute} <= {"pads"} else None


def _blocks_before(left: int) -> int:
    return -(-left // BLOCK)


def _pads(conv: NodeProto) -> tuple[int, ...]:
    """Top, left, bottom, right."""
    return next((tuple(attribute.ints) for attribute in conv.attribute if attribute.name == "pads"), (0, 0, 0, 0))


def _set_pads(conv: NodeProto, pads: tuple[int, ...]) -> None:
    del conv.attribute[:]
    if any(pads):
        conv.attribute.append(helper.make_attribute("pads", pads))


def _transpose(value: str, name: str, axes: tuple[int, ...]) -> NodeProto:
    return helper.make_node("Transpose", [value], [name], name, perm=axes)


def _parts(model: ModelProto) -> tuple[list[NodeProto], Constants]:
    """Copies of a graph's nodes, and its constants."""
    return [NodeProto.FromString(node.SerializeToString()) for node in model.graph.node], initializers(model)


def _with(model: ModelProto, nodes: list[NodeProto], constants: Constants) -> ModelProto:
    """A copy of a model with other nodes and constants."""
    copied = ModelProto()
    copied.CopyFrom(model)
    for old, new in (
        (copied.graph.node, nodes),
        (copied.graph.initializer, [numpy_helper.from_array(value, name) for name, value in constants.items()]),
    ):
        del old[:]
        old.extend(new)
    return copied


def _essence(model: ModelProto) -> tuple[list[bytes], dict[str, tuple[Any, ...]]]:
    """What a graph computes: its nodes, and its constants in any order."""
    constants = {name: (value.dtype, value.shape, value.tobytes()) for name, value in initializers(model).items()}
    return [node.SerializeToString(deterministic=True) for node in model.graph.node], constants
