"""All conversion between JSON and records. The JSON is untrusted input."""

from typing import Any, Final, TypeVar

import msgspec

from mnist_edge.bundle.layout import LARGEST_JSON
from mnist_edge.contract import Version
from mnist_edge.errors import ModelFormatError

LONGEST: Final = 200
"""Characters of what msgspec says is wrong, which may quote the content."""

Record = TypeVar("Record")


class _Versioned(msgspec.Struct):
    version: Version = 0


def decode(content: bytes | str, kind: type[Record], where: str, remedy: str) -> Record:
    """Decode JSON and validate it against a record's type. NaN, Infinity and deep nesting are refused.

    Of repeated keys the last one counts, here as in every reader of Python.

    Args:
        content: the JSON.
        kind: the record's type.
        where: the content's name in error messages.
        remedy: what error messages tell the user to do.

    Raises:
        ModelFormatError: the content is too long, not JSON, or not a record of that type.
    """
    if len(content) > LARGEST_JSON:
        raise ModelFormatError(
            f"{where}: {len(content):,} bytes of JSON, more than the limit of {LARGEST_JSON:,}: {remedy}"
        )
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        what = "malformed" if isinstance(error, msgspec.ValidationError) else "not JSON"
        raise ModelFormatError(f"{where}: {what} ({_in_one_line(str(error))}): {remedy}") from error


def _in_one_line(text: str) -> str:
    """What msgspec says, which may quote the content: without line ends, its beginning and its end."""
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)


def decode_version(content: bytes | str, kind: type[Record], version: int, where: str, remedy: str) -> Record:
    """Decode a record as `decode` does; one of any other version is refused with an error that says so."""
    found = version_of(content, where, remedy)
    if found < version:
        raise ModelFormatError(f"{where}: made by mnist-edge 0.1.0: {remedy}")
    if found > version:
        raise ModelFormatError(
            f"{where}: version {found}, but this mnist-edge reads {version}: upgrade it, or {remedy}"
        )
    return decode(content, kind, where, remedy)


def version_of(content: bytes | str, where: str, remedy: str) -> int:
    """The version that a record states, 0 if none. Raises ModelFormatError as `decode` does."""
    return decode(content, _Versioned, where, remedy).version


def encode(record: object) -> bytes:
    """A record as one line of JSON. The same record always gives the same bytes."""
    return msgspec.json.encode(record)


def encode_indented(record: object) -> bytes:
    """A record as indented JSON, the form used in a bundle's files."""
    return msgspec.json.format(encode(record), indent=2) + b"\n"


def plain(record: object) -> Any:
    """A record as plain dictionaries, lists and values, as in its JSON; NaN and infinities become None."""
    return msgspec.json.decode(encode(record))
