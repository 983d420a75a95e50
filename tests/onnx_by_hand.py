"""ONNX files that no exporter writes, encoded by hand: the tests of the runtime have no `onnx`.

Field numbers are those of onnx.proto.
"""

import struct

UINT8, FLOAT, INT32, INT64, BOOL = 2, 1, 6, 7, 9


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers as protobuf has them
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message of these (number, value) fields."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += _varint(number << 3) + _varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            encoded += _varint(number << 3 | 2) + _varint(len(content)) + content
    return encoded


def tensor(name: str, kind: int, shape: list[int], content: bytes) -> bytes:
    """A TensorProto with raw data."""
    return message(*((1, size) for size in shape), (2, kind), (8, name), (9, content))


def value(name: str, kind: int, shape: list[int | str]) -> bytes:
    """A ValueInfoProto."""
    dimensions = message(*((1, message((1 if isinstance(size, int) else 2, size))) for size in shape))
    return message((1, name), (2, message((1, message((1, kind), (2, dimensions))))))


def attribute(name: str, kind: int, field: int, content: int | bytes) -> bytes:
    """An AttributeProto of the given AttributeType, with its content in the given field."""
    return message((1, name), (field, content), (20, kind))


def node(operator: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    """A NodeProto."""
    return message(
        *((1, name) for name in inputs),
        *((2, name) for name in outputs),
        (4, operator),
        *((5, each) for each in attributes),
    )


def graph(nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], tensors: list[bytes]) -> bytes:
    """A GraphProto."""
    parts = ((1, nodes), (5, tensors), (11, inputs), (12, outputs))
    return message((2, "graph"), *((number, each) for number, found in parts for each in found))


def model(nodes: list[bytes], tensors: list[bytes]) -> bytes:
    """A ModelProto from uint8 ``image`` [N, 1, 28, 28] to float ``logits`` [N, 10], as the contract promises."""
    whole = graph(nodes, [value("image", UINT8, ["N", 1, 28, 28])], [value("logits", FLOAT, ["N", 10])], tensors)
    return message((1, 8), (7, whole), (8, message((1, ""), (2, 18))))


def ints(*numbers: int) -> bytes:
    """The raw data of an int64 tensor."""
    return struct.pack(f"<{len(numbers)}q", *numbers)


def honest(hidden: int = 0) -> bytes:
    """The sum of each image's pixels in each of ten columns, the same with a layer of so many more zeros between."""
    if hidden:
        wide = [1.0] + [0.0] * (hidden - 1)
        first = tensor("first", FLOAT, [784, hidden], struct.pack(f"<{hidden}f", *wide) * 784)
        second = tensor("second", FLOAT, [hidden, 10], struct.pack("<10f", *[1.0] * 10) * hidden)
        layers = [node("MatMul", ["flat", "first"], ["wide"]), node("MatMul", ["wide", "second"], ["logits"])]
        return model([*_FLAT, *layers], [*_SHAPE, first, second])
    weights = tensor("weights", FLOAT, [784, 10], struct.pack("<7840f", *[1.0] * 7840))
    return model([*_FLAT, node("MatMul", ["flat", "weights"], ["logits"])], [*_SHAPE, weights])


def twice_as_many_rows() -> bytes:
    """Declares [N, 10] and returns [2 N, 10]."""
    weights = tensor("weights", FLOAT, [784, 20], bytes(4 * 784 * 20))
    rows = tensor("rows", INT64, [2], ints(-1, 10))
    wide = node("MatMul", ["flat", "weights"], ["wide"])
    return model([*_FLAT, wide, node("Reshape", ["wide", "rows"], ["logits"])], [*_SHAPE, weights, rows])


def endless() -> bytes:
    """A Loop of 2⁶³ - 1 rounds."""
    inside = graph(
        [node("Identity", ["going"], ["on"]), node("Add", ["sum", "one"], ["more"])],
        [value("round", INT64, []), value("going", BOOL, []), value("sum", FLOAT, ["N", 10])],
        [value("on", BOOL, []), value("more", FLOAT, ["N", 10])],
        [],
    )
    loop = node("Loop", ["rounds", "yes", "start"], ["logits"], attribute("body", 5, 6, inside))
    weights = tensor("weights", FLOAT, [784, 10], bytes(4 * 7840))
    return model(
        [*_FLAT, node("MatMul", ["flat", "weights"], ["start"]), loop],
        [
            *_SHAPE,
            weights,
            tensor("rounds", INT64, [], ints((1 << 63) - 1)),
            tensor("yes", BOOL, [], b"\1"),
            tensor("one", FLOAT, [], struct.pack("<f", 1)),
        ],
    )


def of_megabytes(count: int) -> bytes:
    """Spreads one number over so many megabytes."""
    shape = tensor("wide", INT64, [2], ints(count, 250_000))
    spread = node("Expand", ["one", "wide"], ["logits"])
    return model([spread], [shape, tensor("one", FLOAT, [1, 1], struct.pack("<f", 1))])


def divides(*, while_loading: bool) -> bytes:
    """Divides the smallest int32 by -1, which x86 answers with SIGFPE."""
    least = tensor("least", INT32, [1, 10], struct.pack("<10i", *[-(1 << 31)] * 10))
    minus = tensor("minus", INT32, [1, 10], struct.pack("<10i", *[-1] * 10))
    if while_loading:  # onnxruntime computes what is constant then
        nodes = [node("Div", ["least", "minus"], ["whole"])]
    else:
        nodes = [
            *_FLAT,
            node("ReduceMin", ["flat", "axis"], ["row"]),
            node("Cast", ["row"], ["int"], attribute("to", 2, 3, INT32)),
            node("Sub", ["int", "int"], ["zeros"]),
            *(node("Add", ["zeros", name], [f"{name} each"]) for name in ("least", "minus")),
            node("Div", ["least each", "minus each"], ["whole"]),
        ]
    tensors = [*_SHAPE, least, minus, tensor("axis", INT64, [1], ints(1))]
    return model([*nodes, node("Cast", ["whole"], ["logits"], attribute("to", 2, 3, FLOAT))], tensors)


_SHAPE = [tensor("shape", INT64, [2], ints(-1, 784))]
_FLAT = [
    node("Cast", ["image"], ["pixels"], attribute("to", 2, 3, FLOAT)),
    node("Reshape", ["pixels", "shape"], ["flat"]),
]
