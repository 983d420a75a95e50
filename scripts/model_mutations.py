"""Ways to damage or forge an exported ``.onnx`` file, for `fuzz_models`. Every result gets a valid checksum again."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from mnist_edge.bundle.checksum import UNSET_CHECKSUM, with_checksum
from mnist_edge.contract import CHECKSUM_KEY, CONTRACT_KEY, GOLDEN_KEY

Mutated = tuple[bytes, str]
"""A file's content, and what was done to it."""

NUMBERS: Final = (0, 1, -1, 2, 3, 7, 255, 256, 1 << 15, 1 << 20, -(1 << 31), (1 << 31) - 1, 1 << 32, (1 << 63) - 1)
SMALLEST: Final = -(1 << 63)
FLOATS: Final = (0.0, -0.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
TYPES: Final = tuple(TensorProto.DataType.values())
OPERATORS: Final = sorted({schema.name for schema in onnx.defs.get_all_schemas()})


def mutated(index: int, seed: int, bases: dict[str, bytes]) -> Mutated:
    """The mutation of that index, always the same one."""
    chance = random.Random(f"{seed}/{index}")  # noqa: S311  # nothing is secret
    name = chance.choice(sorted(bases))
    base = bases[name]
    kind = chance.choices([_of_bytes, _of_structure, _forged], [3, 6, 1])[0]
    data, does = kind(chance, base)
    if kind is _of_structure and chance.random() < 0.2:  # several at once
        try:
            data, more = _of_structure(chance, data)
        except Exception:  # noqa: BLE001  # what the first has left cannot be parsed any more
            more = "nothing else"
        does = f"{does}; {more}"
    return sealed(data), f"{name}: {does}"


def sealed(data: bytes) -> bytes:
    """The content with the checksum that belongs to it, if it has a place for one."""
    entry = CHECKSUM_KEY.encode() + b"\x12\x40"
    start = data.find(entry) + len(entry)
    if start < len(entry) or len(data) < start + len(UNSET_CHECKSUM):
        return data
    return with_checksum(data[:start] + UNSET_CHECKSUM.encode() + data[start + len(UNSET_CHECKSUM) :])


def _of_bytes(chance: random.Random, base: bytes) -> Mutated:
    data = bytearray(base)
    # Where there are no weights: a changed weight is only another model.
    place = chance.randrange(min(len(data), 3000)) if chance.random() < 0.7 else chance.randrange(len(data))
    size = chance.choice((1, 2, 4, 16, 256))
    match chance.randrange(6):
        case 0:
            for _ in range(size):
                data[chance.randrange(len(data)) if size > 4 else place] ^= 1 << chance.randrange(8)
            return bytes(data), f"{size} bits flipped at {place} or anywhere"
        case 1:
            del data[place:]
            return bytes(data), f"cut off at {place}"
        case 2:
            del data[place : place + size]
            return bytes(data), f"{size} bytes left out at {place}"
        case 3:
            data[place:place] = data[place : place + size]
            return bytes(data), f"{size} bytes repeated at {place}"
        case 4:
            data[place : place + size] = chance.randbytes(size)
            return bytes(data), f"{size} random bytes at {place}"
        case _:
            data[place:place] = bytes([*[0xFF] * chance.randrange(1, 10), 0x7F])
            return bytes(data), f"a long number at {place}"


def _of_structure(chance: random.Random, base: bytes) -> Mutated:
    model = onnx.load_from_string(base)
    change = chance.choice(
        (_node, _node, _attribute, _attribute, _attribute, _initializer, _initializer, _value, _metadata, _versions)
    )
    does = change(chance, model)
    data = model.SerializeToString()
    if chance.random() < 0.05:  # protobuf merges what is repeated
        extra = ModelProto(graph=onnx.GraphProto(node=[chance.choice(model.graph.node)])).SerializeToString()
        return data + extra, f"{does}; a second graph field"
    return data, does


def _node(chance: random.Random, model: ModelProto) -> str:  # noqa: PLR0911  # one for each case
    nodes = model.graph.node
    at = chance.randrange(len(nodes))
    node = nodes[at]
    names = [name for each in nodes for name in (*each.input, *each.output)]
    what = f"node {at} {node.op_type}"
    match chance.randrange(7):
        case 0:
            node.op_type = chance.choice(OPERATORS)
            return f"{what}: becomes {node.op_type}"
        case 1:
            node.domain = chance.choice(("com.microsoft", "ai.onnx.ml", "nowhere", "com.microsoft.nchwc"))
            return f"{what}: of domain {node.domain}"
        case 2:
            del nodes[at]
            return f"{what}: left out"
        case 3:
            nodes.append(node)
            return f"{what}: twice"
        case 4 if node.input:
            place = chance.randrange(len(node.input))
            node.input[place] = chance.choice([*names, "", "nowhere"])
            return f"{what}: input {place} is {node.input[place]!r}"
        case 5 if node.input:
            del node.input[chance.randrange(len(node.input)) :]
            return f"{what}: has {len(node.input)} inputs"
        case _:
            node.output[0] = chance.choice([*names, "", "logits"])
            return f"{what}: output is {node.output[0]!r}"


def _attribute(chance: random.Random, model: ModelProto) -> str:  # noqa: PLR0911  # one for each case
    owners = [node for node in model.graph.node if node.attribute]
    node = chance.choice(owners or list(model.graph.node))
    number = chance.choice((*NUMBERS, SMALLEST))
    if not node.attribute or chance.random() < 0.1:
        name = chance.choice(("axis", "keepdims", "to", "perm", "group", "bits", "block_size", "K", "N", "ceil_mode"))
        node.attribute.append(helper.make_attribute(name, number))
        return f"{node.op_type}: more attribute {name} = {number}"
    attribute = chance.choice(node.attribute)
    what = f"{node.op_type}: attribute {attribute.name}"
    match chance.randrange(5):
        case 0:
            node.attribute.remove(attribute)
            return f"{what} left out"
        case 1:
            attribute.type = chance.choice(AttributeProto.AttributeType.values())
            return f"{what} of type {attribute.type}"
        case 2 if attribute.ints:
            attribute.ints.extend([number] * chance.randrange(1, 9))
            return f"{what} has {len(attribute.ints)} numbers"
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = number
        return f"{what} = {[*attribute.ints]}"
    if attribute.type == AttributeProto.INT:
        attribute.i = number
        return f"{what} = {number}"
    if attribute.type == AttributeProto.TENSOR:
        return f"{what}: {_tensor(chance, attribute.t)}"
    attribute.f = chance.choice(FLOATS)
    attribute.s = chance.choice((b"", b"SAME_UPPER", b"VALID", b"\xff", b"x" * 10_000))
    return f"{what} = {attribute.f} or {attribute.s[:20]!r}"


def _initializer(chance: random.Random, model: ModelProto) -> str:
    tensor = chance.choice(model.graph.initializer)
    return f"initializer {tensor.name}: {_tensor(chance, tensor)}"


def _tensor(chance: random.Random, tensor: TensorProto) -> str:  # noqa: PLR0911  # one for each case
    match chance.randrange(7):
        case 0:
            at = chance.randrange(max(1, len(tensor.dims)))
            number = chance.choice((*NUMBERS, SMALLEST))
            tensor.dims[at:] = [number, *tensor.dims[at + 1 :]]
            return f"dimensions {[*tensor.dims]}"
        case 1:
            tensor.dims.extend([chance.choice(NUMBERS)] * chance.choice((1, 1, 8, 1000)))
            return f"{len(tensor.dims)} dimensions"
        case 2:
            tensor.data_type = chance.choice(TYPES)
            return f"type {tensor.data_type}"
        case 3:
            tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data) + 1)]
            return f"{len(tensor.raw_data)} bytes"
        case 4:
            tensor.raw_data += bytes(chance.choice((1, 4, 1000)))
            return f"{len(tensor.raw_data)} bytes"
        case 5:
            tensor.raw_data = chance.choice((b"\xff", b"\x80", b"\0", b"\x7f")) * len(tensor.raw_data)
            return f"all {tensor.raw_data[:1]!r}"
        case _:
            tensor.float_data.extend(FLOATS)
            return "float_data as well"


