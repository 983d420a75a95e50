"""An ``.onnx`` file as typed objects, with nothing in it but what files of ours have.

The schemas hold the fields of onnx.proto3 (onnx 1.18) that exporters write. What is not in them is refused; of what
other files often have, they say what it is.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from mnist_edge.runtime.onnx_file.wire import Field, MalformedError, Schema, parse


class Images(NamedTuple):
    """A side that is a multiple of the number of images."""

    times: int

    before: int = 1
    """How many of them stand before the images: in a side of ``before`` × images × rest, the rest is the fastest."""


Dims = tuple[int | Images, ...]
"""The sides of a tensor."""


def described(dims: Sequence[int | Images | None]) -> str:
    """A shape in words: ``[N, 1, 28, 28]``."""
    sides = ["N" if side is None else f"{side.times}·N" if isinstance(side, Images) else side for side in dims]
    return f"[{', '.join(map(str, sides))}]".replace("1·N", "N")


FLOAT, UINT8, INT8, INT32, INT64, BOOL = 1, 2, 3, 6, 7, 9
"""TensorProto.DataType."""

ITEM_SIZES: Final = {FLOAT: 4, UINT8: 1, INT8: 1, INT32: 4, INT64: 8, BOOL: 1}
"""Bytes of an element; other types are not written."""

MOST_SIDES: Final = 8
"""Of a tensor. The attention of a Swin transformer needs six."""

LONGEST_SIDE: Final = 2**31 - 1
"""So products of two sides, or of numbers in shapes, do not wrap in 64 bits."""

MOST_VALUES: Final = 64
"""Elements of a tensor of integers or floats that is read, as those that hold shapes, axes and scales."""

_TENSOR: Final[Schema] = {
    1: Field("dims", "int", repeated=True),
    2: Field("data_type", "int"),
    8: Field("name", "text"),
    9: Field("raw_data", "bytes"),
    12: Field("doc_string", "empty"),
    13: Field("weights in another file", "refused"),
    14: Field("weights in another file", "refused"),
}
_ATTRIBUTE: Final[Schema] = {
    1: Field("name", "text"),
    2: Field("f", "float"),
    3: Field("i", "int"),
    4: Field("s", "text"),
    5: Field("an attribute that is a tensor", "refused"),
    6: Field("a graph inside a node", "refused"),
    7: Field("floats", "float", repeated=True),
    8: Field("ints", "int", repeated=True),
    9: Field("strings", "text", repeated=True),
    11: Field("a graph inside a node", "refused"),
    20: Field("type", "int"),
}
_NODE: Final[Schema] = {
    1: Field("input", "text", repeated=True),
    2: Field("output", "text", repeated=True),
    3: Field("name", "text"),
    4: Field("op_type", "text"),
    5: Field("attribute", _ATTRIBUTE, repeated=True),
    6: Field("doc_string", "empty"),
    7: Field("domain", "text"),
}
_DIMENSION: Final[Schema] = {1: Field("dim_value", "int"), 2: Field("dim_param", "text")}
_SHAPE: Final[Schema] = {1: Field("dim", _DIMENSION, repeated=True)}
_TENSOR_TYPE: Final[Schema] = {1: Field("elem_type", "int"), 2: Field("shape", _SHAPE)}
_VALUE: Final[Schema] = {
    1: Field("name", "text"),
    2: Field("type", {1: Field("tensor_type", _TENSOR_TYPE)}),
    3: Field("doc_string", "empty"),
}
_GRAPH: Final[Schema] = {
    1: Field("node", _NODE, repeated=True),
    2: Field("name", "text"),
    5: Field("initializer", _TENSOR, repeated=True),
    10: Field("doc_string", "empty"),
    11: Field("input", _VALUE, repeated=True),
    12: Field("output", _VALUE, repeated=True),
    13: Field("value_info", _VALUE, repeated=True),
    15: Field("a sparse tensor", "refused"),
}
_ENTRY: Final[Schema] = {1: Field("key", "text"), 2: Field("value", "text")}
_OPSET: Final[Schema] = {1: Field("domain", "text"), 2: Field("version", "int")}
_MODEL: Final[Schema] = {
    1: Field("ir_version", "int"),
    2: Field("producer_name", "text"),
    3: Field("producer_version", "text"),
    4: Field("domain", "empty"),
    5: Field("model_version", "int"),
    6: Field("doc_string", "empty"),
    7: Field("graph", _GRAPH),
    8: Field("opset_import", _OPSET, repeated=True),
    14: Field("metadata_props", _ENTRY, repeated=True),
    20: Field("graphs for training", "refused"),
    25: Field("a function", "refused"),
}

_ATTRIBUTE_TYPES: Final = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints", 8: "strings"}

Attribute = int | float | str | list[int] | list[float] | list[str]


class Tensor(Struct, frozen=True):
    """An initializer, or what is known of a computed value."""

    type: int
    """One of `ITEM_SIZES`."""

    dims: Dims
    values: tuple[float | Images, ...] | None = None
    """The elements of a small tensor of int64 or float32, in order, if they do not depend on what is on the images."""

    @property
    def depends_on_their_number(self) -> bool:
        """Whether an element is a multiple of the number of images."""
        return any(isinstance(value, Images) for value in self.values or ())

    @property
    def images(self) -> int:
        """How many sides are multiples of the number of images."""
        return sum(isinstance(side, Images) for side in self.dims)

    @property
    def elements(self) -> int:
        """The number of elements per image; all of them if none depends on an image."""
        return math.prod(side.times if isinstance(side, Images) else side for side in self.dims)


class Declared(Struct, frozen=True):
    """What a file says of a value. The sides are those of a `Tensor`; None stands for any."""

    type: int
    dims: tuple[int | None, ...]

    def fits(self, tensor: Tensor) -> bool:
        """Whether a tensor is as it was declared."""
        sides = zip(self.dims, tensor.dims, strict=False)
        same = len(self.dims) == len(tensor.dims) and all(told in (None, side) for told, side in sides)
        return self.type == tensor.type and same


class Node(Struct, frozen=True):
    """An operation."""

    name: str
    operator: str
    """With its domain, if that is not ONNX's own: ``Conv``, ``com.microsoft.MatMulNBits``."""

    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute]


