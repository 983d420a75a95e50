"""The one way from JSON to a record and back. What is read here may come from anybody."""

from typing import Any, Final, TypeVar

import msgspec

from mnist_edge.errors import ModelFormatError

MOST: Final = 2**24
"""Bytes of JSON; a training of a thousand epochs has 300,000."""

Record = TypeVar("Record")


class _Versioned(msgspec.Struct):
    version: int = 0


def decode(content: bytes | str, kind: type[Record], where: str, remedy: str) -> Record:
    """A record from JSON, which must hold what the record's type says. NaN, Infinity and deep nesting are no JSON here.

    Args:
        content: the JSON.
        kind: the type.
        where: what the content is called in messages.
        remedy: what to do where it is of no use.

    Raises:
        ModelFormatError: it is of no use.
    """
    if len(content) > MOST:
        raise ModelFormatError(f"{where}: {len(content):,} bytes of JSON, at most {MOST:,} are read: {remedy}")
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        what = "malformed" if isinstance(error, msgspec.ValidationError) else "not JSON"
        raise ModelFormatError(f"{where}: {what} ({error}): {remedy}") from error


def decode_version(content: bytes | str, kind: type[Record], version: int, where: str, remedy: str) -> Record:
    """The same for a record that says its version: one of another version is refused in so many words."""
    found = version_of(content, where, remedy)
    if found < version:
        raise ModelFormatError(f"{where}: made by mnist-edge 0.1.0: {remedy}")
    if found > version:
        raise ModelFormatError(f"{where}: of version {found}, this mnist-edge reads {version}: upgrade it, or {remedy}")
    return decode(content, kind, where, remedy)


def version_of(content: bytes | str, where: str, remedy: str) -> int:
    """The version that a record says; 0 where it says none. Raises ModelFormatError as `decode` does."""
    return decode(content, _Versioned, where, remedy).version


def encode(record: object) -> bytes:
    """A record on one line of JSON: the same record always gives the same bytes."""
    return msgspec.json.encode(record)


def encode_indented(record: object) -> bytes:
    """A record as JSON that people can read, the way a bundle's files hold it."""
    return msgspec.json.format(encode(record), indent=2) + b"\n"


def plain(record: object) -> Any:
    """A record as the dictionaries, lists and values that its JSON holds; what is not finite becomes None."""
    return msgspec.json.decode(encode(record))