def _value(chance: random.Random, model: ModelProto) -> str:
    value = chance.choice([*model.graph.input, *model.graph.output])
    kind = value.type.tensor_type
    match chance.randrange(5):
        case 0:
            kind.elem_type = chance.choice(TYPES)
            return f"{value.name} of type {kind.elem_type}"
        case 1:
            value.name = chance.choice(("image", "logits", "", "nowhere"))
            return f"an end is called {value.name!r}"
        case 2:
            kind.shape.dim.add().dim_value = chance.choice(NUMBERS)
            return f"{value.name} has {len(kind.shape.dim)} dimensions"
        case 3:
            getattr(model.graph, chance.choice(("input", "output"))).append(value)
            return f"{value.name} once more"
        case _:
            at = chance.randrange(len(kind.shape.dim))
            kind.shape.dim[at].dim_value = chance.choice((*NUMBERS, SMALLEST))
            return f"{value.name}: dimension {at} = {kind.shape.dim[at].dim_value}"


def _metadata(chance: random.Random, model: ModelProto) -> str:
    entry = chance.choice(model.metadata_props)
    if chance.random() < 0.2:
        model.metadata_props.remove(entry)
        return f"{entry.key} left out"
    if entry.key in {CONTRACT_KEY, GOLDEN_KEY} and chance.random() < 0.7:
        record = json.loads(entry.value)
        key = chance.choice(sorted(record))
        record[key] = chance.choice(
            (None, 0, -1, 10**400, 1e308, "", "x" * 100_000, [], [[]] * 1000, {}, ["\x1b[2J"] * 2)
        )
        entry.value = json.dumps(record)
        return f"{entry.key}: {key} = {record[key]!r:.30}"
    entry.value = chance.choice(("", "null", "[" * 100_000, '{"count": 1e999}', "\0", entry.value * 2))
    return f"{entry.key} = {entry.value!r:.30}"


