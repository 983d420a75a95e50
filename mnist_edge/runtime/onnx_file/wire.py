"""Read protobuf messages from untrusted bytes, as far as a schema describes them and no further.

A message is a series of fields: a tag, which holds the field's number and how its content is encoded, then the content
(https://protobuf.dev/programming-guides/encoding). Protobuf has several spellings for one message, and parsers disagree
about some. Only the one that serializers write is accepted: no unknown field, no field twice that is not repeated, and
no integer of more bytes than it needs. So what is checked here is what another parser sees.
"""

import math
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct

from mnist_edge.bundle.layout import LARGEST_JSON

MOST_FIELDS: Final = 100_000
"""In a file. One has about 25 a node; reading each costs a microsecond or two."""

MOST_TEXT: Final = LARGEST_JSON
"""Bytes of all texts of a file together. Metadata are most of them."""

_VARINT, _LENGTH, _FIXED32 = 0, 2, 5
"""How a field's content is encoded: as an integer of variable length, as a length and bytes, or in four bytes."""


class MalformedError(ValueError):
    """The bytes are not a message of that schema."""


class _Left(Struct):
    """What may still be read of a file."""

    fields: int
    text: int


class Field(NamedTuple):
    """What a schema says of a field."""

    name: str
    kind: str | Mapping[int, "Field"]
    """``"int"`` (64 bits, signed), ``"float"``, ``"text"`` (UTF-8), ``"empty"`` (text that must be empty), ``"bytes"``
    (a view of them), ``"refused"``, or another schema."""

    repeated: bool = False


Schema = Mapping[int, Field]
"""The fields of a message by number."""


def parse(data: memoryview, schema: Schema) -> dict[str, Any]:
    """Read a message.

    Args:
        data: its bytes.
        schema: its fields.

    Returns:
        The fields that it holds, by name: values of repeated ones in lists, nested messages as such dictionaries.

    Raises:
        MalformedError: it is no such message, is spelled unusually, or has more than `MOST_FIELDS` fields.
    """
    return _message(data, 0, len(data), schema, _Left(MOST_FIELDS, MOST_TEXT))


def _message(data: memoryview, at: int, end: int, schema: Schema, left: _Left) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while at < end:
        left.fields -= 1
        if left.fields < 0:
            raise MalformedError(f"more than {MOST_FIELDS:,} fields")
        tag, at = _varint(data, at, end)
        field = schema.get(tag >> 3)
        if field is None:
            raise MalformedError(f"an unknown field beside {schema[1].name}: {tag >> 3}")
        if field.kind == "refused":
            raise MalformedError(field.name)
        value, at = _content(data, at, end, tag & 7, field, left)
        if field.repeated:
            found.setdefault(field.name, []).extend(value)
        elif field.name in found:
            raise MalformedError(f"{field.name}: there twice")
        else:
            found[field.name] = value
    return found


def _content(data: memoryview, at: int, end: int, wire: int, field: Field, left: _Left) -> tuple[Any, int]:
    """What a field holds, of a repeated one a list, and where it ends."""
    value: Any
    if wire == _LENGTH:
        length, at = _varint(data, at, end)
        if length > end - at:
            raise MalformedError(f"{field.name}: cut short")
        return _delimited(data, at, at + length, field, left), at + length
    if wire == _VARINT and field.kind == "int":
        value, at = _varint(data, at, end)
        value = _signed(value)
    elif wire == _FIXED32 and field.kind == "float" and end - at >= 4:
        (value,) = _floats(data[at : at + 4])
        at += 4
    else:
        raise MalformedError(f"{field.name}: of another type")
    return [value] if field.repeated else value, at


def _delimited(data: memoryview, at: int, end: int, field: Field, left: _Left) -> Any:
    """What a length and bytes hold; of a repeated field a list."""
    value: Any
    match field.kind:
        case "int" | "float":  # packed
            if not field.repeated:
                raise MalformedError(f"{field.name}: of another type")
            left.fields -= end - at
            if left.fields < 0:
                raise MalformedError(f"{field.name}: more than {MOST_FIELDS:,} bytes of numbers")
            return _packed_ints(data, at, end) if field.kind == "int" else _floats(data[at:end])
        case "text":
            left.text -= end - at
            if left.text < 0:
                raise MalformedError(f"more than {MOST_TEXT:,} bytes of text")
            try:
                value = str(data[at:end], "utf-8")
            except UnicodeDecodeError as error:
                raise MalformedError(f"{field.name}: not UTF-8") from error
        case "bytes":
            value = data[at:end]
        case "empty":
            if at < end:
                raise MalformedError(f"{field.name}: not empty")
            value = ""
        case schema:
            assert not isinstance(schema, str)
            value = _message(data, at, end, schema, left)
    return [value] if field.repeated else value


def _packed_ints(data: memoryview, at: int, end: int) -> list[int]:
    values = []
    while at < end:
        value, at = _varint(data, at, end)
        values.append(_signed(value))
    return values


def _floats(data: memoryview) -> list[float]:
    if len(data) % 4:
        raise MalformedError("floats: cut short")
    values = [*struct.unpack(f"<{len(data) // 4}f", data)]
    if not all(map(math.isfinite, values)):
        raise MalformedError("a float that is not finite")
    return values


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """The integer that begins at a place, and where it ends."""
    if at < end and data[at] < 0x80:  # nearly all
        return data[at], at + 1
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (byte == 0 and shift) or value >= 2**64:
                raise MalformedError("an integer that is longer than it needs to be")
            return value, at
        shift += 7
    raise MalformedError("cut short, or an integer of more than 64 bits")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