class OnnxModel(Struct, frozen=True):
    """The content of an ``.onnx`` file."""

    ir_version: int
    opsets: dict[str, int]
    """By domain; ONNX's own is empty."""

    metadata: dict[str, str]
    nodes: list[Node]
    initializers: dict[str, Tensor]
    inputs: dict[str, Declared]
    outputs: dict[str, Declared]
    declared: dict[str, Declared]
    """What the file says of computed values; not to be relied on."""


def read_model(data: bytes) -> OnnxModel:
    """Read a file's content. Raises MalformedError if there is anything in it that is not in the schemas."""
    found = parse(memoryview(data), _MODEL)
    graph = _required(found, "graph")
    return OnnxModel(
        ir_version=found.get("ir_version", 0),
        opsets=_unique([(each.get("domain", ""), each.get("version", 0)) for each in found.get("opset_import", [])]),
        metadata=_unique([(each.get("key", ""), each.get("value", "")) for each in found.get("metadata_props", [])]),
        nodes=[_node(each) for each in graph.get("node", [])],
        initializers=_unique([(each.get("name", ""), _initializer(each)) for each in graph.get("initializer", [])]),
        inputs=_values(graph, "input"),
        outputs=_values(graph, "output"),
        declared=_values(graph, "value_info"),
    )


def _required(message: Mapping[str, Any], field: str) -> Any:
    if field not in message:
        raise MalformedError(f"no {field}")
    return message[field]


def _unique(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(entries)
    if len(named) < len(entries):
        raise MalformedError("a name that is there twice")
    return named


def _node(message: Mapping[str, Any]) -> Node:
    operator, domain = message.get("op_type", ""), message.get("domain", "")
    attributes = _unique([(each.get("name", ""), _attribute(each)) for each in message.get("attribute", [])])
    return Node(
        name=message.get("name", ""),
        operator=f"{domain}.{operator}" if domain else operator,
        inputs=message.get("input", []),
        outputs=message.get("output", []),
        attributes=attributes,
    )


def _attribute(message: Mapping[str, Any]) -> Attribute:
    field = _ATTRIBUTE_TYPES.get(message.get("type", 0), "")
    if {*message} - {"name", "type", field}:
        raise MalformedError("an attribute that is not of its type")
    value: Attribute = message.get(field, {"f": 0.0, "i": 0, "s": ""}.get(field, []))
    return value


def _values(graph: Mapping[str, Any], field: str) -> dict[str, Declared]:
    return _unique([(each.get("name", ""), _value(each)) for each in graph.get(field, [])])


def _value(message: Mapping[str, Any]) -> Declared:
    described = _required(_required(message, "type"), "tensor_type")
    dims = [side.get("dim_value") for side in _required(described, "shape").get("dim", [])]
    _check_dims([side for side in dims if side is not None])
    return Declared(_type(described.get("elem_type", 0)), tuple(dims))


def _initializer(message: Mapping[str, Any]) -> Tensor:
    kind = _type(message.get("data_type", 0))
    dims = tuple(message.get("dims", ()))
    _check_dims(dims)
    data = message.get("raw_data", b"")
    count = math.prod(dims)
    if len(data) != count * ITEM_SIZES[kind]:
        raise MalformedError(f"{message.get('name', '')!r:.80}: its bytes do not fill its shape")
    letter = {INT64: "q", FLOAT: "f"}.get(kind)
    known = letter is not None and count <= MOST_VALUES
    return Tensor(kind, dims, struct.unpack(f"<{count}{letter}", data) if known else None)


def _type(number: int) -> int:
    if number not in ITEM_SIZES:
        raise MalformedError(f"a tensor of type {number}")
    return number


def _check_dims(dims: Sequence[int]) -> None:
    if len(dims) > MOST_SIDES or not all(0 < side <= LONGEST_SIDE for side in dims):
        raise MalformedError(f"a shape of {[*dims]!s:.80}")