def _versions(chance: random.Random, model: ModelProto) -> str:
    if chance.random() < 0.5:
        model.ir_version = chance.choice(NUMBERS)
        return f"IR version {model.ir_version}"
    model.opset_import[0].version = chance.choice((*range(1, 30), *NUMBERS))
    if chance.random() < 0.3:
        model.opset_import.append(helper.make_opsetid(chance.choice(("", "nowhere", "ai.onnx.ml")), 1))
    return f"opsets {[(each.domain, each.version) for each in model.opset_import]}"


def _forged(chance: random.Random, base: bytes) -> Mutated:
    """Another graph under the metadata of an honest file."""
    model = onnx.load_from_string(base)
    name = chance.choice(sorted(GRAPHS))
    nodes, tensors = GRAPHS[name](chance)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensors)
    if name == "function":
        inner = [helper.make_node("F", ["x"], ["y"], domain="nowhere")]  # itself
        model.functions.append(helper.make_function("nowhere", "F", ["x"], ["y"], inner, [helper.make_opsetid("", 18)]))
        model.opset_import.append(helper.make_opsetid("nowhere", 1))
    return model.SerializeToString(), f"graph: {name} {[each.op_type for each in nodes]}"


Graph = tuple[list[NodeProto], list[TensorProto]]


def _int64(name: str, *numbers: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)


def _one(operator: str, inputs: list[str], tensors: list[TensorProto], **attributes: Any) -> Graph:
    """One node between the image as float32 ``x``, and ``logits``."""
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node(operator, inputs, ["y"], **attributes),
        helper.make_node("Cast", ["y"], ["logits"], to=TensorProto.FLOAT),
    ]
    return nodes, tensors


def _loop(chance: random.Random) -> Graph:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["a", "a"], ["b"])],
        "body",
        [helper.make_tensor_value_info(*each, []) for each in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))]
        + [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, None),
        ],
    )
    count = helper.make_tensor("n", TensorProto.INT64, [], [chance.choice((3, (1 << 63) - 1))])
    yes = helper.make_tensor("t", TensorProto.BOOL, [], [True])
    return _one("Loop", ["n", "t", "x"], [count, yes], body=body)


def _nested(chance: random.Random) -> Graph:
    depth = chance.choice((2, 10, 20))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["o"])],
        "g",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
    )
    for _ in range(depth):
        both = {"then_branch": graph, "else_branch": graph} if depth < 10 else {"then_branch": graph}
        graph = helper.make_graph([helper.make_node("If", ["t"], ["o"], **both)], "g", [], graph.output)
    nodes = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT), *graph.node]
    nodes[-1].output[0] = "logits"
    return nodes, [helper.make_tensor("t", TensorProto.BOOL, [], [True])]


def _division(chance: random.Random) -> Graph:
    kind, least = chance.choice(((TensorProto.INT32, -(1 << 31)), (TensorProto.INT64, SMALLEST)))
    tensors = [
        helper.make_tensor("a", kind, [1, 10], [least] * 10),
        helper.make_tensor("b", kind, [1, 10], [chance.choice((0, -1))] * 10),
    ]
    return _one(chance.choice(("Div", "Mod")), ["a", "b"], tensors)


def _numbers(chance: random.Random, count: int) -> list[int]:
    return [chance.choice((*NUMBERS, SMALLEST)) for _ in range(count)]


GRAPHS: Final[dict[str, Callable[[random.Random], Graph]]] = {
    "loop": _loop,
    "nested If": _nested,
    "division": _division,
    "function": lambda chance: (
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("F", ["x"], ["logits"], domain="nowhere"),
        ],
        [],
    ),
    "Expand": lambda chance: _one("Expand", ["x", "s"], [_int64("s", chance.choice(NUMBERS), 1, 28, 28)]),
    "ConstantOfShape": lambda chance: _one("ConstantOfShape", ["s"], [_int64("s", *_numbers(chance, 2))]),
    "Tile": lambda chance: _one("Tile", ["x", "s"], [_int64("s", *_numbers(chance, 4))]),
    "Range": lambda chance: _one(
        "Range",
        ["a", "b", "c"],
        [helper.make_tensor(name, TensorProto.INT64, [], _numbers(chance, 1)) for name in "abc"],
    ),
    "Pad": lambda chance: _one(
        "Pad", ["x", "s"], [_int64("s", *_numbers(chance, 8))], mode=chance.choice(("constant", "reflect", "edge"))
    ),
    "Reshape": lambda chance: _one("Reshape", ["x", "s"], [_int64("s", *_numbers(chance, chance.randrange(1, 5)))]),
    "Slice": lambda chance: _one(
        "Slice", ["x", "a", "b", "c", "d"], [_int64(name, *_numbers(chance, 1)) for name in "abcd"]
    ),
    "Gather": lambda chance: _one(
        "Gather", ["x", "s"], [_int64("s", *_numbers(chance, 2))], axis=chance.randrange(-5, 5)
    ),
    "GatherND": lambda chance: _one("GatherND", ["x", "s"], [_int64("s", *_numbers(chance, 4))]),
    "Resize": lambda chance: _one("Resize", ["x", "", "", "s"], [_int64("s", *_numbers(chance, 4))]),
    "Transpose": lambda chance: _one("Transpose", ["x"], [], perm=_numbers(chance, 4)),
    "MaxPool": lambda chance: _one("MaxPool", ["x"], [], kernel_shape=_numbers(chance, 2), strides=_numbers(chance, 2)),
    "AveragePool": lambda chance: _one("AveragePool", ["x"], [], kernel_shape=[2, 2], pads=_numbers(chance, 4)),
    "Conv": lambda chance: _one(
        "Conv",
        ["x", "w"],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)],
        dilations=_numbers(chance, 2),
        group=chance.choice(NUMBERS),
        pads=_numbers(chance, 4),
        strides=_numbers(chance, 2),
    ),
    "OneHot": lambda chance: _one(
        "OneHot", ["s", "d", "v"], [_int64("s", 0, 1), _int64("d", *_numbers(chance, 1)), _int64("v", 0, 1)]
    ),
    "TopK": lambda chance: _one("TopK", ["x", "s"], [_int64("s", *_numbers(chance, 1))]),
    "Split": lambda chance: _one("Split", ["x", "s"], [_int64("s", *_numbers(chance, 2))], axis=2),
    "CumSum": lambda chance: _one(
        "CumSum", ["x", "s"], [helper.make_tensor("s", TensorProto.INT64, [], _numbers(chance, 1))]
    ),
    "Einsum": lambda chance: _one(
        "Einsum", ["x"], [], equation=chance.choice(("abcd->", "...->", "abcd->aa", "ab->ba", "->"))
    ),
    "BitShift": lambda chance: _one(
        "BitShift", ["a", "a"], [helper.make_tensor("a", TensorProto.UINT64, [1, 10], [255] * 10)], direction="LEFT"
    ),
    "RandomUniform": lambda chance: _one("RandomUniform", [], [], shape=_numbers(chance, 2)),
    "NaN": lambda chance: (
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["x", "s"], ["m"], keepdims=0),
            helper.make_node("Mul", ["m", "w"], ["logits"]),
        ],
        [_int64("s", 2, 3), helper.make_tensor("w", TensorProto.FLOAT, [1, 10], [float("nan")] * 10)],
    ),
}
"""Graphs that ask for time, memory or trouble, by name."""
